//! Kinds that say who may do what.

use serde_json::{Value, json};

use super::super::PrinterColumn;
use super::{age, computed, items, name, text, wide};

/// `rolebindings` and `clusterrolebindings`.
pub(super) fn bindings() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("Role", "The role that is given.", |binding, _| {
            let role = &binding["roleRef"];
            json!(format!("{}/{}", text(&role["kind"]), text(&role["name"])))
        }),
        age(),
        wide(computed("Users", "The users who get it.", |binding, _| subjects(binding, "User"))),
        wide(computed("Groups", "The groups that get it.", |binding, _| subjects(binding, "Group"))),
        wide(computed("ServiceAccounts", "The service accounts that get it.", |binding, _| {
            subjects(binding, "ServiceAccount")
        })),
    ]
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let names: Vec<String> = items(&binding["subjects"])
        .iter()
        .filter(|subject| subject["kind"] == kind)
        .map(|subject| match text(&subject["namespace"]) {
            "" => text(&subject["name"]).to_owned(),
            namespace => format!("{namespace}/{}", text(&subject["name"])),
        })
        .collect();
    json!(names.join(", "))
}

/// `resourcequotas`.
pub(super) fn quotas() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("Request", "What is used of what may be, limits apart.", |quota, _| usage(quota, false)),
        computed("Limit", "What is used of the limits that may be.", |quota, _| usage(quota, true)),
        age(),
    ]
}

/// `requests.cpu: 1/4, pods: 2/10`, of limits or of everything else.
fn usage(quota: &Value, of_limits: bool) -> Value {
    let status = &quota["status"];
    let hard = status["hard"].as_object().into_iter().flatten();
    let parts: Vec<String> = hard
        .filter(|(name, _)| name.starts_with("limits.") == of_limits)
        .map(|(name, hard)| format!("{name}: {}/{}", text(&status["used"][name]), text(hard)))
        .collect();
    json!(parts.join(", "))
}
