//! Condition types, reasons and messages, and the reasons of Events. Clients match on all of them literally.

/// Condition types.
pub mod condition {
    /// The Sandbox, or the claim's Sandbox, can be used.
    pub const READY: &str = "Ready";
    /// The Sandbox has no Pod because it was asked to have none.
    pub const SUSPENDED: &str = "Suspended";
    /// The Pod ended by itself.
    pub const FINISHED: &str = "Finished";
    /// Mirror of the Pod's condition of this name.
    pub const POD_SCHEDULED: &str = "PodScheduled";
}

/// Ready: everything is there.
pub const DEPENDENCIES_READY: &str = "DependenciesReady";
/// Not ready: something is not there yet.
pub const DEPENDENCIES_NOT_READY: &str = "DependenciesNotReady";
/// Not ready: suspended or on the way there.
pub const SANDBOX_SUSPENDED: &str = "SandboxSuspended";
/// Not ready, and finished: every container ended with code 0.
pub const POD_SUCCEEDED: &str = "PodSucceeded";
/// Not ready, and finished: a container failed.
pub const POD_FAILED: &str = "PodFailed";
/// Not ready: the shutdown time has passed.
pub const SANDBOX_EXPIRED: &str = "SandboxExpired";
/// Not ready: more than one Pod is controlled by this Sandbox.
pub const MULTIPLE_PODS: &str = "MultiplePods";
/// Not ready: an error that is retried.
pub const RECONCILER_ERROR: &str = "ReconcilerError";
/// Not ready: the API server refused a child object as invalid; not retried.
pub const INVALID_CONFIGURATION: &str = "InvalidConfiguration";

/// Not suspended.
pub const NOT_SUSPENDED: &str = "NotSuspended";
/// Not suspended yet: the Pod is still there.
pub const POD_TERMINATING: &str = "PodTerminating";
/// Suspended.
pub const POD_TERMINATED: &str = "PodTerminated";
/// Not suspended: the Pod of this name is not ours to delete.
pub const POD_NOT_OWNED: &str = "PodNotOwned";
/// Unknown whether suspended.
pub const POD_STATE_UNKNOWN: &str = "PodStateUnknown";

/// The Pod has a node, and its scheduler gave no reason of its own.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// Nothing is known about the Pod's scheduling.
pub const POD_SCHEDULING_UNKNOWN: &str = "PodSchedulingUnknown";

/// Claim not ready: the pool does not exist. Clients give up on it.
pub const WARM_POOL_NOT_FOUND: &str = "WarmPoolNotFound";
/// Claim not ready: the pool's template does not exist. Clients give up on it.
pub const TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
/// Claim not ready: additional pod metadata that may not be asked for.
pub const INVALID_METADATA: &str = "InvalidMetadata";
/// Claim not ready: environment variables that the template does not allow.
pub const ENV_VARS_INJECTION_REJECTED: &str = "EnvVarsInjectionRejected";
/// Claim not ready: volume claim templates that the template does not allow.
pub const VOLUME_CLAIM_TEMPLATES_ERROR: &str = "VolumeClaimTemplatesError";
/// Claim not ready: another claim was quicker; retried.
pub const ADOPTION_CONFLICT: &str = "AdoptionConflict";
/// Claim not ready: it waits for a member of its pool.
pub const ADOPTION_PENDING: &str = "AdoptionPending";
/// Claim not ready: its Sandbox was just made; retried.
pub const SANDBOX_CREATE_PENDING: &str = "SandboxCreatePending";
/// Claim not ready: its Sandbox is gone.
pub const SANDBOX_MISSING: &str = "SandboxMissing";
/// Claim not ready: its Sandbox says nothing about readiness yet.
pub const SANDBOX_NOT_READY: &str = "SandboxNotReady";
/// Claim not ready: its shutdown time or its time to live after finishing has passed.
pub const CLAIM_EXPIRED: &str = "ClaimExpired";

/// A pool's or template's conditions, where they are asked for.
pub mod report {
    /// Pool: all members are Ready. Template: it can be used.
    pub const READY: &str = "Ready";
    /// Pool: it is on its way to what is wanted of it.
    pub const PROGRESSING: &str = "Progressing";
    /// Template: its NetworkPolicy is as it should be.
    pub const NETWORK_POLICY: &str = "NetworkPolicyReady";
    /// As many members as wanted are Ready, and none is out of date.
    pub const COMPLETE: &str = "Complete";
    /// Members are missing or starting.
    pub const FILLING: &str = "Filling";
    /// Members that are out of date are being replaced.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// There are more members than wanted.
    pub const SHRINKING: &str = "Shrinking";
    /// No node has room for members.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// There is no such template.
    pub const TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
    /// Another object's name has the same hash.
    pub const NAME_HASH_COLLISION: &str = "NameHashCollision";
    /// The template can be used.
    pub const ACCEPTED: &str = "Accepted";
    /// The NetworkPolicy is there.
    pub const MANAGED: &str = "Managed";
    /// No NetworkPolicy is wanted.
    pub const UNMANAGED: &str = "Unmanaged";
    /// A NetworkPolicy of the name is somebody else's.
    pub const NOT_OWNED: &str = "NotOwned";
}

