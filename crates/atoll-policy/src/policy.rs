//! A compiled policy: parse once, decide often.

use crate::action::{ActionRequest, Decision};
use crate::document::{AgentPolicy, Governance, PolicyDocument};
use crate::error::PolicyError;

/// The policy that is shipped with Atoll: planner, code-writer, code-reviewer.
pub const DEFAULT_POLICY_YAML: &str = include_str!("../policies.yaml");

/// A policy, checked and compiled. Cheap to share behind an `Arc`; every method takes `&self`.
#[derive(Debug)]
pub struct Policy {
    document: PolicyDocument,
    hash: String,
}

impl Policy {
    /// Reads a `policies.yaml`. `file_name` is used in errors only.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and column: YAML that does not parse, an unknown or repeated key,
    /// a value of the wrong kind, an unknown tool or effect, a bad glob or pattern, agents that contradict themselves.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        let _ = (text, file_name);
        unimplemented!()
    }

    /// The agent of that name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&AgentPolicy> {
        self.document.agents.get(name)
    }

    /// Every agent by name, sorted.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &AgentPolicy)> {
        self.document.agents.iter().map(|(name, agent)| (name.as_str(), agent))
    }

    /// What holds for all agents.
    #[must_use]
    pub fn governance(&self) -> &Governance {
        &self.document.governance
    }

    /// SHA-256 of the policy's text, lower-case hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The compiled form, for people: Cedar policies with their rule ids.
    #[must_use]
    pub fn cedar(&self) -> String {
        unimplemented!()
    }

    /// Judges one action. Never fails: what cannot be judged is denied.
    #[must_use]
    pub fn decide(&self, request: &ActionRequest<'_>) -> Decision {
        let _ = request;
        unimplemented!()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::parse(DEFAULT_POLICY_YAML, "policies.yaml").expect("the shipped policy is valid")
    }
}
