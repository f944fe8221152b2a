//! `extensions.agents.x-k8s.io/v1beta1` SandboxTemplate.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::blueprint::{Blueprint, PodTemplate, VolumeClaimTemplate};
use crate::kind::namespaced_kind;

/// How the Sandboxes of pools and claims are made, and what their claims may ask for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SandboxTemplate {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The template.
    pub spec: SandboxTemplateSpec,
}

namespaced_kind!(SandboxTemplate, "extensions.agents.x-k8s.io/v1beta1", crate::EXTENSIONS_GROUP, "sandboxtemplates");

/// The template itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxTemplateSpec {
    /// The Pod.
    pub pod_template: PodTemplate,
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// As in the Sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// Rules in place of the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyRules>,
    /// Whether there is a NetworkPolicy for this template; `Managed` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy_management: Option<NetworkPolicyManagement>,
    /// Whether claims may set environment variables; `Disallowed` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars_injection_policy: Option<InjectionPolicy>,
    /// Whether claims may add volumes; `Disallowed` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim_templates_policy: Option<InjectionPolicy>,
}

impl SandboxTemplateSpec {
    /// The part that a Sandbox is made of.
    #[must_use]
    pub fn blueprint(&self) -> Blueprint {
        Blueprint {
            pod_template: self.pod_template.clone(),
            volume_claim_templates: self.volume_claim_templates.clone(),
            service: self.service,
        }
    }

    /// Whether the NetworkPolicy is ours to keep.
    #[must_use]
    pub fn manages_network_policy(&self) -> bool {
        self.network_policy_management.unwrap_or_default() == NetworkPolicyManagement::Managed
    }
}

/// Rules of a NetworkPolicy, used verbatim: no ingress rule means no ingress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyRules {
    /// Who may reach the Pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// Whom the Pods may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<NetworkPolicyEgressRule>,
}

/// Whether the controllers keep a NetworkPolicy for a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkPolicyManagement {
    /// They do.
    #[default]
    Managed,
    /// They do not, and delete one that they made.
    Unmanaged,
}

/// What a claim may change about the template's Sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InjectionPolicy {
    /// Nothing.
    #[default]
    Disallowed,
    /// It may add.
    Allowed,
    /// It may add and replace.
    Overrides,
}
