//! The four ways to patch.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::super::subjects::Subject;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    merge(table);
    json(table);
    strategic(table);
    apply(table);
}

fn merge(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let patch = |body: Value| Step::patch(&path, "merge", body);
    table.scenario_with(
        "merge patches",
        &["one"],
        vec![
            patch(subject.change.clone()),
            patch(subject.change.clone()),
            patch(json!({})),
            patch(json!({"metadata": {"labels": {"a": "1", "b": "2"}}})),
            patch(json!({"metadata": {"labels": {"a": null}}})),
            patch(json!({"metadata": {"labels": null}})),
            patch(json!({"metadata": {"resourceVersion": "1", "labels": {"c": "3"}}})),
            patch(json!({"metadata": {"resourceVersion": "$rv:one$", "labels": {"c": "3"}}})),
            patch(json!({"metadata": {"uid": "other"}})),
            patch(json!({"metadata": {"name": "two"}})),
            patch(json!({"metadata": {"namespace": "elsewhere"}})),
            patch(json!({"apiVersion": "example.org/v7"})),
            patch(json!({"kind": "Other"})),
            patch(json!({"unknown": {"x": 1}})),
            patch(json!([])),
            patch(json!("text")),
            patch(json!(null)),
            patch(Value::Null).text("application/merge-patch+json", "{"),
            patch(Value::Null).text("application/merge-patch+json", ""),
            Step::patch(format!("{path}?dryRun=All"), "merge", subject.other_change.clone()),
            Step::patch(format!("{path}?fieldValidation=Strict"), "merge", json!({"unknown": 1})),
            Step::patch(format!("{path}?force=true"), "merge", json!({})),
            Step::patch(subject.path("none"), "merge", json!({})),
            Step::get(&path),
        ],
    );
}

fn json(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let patch = |body: Value| Step::patch(&path, "json", body);
    let changed = subject.change.pointer(subject.pointer).expect("the change is of the field").clone();
    let wrong = json!([{"op": "test", "path": subject.pointer, "value": "else"}]);
    table.scenario_with(
        "json patches",
        &["one"],
        vec![
            patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "1"}}])),
            patch(json!([{"op": "add", "path": "/metadata/labels/b~1c", "value": "2"}])),
            patch(json!([{"op": "test", "path": "/metadata/labels/a", "value": "1"},
                {"op": "replace", "path": "/metadata/labels/a", "value": "3"}])),
            patch(json!([{"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/d"}])),
            patch(json!([{"op": "move", "from": "/metadata/labels/d", "path": "/metadata/labels/e"}])),
            patch(json!([{"op": "remove", "path": "/metadata/labels/e"}])),
            patch(wrong),
            patch(json!([{"op": "remove", "path": "/metadata/labels/none"}])),
            patch(json!([{"op": "replace", "path": "/metadata/labels/none", "value": "x"}])),
            patch(json!([{"op": "add", "path": "/none/deeper", "value": "x"}])),
            patch(json!([{"op": "jump", "path": "/metadata/labels"}])),
            patch(json!([{"path": "/metadata/labels"}])),
            patch(json!([])),
            patch(json!({})),
            patch(json!([{"op": "add", "path": "/metadata/name", "value": "two"}])),
            patch(json!([{"op": "add", "path": "/metadata/resourceVersion", "value": "1"}])),
            patch(Value::Null).text("application/json-patch+json", "[{"),
            Step::patch(format!("{path}?dryRun=All"), "json", json!([{"op": "remove", "path": "/metadata/labels"}])),
            Step::patch(subject.path("none"), "json", json!([])),
            Step::patch(&path, "merge", subject.other_change.clone()),
            patch(json!([{"op": "replace", "path": subject.pointer, "value": changed}])),
            Step::get(&path),
        ],
    );
}

fn strategic(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let patch = |body: Value| Step::patch(&path, "strategic", body);
    table.scenario_with(
        "strategic patches",
        &["one"],
        vec![
            patch(subject.change.clone()),
            patch(json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["example.com/a"]}})),
            patch(json!({"metadata": {"finalizers": ["example.com/b"]}})),
            patch(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}})),
            patch(json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}})),
            patch(json!({"metadata": {"labels": null}})),
            patch(json!({"metadata": {"$patch": "jump"}})),
            patch(json!([])),
            Step::get(&path),
        ],
    );
}

fn apply(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let by = |manager: &str, more: &str, body: Value| {
        Step::patch(format!("{path}?fieldManager={manager}{more}"), "apply", body)
    };
    let bare = |more: Value| {
        let mut body = json!({"apiVersion": subject.api_version(), "kind": subject.kind});
        super::super::subjects::merge(&mut body, &more);
        body
    };
    let labels = |labels: Value| subject.object_with("one", &json!({"metadata": {"labels": labels}}));
    let yaml =
        serde_yaml_ng::to_string(&subject.object_with("one", &json!({"metadata": {"annotations": {"note": "1"}}})));
    table.scenario(
        "applied",
        vec![
            by("a", "", labels(json!({"x": "1", "y": "1"}))),
            by("a", "", labels(json!({"x": "1", "y": "1"}))),
            by("a", "", labels(json!({"x": "1"}))),
            by("b", "", bare(subject.other_change.clone())),
            by("b", "", bare(json!({"metadata": {"labels": {"x": "2"}}}))),
            by("b", "&force=true", bare(json!({"metadata": {"labels": {"x": "2"}}}))),
            by("a", "", labels(json!({"x": "1"}))),
            by("a", "", labels(json!({"z": "1"}))),
            by("b", "", bare(json!({}))),
            Step::patch(&path, "merge", json!({"metadata": {"labels": {"z": "2"}}})),
            by("a", "", labels(json!({"z": "1"}))),
            by("a", "&force=true", labels(json!({"z": "1"}))),
            by("a", "&dryRun=All", labels(json!({"dry": "1"}))),
            by("a", "", Value::Null).text("application/apply-patch+yaml", yaml.expect("it is YAML")),
            Step::get(&path),
        ],
    );
    let other = Subject::object_with(subject, "other", &json!({}));
    table.scenario_with(
        "refused configurations",
        &["one"],
        vec![
            Step::patch(&path, "apply", subject.object("one")),
            by("", "", subject.object("one")),
            by("a", "", other),
            by("a", "", subject.object_with("one", &json!({"metadata": {"namespace": "elsewhere"}}))),
            by("a", "", bare(json!({"kind": "Other"}))),
            by("a", "", bare(json!({"kind": null}))),
            by("a", "", bare(json!({"apiVersion": "example.org/v7"}))),
            by("a", "", subject.object_with("one", &json!({"metadata": {"managedFields": [{"manager": "x"}]}}))),
            by("a", "", subject.object_with("one", &json!({"metadata": {"resourceVersion": "1"}}))),
            by("a", "", subject.object_with("one", &json!({"metadata": {"uid": "other"}}))),
            by("a", "", bare(json!({"unknown": 1}))),
            by("a", "&fieldValidation=Strict", bare(json!({"unknown": 1}))),
            by("a", "&force=perhaps", bare(json!({}))),
            by("a", "", json!([])),
            by("a", "", Value::Null).text("application/apply-patch+yaml", "a: [b"),
            by("a", "", Value::Null).text("application/apply-patch+yaml", ""),
            Step::patch(
                format!("{}?fieldManager=a", subject.path("new")),
                "apply",
                subject.object_with(
                    "new",
                    &json!({
                "metadata": {"uid": "mine"}}),
                ),
            ),
            Step::get(&path),
        ],
    );
}
