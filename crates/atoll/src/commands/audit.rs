//! `atoll audit`: check the chain, read its records.

use std::process::ExitCode;

use atoll_api::v1;

use crate::args::{AuditCommand, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

/// Records asked for at a time.
const PAGE_RECORDS: u64 = 500;

pub(crate) async fn audit(global: &GlobalArgs, command: AuditCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        AuditCommand::Verify => verify(&plane, printer).await,
        AuditCommand::Ls { run } => list(&plane, run.as_deref(), printer).await,
    }
}

pub(crate) async fn verify(plane: &Plane, printer: &Printer) -> Outcome {
    let verification: v1::AuditVerification = plane.get("/v1/audit/verify").await?;
    if printer.is_json() {
        printer.json(&verification);
    }
    if let Some(broken) = &verification.broken {
        return Err(Failure::new(
            Exit::Failure,
            format!("the audit chain is broken at record {}: {}", broken.seq, broken.reason),
        )
        .hint("records before it hold; compare with an exported copy"));
    }
    if !printer.is_json() {
        let head = verification.head.as_deref().unwrap_or("none");
        printer.data(format!("audit chain holds: {} records, head {head}", verification.records));
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(plane: &Plane, run: Option<&str>, printer: &Printer) -> Outcome {
    let mut after = 0;
    loop {
        let filter = run.map(|run| format!("&run={run}")).unwrap_or_default();
        let page: v1::AuditList = plane.get(&format!("/v1/audit?after={after}&limit={PAGE_RECORDS}{filter}")).await?;
        let Some(last) = page.records.last() else {
            return Ok(ExitCode::SUCCESS);
        };
        after = last.seq;
        for record in &page.records {
            if printer.is_json() {
                printer.data(serde_json::to_string(record).expect("our own values serialize"));
            } else {
                printer.data(line(record));
            }
        }
    }
}

fn line(record: &v1::AuditRecord) -> String {
    let field = |name: &str| match &record.body[name] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let hash = record.hash.get(..12).unwrap_or(&record.hash);
    format!(
        "{:>5}  {hash}  {}  {}  {}  {}",
        record.seq,
        field("agent"),
        field("action"),
        field("verdict"),
        field("reason")
    )
}
