//! Tools that change nothing but the run: the task list, and starting agents.

use std::fmt::Write;

use serde_json::Value;

use super::{advance, attention, call_mut, fan, new_agent};
use crate::budget::{Budget, Ledger};
use crate::event::{CallRef, ToolStatus};
use crate::state::{CallPhase, PlanItem, PlanStatus, RunState};
use crate::tools;

/// Entries of a run's task list.
const PLAN_ITEMS_MAX: usize = 200;

type Told = (ToolStatus, String);

/// Carries out an allowed internal call.
pub(super) fn carry_out(state: &mut RunState, reference: CallRef, now_ms: u64) {
    let Some(call) = call_mut(state, reference) else { return };
    let (tool, input) = (call.tool.clone(), call.input.clone());
    let told = match tool.as_str() {
        tools::TASK_CREATE => task_create(state, &input),
        tools::PROGRESS_TRACK => progress_track(state, &input),
        _ if fan::has_room(state, reference.agent) => return start_delegated(state, reference, now_ms),
        _ => {
            if let Some(call) = call_mut(state, reference) {
                call.phase = CallPhase::Queued;
            }
            return;
        }
    };
    if let Some(call) = call_mut(state, reference) {
        call.finish(told.0, told.1);
    }
    advance(state, reference.agent, now_ms);
}

/// Starts the agent that a delegation asks for, now that there is room.
pub(super) fn start_delegated(state: &mut RunState, reference: CallRef, now_ms: u64) {
    let Some(input) = call_mut(state, reference).map(|call| call.input.clone()) else { return };
    let started = delegate(state, reference, &input, now_ms);
    let Some(call) = call_mut(state, reference) else { return };
    match started {
        Ok(child) => {
            call.phase = CallPhase::Delegated { child };
            attention::hold_if_paused(state, child);
        }
        Err(reason) => {
            call.finish(ToolStatus::Failed, reason);
            advance(state, reference.agent, now_ms);
        }
    }
}

fn text(input: &Value, name: &str) -> Option<String> {
    input.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn task_create(state: &mut RunState, input: &Value) -> Told {
    if state.plan.len() >= PLAN_ITEMS_MAX {
        return (ToolStatus::Failed, format!("The task list is full ({PLAN_ITEMS_MAX} items)."));
    }
    let id = state.plan.len() as u32 + 1;
    state.plan.push(PlanItem {
        id,
        title: text(input, "title").unwrap_or_default(),
        detail: text(input, "detail"),
        agent: text(input, "agent"),
        status: PlanStatus::Pending,
        note: None,
    });
    (ToolStatus::Ok, format!("Item {id} added."))
}

fn progress_track(state: &mut RunState, input: &Value) -> Told {
    let Some(number) = input.get("item").and_then(Value::as_u64) else {
        return (ToolStatus::Ok, list(&state.plan));
    };
    let count = state.plan.len();
    let Some(item) = state.plan.iter_mut().find(|item| u64::from(item.id) == number) else {
        return (ToolStatus::Failed, format!("There is no item {number}; the list has {count}."));
    };
    if let Some(status) = text(input, "status").as_deref().and_then(PlanStatus::parse) {
        item.status = status;
    }
    item.note = text(input, "note").or_else(|| item.note.take());
    (ToolStatus::Ok, format!("Item {number} is {}.", item.status.name()))
}

fn list(plan: &[PlanItem]) -> String {
    if plan.is_empty() {
        return "The task list is empty.".to_owned();
    }
    let mut lines = String::new();
    for item in plan {
        let agent = item.agent.as_deref().map(|agent| format!(" ({agent})")).unwrap_or_default();
        let note = item.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        writeln!(lines, "{}. [{}] {}{agent}{note}", item.id, item.status.name(), item.title)
            .expect("writing to a string cannot fail");
    }
    lines
}

/// Starts an agent, or says why not.
fn delegate(state: &mut RunState, reference: CallRef, input: &Value, now_ms: u64) -> Result<u32, String> {
    let name = text(input, "agent").unwrap_or_default();
    let task = text(input, "task").unwrap_or_default();
    let limits = &state.config.limits;
    let parent = state.agent(reference.agent).ok_or("The agent is gone.")?;
    if state.config.profile(&name).is_none() {
        let known: Vec<&str> = state.config.agents.iter().map(|profile| profile.name.as_str()).collect();
        return Err(format!("There is no agent `{name}`. The agents are: {}.", known.join(", ")));
    }
    let delegations_max = state.profile(parent).max_delegations.unwrap_or(limits.delegations_max);
    if parent.delegations >= delegations_max {
        return Err(format!("Not done: all {delegations_max} delegations of this agent are used."));
    }
    if parent.depth >= limits.depth_max {
        return Err(format!(
            "Not done: agents may be nested {} deep, and this one is at the bottom.",
            limits.depth_max
        ));
    }
    if state.agents.len() >= limits.agents_max as usize {
        return Err(format!("Not done: a run has at most {} agents.", limits.agents_max));
    }
    let (child, depth) = (state.agents.len() as u32, parent.depth + 1);
    state.agents[reference.agent as usize].delegations += 1;
    let mut agent = new_agent(child, name.clone(), Some(reference), depth, task, now_ms);
    let number = |name: &str| input.get(name).and_then(Value::as_u64);
    let asked = Budget { steps: number("max_steps"), tokens: number("max_tokens"), microusd: None };
    agent.ledger = Ledger::new(state.config.profile(&name).map_or(asked, |profile| profile.budget.narrowed(asked)));
    state.agents.push(agent);
    let number = input.get("item").and_then(Value::as_u64);
    if let Some(item) = state.plan.iter_mut().find(|item| Some(u64::from(item.id)) == number) {
        item.status = PlanStatus::InProgress;
        item.agent = Some(name);
    }
    Ok(child)
}
