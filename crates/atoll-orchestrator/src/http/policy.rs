//! The policy for other systems: what is in force, what it says of an action, what another one would have said of past
//! runs.

use atoll_api::v1;
use atoll_policy::{ActionRequest, Policy, PolicyError, Verdict};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;

use super::refusal::Refusal;
use super::{AppState, json};
use crate::orchestrator::{HistoryError, all_records};
use crate::records;
use crate::simulate;

/// Runs replayed at once.
const RUNS_MAX: usize = 1000;
/// Changes told of.
const CHANGES_MAX: usize = 10_000;

pub(super) async fn show(State(shared): AppState) -> Json<v1::PolicyStatus> {
    let policy = shared.policy.current();
    let (since_ms, rejected) = shared.policy.standing();
    Json(v1::PolicyStatus {
        hash: policy.hash().to_owned(),
        agents: policy.agents().map(|(name, _)| name.to_owned()).collect(),
        since_ms,
        rejected,
    })
}

pub(super) async fn decide(
    State(shared): AppState,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::PolicyDecision>, Refusal> {
    let body: v1::PolicyQuestion = json(&body?)?;
    let policy = shared.policy.current();
    let mut request = ActionRequest::new(&body.agent, &body.tool, &body.input).after_delegations(body.delegations);
    request.cwd = body.cwd.as_deref();
    if request.cwd.is_some_and(|cwd| !cwd.starts_with('/')) {
        return Err(Refusal::invalid("`cwd` is not absolute", "give a path that begins with `/`"));
    }
    let decision = policy.decide(&request);
    Ok(Json(v1::PolicyDecision {
        verdict: match decision.verdict {
            Verdict::Allow => v1::Verdict::Allow,
            Verdict::Deny => v1::Verdict::Deny,
            Verdict::RequireApproval => v1::Verdict::RequireApproval,
        },
        rule_ids: decision.rule_ids,
        reason: decision.reason,
        hint: decision.hint,
        effects: decision.effects.iter().map(|effect| effect.as_str().to_owned()).collect(),
        policy_hash: decision.policy_hash,
        input_digest: decision.input_digest,
    }))
}

pub(super) async fn simulate(
    State(shared): AppState,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::PolicySimulation>, Refusal> {
    let body: v1::SimulatePolicy = json(&body?)?;
    let policy = Policy::parse(&body.policy, "policies.yaml").map_err(|error| refused(&error))?;
    let runs = match body.runs.is_empty() {
        false => body.runs,
        true => {
            let all = all_records(&shared.journal, records::RUN).await?;
            all.into_iter().rev().map(|record| record.key).take(RUNS_MAX).collect()
        }
    };
    if runs.len() > RUNS_MAX {
        let message = format!("{} runs are named", runs.len());
        return Err(Refusal::invalid(&message, &format!("at most {RUNS_MAX} are replayed at once")));
    }
    let mut simulation = v1::PolicySimulation { runs: 0, decisions: 0, changes: Vec::new() };
    for run in runs {
        let log = match shared.log(&run).await {
            Ok(log) if log.is_empty() => return Err(super::runs::no_run(&run)),
            Ok(log) => log,
            Err(HistoryError::Journal(error)) => return Err(error.into()),
            Err(error @ HistoryError::Log(_)) => return Err(error.into()),
        };
        let Some(replayed) = simulate::replay(&log, &policy) else { continue };
        simulation.runs += 1;
        simulation.decisions += replayed.decisions;
        simulation.changes.extend(replayed.changes);
        simulation.changes.truncate(CHANGES_MAX);
    }
    Ok(Json(simulation))
}

fn refused(error: &PolicyError) -> Refusal {
    let expected = error.expected.as_ref().map(|expected| format!("; expected {expected}")).unwrap_or_default();
    let message = format!("{}:{}:{}: {}{expected}", error.file, error.line, error.column, error.message);
    Refusal::invalid(&message, error.hint.as_deref().unwrap_or("`atoll policy check FILE` checks a file"))
}
