//! The agent-sandbox runtime protocol, endpoint by endpoint.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::json;

use super::guest::{Guest, HttpAnswer, Setup, USER_ID, read_answer};

fn upload(guest: &Guest, name: &str, content: &[u8]) -> HttpAnswer {
    let mut body =
        format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n").into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    guest.http(&[head.as_bytes(), &body].concat())
}

#[test]
fn the_root_says_that_it_is_active() {
    let Some(guest) = Setup::plain().start("the_root_says") else { return };
    let answer = guest.get("/");
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok", "message": "Sandbox Runtime is active."})));
}

#[test]
fn execute_runs_without_a_shell() {
    let Some(guest) = Setup::plain().start("execute_runs_without_a_shell") else { return };
    let result = |stdout: &str, stderr: &str, code: i32| json!({"stdout": stdout, "stderr": stderr, "exit_code": code, "timed_out": false});
    let base = guest.base();
    for (command, expected) in [
        ("echo 'a b' && echo c", result("a b && echo c\n", "", 0)),
        ("sh -c 'echo out; echo err >&2; exit 3'", result("out\n", "err\n", 3)),
        ("sh -c 'kill -TERM $$'", result("", "", -15)),
        ("pwd", result(&format!("{}\n", base.display()), "", 0)),
        ("printf '\\303\\050'", result("\u{fffd}(", "", 0)),
        ("nope -x", result("", "Failed to execute command: [Errno 2] No such file or directory: 'nope'", 1)),
        ("/etc/passwd", result("", "Failed to execute command: [Errno 13] Permission denied: '/etc/passwd'", 1)),
        ("echo 'open", result("", "Failed to execute command: No closing quotation", 1)),
        ("", result("", "Failed to execute command: the command is empty", 1)),
    ] {
        assert_eq!(guest.execute(command), expected, "{command}");
    }
}

#[test]
fn execute_ends_in_time_with_its_whole_tree() {
    let Some(guest) = Setup::plain().env("SANDBOX_EXEC_TIMEOUT_SECONDS", "0.2").start("execute_ends_in_time") else {
        return;
    };
    let command = "sh -c 'echo partial; setsid sleep 1000 & sleep 1000'";
    let result = guest.execute(command);
    assert_eq!((&result["timed_out"], &result["exit_code"]), (&json!(true), &json!(1)));
    assert_eq!(result["stdout"], "partial\n");
    let stderr = result["stderr"].as_str().unwrap();
    assert!(
        stderr.starts_with("Failed to execute command: Command ") && stderr.contains("timed out after 0.2 seconds")
    );
    assert_eq!(guest.processes(), Vec::<i32>::new());
    // The request's own limit goes before the sandbox's.
    let answer = guest.post_json("/execute", &json!({"command": "sleep 0.4", "timeout_seconds": 20}));
    assert_eq!(answer.json()["timed_out"], false);
}

#[test]
fn execute_refuses_what_is_no_command() {
    let Some(guest) = Setup::plain().start("execute_refuses") else { return };
    for (body, kind) in [(json!({}), "missing"), (json!({"command": 5}), "string_type")] {
        let answer = guest.post_json("/execute", &body);
        assert_eq!((answer.status, &answer.json()["detail"][0]["type"]), (422, &json!(kind)), "{body}");
    }
    let answer = guest.http(b"POST /execute HTTP/1.1\r\ncontent-length: 1\r\n\r\n{");
    assert_eq!((answer.status, answer.json()["detail"][0]["type"].clone()), (422, json!("json_invalid")));
}

#[test]
fn a_file_goes_up_and_comes_down() {
    let Some(guest) = Setup::plain().start("a_file_goes_up") else { return };
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let answer = upload(&guest, "a/deep/file name.bin", &content);
    let text = "File 'a/deep/file name.bin' uploaded successfully.";
    assert_eq!((answer.status, answer.json()), (200, json!({"message": text})));
    let stored = guest.base().join("a/deep/file name.bin");
    assert!(std::fs::read(&stored).unwrap() == content);
    let owner = std::os::unix::fs::MetadataExt::uid(&stored.metadata().unwrap());
    assert_eq!((owner, stored.metadata().unwrap().permissions().mode() & 0o777), (USER_ID, 0o644));
    let answer = guest.get("/download/a%2Fdeep%2Ffile%20name.bin");
    assert_eq!(answer.status, 200);
    assert!(answer.body == content);
    assert!(answer.head.contains("content-type: application/octet-stream\r\n"), "{}", answer.head);
    assert!(answer.head.contains("content-disposition: attachment; filename*=utf-8''a/deep/file%20name.bin\r\n"));
    // Leading slashes mean the base directory, as do slashes that were not encoded.
    assert_eq!(upload(&guest, "/top", b"x").status, 200);
    assert_eq!(guest.get("/download/%2Ftop").body, b"x");
    assert_eq!(guest.get("/download/a/deep/file%20name.bin").status, 200);
}

