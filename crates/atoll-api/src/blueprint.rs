//! What a template and a Sandbox share: how its Pod, its volumes and its Service are to look.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec};
use serde::{Deserialize, Serialize};

/// The pod template of a Sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations for the Pod. Changes reach a running Pod.
    #[serde(default, skip_serializing_if = "EmbeddedMetadata::is_empty")]
    pub metadata: EmbeddedMetadata,
    /// The Pod's spec. Changes take effect when the next Pod is made.
    pub spec: PodSpec,
}

/// The part of object metadata that a pod template may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl EmbeddedMetadata {
    /// Whether there is neither label nor annotation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// A volume that is made with the Sandbox and deleted with it. Its claim is named `<name>-<sandbox>`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimTemplate {
    /// Name, labels and annotations.
    #[serde(default)]
    pub metadata: VolumeClaimMetadata,
    /// What is claimed.
    pub spec: PersistentVolumeClaimSpec,
}

/// The part of object metadata that a volume claim template may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimMetadata {
    /// The volume's name in the Pod. Empty is refused by the controllers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels for the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The three fields that decide whether a pool member is made as its template says today.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blueprint {
    /// The Pod.
    pub pod_template: PodTemplate,
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// The headless Service: wanted, not wanted, or left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
}
