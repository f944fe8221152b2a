//! The platform API, `/v1`. Every request wants the bearer token, a Host that is this machine, and no foreign Origin.

mod approvals;
mod audit;
mod checkpoints;
mod events;
mod guard;
mod people;
mod policy;
mod pulls;
pub(crate) mod refusal;
mod runs;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::orchestrator::Shared;
use refusal::Refusal;

/// The largest body but for uploads.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A body that holds a policy, which JSON makes longer.
const POLICY_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) type AppState = axum::extract::State<Arc<Shared>>;

/// Who the plane's own token stands for; `people` of the policy has others.
const ADMINISTRATOR: &str = "admin";

pub(crate) fn service(shared: &Arc<Shared>, more: Router) -> Router {
    let routes = Router::new()
        .route("/v1/blobs", put(runs::put_blob).layer(DefaultBodyLimit::disable()))
        .route("/v1/tasks", post(runs::submit))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{id}", get(runs::show))
        .route("/v1/runs/{id}/events", get(events::follow))
        .route("/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/v1/runs/{id}/pause", post(people::pause))
        .route("/v1/runs/{id}/resume", post(people::resume))
        .route("/v1/runs/{id}/messages", post(people::tell))
        .route("/v1/runs/{id}/checkpoints", get(checkpoints::list))
        .route("/v1/runs/{id}/undo", post(checkpoints::undo))
        .route("/v1/runs/{id}/pull-request", get(pulls::show).post(pulls::propose))
        .route("/v1/runs/{id}/bundle", get(runs::bundle))
        .route("/v1/approvals", get(approvals::list).post(approvals::decide_several))
        .route("/v1/approvals/{id}", post(approvals::decide))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/verify", get(audit::verify).post(audit::verify_with))
        .route("/v1/audit/heads", get(audit::heads))
        .with_state(Arc::clone(shared))
        .merge(policy_routes(shared))
        .merge(more);
    guarded(routes, shared)
}

/// The policy API alone.
pub(crate) fn policy_service(shared: &Arc<Shared>) -> Router {
    guarded(policy_routes(shared), shared)
}

fn policy_routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/policy", get(policy::show))
        .route("/v1/policy/decide", post(policy::decide))
        .route("/v1/policy/simulate", post(policy::simulate).layer(DefaultBodyLimit::max(POLICY_BODY_BYTES_MAX)))
        .with_state(Arc::clone(shared))
}

fn guarded(routes: Router, shared: &Arc<Shared>) -> Router {
    routes
        .fallback(|| async { Refusal::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(shared), guard::check))
}

/// Reads a JSON body; an empty one counts as `{}`.
fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid(&format!("the body does not fit: {error}"), "see the API's types"))
}
