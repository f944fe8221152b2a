//! When a claim ends.

use atoll_api::claim::SandboxClaimStatus;
use atoll_api::reasons::condition;
use atoll_api::{SandboxClaim, conditions};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The earlier of the shutdown time and the end of the time to live after finishing, by this status.
pub(crate) fn deadline(claim: &SandboxClaim, status: &SandboxClaimStatus) -> Option<Timestamp> {
    let lifecycle = claim.spec.lifecycle.as_ref()?;
    let shutdown = lifecycle.shutdown_time.as_ref().map(|time| time.0);
    let finished = conditions::find(&status.conditions, condition::FINISHED)
        .filter(|finished| finished.status == conditions::TRUE)
        .map(|finished| finished.last_transition_time.0);
    let outlived = lifecycle
        .ttl_seconds_after_finished
        .zip(finished)
        .and_then(|(seconds, finished)| finished.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok());
    shutdown.into_iter().chain(outlived).min()
}
