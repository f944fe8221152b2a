//! Files through sessions.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use atoll_guest::protocol::{
    ClientMessage, DirectoryEntry, ErrorCode, FileKind, FrameKind, ReadFileRequest, Request, ServerMessage,
    WriteFileRequest,
};

use super::guest::{Guest, Setup, USER_ID, assert_refused};

fn read(guest: &Guest, request: ReadFileRequest) -> Vec<u8> {
    let mut session = guest.session(&Request::ReadFile(request));
    assert!(matches!(session.message(), ServerMessage::File(_)));
    let mut content = Vec::new();
    loop {
        let frame = session.frame().expect("the end of the file");
        if frame.kind == FrameKind::Data {
            content.extend(frame.payload);
        } else {
            assert_eq!(serde_json::from_slice::<ServerMessage>(&frame.payload).unwrap(), ServerMessage::Done {});
            return content;
        }
    }
}

fn write(guest: &Guest, request: WriteFileRequest, content: &[u8]) -> ServerMessage {
    let mut session = guest.session(&Request::WriteFile(request));
    for piece in content.chunks(1_000_000) {
        session.send_bytes(FrameKind::Data, piece);
    }
    session.send(&ClientMessage::Eof {});
    session.message()
}

fn path(path: &str) -> WriteFileRequest {
    WriteFileRequest { path: path.to_owned(), ..WriteFileRequest::default() }
}