#[test]
fn an_upload_may_come_in_chunks_after_a_continue() {
    let Some(guest) = Setup::plain().start("an_upload_may_come_in_chunks") else { return };
    let mut stream = guest.connect();
    let head = "POST /upload HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\
                content-type: multipart/form-data; boundary=b\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 100);
    let body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"chunked\"\r\n\r\nhello\r\n--b--\r\n";
    for piece in body.chunks(7) {
        write!(stream, "{:x}\r\n", piece.len()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
    // The connection can be used on.
    stream.write_all(b"GET /download/chunked HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).text(), "hello");
}

#[test]
fn an_upload_without_a_file_is_refused() {
    let Some(guest) = Setup::plain().start("an_upload_without_a_file") else { return };
    let form = |body: &str| {
        let head = "POST /upload HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b";
        guest.http(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    for body in
        ["--b--\r\n", "--b\r\nContent-Disposition: form-data; name=\"other\"; filename=\"x\"\r\n\r\n\r\n--b--\r\n"]
    {
        let answer = form(body);
        assert_eq!((answer.status, &answer.json()["detail"][0]["loc"]), (422, &json!(["body", "file"])), "{body}");
    }
    assert_eq!(guest.post_json("/upload", &json!({})).status, 422);
    assert_eq!(form("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\ncut").status, 400);
    assert!(!guest.base().join("x").exists());
    assert_eq!(guest.base().read_dir().unwrap().count(), 0, "no temporary file is left");
}

#[test]
fn directories_are_listed() {
    let Some(guest) = Setup::plain().start("directories_are_listed") else { return };
    std::fs::create_dir(guest.base().join("dir")).unwrap();
    std::fs::write(guest.base().join("dir/file"), "12345").unwrap();
    symlink("file", guest.base().join("dir/link")).unwrap();
    symlink("/etc", guest.base().join("dir/out")).unwrap();
    let answer = guest.get("/list/dir");
    assert_eq!(answer.status, 200);
    let entries = answer.json();
    let seen: Vec<(&str, &str, u64)> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            assert!(entry["mod_time"].is_f64());
            (entry["name"].as_str().unwrap(), entry["type"].as_str().unwrap(), entry["size"].as_u64().unwrap())
        })
        .collect();
    // A link that leads out is described as itself.
    assert_eq!(seen, [("file", "file", 5), ("link", "file", 5), ("out", "file", 4)]);
    for root in ["/list/", "/list", "/list/%2F", "/list/."] {
        assert_eq!(guest.get(root).json()[0]["name"], "dir", "{root}");
    }
    for missing in ["/list/nope", "/list/dir%2Ffile"] {
        let answer = guest.get(missing);
        assert_eq!((answer.status, answer.json()), (404, json!({"message": "Path is not a directory"})));
    }
}

#[test]
fn existence_is_told() {
    let Some(guest) = Setup::plain().start("existence_is_told") else { return };
    std::fs::write(guest.base().join("file"), "").unwrap();
    symlink("nowhere", guest.base().join("broken")).unwrap();
    for (path, exists) in [("file", true), ("nope", false), ("file%2Fx", false), ("broken", false), ("%2Ffile", true)] {
        let answer = guest.get(&format!("/exists/{path}"));
        assert_eq!((answer.status, &answer.json()["exists"]), (200, &json!(exists)), "{path}");
    }
    assert_eq!(guest.get("/exists/a%2Fb").json(), json!({"path": "a/b", "exists": false}));
}

#[test]
fn paths_that_lead_out_are_denied_everywhere() {
    let Some(guest) = Setup::plain().start("paths_that_lead_out") else { return };
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    std::fs::set_permissions(outside.path().join("secret"), std::fs::Permissions::from_mode(0o666)).unwrap();
    symlink(outside.path(), guest.base().join("door")).unwrap();
    symlink(outside.path().join("secret"), guest.base().join("secret")).unwrap();
    symlink("/proc/self/root", guest.base().join("magic")).unwrap();
    symlink("/proc/1/mem", guest.base().join("memory")).unwrap();
    let denied = json!({"message": "Access denied"});
    for path in [
        "..%2F..%2Fetc%2Fpasswd",
        "missing%2F..%2F..%2Fx",
        "door%2Fsecret",
        "secret",
        "magic%2Fetc%2Fpasswd",
        "memory",
        "door%2F..%2F..%2Fetc%2Fpasswd",
        "a%00b",
    ] {
        for endpoint in ["download", "list", "exists"] {
            let answer = guest.get(&format!("/{endpoint}/{path}"));
            assert_eq!((answer.status, answer.json()), (403, denied.clone()), "{endpoint} {path}");
        }
    }
    for name in ["../up", "door/new", "secret", "a/../../up", "magic/tmp/x"] {
        let answer = upload(&guest, name, b"overwritten");
        assert_eq!((answer.status, answer.json()), (403, denied.clone()), "{name}");
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "outside");
    assert_eq!(outside.path().read_dir().unwrap().count(), 1);
    // The twin: without the root the very same paths do lead out, read and write, for the same user.
    let through = guest.shell("cat door/secret secret; echo overwritten > secret; cat door/secret");
    assert_eq!(through.stdout, "outsideoutsideoverwritten\n");
    let up = guest.shell("cat ../base/../base/magic/etc/passwd");
    assert!(up.stdout.contains("root:"), "{up:?}");
}

#[test]
fn files_are_touched_with_the_user_s_rights() {
    let Some(guest) = Setup::plain().start("files_are_touched_with") else { return };
    let secret = guest.base().join("root-only");
    std::fs::write(&secret, "root's").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(guest.base().join("root-dir")).unwrap();
    assert_eq!(guest.get("/download/root-only").status, 403);
    assert_eq!(upload(&guest, "root-dir/new", b"x").status, 403);
    assert_eq!(guest.base().join("root-dir").read_dir().unwrap().count(), 0);
    // The twin: the guest itself is root here, and this test too, and neither of them would be stopped.
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "root's");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(guest.get("/download/root-only").body, b"root's");
}

#[test]
fn only_regular_files_are_read() {
    let Some(guest) = Setup::plain().start("only_regular_files_are_read") else { return };
    let made = guest.shell("mkfifo fifo && mkdir dir && touch empty");
    assert_eq!(made.exit.code, 0, "{made:?}");
    for path in ["fifo", "dir", "nope", "empty%2Fx"] {
        let answer = guest.get(&format!("/download/{path}"));
        assert_eq!((answer.status, answer.json()), (404, json!({"message": "File not found"})), "{path}");
    }
    assert_eq!((guest.get("/download/empty").status, guest.get("/download/empty").body.len()), (200, 0));
}

#[test]
fn the_base_directory_can_come_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let base = dir.path().canonicalize().unwrap();
    let Some(guest) = Setup::plain().env("SANDBOX_BASE_DIR", base.to_str().unwrap()).start("the_base_directory") else {
        return;
    };
    assert_eq!(upload(&guest, "here", b"x").status, 200);
    assert!(base.join("here").exists());
    assert_eq!(guest.execute("pwd")["stdout"], format!("{}\n", base.display()));
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let Some(guest) = Setup::plain().start("unknown_paths_and_methods") else { return };
    for path in ["/nope", "/execute/x", "/download", "/docs"] {
        let answer = guest.get(path);
        assert_eq!((answer.status, answer.json()), (404, json!({"detail": "Not Found"})), "{path}");
    }
    for (method, path) in [("GET", "/execute"), ("POST", "/list/x"), ("DELETE", "/download/x"), ("PUT", "/")] {
        let answer = guest.http(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        assert_eq!((answer.status, answer.json()), (405, json!({"detail": "Method Not Allowed"})), "{method} {path}");
    }
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let Some(guest) = Setup::plain().start("requests_follow_each_other") else { return };
    let mut stream = guest.connect();
    let body = json!({"command": "echo hi"}).to_string();
    let two = format!(
        "GET /exists/x HTTP/1.1\r\nhost: x\r\n\r\nPOST /execute HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(two.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).json()["exists"], false);
    assert_eq!(read_answer(&mut stream).json()["stdout"], "hi\n");
    stream.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
    assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
}

#[test]
fn malformed_requests_are_refused() {
    let Some(guest) = Setup::plain().start("malformed_requests_are_refused") else { return };
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/3.7\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        ("POST /execute HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (&long, 431),
        (&many, 431),
    ] {
        assert_eq!(guest.http(request.as_bytes()).status, status, "{:?}", &request[..request.len().min(60)]);
    }
}
