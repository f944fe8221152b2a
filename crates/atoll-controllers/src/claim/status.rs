//! The status of a claim.

use atoll_api::claim::{BoundSandbox, SandboxClaimStatus};
use atoll_api::reasons::{self, condition, message};
use atoll_api::{Sandbox, SandboxClaim, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::caches::name_of;

/// The status of a claim that has a Sandbox: what the Sandbox says of itself.
pub(crate) fn forwarded(claim: &SandboxClaim, sandbox: &Sandbox, now: Timestamp) -> SandboxClaimStatus {
    let said = sandbox.status.clone().unwrap_or_default();
    let mut status = claim.status.clone().unwrap_or_default();
    let generation = claim.metadata.generation;
    let ready = match conditions::find(&said.conditions, condition::READY) {
        Some(ready) if ready.reason == reasons::SANDBOX_EXPIRED => {
            not_ready(claim, reasons::SANDBOX_EXPIRED, message::UNDERLYING_SANDBOX_EXPIRED, now)
        }
        Some(ready) => Condition { observed_generation: generation, ..ready.clone() },
        None => not_ready(claim, reasons::SANDBOX_NOT_READY, message::SANDBOX_NOT_READY, now),
    };
    conditions::set(&mut status.conditions, ready);
    match conditions::find(&said.conditions, condition::FINISHED) {
        Some(finished) => {
            let finished = Condition { observed_generation: generation, ..finished.clone() };
            conditions::set(&mut status.conditions, finished);
        }
        None => conditions::remove(&mut status.conditions, condition::FINISHED),
    }
    status.sandbox = Some(BoundSandbox { name: name_of(sandbox).to_owned(), pod_ips: said.pod_ips });
    status
}

/// The status that a claim has, but not Ready for this reason.
pub(crate) fn refused(claim: &SandboxClaim, reason: &str, text: &str, now: Timestamp) -> SandboxClaimStatus {
    let mut status = claim.status.clone().unwrap_or_default();
    conditions::set(&mut status.conditions, not_ready(claim, reason, text, now));
    status
}

/// The same for a claim that has no Sandbox.
pub(crate) fn without_sandbox(claim: &SandboxClaim, reason: &str, text: &str, now: Timestamp) -> SandboxClaimStatus {
    SandboxClaimStatus { sandbox: None, ..refused(claim, reason, text, now) }
}

/// The reason of the claim's Ready condition; empty when it has none.
pub(crate) fn ready_reason(claim: &SandboxClaim) -> &str {
    claim.status.as_ref().map_or("", |status| conditions::reason(&status.conditions, condition::READY))
}

fn not_ready(claim: &SandboxClaim, reason: &str, text: &str, now: Timestamp) -> Condition {
    conditions::new(condition::READY, conditions::FALSE, reason, text, claim.metadata.generation, Time(now))
}
