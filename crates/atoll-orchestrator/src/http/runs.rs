//! Tasks in, runs out.

use std::collections::HashMap;

use atoll_api::v1;
use atoll_stdx::{Hint, chain};
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, header};
use tokio::sync::oneshot;

use super::guard::Caller;
use super::refusal::Refusal;
use super::{AppState, json};
use crate::blobs::{BLOB_BYTES_MAX, BlobError, Upload};
use crate::orchestrator::{Shared, all_records};
use crate::records::{self, RunRecord};
use crate::run::Input;
use crate::submission;
use crate::view;

pub(super) async fn put_blob(State(shared): AppState, body: Body) -> Result<Json<v1::BlobStored>, Refusal> {
    let mut upload = shared.blobs.create().await.map_err(|error| refused_blob(&error))?;
    match receive(&mut upload, body).await {
        Ok(()) => {
            let (sha256, size_bytes) = upload.finish().await.map_err(|error| refused_blob(&error))?;
            Ok(Json(v1::BlobStored { sha256, size_bytes }))
        }
        Err(refusal) => {
            upload.abort().await;
            Err(refusal)
        }
    }
}

async fn receive(upload: &mut Upload, body: Body) -> Result<(), Refusal> {
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let broken = |_| Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", "the upload broke off");
        upload.write(&piece.map_err(broken)?).await.map_err(|error| refused_blob(&error))?;
    }
    Ok(())
}

fn refused_blob(error: &BlobError) -> Refusal {
    match error {
        BlobError::TooLarge => Refusal::too_large(format!("at most {BLOB_BYTES_MAX} bytes are accepted")),
        BlobError::Io(_) => Refusal::unavailable(&chain(error), "see whether the state directory's disk is full"),
    }
}

pub(super) async fn submit(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<v1::TaskAccepted>), Refusal> {
    let accepted = submission::submit(&shared, json(&body?)?, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

pub(super) async fn list(State(shared): AppState) -> Result<Json<v1::RunList>, Refusal> {
    let live: HashMap<String, v1::RunSummary> =
        shared.live_runs().iter().map(|run| (run.run_id.to_string(), run.look(view::summary))).collect();
    let stored = all_records(&shared.journal, records::RUN).await?;
    // Run ids sort by the time of their making.
    let summary = |record: atoll_store::StoredRecord| match live.get(&record.key) {
        Some(summary) => Some(summary.clone()),
        None => serde_json::from_value::<RunRecord>(record.body).ok().map(|record| record.summary),
    };
    Ok(Json(v1::RunList { runs: stored.into_iter().rev().filter_map(summary).collect() }))
}

pub(super) async fn show(State(shared): AppState, Path(id): Path<String>) -> Result<Json<v1::RunDetail>, Refusal> {
    let log = shared.log(&id).await?;
    if log.is_empty() {
        return Err(no_run(&id));
    }
    let (state, _) = view::retell(&id, &log).map_err(crate::orchestrator::HistoryError::from)?;
    let mut detail = view::detail(&state, log.len() as u64);
    if state.is_closed() {
        // What people did to its result since is not the run's own story.
        detail.summary.result = stored_summary(&shared, &id).await?.result;
    }
    Ok(Json(detail))
}

pub(super) async fn cancel(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::RunSummary>, Refusal> {
    let v1::CancelRun { reason } = json(&body?)?;
    if let Some(run) = shared.run(&id) {
        let (reply, answer) = oneshot::channel();
        let input = Input::Cancel { reason, by, reply };
        if run.inbox.send(input).await.is_ok()
            && let Ok(summary) = answer.await
        {
            return Ok(Json(summary));
        }
    }
    // It is over: cancelling it changes nothing.
    Ok(Json(stored_summary(&shared, &id).await?))
}

pub(super) async fn stored_summary(shared: &Shared, id: &str) -> Result<v1::RunSummary, Refusal> {
    let record = shared.journal.record(records::RUN, id).await?.ok_or_else(|| no_run(id))?;
    let unreadable =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the run's record is not readable");
    Ok(serde_json::from_value::<RunRecord>(record.body).map_err(unreadable)?.summary)
}

pub(super) async fn bundle(State(shared): AppState, Path(id): Path<String>) -> Result<Response, Refusal> {
    let summary = match shared.run(&id) {
        Some(run) => run.look(view::summary),
        None => stored_summary(&shared, &id).await?,
    };
    if summary.result.is_none() {
        return Err(Refusal::not_found("the run has made no commit"));
    }
    let repo = shared.repos.of_run(&id);
    let bytes = repo
        .bundle_for_people()
        .await
        .map_err(|error| Refusal::unavailable(&chain(&error), &error.hint().unwrap_or_default()))?;
    Ok(([(header::CONTENT_TYPE, "application/x-git-bundle")], bytes).into_response())
}

pub(super) fn no_run(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no run {id}")).hint("`atoll runs ls` lists them")
}
