//! Questions to people, and their answers.

use atoll_api::v1;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::guard::Caller;
use super::refusal::Refusal;
use super::{AppState, json};
use crate::orchestrator::{Shared, all_records};
use crate::pulls;
use crate::records;
use crate::run::Input;
use crate::view;

/// Questions answered at once.
const BATCH_MAX: usize = 256;

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
    if filter.state == Some(v1::ApprovalState::Pending) {
        approvals.extend(pulls::pending(&shared).await?);
    } else {
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
    Extension(Caller(by)): Extension<Caller>,
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
    if known.tool == pulls::TOOL {
        return pulls::decide(&shared, &known, body, &by).await.map(Json);
    }
    if let Some(approval) = answer(&shared, &known.run_id, &id, body, &by).await {
        return Ok(Json(approval));
    }
    Err(Refusal::conflict("the approval is not open any more", "its run has gone on or ended without it"))
}

/// Answers a question of a run that is driven here; `None` when it is not open.
async fn answer(shared: &Shared, run_id: &str, id: &str, body: v1::DecideApproval, by: &str) -> Option<v1::Approval> {
    let run = shared.run(run_id)?;
    let (reply, answer) = oneshot::channel();
    run.inbox.send(Input::Answer { id: id.to_owned(), body, by: by.to_owned(), reply }).await.ok()?;
    answer.await.ok().flatten()
}

/// One answer to several questions, each for the input that was looked at.
pub(super) async fn decide_several(
    State(shared): AppState,
    Extension(Caller(by)): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::ApprovalList>, Refusal> {
    let body: v1::DecideApprovals = json(&body?)?;
    if body.approvals.len() > BATCH_MAX {
        let message = format!("{} questions are answered at once", body.approvals.len());
        return Err(Refusal::invalid(&message, &format!("at most {BATCH_MAX} are taken")));
    }
    let open = open(&shared);
    let mut approvals = Vec::new();
    for wanted in body.approvals {
        let Some(known) = open.iter().find(|approval| approval.id == wanted.id) else { continue };
        let one = v1::DecideApproval {
            decision: body.decision,
            reason: body.reason.clone(),
            input_digest: Some(wanted.input_digest),
            remember: body.remember,
        };
        approvals.extend(answer(&shared, &known.run_id, &known.id, one, &by).await);
    }
    Ok(Json(v1::ApprovalList { approvals }))
}
