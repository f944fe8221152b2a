//! The policy for other systems.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Verdict;

/// Answer of `GET /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Lower hex SHA-256 of the file in force.
    pub hash: String,
    pub agents: Vec<String>,
    pub since_ms: u64,
    /// Why what the file says now is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// Body of `POST /v1/policy/decide`: may this agent do this? Nothing is done and nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuestion {
    pub agent: String,
    pub tool: String,
    pub input: Value,
    /// Absolute directory that relative paths start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Delegations that the agent has made already.
    #[serde(default)]
    pub delegations: u32,
}

/// Answer of `POST /v1/policy/decide`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDecision {
    pub verdict: Verdict,
    pub rule_ids: Vec<String>,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub effects: Vec<String>,
    pub policy_hash: String,
    pub input_digest: String,
}

/// Body of `POST /v1/policy/simulate`: past runs against a policy that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatePolicy {
    /// Text of a `policies.yaml`.
    pub policy: String,
    /// Ids of runs; without any the newest 1000.
    #[serde(default)]
    pub runs: Vec<String>,
}

/// Answer of `POST /v1/policy/simulate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySimulation {
    pub runs: u64,
    /// Decisions made again.
    pub decisions: u64,
    /// Those that come out differently, at most 10 000.
    pub changes: Vec<PolicyChange>,
}

/// A decision that another policy makes differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    pub run_id: String,
    pub call_id: String,
    pub agent: String,
    pub tool: String,
    pub summary: String,
    pub then: PolicySide,
    pub now: PolicySide,
}

/// One side of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySide {
    pub verdict: Verdict,
    pub rule_ids: Vec<String>,
    pub reason: String,
}
