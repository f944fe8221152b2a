//! A forge of our own for tests: repositories over git's own HTTP backend, and the part of each API that pull requests need.
//! It wants its token for both.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use atoll_rt::TaskGroup;
use atoll_rt::listen::serve_http;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::world::git;

/// A pull request, as the forge keeps it.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) head: String,
    pub(super) base: String,
    pub(super) title: String,
    pub(super) body: String,
}

struct Inner {
    directory: tempfile::TempDir,
    token: String,
    pulls: Mutex<Vec<Pull>>,
}

/// A forge with one project, `acme/tools`.
pub(super) struct Forge {
    pub(super) port: u16,
    inner: Arc<Inner>,
    _group: TaskGroup,
}

impl Forge {
    pub(super) async fn start(token: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("atoll-forge-").tempdir().expect("a directory");
        let repository = directory.path().join("acme/tools.git");
        std::fs::create_dir_all(&repository).expect("it can be made");
        git(&repository, &["init", "-q", "--bare", "."]);
        git(&repository, &["config", "http.receivepack", "true"]);
        let inner = Arc::new(Inner { directory, token: token.to_owned(), pulls: Mutex::default() });
        let group = TaskGroup::new("forge");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        serve_http(&group, listener, Router::new().fallback(answer).with_state(Arc::clone(&inner)));
        Self { port, inner, _group: group }
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.inner.directory.path().join("acme/tools.git")
    }

    pub(super) fn remote(&self) -> String {
        format!("http://127.0.0.1:{}/acme/tools.git", self.port)
    }

    pub(super) fn pulls(&self) -> Vec<Pull> {
        self.inner.pulls.lock().expect("unharmed").clone()
    }
}

async fn answer(State(forge): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 * 1024 * 1024).await.expect("a body");
    let path = parts.uri.path().to_owned();
    if path.starts_with("/acme/tools.git/") {
        let query = parts.uri.query().unwrap_or_default();
        return backend(&forge, &parts.method, &path, query, &parts.headers, &body).await;
    }
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (kind, known) = match path.as_str() {
        "/api/v1/repos/acme/tools/pulls" => ("gitea", text("authorization") == format!("token {}", forge.token)),
        "/api/v3/repos/acme/tools/pulls" => ("github", text("authorization") == format!("Bearer {}", forge.token)),
        "/api/v4/projects/acme%2Ftools/merge_requests" => ("gitlab", text("private-token") == forge.token),
        _ => return (StatusCode::NOT_FOUND, axum::Json(json!({"message": "404"}))).into_response(),
    };
    if !known {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "Bad credentials"}))).into_response();
    }
    let mut pulls = forge.pulls.lock().expect("unharmed");
    if parts.method == Method::GET {
        let listed: Vec<Value> = pulls.iter().zip(1..).map(|(pull, number)| shown(kind, pull, number)).collect();
        return axum::Json(listed).into_response();
    }
    let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let pull = match kind {
        "gitlab" => Pull {
            head: field("source_branch"),
            base: field("target_branch"),
            title: field("title"),
            body: field("description"),
        },
        _ => Pull { head: field("head"), base: field("base"), title: field("title"), body: field("body") },
    };
    let branches =
        git(&forge.directory.path().join("acme/tools.git"), &["branch", "--list", "--format=%(refname:short)"]);
    if !branches.lines().any(|branch| branch == pull.head) {
        let message = json!({"message": format!("head {} does not exist", pull.head)});
        return (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(message)).into_response();
    }
    pulls.push(pull.clone());
    (StatusCode::CREATED, axum::Json(shown(kind, &pull, pulls.len()))).into_response()
}

fn shown(kind: &str, pull: &Pull, number: usize) -> Value {
    match kind {
        "gitlab" => json!({
            "iid": number,
            "web_url": format!("http://forge/acme/tools/-/merge_requests/{number}"),
            "source_branch": pull.head,
            "target_branch": pull.base,
        }),
        _ => json!({
            "number": number,
            "html_url": format!("http://forge/acme/tools/pulls/{number}"),
            "head": {"ref": pull.head},
            "base": {"ref": pull.base},
        }),
    }
}

/// `git http-backend` as a CGI program (RFC 3875).
async fn backend(
    forge: &Inner,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let word = text("authorization").strip_prefix("Basic ").unwrap_or_default();
    let word = base64::engine::general_purpose::STANDARD.decode(word).unwrap_or_default();
    let password = String::from_utf8_lossy(&word).split_once(':').map(|(_, password)| password.to_owned());
    if password.as_deref() != Some(&forge.token) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"forge\"")]).into_response();
    }
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", forge.directory.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "someone")
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend starts");
    child.stdin.take().expect("piped").write_all(body).await.expect("it reads");
    let output = child.wait_with_output().await.expect("it ends");
    let end = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut response = Response::builder();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        response = match name {
            "Status" => {
                response.status(value.split(' ').next().and_then(|code| code.parse::<u16>().ok()).expect("a code"))
            }
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output.stdout[end + 4..].to_vec())).expect("a response")
}

/// Whether a word occurs in any file below a directory.
pub(super) fn occurs(word: &str, directory: &Path) -> bool {
    let found = std::process::Command::new("grep").args(["-rqaF", word]).arg(directory).status();
    found.expect("grep runs").success()
}
