//! Replacing objects.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let put = |more: Value| Step::put(&path, subject.object_with("one", &more));
    let current = |more: Value| {
        let mut body = subject.object_with("one", &more);
        body["metadata"]["resourceVersion"] = json!("$rv:one$");
        Step::put(&path, body)
    };
    table.scenario_with(
        "replaced",
        &["one"],
        vec![
            Step::get(&path),
            current(json!({})),
            current(subject.change.clone()),
            Step::get(&path),
            put(json!({"metadata": {"resourceVersion": "1"}})),
            put(json!({"metadata": {"resourceVersion": "x"}})),
            put(json!({})),
            put(subject.other_change.clone()),
            put(json!({"metadata": {"name": "two"}})),
            put(json!({"metadata": {"name": null}})),
            put(json!({"metadata": {"namespace": "elsewhere"}})),
            current(json!({"metadata": {"uid": "other"}})),
            current(json!({"metadata": {"uid": "$uid:one$", "labels": {"a": "b"}}})),
            current(json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 99}})),
            current(json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}})),
            current(json!({"metadata": {"managedFields": []}})),
            current(json!({"metadata": {"finalizers": ["example.com/hold"]}})),
            current(json!({"metadata": {"labels": {"no spaces": "x"}}})),
            current(json!({"kind": "Other"})),
            Step::put(subject.path("two"), subject.object("two")),
            Step::put(
                format!("{path}?dryRun=All"),
                subject.object_with(
                    "one",
                    &json!({"metadata": {
                "resourceVersion": "$rv:one$", "labels": {"dry": "yes"}}}),
                ),
            ),
            Step::put(
                format!("{path}?fieldManager=other"),
                subject.object_with(
                    "one",
                    &json!({"metadata": {
                "resourceVersion": "$rv:one$", "annotations": {"by": "other"}}}),
                ),
            ),
            Step::put(
                format!("{path}?fieldValidation=Strict"),
                subject.object_with(
                    "one",
                    &json!({"unknown": 1,
                "metadata": {"resourceVersion": "$rv:one$"}}),
                ),
            ),
            Step::get(&path),
        ],
    );
}
