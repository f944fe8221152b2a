//! What a sandbox's own command wrote, for `atoll sandbox logs`: the lines of its log without their headers.

use atoll_sandbox::SandboxDriver;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use atoll_api::v1::{ErrorBody, ErrorDetail};

#[derive(Clone)]
struct Logs {
    client: kube::Client,
    driver: SandboxDriver,
}

/// `GET /v1/sandboxes/{namespace}/{name}/log`.
pub(super) fn routes(client: kube::Client, driver: SandboxDriver) -> Router {
    Router::new().route("/v1/sandboxes/{namespace}/{name}/log", get(log)).with_state(Logs { client, driver })
}

async fn log(State(logs): State<Logs>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let pods: Api<Pod> = Api::namespaced(logs.client.clone(), &namespace);
    let uid = match pods.get_opt(&name).await {
        Ok(Some(pod)) => pod.metadata.uid.unwrap_or_default(),
        Ok(None) => return refuse(StatusCode::NOT_FOUND, "not_found", format!("sandbox {name} has no Pod")),
        Err(error) => return refuse(StatusCode::BAD_GATEWAY, "unavailable", error.to_string()),
    };
    let path = logs.driver.logs_path(&uid);
    let mut text = String::new();
    for path in [path.with_extension("1"), path] {
        if let Ok(content) = tokio::fs::read_to_string(&path).await {
            text.push_str(&plain(&content));
        }
    }
    text.into_response()
}

/// Log lines are `TIME STREAM TAG TEXT` (the container runtime interface's form); tag `P` marks a piece of a line.
fn plain(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    for line in content.lines() {
        let mut parts = line.splitn(4, ' ');
        let (Some(_time), Some(_stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { continue };
        text.push_str(parts.next().unwrap_or_default());
        if tag != "P" {
            text.push('\n');
        }
    }
    text
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let detail = ErrorDetail { code: code.to_owned(), message, hint: None };
    (status, Json(ErrorBody { error: detail })).into_response()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn headers_are_taken_off_and_pieces_joined() {
        let content = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stdout P tw\n\
                       2026-01-01T00:00:00Z stdout F o\n2026-01-01T00:00:00Z stderr F \n";
        assert_eq!(plain(content), "one\ntwo\n\n");
    }
}
