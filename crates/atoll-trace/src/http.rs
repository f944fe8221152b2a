//! Traces and audit over HTTP. Who may ask is the caller's business: mount these behind authentication.

use atoll_api::v1::{ErrorBody, ErrorDetail};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::audit;
use crate::store::TraceStore;

/// `GET /v1/traces`, `/v1/traces/{id}`, `/v1/audit`, `/v1/audit/verify`.
pub fn routes(store: TraceStore) -> Router {
    Router::new()
        .route("/v1/traces", get(list))
        .route("/v1/traces/{id}", get(detail))
        .route("/v1/audit", get(audit_list))
        .route("/v1/audit/verify", get(audit_verify))
        .with_state(store)
}

#[derive(Debug, Deserialize)]
struct AuditQuery {
    run: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

async fn list(State(store): State<TraceStore>) -> Response {
    Json(store.list()).into_response()
}

async fn detail(State(store): State<TraceStore>, Path(id): Path<String>) -> Response {
    match store.detail(&id).await {
        Ok(Some(detail)) => Json(detail).into_response(),
        Ok(None) => refuse(StatusCode::NOT_FOUND, "not_found", format!("no trace or run has the id {id}")),
        Err(error) => failed(&error),
    }
}

async fn audit_list(State(store): State<TraceStore>, Query(query): Query<AuditQuery>) -> Response {
    answer(audit::list(store.journal(), query.run, query.after.unwrap_or(0), query.limit).await)
}

async fn audit_verify(State(store): State<TraceStore>) -> Response {
    answer(audit::verify(store.journal()).await)
}

fn answer<T: Serialize>(result: Result<T, impl std::error::Error + 'static>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
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
