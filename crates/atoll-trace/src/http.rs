//! Traces over HTTP. Who may ask is the caller's business: mount these behind authentication.

use atoll_api::v1::{ErrorBody, ErrorDetail};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::store::TraceStore;

/// `GET /v1/traces`, `/v1/traces/{id}`.
pub fn routes(store: TraceStore) -> Router {
    Router::new().route("/v1/traces", get(list)).route("/v1/traces/{id}", get(detail)).with_state(store)
}

/// The list, and beside it how many spans were lost since the plane started.
async fn list(State(store): State<TraceStore>) -> Response {
    Json(json!({"traces": store.list().traces, "lost_spans": store.lost()})).into_response()
}

async fn detail(State(store): State<TraceStore>, Path(id): Path<String>) -> Response {
    match store.detail(&id).await {
        Ok(Some(detail)) => Json(detail).into_response(),
        Ok(None) => refuse(StatusCode::NOT_FOUND, "not_found", format!("no trace or run has the id {id}")),
        Err(error) => failed(&error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", atoll_stdx::chain(error))
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let error = ErrorDetail { code: code.to_owned(), message, hint: None };
    (status, Json(ErrorBody { error })).into_response()
}
