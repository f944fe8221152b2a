//! `agents.x-k8s.io/v1beta1` Sandbox.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::blueprint::{Blueprint, PodTemplate, VolumeClaimTemplate};
use crate::kind::namespaced_kind;

/// One sealed, stateful computer with a stable name: a Pod, its volumes and perhaps a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Sandbox {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: SandboxSpec,
    /// What is the case.
    #[serde(default)]
    pub status: Option<SandboxStatus>,
}

namespaced_kind!(Sandbox, "agents.x-k8s.io/v1beta1", crate::SANDBOX_GROUP, "sandboxes", status);

/// What is wanted of a Sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSpec {
    /// The Pod.
    pub pod_template: PodTemplate,
    /// The volumes; immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// `true` makes a headless Service, `false` deletes it, nothing leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// When the Sandbox expires. May be moved, also after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<Time>,
    /// What happens then; `Retain` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_policy: Option<ShutdownPolicy>,
    /// Whether there shall be a Pod; `Running` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_mode: Option<OperatingMode>,
}

impl SandboxSpec {
    /// Whether there shall be no Pod.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.operating_mode == Some(OperatingMode::Suspended)
    }
}

impl From<Blueprint> for SandboxSpec {
    fn from(blueprint: Blueprint) -> Self {
        Self {
            pod_template: blueprint.pod_template,
            volume_claim_templates: blueprint.volume_claim_templates,
            service: blueprint.service,
            ..Self::default()
        }
    }
}

/// What happens to a Sandbox whose shutdown time has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownPolicy {
    /// It is deleted.
    Delete,
    /// Its Pod and Service are deleted; it stays, with its volumes.
    #[default]
    Retain,
}

/// Whether a Sandbox has a Pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatingMode {
    /// It has.
    #[default]
    Running,
    /// It has none; volumes and Service stay.
    Suspended,
}

/// What is the case with a Sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// Sorted by type; see [`crate::reasons`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The name of the headless Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `<service>.<namespace>.svc.<cluster domain>`.
    #[serde(default, rename = "serviceFQDN", skip_serializing_if = "Option::is_none")]
    pub service_fqdn: Option<String>,
    /// `agents.x-k8s.io/sandbox-name-hash=<hash>`, once there was a Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The Pod's addresses.
    #[serde(default, rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<String>,
    /// Where the Pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}
