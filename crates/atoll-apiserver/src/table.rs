//! The Table form of objects, which `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::definitions::{ColumnSource, Origin, PrinterColumn, ResourceDefinition};

pub mod json_path;

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    /// A `PartialObjectMetadata`. The default.
    Metadata,
    Object,
}

const NAME_DESCRIPTION: &str = "Name of the object.";

/// A `meta.k8s.io/v1 Table` without list metadata; the caller sets `metadata.resourceVersion` and the like.
pub fn to_table(definition: &ResourceDefinition, objects: &[&Value], include: IncludeObject, now: Timestamp) -> Value {
    let custom = definition.strategy.origin == Origin::Custom;
    let mut headers = Vec::with_capacity(definition.printer_columns.len() + 1);
    if custom {
        headers.push(json!({
            "name": "Name", "type": "string", "format": "name", "description": NAME_DESCRIPTION, "priority": 0
        }));
    }
    headers.extend(definition.printer_columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.column_type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    }));
    let paths: Vec<Option<json_path::JsonPath>> = definition
        .printer_columns
        .iter()
        .map(|column| match &column.source {
            ColumnSource::JsonPath(text) => json_path::JsonPath::parse(text).ok(),
            ColumnSource::Computed(_) => None,
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut cells = Vec::with_capacity(headers.len());
            if custom {
                cells.push(object["metadata"]["name"].clone());
            }
            let columns = definition.printer_columns.iter().zip(&paths);
            cells.extend(columns.map(|(column, path)| cell(column, path.as_ref(), object, now)));
            row(cells, object, include)
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": headers,
        "rows": rows,
    })
}

fn row(cells: Vec<Value>, object: &Value, include: IncludeObject) -> Value {
    let carried = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => object.clone(),
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        }),
    };
    let mut row = json!({"cells": cells, "object": carried});
    if object["kind"] == "Pod" {
        // kubectl can leave finished pods out by this.
        let finished = match object["status"]["phase"].as_str() {
            Some("Succeeded") => Some(("Succeeded", "The pod has completed successfully.")),
            Some("Failed") => Some(("Failed", "The pod failed.")),
            _ => None,
        };
        if let Some((reason, message)) = finished {
            row["conditions"] = json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]);
        }
    }
    row
}

fn cell(column: &PrinterColumn, path: Option<&json_path::JsonPath>, object: &Value, now: Timestamp) -> Value {
    if let ColumnSource::Computed(source) = column.source {
        return source(object, now);
    }
    let Some(found) = path.and_then(|path| path.first(object)) else { return Value::Null };
    match column.column_type.as_str() {
        "integer" => match found {
            Value::Number(number) => {
                number.as_i64().or(number.as_f64().map(|number| number as i64)).map_or(Value::Null, Value::from)
            }
            _ => Value::Null,
        },
        "number" => {
            if found.is_number() {
                found.clone()
            } else {
                Value::Null
            }
        }
        "boolean" => {
            if found.is_boolean() {
                found.clone()
            } else {
                Value::Null
            }
        }
        "date" => match found {
            Value::String(_) => json!(age_of(found, now)),
            _ => Value::Null,
        },
        _ => match found {
            Value::String(_) => found.clone(),
            other => Value::String(other.to_string()),
        },
    }
}

/// The time since a timestamp as kubectl writes it: `3m`; `<unknown>` without one.
pub fn age_of(timestamp: &Value, now: Timestamp) -> String {
    let Some(text) = timestamp.as_str().filter(|text| !text.is_empty()) else { return "<unknown>".to_owned() };
    match text.parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_second() - then.as_second()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A number of seconds in the two largest units that matter: `90s`, `5m30s`, `3h`, `2d4h`, `400d`, `3y10d`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::builtin;

    const DAY: i64 = 86_400;

    #[test]
    fn durations_read_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (7 * 3600 + 60, "7h1m"),
            (47 * 3600, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 4 * 3600, "2d4h"),
            (8 * DAY, "8d"),
            (729 * DAY, "729d"),
            (730 * DAY, "2y"),
            (740 * DAY, "2y10d"),
            (3000 * DAY, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    fn table(plural: &str, object: Value) -> Value {
        let definitions = builtin();
        let definition = definitions.iter().find(|definition| definition.plural == plural).expect("a known kind");
        let now = "2026-01-01T00:10:00Z".parse().expect("a time");
        to_table(definition, &[&object], IncludeObject::Metadata, now)
    }

    #[test]
    fn a_sandbox_has_its_columns() {
        let sandbox = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "X"}, {"type": "Ready", "status": "True", "reason": "DependenciesReady"}]},
        });
        let table = table("sandboxes", sandbox);
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .expect("columns")
            .iter()
            .filter_map(|column| column["name"].as_str())
            .collect();
        assert_eq!(names, ["Name", "Ready", "Reason", "Age", "State"]);
        assert_eq!(table["columnDefinitions"][4]["priority"], 1);
        assert_eq!(table["rows"][0]["cells"], json!(["a", "True", "DependenciesReady", "10m", "Running"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }

    #[test]
    fn absent_values_are_null_in_custom_kinds() {
        let pool = json!({"metadata": {"name": "p"}, "spec": {"replicas": 3}});
        assert_eq!(table("sandboxwarmpools", pool)["rows"][0]["cells"], json!(["p", null, 3, null]));
    }

    #[test]
    fn built_in_kinds_have_theirs() {
        let metadata = json!({"name": "x", "creationTimestamp": "2026-01-01T00:09:00Z"});
        let cells = |plural: &str, mut object: Value| {
            object["metadata"] = metadata.clone();
            table(plural, object)["rows"][0]["cells"].clone()
        };
        assert_eq!(cells("namespaces", json!({"status": {"phase": "Active"}})), json!(["x", "Active", "60s"]));
        assert_eq!(cells("configmaps", json!({"data": {"a": "b"}, "binaryData": {"c": ""}})), json!(["x", 2, "60s"]));
        let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 80, "protocol": "TCP"}],
            "selector": {"b": "c", "a": "b"}}});
        assert_eq!(cells("services", service), json!(["x", "ClusterIP", "None", "<none>", "80/TCP", "60s", "a=b,b=c"]));
        let node = json!({"spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1"}}});
        assert_eq!(
            cells("nodes", node),
            json!([
                "x",
                "Ready,SchedulingDisabled",
                "<none>",
                "60s",
                "v1",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ])
        );
        let event = json!({"type": "Normal", "reason": "R", "message": "m\n", "involvedObject": {"kind": "Pod", "name": "p"},
            "source": {"component": "c"}, "lastTimestamp": null, "eventTime": "2026-01-01T00:09:30.000000Z"});
        assert_eq!(cells("events", event), json!(["30s", "Normal", "R", "pod/p", null, "c", "m", "30s", 1, "x"]));
        let claim = json!({"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}});
        assert_eq!(
            cells("persistentvolumeclaims", claim),
            json!(["x", "Pending", "", "", "", "", "<unset>", "60s", "Filesystem"])
        );
    }

    #[test]
    fn finished_pods_are_marked() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": {}, "status": {"phase": "Succeeded"}});
        assert_eq!(table("pods", pod)["rows"][0]["conditions"][0]["type"], "Completed");
    }
}
