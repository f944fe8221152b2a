//! The audit chain as the platform API tells it.

use atoll_api::v1::{AuditBreak, AuditList, AuditRecord, AuditVerification};
use atoll_store::{AuditFilter, Journal, JournalError};
use serde_json::{Value, json};

/// Records of one answer.
const LIST_RECORDS_MAX: usize = 1000;

/// Records after `after`, of one run if asked for.
pub(crate) async fn list(
    journal: &Journal,
    run_id: Option<String>,
    after: u64,
    limit: Option<usize>,
) -> Result<AuditList, JournalError> {
    let limit = limit.unwrap_or(LIST_RECORDS_MAX).min(LIST_RECORDS_MAX);
    let filter = AuditFilter { run_id, outcome: None, from_seq: after.saturating_add(1), limit: Some(limit) };
    let records = journal.audit_list(filter).await?;
    Ok(AuditList { records: records.into_iter().map(view).collect() })
}

/// Checks the whole chain.
pub(crate) async fn verify(journal: &Journal) -> Result<AuditVerification, JournalError> {
    Ok(match journal.audit_verify(1).await? {
        Ok(summary) => AuditVerification { ok: true, records: summary.count, head: Some(summary.head), broken: None },
        Err(broken) => AuditVerification {
            ok: false,
            records: broken.seq.saturating_sub(1),
            head: None,
            broken: Some(AuditBreak { seq: broken.seq, reason: broken.reason }),
        },
    })
}

fn view(record: atoll_store::AuditRecord) -> AuditRecord {
    let entry = record.entry;
    let mut body = json!({
        "at_ms": entry.at_unix_ms,
        "run_id": entry.run_id,
        "agent": entry.actor.strip_prefix("agent/").unwrap_or(&entry.actor),
        "action": entry.action,
        "verdict": entry.outcome,
    });
    if let (Value::Object(body), Value::Object(detail)) = (&mut body, entry.detail) {
        for (name, value) in detail {
            body.entry(name).or_insert(value);
        }
    }
    AuditRecord { seq: record.seq, hash: record.hash, prev_hash: record.previous_hash, body }
}
