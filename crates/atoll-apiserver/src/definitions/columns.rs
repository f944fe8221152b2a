//! The columns that `kubectl get` shows for built-in kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ColumnSource, PrinterColumn};
use crate::table::{age_of, human_duration};

mod access;
mod core;
mod pod;

/// Shown where there is nothing.
const NONE: &str = "<none>";

/// A column whose cells are worked out.
fn computed(name: &str, description: &str, source: fn(&Value, Timestamp) -> Value) -> PrinterColumn {
    PrinterColumn {
        name: name.to_owned(),
        column_type: "string".to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority: 0,
        source: ColumnSource::Computed(source),
    }
}

/// The column only with `-o wide`.
fn wide(column: PrinterColumn) -> PrinterColumn {
    PrinterColumn { priority: 1, ..column }
}

/// The column with numbers in it.
fn counted(column: PrinterColumn) -> PrinterColumn {
    PrinterColumn { column_type: "integer".to_owned(), ..column }
}

/// The first column of nearly every kind.
pub(crate) fn name() -> PrinterColumn {
    PrinterColumn {
        format: "name".to_owned(),
        ..computed("Name", "Name of the object.", |object, _| object["metadata"]["name"].clone())
    }
}

fn age() -> PrinterColumn {
    computed("Age", "Time since creation.", |object, now| json!(age_of(&object["metadata"]["creationTimestamp"], now)))
}

/// The columns of a built-in kind.
pub(super) fn of(group: &str, plural: &str) -> Vec<PrinterColumn> {
    match (group, plural) {
        ("", "pods") => pod::columns(),
        ("", "services") => core::services(),
        ("", "nodes") => core::nodes(),
        ("", "namespaces") => {
            vec![name(), computed("Status", "Phase.", |object, _| object["status"]["phase"].clone()), age()]
        }
        ("", "events") | ("events.k8s.io", "events") => core::events(),
        ("", "configmaps") => vec![
            name(),
            computed("Data", "Number of entries.", |object, _| {
                json!(count(&object["data"]) + count(&object["binaryData"]))
            }),
            age(),
        ],
        ("", "secrets") => vec![
            name(),
            computed("Type", "What the secret is for.", |object, _| object["type"].clone()),
            computed("Data", "Number of entries.", |object, _| json!(count(&object["data"]))),
            age(),
        ],
        ("", "serviceaccounts") => {
            vec![name(), computed("Secrets", "Number of secrets.", |object, _| json!(count(&object["secrets"]))), age()]
        }
        ("", "persistentvolumeclaims") => core::claims(),
        ("networking.k8s.io", "networkpolicies") => vec![
            name(),
            computed("Pod-Selector", "The pods that it is about.", |object, _| {
                json!(selector_text(&object["spec"]["podSelector"]))
            }),
            age(),
        ],
        ("coordination.k8s.io", "leases") => vec![
            name(),
            computed("Holder", "Who holds it.", |object, _| json!(text(&object["spec"]["holderIdentity"]))),
            age(),
        ],
        ("node.k8s.io", "runtimeclasses") => {
            vec![name(), computed("Handler", "What runs its pods.", |object, _| object["handler"].clone()), age()]
        }
        ("discovery.k8s.io", "endpointslices") => core::endpoint_slices(),
        ("", "resourcequotas") => access::quotas(),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => access::bindings(),
        _ => vec![
            name(),
            computed("Created At", "Time of creation.", |object, _| object["metadata"]["creationTimestamp"].clone()),
        ],
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The text, or `<none>`.
fn text_or_none(value: &Value) -> &str {
    match text(value) {
        "" => NONE,
        text => text,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `a=b,c=d`, sorted; `<none>` without labels.
fn labels_text(labels: &Value) -> String {
    let mut pairs: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    pairs.sort();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A label selector in the form in which it is typed; `<none>` for the one that selects everything.
fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    for requirement in items(&selector["matchExpressions"]) {
        let (key, values) = (text(&requirement["key"]), &requirement["values"]);
        let mut values: Vec<&str> = items(values).iter().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match text(&requirement["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

/// `3m` since a time, `<unknown>` without one.
fn since(time: &Value, now: Timestamp) -> String {
    time.as_str()
        .and_then(|time| time.parse::<Timestamp>().ok())
        .map_or_else(|| "<unknown>".to_owned(), |time| human_duration(now.as_second() - time.as_second()))
}
