//! What to do about one Pod: from what is wanted and what is the case to the next actions. Pure.

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::pod::{self, RestartPolicy};
use crate::probe::ProbeKind;
use crate::slot::{DEADLINE_EXCEEDED, Ended, Live, Purpose, Slot, Stage};
use crate::status::{self, NodeFacts};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Prepare and start the Pod's sandbox.
    Start,
    /// Remove the sandbox.
    Destroy {
        purpose: Purpose,
        grace_ms: u64,
        /// What made it necessary, where it was not asked for.
        cause: Option<String>,
    },
    /// Tell a start that it is not wanted any more.
    StopInit { grace_ms: u64 },
    /// A removal is under way and may take no longer.
    Kill,
    /// The next start waits.
    BackOff,
    /// The Pod ended for good, for this reason if not its container's own.
    Finish { failure: Option<(&'static str, &'static str)> },
    /// Ask a probe's question.
    Probe(ProbeKind),
    /// Tell the API server.
    WriteStatus(Box<PodStatus>),
    /// Remove the object from the API server: nothing is left of the Pod here.
    DeleteObject,
    /// Nothing is left of the Pod anywhere.
    Forget,
}

/// What to do now, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Milliseconds since the Unix epoch.
    pub(crate) wake_at_ms: Option<u64>,
}

impl Plan {
    fn act(action: Action) -> Self {
        Self { actions: vec![action], wake_at_ms: None }
    }

