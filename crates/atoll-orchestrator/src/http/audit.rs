//! The audit trail.

use atoll_api::v1;
use atoll_store::AuditFilter;
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::AppState;
use super::refusal::Refusal;
use crate::records::audit_record;

/// Records of one answer.
const RECORDS_MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Option<usize>,
}

pub(super) async fn list(
    State(shared): AppState,
    Query(filter): Query<Filter>,
) -> Result<Json<v1::AuditList>, Refusal> {
    let filter = AuditFilter {
        run_id: filter.run,
        outcome: None,
        from_seq: filter.after + 1,
        limit: Some(filter.limit.unwrap_or(RECORDS_MAX).min(RECORDS_MAX)),
    };
    let records = shared.journal.audit_list(filter).await?;
    Ok(Json(v1::AuditList { records: records.into_iter().map(audit_record).collect() }))
}

pub(super) async fn verify(State(shared): AppState) -> Result<Json<v1::AuditVerification>, Refusal> {
    Ok(Json(match shared.journal.audit_verify(1).await? {
        Ok(sound) => v1::AuditVerification {
            ok: true,
            records: sound.count,
            head: (sound.count > 0).then_some(sound.head),
            broken: None,
        },
        Err(broken) => v1::AuditVerification {
            ok: false,
            records: broken.seq.saturating_sub(1),
            head: None,
            broken: Some(v1::AuditBreak { seq: broken.seq, reason: broken.reason }),
        },
    }))
}
