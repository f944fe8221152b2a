//! Audit records in the forms of other systems: OCSF-like JSON (class 6003, API activity) and syslog (RFC 5424).

use atoll_api::v1;
use serde_json::{Value, json};

use crate::args::AuditForm;

/// Syslog: facility 13 (log audit), severity 5 (notice).
const PRIORITY_ALLOWED: u8 = 13 * 8 + 5;
/// The same with severity 4 (warning).
const PRIORITY_REFUSED: u8 = 13 * 8 + 4;
const OCSF_VERSION: &str = "1.3.0";
/// API activity; 99 is an activity that the class does not name.
const OCSF_CLASS: u64 = 6003;
const OCSF_ACTIVITY: u64 = 99;

/// One record as one line.
pub(super) fn line(record: &v1::AuditRecord, form: AuditForm) -> String {
    match form {
        AuditForm::Jsonl => serde_json::to_string(record).expect("our own values serialize"),
        AuditForm::Ocsf => ocsf(record).to_string(),
        AuditForm::Syslog => syslog(record),
    }
}

fn text<'a>(record: &'a v1::AuditRecord, name: &str) -> &'a str {
    record.body[name].as_str().unwrap_or_default()
}

fn is_refused(record: &v1::AuditRecord) -> bool {
    ["deny", "denied", "expired", "rejected"].contains(&text(record, "verdict"))
}

fn ocsf(record: &v1::AuditRecord) -> Value {
    let refused = is_refused(record);
    json!({
        "category_uid": OCSF_CLASS / 1000,
        "class_uid": OCSF_CLASS,
        "activity_id": OCSF_ACTIVITY,
        "type_uid": OCSF_CLASS * 100 + OCSF_ACTIVITY,
        "time": record.body["at_ms"],
        "severity_id": if refused { 3 } else { 1 },
        "status_id": if refused { 2 } else { 1 },
        "status_detail": record.body["reason"],
        "actor": {"user": {"name": record.body["agent"]}, "session": {"uid": record.body["run_id"]}},
        "api": {"operation": record.body["action"], "response": {"message": record.body["verdict"]}},
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "Atoll", "vendor_name": "Atoll", "version": env!("CARGO_PKG_VERSION")},
            "sequence": record.seq,
            "uid": record.hash,
        },
        "unmapped": record.body,
    })
}

fn syslog(record: &v1::AuditRecord) -> String {
    let priority = if is_refused(record) { PRIORITY_REFUSED } else { PRIORITY_ALLOWED };
    let at_ms = record.body["at_ms"].as_i64().unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| "-".to_owned(), |time| format!("{time:.3}"));
    let run = text(record, "run_id");
    let data = format!("[audit seq=\"{}\" hash=\"{}\" run=\"{}\"]", record.seq, record.hash, quoted(run));
    let message = format!("{} {} {}", text(record, "agent"), text(record, "action"), text(record, "verdict"));
    let detail = ["summary", "reason"].map(|name| text(record, name)).join(" ");
    let message: String = format!("{message} {detail}").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("<{priority}>1 {time} - atoll - audit {data} {message}")
}

/// Within a parameter, these three are escaped (RFC 5424, section 6.3.3).
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> v1::AuditRecord {
        v1::AuditRecord {
            seq: 7,
            hash: "ab".to_owned(),
            prev_hash: "aa".to_owned(),
            body: json!({"at_ms": 1_700_000_000_123_u64, "run_id": "r]1", "agent": "code-writer",
                         "action": "tool/terminal_execute", "verdict": "deny", "reason": "it is\nblocked"}),
        }
    }

    #[test]
    fn a_refusal_in_every_form() {
        let ocsf: Value = serde_json::from_str(&line(&record(), AuditForm::Ocsf)).expect("JSON");
        assert_eq!(
            (&ocsf["class_uid"], &ocsf["type_uid"], &ocsf["status_id"]),
            (&json!(6003), &json!(600_399), &json!(2))
        );
        assert_eq!((&ocsf["metadata"]["sequence"], &ocsf["unmapped"]["verdict"]), (&json!(7), &json!("deny")));
        assert_eq!(
            line(&record(), AuditForm::Syslog),
            "<108>1 2023-11-14T22:13:20.123Z - atoll - audit [audit seq=\"7\" hash=\"ab\" run=\"r\\]1\"] code-writer \
             tool/terminal_execute deny it is blocked"
        );
    }
}
