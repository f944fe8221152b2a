//! What every request has to pass: loopback is no authentication, and a web page in the user's browser is no friend.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use crate::orchestrator::Shared;

pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match judge(&shared, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn judge(shared: &Shared, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
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
    if given != shared.token_sha256 {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is missing or wrong")
            .hint("the plane writes its token into the state directory"));
    }
    Ok(())
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
