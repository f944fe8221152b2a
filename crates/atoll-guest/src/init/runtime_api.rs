//! The agent-sandbox runtime protocol: run a command, put, get and list files under the base directory.
//!
//! Messages and statuses are those that existing clients know. Unlike theirs, output is bounded, a timeout kills the
//! whole process tree, and files are touched with the workload's rights.

mod execute;
mod upload;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use atoll_guest::protocol::{FileKind, FileStat};
use rustix::fs::OFlags;
use rustix::io::{Errno, read};
use serde_json::{Value, json};

use super::Guest;
use super::files::{self, Entry, FileError, Root};
use super::http::{Body, Connection, Head, Response, Status, percent_decode};

const COPY_BYTES: usize = 64 * 1024;

/// Answers a request; returns whether the connection can be used for another.
pub(crate) fn answer(guest: &Arc<Guest>, connection: &mut Connection, head: &Head, mut body: Body) -> bool {
    if let ("GET", Some(encoded)) = (head.method(), head.path().strip_prefix("/download/")) {
        return match open_download(guest, encoded) {
            Ok(download) => body.is_used_up() && send_file(connection, &download),
            Err(response) => finish(connection, &response, &body),
        };
    }
    let response = respond(guest, connection, head, &mut body);
    finish(connection, &response, &body)
}

fn finish(connection: &mut Connection, response: &Response, body: &Body) -> bool {
    connection.respond(response, body.is_used_up()).is_ok() && body.is_used_up()
}

fn respond(guest: &Arc<Guest>, connection: &mut Connection, head: &Head, body: &mut Body) -> Response {
    let path = head.path();
    let route = path.split('/').nth(1).unwrap_or_default();
    let allowed = match route {
        "" | "download" | "list" | "exists" => "GET",
        "execute" | "upload" => "POST",
        _ => return Response::json(Status::NotFound, &json!({"detail": "Not Found"})),
    };
    let rest = path.get(1 + route.len()..).unwrap_or_default();
    let is_exact = rest.is_empty();
    if matches!(route, "execute" | "upload" | "download") && (is_exact == (route == "download")) {
        return Response::json(Status::NotFound, &json!({"detail": "Not Found"}));
    }
    if head.method() != allowed {
        let response = Response::json(Status::MethodNotAllowed, &json!({"detail": "Method Not Allowed"}));
        return response.header("allow", allowed);
    }
    let file = percent_decode(rest.strip_prefix('/').unwrap_or(rest));
    match route {
        "" => Response::json(Status::Ok, &json!({"status": "ok", "message": "Sandbox Runtime is active."})),
        "execute" => execute::answer(guest, connection, body),
        "upload" => upload::answer(guest, connection, head, body),
        "list" => list(guest, &file),
        _ => exists(guest, &file),
    }
}

/// Paths of this protocol start at the base directory, whatever slashes they begin with.
fn beneath_base(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

fn with_base<T: Send>(guest: &Guest, work: impl FnOnce(&Root) -> Result<T, FileError> + Send) -> Result<T, FileError> {
    files::with_root(guest, Some(guest.base_dir()), work)
}

fn message(status: Status, text: impl Into<String>) -> Response {
    Response::json(status, &json!({"message": text.into()}))
}

fn access_denied() -> Response {
    message(Status::Forbidden, "Access denied")
}

fn is_denied(error: &FileError) -> bool {
    matches!(error, FileError::Escapes { .. } | FileError::Denied { .. } | FileError::Invalid { .. })
}

struct Download {
    file: OwnedFd,
    stat: FileStat,
    name: Vec<u8>,
}

fn open_download(guest: &Guest, encoded: &str) -> Result<Download, Response> {
    let name = percent_decode(encoded);
    match with_base(guest, |root| files::open_regular(root, beneath_base(&name))) {
        Ok((file, stat)) => Ok(Download { file, stat, name }),
        Err(error) if is_denied(&error) => Err(access_denied()),
        Err(
            FileError::NotFound { .. }
            | FileError::IsADirectory { .. }
            | FileError::NotADirectory { .. }
            | FileError::NotRegular { .. },
        ) => Err(message(Status::NotFound, "File not found")),
        Err(error) => Err(message(Status::Failed, format!("File download failed: {error}"))),
    }
}

/// Sends exactly as many bytes as announced; a file that shrinks meanwhile ends the connection instead.
fn send_file(connection: &mut Connection, download: &Download) -> bool {
    let response = Response::of_bytes(download.stat.size).header("content-disposition", disposition(&download.name));
    if connection.respond_head(&response, true).is_err() {
        return false;
    }
    let mut left = download.stat.size;
    let mut buffer = vec![0; COPY_BYTES];
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match read(&download.file, &mut buffer[..wanted]) {
            Ok(0) => return false,
            Ok(count) if std::io::Write::write_all(connection, &buffer[..count]).is_ok() => left -= count as u64,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

fn disposition(name: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-~/".contains(byte);
    if name.iter().all(is_plain) {
        return format!("attachment; filename=\"{}\"", String::from_utf8_lossy(name));
    }
    let quoted: String = name
        .iter()
        .map(|byte| if is_plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename*=utf-8''{quoted}")
}

fn list(guest: &Guest, path: &[u8]) -> Response {
    let path = beneath_base(path);
    let entries = with_base(guest, |root| {
        let entries = files::list(root, path)?;
        Ok(entries.iter().map(|entry| list_entry(root, path, entry)).collect::<Vec<Value>>())
    });
    match entries {
        Ok(entries) => Response::json(Status::Ok, &Value::Array(entries)),
        Err(error) if is_denied(&error) => access_denied(),
        Err(FileError::NotFound { .. } | FileError::NotADirectory { .. } | FileError::Root { .. }) => {
            message(Status::NotFound, "Path is not a directory")
        }
        Err(error) => message(Status::Failed, format!("List directory failed: {error}")),
    }
}

/// A link is described by what it leads to, if that is inside.
fn list_entry(root: &Root, directory: &[u8], entry: &Entry) -> Value {
    let target = (entry.stat.kind == FileKind::Symlink).then(|| {
        let path = [directory, b"/", entry.name.as_slice()].concat();
        files::stat(root, beneath_base(&path)).ok()
    });
    let stat = target.flatten().unwrap_or_else(|| entry.stat.clone());
    json!({
        "name": String::from_utf8_lossy(&entry.name),
        "size": stat.size,
        "type": if stat.kind == FileKind::Directory { "directory" } else { "file" },
        "mod_time": stat.mtime_ms as f64 / 1_000.0,
    })
}

fn exists(guest: &Guest, path: &[u8]) -> Response {
    let found = with_base(guest, |root| root.open(beneath_base(path), OFlags::PATH).map(drop));
    let exists = match found {
        Ok(()) => true,
        Err(FileError::Escapes { .. } | FileError::Invalid { .. }) => return access_denied(),
        Err(_) => false,
    };
    Response::json(Status::Ok, &json!({"path": String::from_utf8_lossy(path), "exists": exists}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_quoted_in_headers() {
        for (name, expected) in [
            ("a/b.txt", "attachment; filename=\"a/b.txt\""),
            ("ä \"\r\n", "attachment; filename*=utf-8''%C3%A4%20%22%0D%0A"),
        ] {
            assert_eq!(disposition(name.as_bytes()), expected);
        }
    }
}
