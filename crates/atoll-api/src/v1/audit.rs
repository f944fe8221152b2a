//! The audit trail.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer of `GET /v1/audit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditList {
    pub records: Vec<AuditRecord>,
}

/// One record of the audit chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub seq: u64,
    /// Lower hex SHA-256 over the previous hash and this record.
    pub hash: String,
    pub prev_hash: String,
    /// Fields of the record: `at_ms`, `run_id`, `agent` (or who else acted), `action`, `verdict`, `reason`, and what
    /// the kind of action adds (`rule_ids`, `input_digest`, `call_id`, …).
    pub body: Value,
}

/// Answer of `GET /v1/audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerification {
    pub ok: bool,
    /// Records that hold.
    pub records: u64,
    /// Signed heads that the chain was held against.
    #[serde(default)]
    pub signed_heads: u64,
    /// Hash of the newest record that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<AuditBreak>,
}

/// Answer of `GET /v1/audit/heads`, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeads {
    pub heads: Vec<AuditHead>,
}

/// Where the audit chain ended at some time, signed with Ed25519 over
/// `atoll-audit-head/1\n<records>\n<head>\n<at_ms>\n`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub records: u64,
    /// Hash of the record of that number.
    pub head: String,
    pub at_ms: u64,
    /// Lower hex.
    pub public_key: String,
    /// Lower hex.
    pub signature: String,
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBreak {
    pub seq: u64,
    pub reason: String,
}
