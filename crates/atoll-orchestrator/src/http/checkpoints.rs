//! Going back to an earlier state of a run's work. Only the plane's copy changes; people fetch it as any result.

use atoll_api::v1;
use atoll_stdx::{Hint, chain};
use atoll_store::{AppendBatch, JournalError, RecordExpect};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::json;

use super::guard::Caller;
use super::refusal::Refusal;
use super::runs::no_run;
use super::{AppState, json};
use crate::records::{self, Acted, RunRecord, put};
use crate::repos::RepoError;
use crate::view;

fn refused(error: &RepoError) -> Refusal {
    Refusal::unavailable(&chain(error), &error.hint().unwrap_or_default())
}

pub(super) async fn list(State(shared): AppState, Path(id): Path<String>) -> Result<Json<v1::CheckpointList>, Refusal> {
    shared.journal.record(records::RUN, &id).await?.ok_or_else(|| no_run(&id))?;
    let found = shared.repos.of_run(&id).checkpoints().await.map_err(|error| refused(&error))?;
    let checkpoints = found.into_iter().zip(0..).map(|(checkpoint, step)| v1::Checkpoint {
        step,
        commit: checkpoint.commit,
        title: checkpoint.title,
        author: checkpoint.author,
        at_ms: checkpoint.at_ms,
    });
    Ok(Json(v1::CheckpointList { checkpoints: checkpoints.collect() }))
}

pub(super) async fn undo(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::RunSummary>, Refusal> {
    let v1::UndoRun { step } = json(&body?)?;
    let record = shared.journal.record(records::RUN, &id).await?.ok_or_else(|| no_run(&id))?;
    let mut known: RunRecord = serde_json::from_value(record.body).map_err(|_| {
        Refusal::new(http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "the run's record is not readable")
    })?;
    if !known.closed {
        let message = format!("run {id} is not over");
        return Err(Refusal::conflict(&message, "wait for its end, or cancel it"));
    }
    if known.summary.result.is_none() {
        return Err(Refusal::not_found("the run has made no commit"));
    }
    let repo = shared.repos.of_run(&id);
    let checkpoints = repo.checkpoints().await.map_err(|error| refused(&error))?;
    let last = checkpoints.len().saturating_sub(1);
    let step = step.map_or(last.saturating_sub(1), |step| usize::try_from(step).unwrap_or(usize::MAX));
    let Some(checkpoint) = checkpoints.get(step) else {
        let hint = "`atoll runs steps` lists them".to_owned();
        return Err(Refusal::invalid(&format!("the run's work has steps 0 to {last}, and no step {step}"), &hint));
    };
    let message = format!("Back to step {step} of run {id}\n\nThe files are those of {}.", checkpoint.commit);
    let commit = repo.restore(&checkpoint.commit, &message).await.map_err(|error| refused(&error))?;
    known.summary.result = Some(view::result(&repo.work(&commit).await.map_err(|error| refused(&error))?));
    let actor = format!("person/{by}");
    let acted = Acted { at_ms: shared.clock.now_unix_ms(), run_id: &id, actor: &actor };
    let detail = json!({"step": step, "restored": checkpoint.commit, "commit": commit});
    let batch = AppendBatch {
        run_id: id.clone(),
        audit: vec![acted.entry("run/undo", "done", detail)],
        records: vec![put(records::RUN, &id, &known, RecordExpect::Version(record.version))],
        ..AppendBatch::default()
    };
    match shared.journal.append(batch).await {
        Ok(()) => Ok(Json(known.summary)),
        Err(JournalError::RecordConflict { .. }) => {
            Err(Refusal::conflict("somebody else changed the run at the same time", "look at it and try again"))
        }
        Err(error) => Err(error.into()),
    }
}
