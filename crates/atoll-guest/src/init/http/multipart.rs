//! `multipart/form-data`, as far as uploading one file needs it.

use std::collections::VecDeque;

use super::body::{Body, BodyError};
use super::connection::Connection;

const BOUNDARY_BYTES_MAX: usize = 200;

/// Headers of one part together.
const PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Parts before the file.
const PARTS_MAX: usize = 16;

const READ_BYTES: usize = 64 * 1024;

/// Reads parts out of a body, in order.
pub(crate) struct Multipart<'a> {
    connection: &'a mut Connection,
    body: &'a mut Body,
    /// CRLF and the boundary line's beginning: what ends a part's content.
    delimiter: Vec<u8>,
    pending: VecDeque<u8>,
    body_ended: bool,
    part_ended: bool,
}

/// Why there is no part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MultipartError {
    #[error("the request is not multipart/form-data with a boundary")]
    NotMultipart,
    #[error("the form is not well formed")]
    Malformed,
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Name and file name of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
}

impl<'a> Multipart<'a> {
    pub(crate) fn new(
        content_type: Option<&[u8]>,
        connection: &'a mut Connection,
        body: &'a mut Body,
    ) -> Result<Self, MultipartError> {
        let boundary = content_type.and_then(boundary).ok_or(MultipartError::NotMultipart)?;
        let delimiter = [b"\r\n--", boundary.as_slice()].concat();
        // The first boundary has no line break before it; this one makes it look like the others.
        let pending = VecDeque::from(b"\r\n".to_vec());
        let mut multipart = Self { connection, body, delimiter, pending, body_ended: false, part_ended: false };
        while multipart.next_piece()?.is_some() {}
        Ok(multipart)
    }

