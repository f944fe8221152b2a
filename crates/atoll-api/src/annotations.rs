//! Annotation keys.

/// The name of a Sandbox's Pod where it differs from the Sandbox's own; only read, new Pods are named like their
/// Sandbox.
pub const POD_NAME: &str = "agents.x-k8s.io/pod-name";
/// The template that a Sandbox was made from.
pub const TEMPLATE_REF: &str = "agents.x-k8s.io/sandbox-template-ref";
/// On Pods: the sorted, comma-separated label keys that came from the pod template, so that removals are noticed.
pub const PROPAGATED_LABELS: &str = "agents.x-k8s.io/propagated-labels";
/// On Pods: the same for annotation keys.
pub const PROPAGATED_ANNOTATIONS: &str = "agents.x-k8s.io/propagated-annotations";
/// On claims: an assignment committed by another controller of this API; only read.
pub const SANDBOX_NAME: &str = "agents.x-k8s.io/sandbox-name";
/// On claims: when the controller first saw it, RFC 3339 with nanoseconds.
pub const CONTROLLER_FIRST_OBSERVED_AT: &str = "agents.x-k8s.io/controller-first-observed-at";
/// On claims: when an admission webhook first saw it.
pub const WEBHOOK_FIRST_OBSERVED_AT: &str = "agents.x-k8s.io/webhook-first-observed-at";
/// On claims: when the client asked for it, by the client's clock.
pub const CLIENT_FIRST_REQUESTED_AT: &str = "agents.x-k8s.io/client-first-requested-at";
/// On claims: when it first became Ready, RFC 3339 with nanoseconds, or `unknown`.
pub const CLAIM_FIRST_READY_AT: &str = "agents.x-k8s.io/claim-first-ready-at";
/// On claims and Sandboxes: a JSON map of W3C trace headers. Never copied to Pods.
pub const TRACE_CONTEXT: &str = "opentelemetry.io/trace-context";
/// On Pods: whether a cluster autoscaler may end them. `"true"` on those of idle pool members.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// On pools, and on claims to say otherwise: what a claim does that finds no member, [`WHEN_EMPTY_WAIT`] or
/// [`WHEN_EMPTY_COLD_START`]. Without it a Sandbox is started cold.
pub const WHEN_EMPTY: &str = "atoll.dev/when-empty";
/// The claim waits for a member.
pub const WHEN_EMPTY_WAIT: &str = "wait";
/// A Sandbox is started for the claim.
pub const WHEN_EMPTY_COLD_START: &str = "cold-start";
/// With [`WHEN_EMPTY_WAIT`]: after so many seconds, a whole number, a Sandbox is started all the same.
pub const WAIT_SECONDS_MAX: &str = "atoll.dev/wait-seconds-max";
/// On claims: a whole number, 0 without it. Of claims that wait for members of one pool the highest is served first.
pub const PRIORITY: &str = "atoll.dev/priority";
/// On pools that stand in for a template of which claims of the first API version ask no pool: `"true"`.
pub const MIGRATION_SHADOW: &str = "agents.x-k8s.io/migration-shadow";
/// On such pools: the name of the template.
pub const MIGRATION_SOURCE_TEMPLATE: &str = "agents.x-k8s.io/migration-source-template";
/// On pools and templates: `"true"` has the controllers write [`CONDITIONS`].
pub const REPORT_CONDITIONS: &str = "atoll.dev/report-conditions";
/// On pools and templates: conditions, as a JSON list, where the kind's status has no place for them.
pub const CONDITIONS: &str = "atoll.dev/conditions";
/// On a template's Pods: who wrote what runs in them: `trusted`, `untrusted`, or `hostile` (strangers who share the
/// machine with others). Declares the risk by which the isolation tier is chosen.
pub const TRUST: &str = "atoll.dev/trust";
/// On a template's Pods: `"false"` where they run nothing but what their image holds. The other half of the risk.
pub const ARBITRARY_CODE: &str = "atoll.dev/arbitrary-code";
/// On namespaces: the isolation tier that its Pods have at least; less is refused.
pub const MINIMUM_TIER: &str = "atoll.dev/minimum-tier";
