//! Reading a Pod. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

/// The one image there is: the machine's own programs.
pub(crate) const HOST_IMAGE: &str = "atoll.local/host";

/// Grace when a Pod does not say.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Which Pod, in words and by UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    /// Its UID, which is its sandbox's id.
    pub(crate) uid: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl PodIdentity {
    /// `None` for an object that never was in an API server.
    #[must_use]
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        Some(Self { uid: metadata.uid.clone()?, namespace: metadata.namespace.clone()?, name: metadata.name.clone()? })
    }
}

/// Whether an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// However it ended.
    Always,
    /// If it ended with another code than 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// What the Pod wants.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static NOTHING: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NOTHING)
}

/// What is known of the Pod so far.
pub(crate) fn status(pod: &Pod) -> &PodStatus {
    static NOTHING: std::sync::LazyLock<PodStatus> = std::sync::LazyLock::new(PodStatus::default);
    pod.status.as_ref().unwrap_or(&NOTHING)
}

/// The container that runs; the API server lets no Pod pass without one.
pub(crate) fn container(pod: &Pod) -> Option<&Container> {
    spec(pod).containers.first()
}

pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Milliseconds between the polite and the final signal.
pub(crate) fn grace_ms(pod: &Pod) -> u64 {
    let seconds = spec(pod).termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// The grace of a Pod that is being deleted; `None` when it is not.
pub(crate) fn deletion_grace_ms(pod: &Pod) -> Option<u64> {
    pod.metadata.deletion_timestamp.as_ref()?;
    match pod.metadata.deletion_grace_period_seconds {
        Some(seconds) => Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)),
        None => Some(grace_ms(pod)),
    }
}

/// Whether the Pod has ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(status(pod).phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The address that the Pod had, by its own account.
pub(crate) fn recorded_address(pod: &Pod) -> Option<Ipv4Addr> {
    status(pod).pod_ip.as_ref()?.parse().ok()
}

/// How often the container was started again, by the Pod's own account.
pub(crate) fn recorded_restarts(pod: &Pod) -> u32 {
    let recorded = status(pod).container_statuses.iter().flatten().next().map_or(0, |status| status.restart_count);
    u32::try_from(recorded).unwrap_or(0)
}

/// Whether the Pod's own account says that its container ended and is to run again.
pub(crate) fn is_recorded_ended_before(pod: &Pod) -> bool {
    let container = status(pod).container_statuses.iter().flatten().next();
    container.and_then(|status| status.last_state.as_ref()).is_some_and(|state| state.terminated.is_some())
}

/// Whether the Pod's own account says that its container runs.
pub(crate) fn is_recorded_running(pod: &Pod) -> bool {
    let container = status(pod).container_statuses.iter().flatten().next();
    container.and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Whether the Pod's own account says that it is Ready.
pub(crate) fn is_recorded_ready(pod: &Pod) -> bool {
    let mut conditions = status(pod).conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