    /// Goes on to the part with this name; `None` when the form has none.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Part>, MultipartError> {
        for _ in 0..PARTS_MAX {
            match self.next_part()? {
                None => return Ok(None),
                Some(part) if part.name == name => return Ok(Some(part)),
                Some(_) => while self.next_piece()?.is_some() {},
            }
        }
        Err(MultipartError::Malformed)
    }

    /// The next bytes of the current part; `None` at its end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u8>>, MultipartError> {
        if self.part_ended {
            return Ok(None);
        }
        loop {
            let pending = self.pending.make_contiguous();
            if let Some(at) = find(pending, &self.delimiter) {
                let piece: Vec<u8> = self.pending.drain(..at).collect();
                if piece.is_empty() {
                    self.pending.drain(..self.delimiter.len());
                    self.part_ended = true;
                    return Ok(None);
                }
                return Ok(Some(piece));
            }
            // The end of what is here could be the beginning of a delimiter.
            let safe = pending.len().saturating_sub(self.delimiter.len() - 1);
            if safe > 0 {
                return Ok(Some(self.pending.drain(..safe).collect()));
            }
            self.receive()?;
        }
    }

    /// Reads what is left, so that the connection can be used on.
    pub(crate) fn finish(mut self) -> Result<(), MultipartError> {
        while !self.body_ended {
            self.pending.clear();
            self.receive_or_end()?;
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<Option<Part>, MultipartError> {
        // After a boundary: two hyphens end the form, a line break begins a part. Spaces may stand between.
        while self.pending.len() < 2 {
            self.receive()?;
        }
        if self.pending.iter().take(2).eq(b"--") {
            return Ok(None);
        }
        if !self.take_line()?.trim_ascii_end().is_empty() {
            return Err(MultipartError::Malformed);
        }
        let mut part = None;
        let mut head_bytes = 0;
        loop {
            let line = self.take_line()?;
            head_bytes += line.len();
            if head_bytes > PART_HEAD_BYTES_MAX {
                return Err(MultipartError::Malformed);
            }
            if line.is_empty() {
                self.part_ended = false;
                return part.map(Some).ok_or(MultipartError::Malformed);
            }
            if let Some(found) = disposition(&line) {
                part = Some(found);
            }
        }
    }

    fn take_line(&mut self) -> Result<Vec<u8>, MultipartError> {
        loop {
            let pending = self.pending.make_contiguous();
            if let Some(at) = find(pending, b"\r\n") {
                let line = self.pending.drain(..at).collect();
                self.pending.drain(..2);
                return Ok(line);
            }
            if pending.len() > PART_HEAD_BYTES_MAX {
                return Err(MultipartError::Malformed);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), MultipartError> {
        if self.receive_or_end()? { Ok(()) } else { Err(MultipartError::Malformed) }
    }

    fn receive_or_end(&mut self) -> Result<bool, MultipartError> {
        let mut buffer = vec![0; READ_BYTES];
        let count = self.body.read(self.connection, &mut buffer)?;
        self.body_ended = count == 0;
        self.pending.extend(&buffer[..count]);
        Ok(count > 0)
    }
}

/// The boundary parameter of a content type.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (kind, parameters) = text.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?.into_bytes();
    (!boundary.is_empty() && boundary.len() <= BOUNDARY_BYTES_MAX).then_some(boundary)
}

fn disposition(line: &[u8]) -> Option<Part> {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once(':')?;
    if !name.trim().eq_ignore_ascii_case("content-disposition") {
        return None;
    }
    let (kind, parameters) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let extended = parameter(parameters, "filename*").and_then(|value| {
        let encoded = value.get(..7).filter(|charset| charset.eq_ignore_ascii_case("utf-8''")).map(|_| &value[7..])?;
        String::from_utf8(super::head::percent_decode(encoded)).ok()
    });
    let file_name = extended.or_else(|| parameter(parameters, "filename"));
    Some(Part { name: parameter(parameters, "name")?, file_name })
}

/// The value of `name` in `; a=b; c="d"`. In quotes a backslash escapes a quote or a backslash, and the escapes that
/// browsers use for quotes and line breaks are undone.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let value = value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
                return Some((value, &quoted[at + 1..]));
            }
            '\\' if quoted[at + 1..].starts_with(['"', '\\']) => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(offset) = haystack[from..].iter().position(|byte| byte == first) {
        let at = from + offset;
        if haystack[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    type File = (Option<String>, Vec<u8>);

    /// Reads the part `file` of a form: its file name and content.
    fn read_form(form: &[u8]) -> Result<Option<File>, MultipartError> {
        let (mut client, server) = UnixStream::pair().unwrap();
        let request = [format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", form.len()).as_bytes(), form].concat();
        let sender = std::thread::spawn(move || client.write_all(&request));
        let mut connection = Connection::new(server).unwrap();
        let head = connection.read_head().ok().flatten().unwrap();
        let mut body = Body::of(&head).unwrap();
        let mut form = Multipart::new(Some(b"multipart/form-data; boundary=\"X-Y\""), &mut connection, &mut body)?;
        let Some(part) = form.find("file")? else { return Ok(None) };
        let mut content = Vec::new();
        while let Some(piece) = form.next_piece()? {
            content.extend(piece);
        }
        form.finish()?;
        assert!(body.is_used_up());
        drop(connection);
        let _ = sender.join();
        Ok(Some((part.file_name, content)))
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut form = Vec::new();
        for (head, content) in parts {
            form.extend_from_slice(format!("--X-Y\r\n{head}\r\n\r\n").as_bytes());
            form.extend_from_slice(content);
            form.extend_from_slice(b"\r\n");
        }
        form.extend_from_slice(b"--X-Y--\r\n");
        form
    }

    #[test]
    fn the_file_is_found_whatever_it_contains() {
        let content: Vec<u8> = (0..200_000u32).flat_map(|n| format!("\r\n--X-{n}\r\n--").into_bytes()).collect();
        let form = form(&[
            ("Content-Disposition: form-data; name=\"note\"", b"not this"),
            (
                "content-disposition: form-data; name=\"file\"; filename=\"a/b \\\"c\\\".txt\"\r\nContent-Type: x/y",
                &content,
            ),
        ]);
        let (name, read) = read_form(&form).unwrap().unwrap();
        assert_eq!(name.as_deref(), Some("a/b \"c\".txt"));
        assert_eq!(read, content);
    }

    #[test]
    fn an_empty_file_a_missing_file_and_an_end_without_line_break() {
        let head = "Content-Disposition: form-data; name=file; filename=f";
        assert_eq!(read_form(&form(&[(head, b"")])).unwrap().unwrap(), (Some("f".to_owned()), vec![]));
        let other = form(&[("Content-Disposition: form-data; name=other", b"x")]);
        assert!(read_form(&other).unwrap().is_none());
        assert!(read_form(other.strip_suffix(b"\r\n").unwrap()).unwrap().is_none());
        assert!(read_form(b"--X-Y--\r\n").unwrap().is_none());
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for form in [
            "",
            "nothing",
            "--X-Y\r\n",
            "--X-Y\r\nno-disposition: x\r\n\r\n\r\n--X-Y--\r\n",
            "--X-Y\r\nContent-Disposition: form-data; name=file\r\n\r\ncut off",
        ] {
            assert!(read_form(form.as_bytes()).is_err(), "{form:?}");
        }
        for kind in ["", "text/plain; boundary=x", "multipart/form-data", "multipart/form-data; boundary="] {
            assert!(boundary(kind.as_bytes()).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn file_names_are_read_as_clients_write_them() {
        let name = |line: &str| disposition(line.as_bytes()).and_then(|part| part.file_name);
        for (line, expected) in [
            ("Content-Disposition: form-data; name=\"file\"; filename=\"x%22y.txt\"", Some("x\"y.txt")),
            ("Content-Disposition: form-data; filename=\"plain\"; name=\"file\"", Some("plain")),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"a\"; filename*=UTF-8''%C3%A4", Some("ä")),
            ("Content-Disposition: form-data; name=\"file\"", None),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"open", None),
        ] {
            assert_eq!(name(line).as_deref(), expected, "{line}");
        }
    }
}
