//! Following a run: server-sent events, first what the journal has, then what happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::v1::{RunEvent, RunEventKind};
use atoll_rt::CancellationToken;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::AppState;
use super::refusal::Refusal;
use super::runs::no_run;
use crate::orchestrator::{HistoryError, Shared};
use crate::view;

/// A sign of life on a quiet stream.
const PING_MS: u64 = 15_000;

#[derive(Debug, Default, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    after: Option<u64>,
}

pub(super) async fn follow(
    State(shared): AppState,
    Path(id): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = from.after.or(last_seen).unwrap_or(0);
    let live = shared.run(&id).map(|run| run.follow());
    let stopping = shared.group.token();
    let mut follower = Follower { shared, run_id: id, live, after, waiting: VecDeque::new(), over: false, stopping };
    follower.read_journal().await?;
    let stream = futures::stream::unfold(follower, |mut follower| async move {
        let bytes = follower.next().await?;
        Some((Ok::<_, Infallible>(bytes), follower))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

struct Follower {
    shared: Arc<Shared>,
    run_id: String,
    /// None when nobody drives the run.
    live: Option<Receiver<RunEvent>>,
    /// The newest event sent.
    after: u64,
    waiting: VecDeque<RunEvent>,
    over: bool,
    stopping: CancellationToken,
}

impl Follower {
    /// Takes everything from the journal that was not sent yet.
    async fn read_journal(&mut self) -> Result<(), Refusal> {
        let log = self.shared.log(&self.run_id).await?;
        if log.is_empty() {
            return Err(no_run(&self.run_id));
        }
        let (_, told) = view::retell(&self.run_id, &log).map_err(HistoryError::from)?;
        self.waiting.extend(told);
        Ok(())
    }

    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(event) = self.waiting.pop_front() {
                if event.seq.is_some_and(|seq| seq <= self.after) {
                    continue;
                }
                self.after = event.seq.unwrap_or(self.after);
                self.over = matches!(event.event, RunEventKind::RunFinished { .. });
                return Some(frame(&event));
            }
            if self.over {
                return None;
            }
            let live = self.live.as_mut()?;
            let received = tokio::select! {
                () = self.stopping.cancelled() => return None,
                received = tokio::time::timeout(Duration::from_millis(PING_MS), live.recv()) => received,
            };
            match received {
                Ok(Ok(event)) => self.waiting.push_back(event),
                // Too slow: the journal has what was missed, live events apart.
                Ok(Err(RecvError::Lagged(_))) => self.read_journal().await.ok()?,
                Ok(Err(RecvError::Closed)) => {
                    self.live = None;
                    self.read_journal().await.ok()?;
                }
                Err(_quiet) => return Some(Bytes::from_static(b": quiet\n\n")),
            }
        }
    }
}

fn frame(event: &RunEvent) -> Bytes {
    let data = serde_json::to_string(event).expect("events are JSON");
    match event.seq {
        Some(seq) => format!("id: {seq}\ndata: {data}\n\n").into(),
        None => format!("data: {data}\n\n").into(),
    }
}