    fn wake(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// The next actions for a Pod. `wanted` is `None` when the object is gone.
pub(crate) fn converge(wanted: Option<&Pod>, slot: &Slot, node: &NodeFacts, now_ms: u64) -> Plan {
    match wanted {
        None => remove(slot, 0, now_ms, Action::Forget),
        Some(pod) => match pod::deletion_grace_ms(pod) {
            Some(grace_ms) => {
                let mut plan = remove(slot, grace_ms, now_ms, Action::DeleteObject);
                if matches!(slot.stage, Stage::Cleared { .. })
                    && pod.metadata.finalizers.iter().flatten().next().is_some()
                {
                    // Somebody else keeps the object: it must not say that its container runs.
                    tell(pod, slot, node, now_ms, &mut plan);
                }
                plan
            }
            None => {
                let mut plan = keep(pod, slot, now_ms);
                announce(pod, slot, node, now_ms, &mut plan);
                plan
            }
        },
    }
}

/// The way out: first the sandbox, then the object, then the memory of it.
fn remove(slot: &Slot, grace_ms: u64, now_ms: u64, last: Action) -> Plan {
    let destroy = |grace_ms: u64| Plan::act(Action::Destroy { purpose: Purpose::Delete, grace_ms, cause: None });
    match &slot.stage {
        Stage::Starting { .. } => stop_init(slot, grace_ms),
        Stage::Running(_) => destroy(grace_ms),
        Stage::Stopping { purpose: Purpose::Delete, grace_ms: given, is_killed, .. } => {
            let is_shortened = grace_ms < *given && !is_killed;
            if is_shortened { Plan::act(Action::Kill) } else { Plan::default() }
        }
        Stage::Stopping { is_killed: true, .. } => Plan::default(),
        Stage::Stopping { .. } if grace_ms == 0 => Plan::act(Action::Kill),
        Stage::Stopping { .. } => Plan::default(),
        Stage::StopFailed { retry_at_ms, .. } if *retry_at_ms > now_ms => {
            Plan { actions: Vec::new(), wake_at_ms: Some(*retry_at_ms) }
        }
        Stage::Idle | Stage::Waiting { .. } | Stage::Finished { .. } if !slot.is_touched => leave(slot, now_ms, last),
        Stage::Cleared { .. } => leave(slot, now_ms, last),
        Stage::Idle | Stage::Waiting { .. } | Stage::Ended(_) | Stage::Finished { .. } | Stage::StopFailed { .. } => {
            destroy(0)
        }
    }
}

/// A start goes on by itself, unless it waits for the end of an init container.
fn stop_init(slot: &Slot, grace_ms: u64) -> Plan {
    if slot.has_stoppable_init() { Plan::act(Action::StopInit { grace_ms }) } else { Plan::default() }
}

fn leave(slot: &Slot, now_ms: u64, last: Action) -> Plan {
    if last != Action::DeleteObject {
        return Plan::act(last);
    }
    if slot.report.is_delete_requested {
        Plan::default()
    } else if slot.report.retry_at_ms > now_ms {
        Plan { actions: Vec::new(), wake_at_ms: Some(slot.report.retry_at_ms) }
    } else {
        Plan::act(last)
    }
}

/// The way to a running container, and staying there.
fn keep(pod: &Pod, slot: &Slot, now_ms: u64) -> Plan {
    let deadline = pod::spec(pod).active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let deadline_ms = deadline.map(|seconds| slot.accepted_at_ms.saturating_add(seconds.saturating_mul(1000)));
    let is_expired = deadline_ms.is_some_and(|deadline| deadline <= now_ms);
    let mut plan = if is_expired && !matches!(slot.stage, Stage::StopFailed { .. }) {
        expire(pod, slot)
    } else {
        match &slot.stage {
            Stage::Idle if pod::is_terminal(pod) => Plan::act(Action::Finish { failure: None }),
            Stage::Idle => Plan::act(Action::Start),
            Stage::Waiting { until_ms: Some(until), has_remains, .. } if *until <= now_ms => {
                let clear = Action::Destroy { purpose: Purpose::Clear, grace_ms: 0, cause: None };
                Plan::act(if *has_remains { clear } else { Action::Start })
            }
            Stage::Waiting { until_ms, .. } => Plan { actions: Vec::new(), wake_at_ms: *until_ms },
            Stage::Running(live) => attend(pod, live, now_ms),
            Stage::Ended(ended) if restarts(pod, ended) && slot.backs_off(ended) => Plan::act(Action::BackOff),
            Stage::Ended(ended) if restarts(pod, ended) => {
                Plan::act(Action::Destroy { purpose: Purpose::Restart, grace_ms: 0, cause: None })
            }
            Stage::Ended(_) => Plan::act(Action::Finish { failure: None }),
            Stage::StopFailed { purpose, retry_at_ms, .. } => retry(*purpose, *retry_at_ms, now_ms),
            Stage::Starting { .. } | Stage::Stopping { .. } | Stage::Finished { .. } | Stage::Cleared { .. } => {
                Plan::default()
            }
        }
    };
    let is_over = matches!(slot.stage, Stage::Finished { .. } | Stage::Cleared { .. } | Stage::Stopping { .. });
    if let Some(deadline) = deadline_ms.filter(|deadline| *deadline > now_ms && !is_over) {
        plan.wake(deadline);
    }
    plan
}

fn expire(pod: &Pod, slot: &Slot) -> Plan {
    let failure = Some(DEADLINE_EXCEEDED);
    match &slot.stage {
        Stage::Running(_) => Plan::act(Action::Destroy {
            purpose: Purpose::Deadline,
            grace_ms: pod::grace_ms(pod),
            cause: Some(DEADLINE_EXCEEDED.1.to_owned()),
        }),
        Stage::Idle | Stage::Waiting { .. } | Stage::Ended(_) => Plan::act(Action::Finish { failure }),
        Stage::Starting { .. } => stop_init(slot, pod::grace_ms(pod)),
        _ => Plan::default(),
    }
}

fn retry(purpose: Purpose, retry_at_ms: u64, now_ms: u64) -> Plan {
    if retry_at_ms > now_ms {
        Plan { actions: Vec::new(), wake_at_ms: Some(retry_at_ms) }
    } else {
        Plan::act(Action::Destroy { purpose, grace_ms: 0, cause: None })
    }
}

/// A running container: its probes.
fn attend(pod: &Pod, live: &Live, now_ms: u64) -> Plan {
    if let Some((kind, probe)) = live.probes.fatal() {
        let why = probe.last_failure.as_deref().unwrap_or("no answer");
        return Plan::act(Action::Destroy {
            purpose: Purpose::Restart,
            grace_ms: probe.plan.grace_ms.unwrap_or_else(|| pod::grace_ms(pod)),
            cause: Some(format!("{} probe failed: {why}", kind.name())),
        });
    }
    let mut plan = Plan::default();
    for (kind, due_at_ms) in live.probes.active() {
        if due_at_ms <= now_ms {
            plan.actions.push(Action::Probe(kind));
        } else {
            plan.wake(due_at_ms);
        }
    }
    plan
}

fn restarts(pod: &Pod, ended: &Ended) -> bool {
    match pod::restart_policy(pod) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => ended.exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Adds the status write that is due, if one is.
fn announce(pod: &Pod, slot: &Slot, node: &NodeFacts, now_ms: u64, plan: &mut Plan) {
    let not_before_ms = match &slot.stage {
        Stage::Starting { since_ms } => since_ms.saturating_add(node.announce_after_ms),
        Stage::Running(live) if live.probes.is_undecided() => live.started_at_ms.saturating_add(node.announce_after_ms),
        Stage::Running(_) | Stage::Waiting { .. } => 0,
        Stage::Finished { ended, failure } if ended.is_some() || failure.is_some() || slot.has_failed_init() => 0,
        // On the way to something else that is told then.
        _ => return,
    };
    // What happens now is told when it has happened.
    let is_about_to_change = plan.actions.iter().any(|action| !matches!(action, Action::Probe(_)));
    if is_about_to_change {
        return;
    }
    if not_before_ms > now_ms {
        plan.wake(not_before_ms);
    } else {
        tell(pod, slot, node, now_ms, plan);
    }
}

fn tell(pod: &Pod, slot: &Slot, node: &NodeFacts, now_ms: u64, plan: &mut Plan) {
    if slot.report.is_writing {
        return;
    }
    let base = slot.report.written.as_deref().unwrap_or_else(|| pod::status(pod));
    let next = status::next_status(pod, base, slot, node, now_ms);
    if next == *base {
        return;
    }
    if slot.report.retry_at_ms > now_ms {
        plan.wake(slot.report.retry_at_ms);
    } else {
        plan.actions.push(Action::WriteStatus(Box::new(next)));
    }
}

#[cfg(test)]
mod tests;
