//! `/v1/egress/…`: connections as they happen, and grants.

use std::convert::Infallible;

use atoll_api::v1::{ErrorBody, ErrorDetail};
use atoll_egress::EgressController;
use atoll_egress::grants::{Grant, Grants, NotGranted};
use atoll_egress::record::ConnectionRecord;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::ledger::Ledger;

#[derive(Clone)]
struct Shared {
    controller: EgressController,
    grants: Grants,
    ledger: Ledger,
}

pub(super) fn routes(controller: EgressController, grants: Grants, ledger: Ledger) -> Router {
    Router::new()
        .route("/v1/egress/connections", get(connections))
        .route("/v1/egress/problems", get(problems))
        .route("/v1/egress/grants", post(give))
        .route("/v1/egress/grants/{id}", delete(take_back))
        .with_state(Shared { controller, grants, ledger })
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    follow: bool,
    namespace: Option<String>,
    sandbox: Option<String>,
}

impl Wanted {
    fn has(&self, record: &ConnectionRecord) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| record.namespace == *namespace)
            && self.sandbox.as_ref().is_none_or(|sandbox| record.sandbox == *sandbox)
    }
}

/// One JSON text a line: a record, or `{"missed": N}` for a reader that is too slow.
async fn connections(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> Response {
    let (latest, news) = shared.ledger.watch();
    let follow = wanted.follow;
    let known: Vec<String> = latest.iter().filter(|record| wanted.has(record)).map(line).collect();
    let to_come = futures::stream::unfold((news, wanted), |(mut news, wanted)| async move {
        loop {
            let text = match news.recv().await {
                Ok(record) if wanted.has(&record) => line(&record),
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => format!("{}\n", json!({ "missed": missed })),
                Err(RecvError::Closed) => return None,
            };
            return Some((text, (news, wanted)));
        }
    });
    let known = futures::stream::iter(known);
    let lines = if follow { known.chain(to_come).boxed() } else { known.boxed() };
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([("content-type", "application/x-ndjson")], body).into_response()
}

fn line(record: &ConnectionRecord) -> String {
    let mut text = serde_json::to_string(record).expect("records are plain values");
    text.push('\n');
    text
}

async fn problems(State(shared): State<Shared>) -> Json<Vec<String>> {
    Json(shared.controller.problems())
}

#[derive(Debug, Deserialize)]
struct Giving {
    #[serde(flatten)]
    grant: Grant,
    seconds: u64,
}

async fn give(State(shared): State<Shared>, Json(giving): Json<Giving>) -> Response {
    match shared.grants.give(giving.grant, giving.seconds) {
        Ok(id) => (StatusCode::CREATED, Json(json!({ "id": id }))).into_response(),
        Err(error) => {
            let status = match error {
                NotGranted::Time => StatusCode::BAD_REQUEST,
                NotGranted::TooMany => StatusCode::TOO_MANY_REQUESTS,
            };
            refuse(status, "not_granted", error.to_string())
        }
    }
}

async fn take_back(State(shared): State<Shared>, Path(id): Path<u64>) -> Response {
    if shared.grants.take_back(id) {
        return StatusCode::NO_CONTENT.into_response();
    }
    refuse(StatusCode::NOT_FOUND, "not_found", format!("there is no grant {id} (any more)"))
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let detail = ErrorDetail { code: code.to_owned(), message, hint: None };
    (status, Json(ErrorBody { error: detail })).into_response()
}
