//! Small records beside the journal: who owns which run, what was submitted, which approvals there are.

use atoll_api::v1;
use atoll_engine::{Decision, Verdict};
use atoll_store::{AuditEntry, RecordExpect, RecordPut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Key: run id. Body: [`RunRecord`].
pub(crate) const RUN: &str = "run";
/// Key: the client's submission key. Body: `{"run_id"}`.
pub(crate) const SUBMISSION: &str = "submission";
/// Key: approval id. Body: [`v1::Approval`].
pub(crate) const APPROVAL: &str = "approval";

/// Key: run id. Body: [`v1::PullRequest`].
pub(crate) const PULL_REQUEST: &str = "pull_request";

/// What is known of a run without reading its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The process that drives it. Taking a run over is a change of this under the record's version.
    pub(crate) owner: String,
    /// Nothing is left to do, cleaning up included.
    pub(crate) closed: bool,
    pub(crate) summary: v1::RunSummary,
}

/// A put of a record.
pub(crate) fn put(kind: &str, key: &str, body: &impl Serialize, expect: RecordExpect) -> RecordPut {
    let body = serde_json::to_value(body).expect("records are JSON");
    RecordPut { kind: kind.to_owned(), key: key.to_owned(), body: Some(body), expect }
}

/// Who did something, for the audit trail.
#[derive(Clone, Copy)]
pub(crate) struct Acted<'a> {
    pub(crate) at_ms: u64,
    pub(crate) run_id: &'a str,
    /// `agent/<name>`, `person/<name>` or `atoll`.
    pub(crate) actor: &'a str,
}

impl Acted<'_> {
    pub(crate) fn entry(&self, action: &str, outcome: &str, detail: Value) -> AuditEntry {
        AuditEntry {
            at_unix_ms: self.at_ms,
            actor: self.actor.to_owned(),
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            run_id: Some(self.run_id.to_owned()),
            detail,
        }
    }

    /// The record of a decision of the gate.
    pub(crate) fn decision(&self, call: &str, tool: &str, summary: &str, decision: &Decision) -> AuditEntry {
        let detail = json!({
            "call_id": call,
            "summary": summary,
            "reason": decision.reason,
            "rule_ids": decision.rule_ids,
            "effects": decision.effects,
            "input_digest": decision.input_digest,
            "policy_hash": decision.policy_hash,
        });
        self.entry(&format!("tool/{tool}"), verdict_name(decision.verdict), detail)
    }
}

pub(crate) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::RequireApproval => "require_approval",
    }
}

/// An audit record on the wire.
pub(crate) fn audit_record(record: atoll_store::AuditRecord) -> v1::AuditRecord {
    let entry = record.entry;
    let agent = entry.actor.strip_prefix("agent/").unwrap_or(&entry.actor).to_owned();
    let mut body = json!({
        "at_ms": entry.at_unix_ms,
        "run_id": entry.run_id,
        "agent": agent,
        "action": entry.action,
        "verdict": entry.outcome,
    });
    if let (Some(body), Value::Object(detail)) = (body.as_object_mut(), entry.detail) {
        for (name, value) in detail {
            body.entry(name).or_insert(value);
        }
    }
    v1::AuditRecord { seq: record.seq, hash: record.hash, prev_hash: record.previous_hash, body }
}
