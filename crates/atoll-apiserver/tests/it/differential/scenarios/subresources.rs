//! Status and scale.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    status(table);
    scale(table);
}

fn status(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = format!("{}/status", subject.path("one"));
    let Some(status) = &subject.status else {
        table.scenario_with(
            "status",
            &["one"],
            vec![
                Step::get(&path),
                Step::put(&path, subject.object("one")),
                Step::patch(&path, "merge", json!({"status": {}})),
            ],
        );
        return;
    };
    let whole = |more: &Value| {
        let mut body = subject.object_with("one", more);
        body["metadata"]["resourceVersion"] = json!("$rv:one$");
        body
    };
    let said = json!({"status": status});
    let mut both = subject.change.clone();
    both["status"] = status.clone();
    both["metadata"] = json!({"labels": {"by": "status"}});
    table.scenario_with(
        "status",
        &["one"],
        vec![
            Step::get(&path),
            Step::put(&path, whole(&both)),
            Step::get(subject.path("one")),
            Step::put(subject.path("one"), whole(&json!({"status": null}))),
            Step::patch(subject.path("one"), "merge", json!({"status": null})),
            Step::patch(&path, "merge", json!({"status": null})),
            Step::patch(&path, "merge", both),
            Step::patch(&path, "merge", said.clone()),
            Step::patch(&path, "json", json!([{"op": "remove", "path": "/status"}])),
            Step::patch(
                format!("{path}?fieldManager=reporter"),
                "apply",
                json!({
                "apiVersion": subject.api_version(), "kind": subject.kind, "status": status}),
            ),
            Step::patch(
                format!("{path}?fieldManager=reporter"),
                "apply",
                json!({
                "apiVersion": subject.api_version(), "kind": subject.kind, "metadata": {"labels": {"x": "y"}}}),
            ),
            Step::patch(&path, "merge", json!({"status": "text"})),
            Step::patch(&path, "merge", json!({"status": {"unknown": 1}})),
            Step::patch(format!("{path}?fieldValidation=Strict"), "merge", json!({"status": {"unknown": 1}})),
            Step::put(&path, subject.object("one")),
            Step::patch(format!("{}/status", subject.path("none")), "merge", said.clone()),
            Step::post(subject.collection(), subject.object_with("with", &said)),
            Step::delete(&path),
            Step::post(&path, json!({})),
            Step::get(subject.path("one")),
        ],
    );
}

fn scale(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = format!("{}/scale", subject.path("one"));
    if !subject.scale {
        table.scenario_with(
            "scale",
            &["one"],
            vec![Step::get(&path), Step::patch(&path, "merge", json!({"spec": {"replicas": 2}}))],
        );
        return;
    }
    let scale = |replicas: Value, version: Option<&str>| {
        let mut body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "one", "namespace": "$ns$"}, "spec": {"replicas": replicas}});
        if let Some(version) = version {
            body["metadata"]["resourceVersion"] = json!(version);
        }
        body
    };
    let status = json!({"status": subject.status});
    table.scenario_with(
        "scale",
        &["one"],
        vec![
            Step::get(&path),
            Step::put(&path, scale(json!(5), None)),
            Step::put(&path, scale(json!(6), Some("$rv:one$"))),
            Step::put(&path, scale(json!(7), Some("1"))),
            Step::put(&path, scale(json!(-1), None)),
            Step::put(&path, scale(json!("many"), None)),
            Step::patch(&path, "merge", json!({"spec": {"replicas": 8}})),
            Step::patch(&path, "merge", json!({"spec": {"replicas": 8}})),
            Step::patch(&path, "json", json!([{"op": "replace", "path": "/spec/replicas", "value": 9}])),
            Step::patch(&path, "merge", json!({"status": {"replicas": 77}})),
            Step::patch(format!("{}/status", subject.path("one")), "merge", status),
            Step::get(&path),
            Step::get(format!("{}/scale", subject.path("none"))),
            Step::put(&path, subject.object("one")),
            Step::delete(&path),
            Step::get(subject.path("one")),
        ],
    );
}
