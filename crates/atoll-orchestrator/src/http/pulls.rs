//! Pull requests over `/v1`.

use atoll_api::v1;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use bytes::Bytes;

use super::guard::Caller;
use super::refusal::Refusal;
use super::{AppState, json};
use crate::pulls;

pub(super) async fn propose(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::PullRequest>, Refusal> {
    pulls::propose(&shared, &id, json(&body?)?, &by).await.map(Json)
}

pub(super) async fn show(State(shared): AppState, Path(id): Path<String>) -> Result<Json<v1::PullRequest>, Refusal> {
    match pulls::stored(&shared, &id).await? {
        Some((pull, _)) => Ok(Json(pull)),
        None => Err(Refusal::not_found(format!("nobody asked for a pull request of run {id}"))),
    }
}