/// Messages of conditions.
pub mod message {
    /// Of [`super::DEPENDENCIES_READY`].
    pub const POD_READY: &str = "Pod is Ready";
    /// Of [`super::DEPENDENCIES_NOT_READY`].
    pub const POD_DOES_NOT_EXIST: &str = "Pod does not exist";
    /// Of [`super::DEPENDENCIES_NOT_READY`]; the phase follows.
    pub const POD_EXISTS_WITH_PHASE: &str = "Pod exists with phase: ";
    /// Of [`super::DEPENDENCIES_NOT_READY`].
    pub const POD_RUNNING_NOT_READY: &str = "Pod is Running but not Ready";
    /// Of [`super::DEPENDENCIES_NOT_READY`].
    pub const POD_READY_WITHOUT_IPS: &str = "Pod is Ready but has no podIPs yet";
    /// Appended to one of the above.
    pub const SERVICE_EXISTS: &str = "; Service Exists";
    /// Appended to one of the above.
    pub const SERVICE_DOES_NOT_EXIST: &str = "; Service does not exist";
    /// Of Ready with [`super::SANDBOX_SUSPENDED`].
    pub const SUSPENDING: &str = "Sandbox is suspending";
    /// Of Ready with [`super::SANDBOX_SUSPENDED`].
    pub const IS_SUSPENDED: &str = "Sandbox is suspended";
    /// Of [`super::POD_SUCCEEDED`].
    pub const POD_COMPLETED: &str = "Pod completed successfully";
    /// Of [`super::POD_FAILED`].
    pub const POD_FAILED: &str = "Pod failed";
    /// Of Ready with [`super::SANDBOX_EXPIRED`].
    pub const SANDBOX_HAS_EXPIRED: &str = "Sandbox has expired";
    /// Of [`super::RECONCILER_ERROR`]; the error follows.
    pub const ERROR_SEEN: &str = "Error seen: ";
    /// Of [`super::NOT_SUSPENDED`].
    pub const NOT_SUSPENDED: &str = "Sandbox is not suspended";
    /// Of [`super::POD_TERMINATING`].
    pub const POD_TERMINATING: &str = "Pod is terminating. Sandbox is suspending";
    /// Of [`super::POD_TERMINATED`].
    pub const POD_TERMINATED: &str = "Pod has been terminated. Sandbox is suspended";
    /// Of [`super::POD_NOT_OWNED`].
    pub const POD_NOT_OWNED: &str = "Refused to delete pod because it is not owned by this sandbox";
    /// Of [`super::POD_STATE_UNKNOWN`].
    pub const POD_STATE_UNKNOWN: &str = "Pod state is unknown. Sandbox suspension cannot be confirmed";
    /// Of [`super::POD_SCHEDULING_UNKNOWN`] while the Pod says nothing.
    pub const POD_NOT_SCHEDULED_YET: &str = "Pod has not reported a PodScheduled condition yet";
    /// Of [`super::POD_SCHEDULING_UNKNOWN`] while the Pod itself is unknown.
    pub const POD_SCHEDULING_UNKNOWN: &str = "Pod state is unknown. Pod scheduling cannot be determined";
    /// Of [`super::SANDBOX_CREATE_PENDING`].
    pub const SANDBOX_CREATE_PENDING: &str = "Sandbox already created; waiting for cache to converge";
    /// Of [`super::ADOPTION_PENDING`].
    pub const WAITING_FOR_MEMBER: &str = "Waiting for a Ready Sandbox of the warm pool";
    /// Of [`super::SANDBOX_MISSING`].
    pub const SANDBOX_MISSING: &str = "Sandbox does not exist";
    /// Of [`super::SANDBOX_NOT_READY`].
    pub const SANDBOX_NOT_READY: &str = "Sandbox is not ready";
    /// Of a claim's Ready with [`super::SANDBOX_EXPIRED`].
    pub const UNDERLYING_SANDBOX_EXPIRED: &str = "Underlying Sandbox resource has expired independently of the Claim.";
    /// Of [`super::CLAIM_EXPIRED`].
    pub const CLAIM_EXPIRED: &str = "Claim expired. Sandbox cleanup initiated.";
}

/// Reasons of Events.
pub mod event {
    /// A claim took a Sandbox from its pool.
    pub const SANDBOX_ADOPTED: &str = "SandboxAdopted";
    /// A Sandbox was made for a claim.
    pub const SANDBOX_PROVISIONED: &str = "SandboxProvisioned";
    /// Something that was to be made was refused: no quota left, or not what the namespace lets in.
    pub const FAILED_CREATE: &str = "FailedCreate";
    /// A pool member can not be scheduled.
    pub const WARM_POOL_NOT_PROGRESSING: &str = "WarmPoolNotProgressing";
    /// A pool that made no progress does so again.
    pub const WARM_POOL_PROGRESSING: &str = "WarmPoolProgressing";
    /// A Pod was given to a node.
    pub const SCHEDULED: &str = "Scheduled";
    /// No node has room for a Pod.
    pub const FAILED_SCHEDULING: &str = "FailedScheduling";
}
