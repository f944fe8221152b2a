//! Questions to people, and their answers.

use atoll_api::v1;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::{AppState, PERSON, json};
use crate::orchestrator::{Shared, all_records};
use crate::records;
use crate::run::Input;
use crate::view;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    state: Option<v1::ApprovalState>,
    #[serde(default)]
    run: Option<String>,
}

pub(super) async fn list(
    State(shared): AppState,
    Query(filter): Query<Filter>,
) -> Result<Json<v1::ApprovalList>, Refusal> {
    let mut approvals = open(&shared);
    if filter.state != Some(v1::ApprovalState::Pending) {
        let stored = all_records(&shared.journal, records::APPROVAL).await?;
        let stored = stored.into_iter().filter_map(|record| serde_json::from_value::<v1::Approval>(record.body).ok());
        let known: Vec<String> = approvals.iter().map(|approval| approval.id.clone()).collect();
        approvals.extend(stored.filter(|approval| !known.contains(&approval.id)));
    }
    let wanted = |approval: &v1::Approval| {
        filter.state.is_none_or(|state| approval.state == state)
            && filter.run.as_ref().is_none_or(|run| approval.run_id == *run)
    };
    approvals.retain(wanted);
    // Ids sort by the time of their making; the newest comes first.
    approvals.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(Json(v1::ApprovalList { approvals }))
}

/// What runs wait for right now.
fn open(shared: &Shared) -> Vec<v1::Approval> {
    let of_run = |run: &crate::run::RunHandle| {
        run.look(|state| {
            let calls: Vec<_> = state.pending_approvals().map(|(call, _)| call).collect();
            calls.into_iter().filter_map(|call| view::approval(state, call)).collect::<Vec<_>>()
        })
    };
    shared.live_runs().iter().flat_map(of_run).collect()
}

pub(super) async fn decide(
    State(shared): AppState,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::Approval>, Refusal> {
    let body: v1::DecideApproval = json(&body?)?;
    let stored = shared.journal.record(records::APPROVAL, &id).await?;
    let stored = stored.and_then(|record| serde_json::from_value::<v1::Approval>(record.body).ok());
    let Some(known) = stored else {
        return Err(Refusal::not_found(format!("there is no approval {id}")).hint("`atoll approve` lists them"));
    };
    if body.input_digest.as_ref().is_some_and(|digest| *digest != known.input_digest) {
        return Err(Refusal::conflict("the approval is for another input", "look at it again before you answer"));
    }
    if let Some(run) = shared.run(&known.run_id) {
        let (reply, answer) = oneshot::channel();
        let input = Input::Answer { id: id.clone(), body, by: PERSON.to_owned(), reply };
        if run.inbox.send(input).await.is_ok()
            && let Ok(Some(approval)) = answer.await
        {
            return Ok(Json(approval));
        }
    }
    Err(Refusal::conflict("the approval is not open any more", "its run has gone on or ended without it"))
}
