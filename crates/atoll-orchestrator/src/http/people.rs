//! What people want of a run that is under way: a pause, going on, hearing something.

use atoll_api::v1;
use atoll_engine::Event;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::guard::Caller;
use super::refusal::Refusal;
use super::{AppState, json, runs};
use crate::orchestrator::Shared;
use crate::run::Input;

/// The longest message.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

pub(super) async fn pause(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<v1::RunSummary>, Refusal> {
    let event = Event::Paused { by: by.clone() };
    want(&shared, &id, event, by, "it is paused already, or over").await
}

pub(super) async fn resume(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<v1::RunSummary>, Refusal> {
    let event = Event::Unpaused { by: by.clone() };
    want(&shared, &id, event, by, "it is not paused").await
}

pub(super) async fn tell(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::RunSummary>, Refusal> {
    let v1::TellAgent { text, agent } = json(&body?)?;
    if text.trim().is_empty() || text.len() > MESSAGE_BYTES_MAX {
        let message = format!("the message has {} bytes", text.len());
        return Err(Refusal::invalid(&message, &format!("1 to {MESSAGE_BYTES_MAX} bytes are taken")));
    }
    let event = Event::Told { agent, text, by: by.clone() };
    want(&shared, &id, event, by, "that agent is not at work").await
}

async fn want(
    shared: &Shared,
    id: &str,
    event: Event,
    by: String,
    why_not: &str,
) -> Result<Json<v1::RunSummary>, Refusal> {
    if let Some(run) = shared.run(id) {
        let (reply, answer) = oneshot::channel();
        let input = Input::Person { event, by, reply };
        if run.inbox.send(input).await.is_ok()
            && let Ok(Some(summary)) = answer.await
        {
            return Ok(Json(summary));
        }
    }
    let summary = runs::stored_summary(shared, id).await?;
    let message = format!("run {} can not do that now", summary.run_id);
    Err(Refusal::conflict(&message, why_not))
}
