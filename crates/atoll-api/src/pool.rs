//! `extensions.agents.x-k8s.io/v1beta1` SandboxWarmPool.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::kind::namespaced_kind;

/// Sandboxes that wait, running, for claims.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SandboxWarmPool {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: SandboxWarmPoolSpec,
    /// What is the case.
    #[serde(default)]
    pub status: Option<SandboxWarmPoolStatus>,
}

namespaced_kind!(
    SandboxWarmPool,
    "extensions.agents.x-k8s.io/v1beta1",
    crate::EXTENSIONS_GROUP,
    "sandboxwarmpools",
    status
);

/// What is wanted of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolSpec {
    /// How many unclaimed Sandboxes there shall be; 0 makes claims start cold.
    #[serde(default = "default_replicas")]
    pub replicas: i32,
    /// The template of the same namespace.
    pub sandbox_template_ref: TemplateRef,
    /// What happens to members whose template has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
}

impl SandboxWarmPoolSpec {
    /// The strategy in force; `OnReplenish` when none is given.
    #[must_use]
    pub fn strategy(&self) -> UpdateStrategyType {
        self.update_strategy.as_ref().and_then(|strategy| strategy.type_).unwrap_or_default()
    }
}

impl Default for SandboxWarmPoolSpec {
    fn default() -> Self {
        Self { replicas: default_replicas(), sandbox_template_ref: TemplateRef::default(), update_strategy: None }
    }
}

const fn default_replicas() -> i32 {
    1
}

/// A template of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Its name.
    pub name: String,
}

/// What happens to members whose template has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Which of the two.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<UpdateStrategyType>,
}

/// What happens to members whose template has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStrategyType {
    /// They are deleted at once and made anew.
    Recreate,
    /// They are handed out; only new ones follow the new template.
    #[default]
    OnReplenish,
}

/// What is the case with a pool. Counts only members that no claim has taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolStatus {
    /// Members.
    #[serde(default)]
    pub replicas: i32,
    /// Members that are Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// `agents.x-k8s.io/warm-pool-sandbox=<hash>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