fn list(guest: &Guest, path: &str) -> Vec<DirectoryEntry> {
    let mut session = guest.session(&Request::ListDir { path: path.to_owned(), root: None });
    let mut all = Vec::new();
    loop {
        match session.message() {
            ServerMessage::Entries(part) => {
                all.extend(part.entries);
                if !part.more {
                    return all;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn files_are_written_and_read_in_part_and_whole() {
    let Some(guest) = Setup::plain().start("files_are_written_and_read") else { return };
    let content: Vec<u8> = (0..3_500_000u32).map(|n| (n % 253) as u8).collect();
    let request = WriteFileRequest { mkdirs: true, mode: Some(0o750), ..path("new/dir/file") };
    assert_eq!(write(&guest, request, &content), ServerMessage::Written { size: content.len() as u64 });
    let whole = ReadFileRequest { path: "new/dir/file".into(), ..ReadFileRequest::default() };
    assert!(read(&guest, whole.clone()) == content);
    let absolute =
        ReadFileRequest { path: guest.base().join("new/dir/file").to_str().unwrap().into(), ..whole.clone() };
    assert!(read(&guest, absolute) == content);
    let part = ReadFileRequest { offset: Some(1_000_000), length: Some(200_000), ..whole.clone() };
    assert!(read(&guest, part) == content[1_000_000..1_200_000]);
    assert_eq!(read(&guest, ReadFileRequest { offset: Some(99_999_999), ..whole }), b"");
    let ServerMessage::Stat(stat) = guest.ask(&Request::Stat { path: "new/dir/file".into(), root: None }) else {
        panic!()
    };
    assert_eq!((stat.kind, stat.size, stat.mode, stat.uid), (FileKind::File, 3_500_000, 0o750, USER_ID));
    // Written anew, the mode stays.
    assert_eq!(write(&guest, path("new/dir/file"), b"short"), ServerMessage::Written { size: 5 });
    let mode = guest.base().join("new/dir/file").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o750);
}

#[test]
fn a_file_that_is_not_complete_changes_nothing() {
    let Some(guest) = Setup::plain().start("a_file_that_is_not_complete") else { return };
    write(&guest, path("file"), b"old");
    let mut session = guest.session(&Request::WriteFile(path("file")));
    session.send_bytes(FrameKind::Data, b"new but cut off");
    drop(session);
    let wrong = WriteFileRequest { sha256: Some("00".repeat(32)), ..path("file") };
    let ServerMessage::Error(refusal) = write(&guest, wrong, b"new") else { panic!() };
    assert_refused(&refusal, ErrorCode::InvalidArgument, "SHA-256");
    let ServerMessage::Error(refusal) = write(&guest, path("missing/file"), b"new") else { panic!() };
    assert_eq!(refusal.code, ErrorCode::NotFound);
    super::guest::eventually("the temporary file is gone", || {
        (guest.base().read_dir().unwrap().count() == 1).then_some(())
    });
    assert_eq!(std::fs::read(guest.base().join("file")).unwrap(), b"old");
}

#[test]
fn directories_are_made_listed_and_removed() {
    let Some(guest) = Setup::plain().start("directories_are_made_listed") else { return };
    let on = |path: &str| (path.to_owned(), None);
    let (path, root) = on("many/inside");
    assert_eq!(guest.ask(&Request::MakeDir { path, root }), ServerMessage::Done {});
    let (path, root) = on("many/inside");
    assert_eq!(guest.ask(&Request::MakeDir { path, root }), ServerMessage::Done {});
    for n in 0..1_200 {
        std::fs::write(guest.base().join(format!("many/file-{n:04}")), "x").unwrap();
    }
    symlink("nowhere", guest.base().join("many/link")).unwrap();
    let entries = list(&guest, "many");
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names.len(), 1_202);
    assert!(names.is_sorted());
    let kind = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().stat.kind;
    assert_eq!(
        (kind("inside"), kind("link"), kind("file-0000")),
        (FileKind::Directory, FileKind::Symlink, FileKind::File)
    );
    assert_eq!(list(&guest, "many/inside"), []);
    let remove = |path: &str, recursive| Request::Remove { path: path.into(), root: None, recursive };
    assert_eq!(guest.refusal(&remove("many", false)).code, ErrorCode::Conflict);
    assert_eq!(guest.ask(&remove("many/link", false)), ServerMessage::Done {});
    std::os::unix::fs::chown(guest.base().join("many"), Some(USER_ID), None).unwrap();
    assert_eq!(guest.ask(&remove("many", true)), ServerMessage::Done {});
    assert!(!guest.base().join("many").exists());
    assert_eq!(guest.refusal(&remove("many", true)).code, ErrorCode::NotFound);
}

#[test]
fn a_root_is_not_left() {
    let Some(guest) = Setup::plain().start("a_root_is_not_left") else { return };
    let base = guest.base();
    std::fs::create_dir(base.join("root")).unwrap();
    std::os::unix::fs::chown(base.join("root"), Some(USER_ID), Some(USER_ID)).unwrap();
    std::fs::write(base.join("root/inside"), "inside").unwrap();
    std::fs::write(base.join("outside"), "outside").unwrap();
    symlink("../outside", base.join("root/link")).unwrap();
    symlink("..", base.join("root/up")).unwrap();
    symlink("root", base.join("root-link")).unwrap();
    let root = || Some(base.join("root").to_str().unwrap().to_owned());
    let read_request = |path: &str, root| ReadFileRequest { path: path.to_owned(), root, ..ReadFileRequest::default() };
    for inside in ["inside", "./inside", base.join("root/inside").to_str().unwrap()] {
        assert_eq!(read(&guest, read_request(inside, root())), b"inside", "{inside}");
    }
    assert_eq!(read(&guest, read_request("inside", Some("root".into()))), b"inside");
    let absolute = base.join("outside");
    for out in ["../outside", "link", "up/outside", absolute.to_str().unwrap(), "/etc/passwd"] {
        let refused =
            |request: Request| assert_eq!(guest.refusal(&request).code, ErrorCode::PermissionDenied, "{request:?}");
        let (path, root) = (out.to_owned(), root());
        refused(Request::ReadFile(read_request(out, root.clone())));
        refused(Request::Stat { path: path.clone(), root: root.clone() });
        refused(Request::ListDir { path: path.clone(), root: root.clone() });
        refused(Request::WriteFile(WriteFileRequest { path: path.clone(), root: root.clone(), ..path_default() }));
        if out != "link" {
            refused(Request::Remove { path: path.clone(), root: root.clone(), recursive: true });
        }
        // The twin: without the root the same path leads there.
        let from_root = base.join("root").join(out);
        assert!(!read(&guest, read_request(from_root.to_str().unwrap(), None)).is_empty(), "{out}");
    }
    // A root that is a link could have been made by the workload to lead anywhere.
    let refusal = guest.refusal(&Request::ReadFile(read_request("inside", Some("root-link".into()))));
    assert_eq!(refusal.code, ErrorCode::PermissionDenied);
}

fn path_default() -> WriteFileRequest {
    WriteFileRequest::default()
}

#[test]
fn the_guest_is_not_read_through_proc() {
    let Some(guest) = Setup::pid_1().start("the_guest_is_not_read_through_proc") else { return };
    for path in ["/proc/self/environ", "/proc/1/maps", "/proc/self/root/etc/passwd", "/proc/thread-self/fd/0", "link"] {
        symlink("/proc/1/maps", guest.base().join("link")).ok();
        let request = ReadFileRequest { path: path.into(), ..ReadFileRequest::default() };
        let refusal = guest.refusal(&Request::ReadFile(request));
        assert!(
            matches!(refusal.code, ErrorCode::InvalidArgument | ErrorCode::PermissionDenied),
            "{path}: {refusal:?}"
        );
    }
    let listing = Request::ListDir { path: "/proc/1/fd".into(), root: None };
    assert_eq!(guest.refusal(&listing).code, ErrorCode::InvalidArgument);
}
