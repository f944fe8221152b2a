//! The one word that says where a Sandbox is in its life. It is not stored: it follows from what is.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::reasons::{self, condition};
use crate::{Sandbox, conditions, labels};

const POOL_KIND: &str = "SandboxWarmPool";

/// Where a Sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its Pod is on the way.
    Provisioning,
    /// A pool's, Ready and unclaimed.
    PreProvisioned,
    /// Taken from a pool by a claim, and not known to be Ready since.
    Claimed,
    /// Ready.
    Running,
    /// Asked to sleep; the Pod is still there.
    Suspending,
    /// Asleep: no Pod, volumes kept.
    Suspended,
    /// Asked to wake; the Pod is on the way.
    Resuming,
    /// Its Pod ended by itself, well.
    Succeeded,
    /// Its Pod ended by itself, badly.
    Failed,
    /// Its time is over.
    Expired,
    /// Being deleted.
    Terminating,
}

impl SandboxState {
    /// The state of a Sandbox.
    #[must_use]
    pub fn of(sandbox: &Sandbox) -> Self {
        let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if sandbox.metadata.deletion_timestamp.is_some() {
            return Self::Terminating;
        }
        match conditions::reason(conditions, condition::READY) {
            reasons::SANDBOX_EXPIRED => return Self::Expired,
            reasons::POD_SUCCEEDED => return Self::Succeeded,
            reasons::POD_FAILED => return Self::Failed,
            _ => {}
        }
        let asleep = conditions::is_true(conditions, condition::SUSPENDED);
        if sandbox.spec.is_suspended() {
            return if asleep { Self::Suspended } else { Self::Suspending };
        }
        let pooled = is_pooled(sandbox);
        let ready = conditions::find(conditions, condition::READY).filter(|ready| ready.status == conditions::TRUE);
        if let Some(ready) = ready {
            return match pooled {
                true => Self::PreProvisioned,
                false if was_pooled(sandbox) && ready.observed_generation < sandbox.metadata.generation => {
                    Self::Claimed
                }
                false => Self::Running,
            };
        }
        if asleep || wakes(conditions) {
            return Self::Resuming;
        }
        if !pooled && was_pooled(sandbox) { Self::Claimed } else { Self::Provisioning }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "Provisioning",
            Self::PreProvisioned => "PreProvisioned",
            Self::Claimed => "Claimed",
            Self::Running => "Running",
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::Resuming => "Resuming",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Expired => "Expired",
            Self::Terminating => "Terminating",
        }
    }
}

impl fmt::Display for SandboxState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn is_pooled(sandbox: &Sandbox) -> bool {
    let owners = sandbox.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && owner.kind == POOL_KIND)
}

fn was_pooled(sandbox: &Sandbox) -> bool {
    let launch = sandbox.metadata.labels.as_ref().and_then(|labels| labels.get(labels::LAUNCH_TYPE));
    launch.is_some_and(|launch| launch == labels::LAUNCH_TYPE_WARM)
}

/// It stopped being Ready before it stopped being suspended: it sleeps no more, and is not Ready since.
fn wakes(all: &[Condition]) -> bool {
    let since = |type_| conditions::find(all, type_).map(|condition| condition.last_transition_time.0);
    match (since(condition::READY), since(condition::SUSPENDED)) {
        (Some(unready), Some(awake)) => awake > unready,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const EARLIER: &str = "2026-01-01T00:00:00Z";
    const LATER: &str = "2026-01-01T00:00:09Z";

    fn condition(type_: &str, status: &str, reason: &str, since: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": since})
    }

    fn sandbox(mode: &str, owner: &str, launch: &str, conditions: &[Value]) -> Sandbox {
        let sandbox = json!({
            "metadata": {
                "name": "s",
                "labels": {"agents.x-k8s.io/launch-type": launch},
                "ownerReferences": [{"apiVersion": "v1", "kind": owner, "name": "o", "uid": "u", "controller": true}],
            },
            "spec": {"operatingMode": mode, "podTemplate": {"spec": {"containers": []}}},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(sandbox).expect("it is a Sandbox")
    }

    #[test]
    fn every_state_follows_from_what_is() {
        let ready = condition("Ready", "True", "DependenciesReady", LATER);
        let starting = condition("Ready", "False", "DependenciesNotReady", EARLIER);
        let awake = |since| condition("Suspended", "False", "NotSuspended", since);
        let asleep = condition("Suspended", "True", "PodTerminated", LATER);
        let ended = |reason| condition("Ready", "False", reason, LATER);
        for (mode, owner, launch, conditions, state) in [
            ("Running", "", "", vec![], "Provisioning"),
            ("Running", "SandboxWarmPool", "warm", vec![starting.clone(), awake(EARLIER)], "Provisioning"),
            ("Running", "SandboxWarmPool", "warm", vec![ready.clone(), awake(EARLIER)], "PreProvisioned"),
            ("Running", "SandboxClaim", "warm", vec![starting.clone(), awake(EARLIER)], "Claimed"),
            ("Running", "SandboxClaim", "warm", vec![ready.clone(), awake(EARLIER)], "Running"),
            ("Running", "SandboxClaim", "cold", vec![starting.clone(), awake(EARLIER)], "Provisioning"),
            ("Suspended", "", "", vec![ready, awake(EARLIER)], "Suspending"),
            ("Suspended", "", "", vec![starting.clone(), asleep.clone()], "Suspended"),
            ("Running", "", "", vec![starting.clone(), asleep], "Resuming"),
            ("Running", "", "", vec![starting, awake(LATER)], "Resuming"),
            ("Running", "", "", vec![ended("PodSucceeded")], "Succeeded"),
            ("Running", "", "", vec![ended("PodFailed")], "Failed"),
            ("Running", "", "", vec![ended("SandboxExpired")], "Expired"),
        ] {
            let sandbox = sandbox(mode, owner, launch, &conditions);
            assert_eq!(SandboxState::of(&sandbox).as_str(), state, "{mode} {owner} {launch} {conditions:?}");
        }
    }

    #[test]
    fn a_member_is_claimed_until_it_is_seen_to_be_ready_as_it_is_now() {
        let ready = condition("Ready", "True", "DependenciesReady", LATER);
        for (owner, launch, observed, state) in [
            ("SandboxWarmPool", "warm", 1, SandboxState::PreProvisioned),
            ("SandboxClaim", "warm", 1, SandboxState::Claimed),
            ("SandboxClaim", "warm", 2, SandboxState::Running),
            ("SandboxClaim", "cold", 1, SandboxState::Running),
        ] {
            let mut sandbox = sandbox("Running", owner, launch, std::slice::from_ref(&ready));
            sandbox.metadata.generation = Some(2);
            let status = sandbox.status.as_mut().expect("it has one");
            status.conditions[0].observed_generation = Some(observed);
            assert_eq!(SandboxState::of(&sandbox), state, "{owner} {launch} {observed}");
        }
    }

    #[test]
    fn what_is_deleted_is_terminating() {
        let mut leaving = sandbox("Suspended", "", "", &[]);
        leaving.metadata.deletion_timestamp = Some(serde_json::from_value(json!(LATER)).expect("it is a time"));
        assert_eq!(SandboxState::of(&leaving), SandboxState::Terminating);
    }
}
