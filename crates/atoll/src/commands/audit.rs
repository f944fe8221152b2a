//! `atoll audit`: check the chain, read its records, hand them to other systems.

mod export;

use std::path::Path;
use std::process::ExitCode;

use atoll_api::v1;
use atoll_rt::clock::now_unix_ms;

use crate::args::{AuditCommand, AuditFilterArgs, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

/// Records asked for at a time.
const PAGE_RECORDS: u64 = 500;
const MS_PER_HOUR: u64 = 3_600_000;

pub(crate) async fn audit(global: &GlobalArgs, command: AuditCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        AuditCommand::Verify { heads } => verify(&plane, heads.as_deref(), printer).await,
        AuditCommand::Heads => {
            let kept: v1::AuditHeads = plane.get("/v1/audit/heads").await?;
            for head in &kept.heads {
                printer.data(serde_json::to_string(head).expect("our own values serialize"));
            }
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Export { format, filter } => {
            each(&plane, &filter, |record| printer.data(export::line(record, format))).await
        }
        AuditCommand::Ls(filter) => {
            let show = |record: &v1::AuditRecord| {
                if printer.is_json() {
                    printer.data(serde_json::to_string(record).expect("our own values serialize"));
                } else {
                    printer.data(line(record));
                }
            };
            each(&plane, &filter, show).await
        }
    }
}

pub(crate) async fn verify(plane: &Plane, heads: Option<&Path>, printer: &Printer) -> Outcome {
    let verification: v1::AuditVerification = match heads {
        None => plane.get("/v1/audit/verify").await?,
        Some(file) => plane.post("/v1/audit/verify", &v1::AuditHeads { heads: read_heads(file)? }).await?,
    };
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
        printer.data(format!(
            "audit chain holds: {} records, {} signed heads, head {head}",
            verification.records, verification.signed_heads
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn read_heads(file: &Path) -> Result<Vec<v1::AuditHead>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::because(Exit::NotFound, format!("cannot read {}", file.display()), &error))?;
    let bad = |error: serde_json::Error| {
        Failure::because(Exit::Usage, format!("{} holds no signed heads", file.display()), &error)
            .hint("it should be what `atoll audit heads` printed")
    };
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).map_err(bad)).collect()
}

/// Hands over every record that fits, page by page.
async fn each(plane: &Plane, filter: &AuditFilterArgs, mut take: impl FnMut(&v1::AuditRecord)) -> Outcome {
    let mut address = reqwest::Url::parse("http://plane/v1/audit").expect("it is well formed");
    let named =
        [("run", &filter.run), ("actor", &filter.actor), ("action", &filter.action), ("verdict", &filter.verdict)];
    for (name, value) in named {
        if let Some(value) = value {
            address.query_pairs_mut().append_pair(name, value);
        }
    }
    if let Some(hours) = filter.hours {
        let from_ms = now_unix_ms().saturating_sub(hours.saturating_mul(MS_PER_HOUR));
        address.query_pairs_mut().append_pair("from_ms", &from_ms.to_string());
    }
    let wanted = address.query().unwrap_or_default();
    let mut after = 0;
    loop {
        let page: v1::AuditList = plane.get(&format!("/v1/audit?after={after}&limit={PAGE_RECORDS}&{wanted}")).await?;
        let Some(last) = page.records.last() else {
            return Ok(ExitCode::SUCCESS);
        };
        after = last.seq;
        page.records.iter().for_each(&mut take);
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
