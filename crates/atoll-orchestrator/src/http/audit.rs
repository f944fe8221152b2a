//! The audit trail.

use atoll_api::v1;
use atoll_stdx::chain;
use atoll_store::AuditFilter;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use bytes::Bytes;
use serde::Deserialize;

use super::refusal::Refusal;
use super::{AppState, json};
use crate::orchestrator::Shared;
use crate::records::audit_record;

/// Records of one answer.
const RECORDS_MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    run: Option<String>,
    actor: Option<String>,
    action: Option<String>,
    verdict: Option<String>,
    from_ms: Option<u64>,
    until_ms: Option<u64>,
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(shared): AppState,
    Query(filter): Query<Filter>,
) -> Result<Json<v1::AuditList>, Refusal> {
    let filter = AuditFilter {
        run_id: filter.run,
        outcome: filter.verdict,
        actor: filter.actor,
        action: filter.action,
        from_unix_ms: filter.from_ms,
        until_unix_ms: filter.until_ms,
        from_seq: filter.after + 1,
        limit: Some(filter.limit.unwrap_or(RECORDS_MAX).min(RECORDS_MAX)),
    };
    let records = shared.journal.audit_list(filter).await?;
    Ok(Json(v1::AuditList { records: records.into_iter().map(audit_record).collect() }))
}

/// The chain, and every signed head kept here, against each other.
pub(super) async fn verify(State(shared): AppState) -> Result<Json<v1::AuditVerification>, Refusal> {
    let kept = shared.heads.all().await.map_err(|error| unreadable(&error))?;
    check(&shared, &kept).await
}

/// The same with heads that were kept elsewhere.
pub(super) async fn verify_with(
    State(shared): AppState,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<v1::AuditVerification>, Refusal> {
    let given: v1::AuditHeads = json(&body?)?;
    let mut heads = shared.heads.all().await.map_err(|error| unreadable(&error))?;
    heads.extend(given.heads);
    check(&shared, &heads).await
}

pub(super) async fn heads(State(shared): AppState) -> Result<Json<v1::AuditHeads>, Refusal> {
    let signed = shared.heads.sign(&shared.journal, shared.clock.now_unix_ms()).await;
    signed.map_err(|error| Refusal::unavailable(&chain(&error), "see whether the state directory's disk is full"))?;
    let heads = shared.heads.all().await.map_err(|error| unreadable(&error))?;
    Ok(Json(v1::AuditHeads { heads }))
}

fn unreadable(error: &std::io::Error) -> Refusal {
    Refusal::unavailable(&format!("the signed heads cannot be read: {error}"), "look into the state directory")
}

async fn check(shared: &Shared, heads: &[v1::AuditHead]) -> Result<Json<v1::AuditVerification>, Refusal> {
    let sound = match shared.journal.audit_verify(1).await? {
        Ok(sound) => sound,
        Err(broken) => return Ok(Json(broken_at(v1::AuditBreak { seq: broken.seq, reason: broken.reason }))),
    };
    if let Some(broken) = shared.heads.check(&shared.journal, heads).await? {
        return Ok(Json(broken_at(broken)));
    }
    Ok(Json(v1::AuditVerification {
        ok: true,
        records: sound.count,
        head: (sound.count > 0).then_some(sound.head),
        signed_heads: heads.len() as u64,
        broken: None,
    }))
}

fn broken_at(broken: v1::AuditBreak) -> v1::AuditVerification {
    let records = broken.seq.saturating_sub(1);
    v1::AuditVerification { ok: false, records, head: None, signed_heads: 0, broken: Some(broken) }
}
