//! What every request has to pass: loopback is no authentication, and a web page in the user's browser is no friend.

use std::sync::Arc;

use atoll_policy::Right;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use sha2::{Digest, Sha256};

use super::ADMINISTRATOR;
use super::refusal::Refusal;
use crate::orchestrator::Shared;

/// Who asks. Only the guard makes these.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) String);

pub(super) async fn check(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    match judge(&shared, request.method(), request.headers(), request.uri()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn judge(shared: &Shared, method: &Method, headers: &HeaderMap, uri: &Uri) -> Result<Caller, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // HTTP/2 carries the host in the URI.
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
    let known = |host: &str| is_ours(host, &shared.api_hosts);
    if !host.is_some_and(known) {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "forbidden_host", "the Host is not this machine");
        return Err(refusal.hint("use the address that `atoll status` prints"));
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if !origin.is_some_and(known) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden_origin", "the Origin is not this machine"));
        }
    }
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let given: [u8; 32] = Sha256::digest(token).into();
    if given == shared.token_sha256 {
        return Ok(Caller(ADMINISTRATOR.to_owned()));
    }
    let policy = shared.policy.current();
    let Some((name, person)) = policy.person(&given) else {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is missing or wrong")
            .hint("the plane writes its token into the state directory"));
    };
    match needed(method, uri.path()) {
        Some(right) if person.may.contains(&right) => Ok(Caller(name.to_owned())),
        Some(right) => {
            let message = format!("{name} may not {} runs", right.as_str());
            Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).hint("`people` of the policy says who may"))
        }
        None => {
            let refusal =
                Refusal::new(StatusCode::FORBIDDEN, "forbidden", "that is for the plane's administrator alone");
            Err(refusal)
        }
    }
}

/// The right that a request needs; `None` for what only the administrator may. What is not listed is not given.
fn needed(method: &Method, path: &str) -> Option<Right> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("PUT", ["v1", "blobs"]) | ("POST", ["v1", "tasks"]) => Some(Right::Start),
        ("GET", ["v1", "runs" | "approvals" | "audit" | "policy" | "traces", ..]) => Some(Right::See),
        ("POST", ["v1", "audit", "verify"] | ["v1", "policy", "decide" | "simulate"]) => Some(Right::See),
        ("POST", ["v1", "approvals"] | ["v1", "approvals", _]) => Some(Right::Approve),
        ("POST", ["v1", "runs", _, "cancel" | "pause" | "resume" | "messages" | "undo" | "pull-request"]) => {
            Some(Right::Steer)
        }
        _ => None,
    }
}

/// Whether a host, with or without port, is this machine.
fn is_ours(host: &str, more: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    ["localhost", "127.0.0.1", "::1"].contains(&name) || more.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_needs_a_right_or_the_administrator() {
        for (method, path, right) in [
            ("POST", "/v1/tasks", Some(Right::Start)),
            ("PUT", "/v1/blobs", Some(Right::Start)),
            ("GET", "/v1/runs", Some(Right::See)),
            ("GET", "/v1/runs/r/events", Some(Right::See)),
            ("GET", "/v1/traces/t", Some(Right::See)),
            ("POST", "/v1/policy/simulate", Some(Right::See)),
            ("POST", "/v1/approvals", Some(Right::Approve)),
            ("POST", "/v1/approvals/a", Some(Right::Approve)),
            ("POST", "/v1/runs/r/cancel", Some(Right::Steer)),
            ("POST", "/v1/runs/r/undo", Some(Right::Steer)),
            ("POST", "/v1/runs/r/pull-request", Some(Right::Steer)),
            ("GET", "/v1/backup", None),
            ("POST", "/v1/egress/grants", None),
            ("DELETE", "/v1/runs/r", None),
            ("POST", "/v1/runs/r/cancel/more", None),
            ("POST", "//v1/runs", None),
        ] {
            assert_eq!(needed(&method.parse().expect("a method"), path), right, "{method} {path}");
        }
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        let more = ["atoll.example".to_owned()];
        for (host, ours) in [
            ("localhost", true),
            ("localhost:8081", true),
            ("127.0.0.1:8081", true),
            ("[::1]:8081", true),
            ("atoll.example:80", true),
            ("ATOLL.example", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_ours(host, &more), ours, "{host:?}");
        }
    }
}
