//! `extensions.agents.x-k8s.io/v1beta1` SandboxClaim.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::blueprint::{EmbeddedMetadata, VolumeClaimTemplate};
use crate::kind::namespaced_kind;

/// A request for one Sandbox: one of a pool's, or else a new one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SandboxClaim {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: SandboxClaimSpec,
    /// What is the case.
    #[serde(default)]
    pub status: Option<SandboxClaimStatus>,
}

namespaced_kind!(SandboxClaim, "extensions.agents.x-k8s.io/v1beta1", crate::EXTENSIONS_GROUP, "sandboxclaims", status);

/// What a claim wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimSpec {
    /// The pool of the same namespace.
    pub warm_pool_ref: WarmPoolRef,
    /// When the claim ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Labels and annotations for the Pod, on top of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_pod_metadata: Option<EmbeddedMetadata>,
    /// Environment variables; any makes the Sandbox start cold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<ClaimEnvVar>,
    /// Volumes; any makes the Sandbox start cold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
}

/// A pool of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolRef {
    /// Its name.
    pub name: String,
}

/// When a claim ends, and what is left of it then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// At the latest then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<Time>,
    /// So many seconds after its Pod has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What is left; `Retain` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_policy: Option<ClaimShutdownPolicy>,
}

/// What is left of a claim that has expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimShutdownPolicy {
    /// Nothing; the claim goes first, its Sandbox after it.
    Delete,
    /// Nothing; the claim goes when its Sandbox has gone.
    DeleteForeground,
    /// The claim, without its Sandbox.
    #[default]
    Retain,
}

/// One environment variable, always a literal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimEnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// For which container; the first one when absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
}

/// What is the case with a claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimStatus {
    /// Sorted by type; see [`crate::reasons`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The claim's Sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<BoundSandbox>,
}

/// The Sandbox that a claim got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundSandbox {
    /// Its name, which is also the name of its Pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its Pod's addresses.
    #[serde(default, rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<String>,
}
