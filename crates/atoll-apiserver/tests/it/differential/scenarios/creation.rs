//! Making objects, correct and incorrect ones.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    let subject = table.subject;
    let collection = subject.collection();
    let post = |body: Value| Step::post(&collection, body);
    let with = |name: &str, more: Value| post(subject.object_with(name, &more));

    table.scenario(
        "made once",
        vec![
            post(subject.object("one")),
            post(subject.object("one")),
            post(subject.object("ONE")),
            with("one", json!({"metadata": {"name": null}})),
            with("one", json!({"metadata": {"name": null, "generateName": "generated-"}})),
            with("one", json!({"metadata": {"name": null, "generateName": "generated-A-"}})),
            with("one", json!({"metadata": {"name": "a/b"}})),
            with("one", json!({"metadata": {"name": ".."}})),
            with(&"x".repeat(254), json!({})),
            with("two", json!({"metadata": {"namespace": "elsewhere"}})),
            with("two", json!({"kind": "Other"})),
            with("two", json!({"kind": null})),
            with("two", json!({"apiVersion": "example.org/v7"})),
            with("two", json!({"apiVersion": null})),
            with("two", json!({"metadata": null})),
        ],
    );
    table.scenario(
        "metadata",
        vec![
            with("labelled", json!({"metadata": {"labels": {"app": "web", "example.com/tier": ""}}})),
            with("l-1", json!({"metadata": {"labels": {"no spaces": "x"}}})),
            with("l-2", json!({"metadata": {"labels": {"app": "no spaces"}}})),
            with("l-3", json!({"metadata": {"labels": {"a/b/c": "x"}}})),
            with("l-4", json!({"metadata": {"labels": {"app": 7}}})),
            with("l-5", json!({"metadata": {"labels": ["app"]}})),
            with("annotated", json!({"metadata": {"annotations": {"note": "any text: {}\n", "UPPER": ""}}})),
            with("a-1", json!({"metadata": {"annotations": {"no spaces": "x"}}})),
            with("a-2", json!({"metadata": {"annotations": {"much": "x".repeat(262_145)}}})),
            with("finalized", json!({"metadata": {"finalizers": ["example.com/hold"]}})),
            with("f-1", json!({"metadata": {"finalizers": ["hold"]}})),
            with("f-2", json!({"metadata": {"finalizers": ["no spaces/x"]}})),
            with(
                "owned",
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p",
                "uid": "0"}]}}),
            ),
            with("o-1", json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}})),
            with(
                "o-2",
                json!({"metadata": {"ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "2", "controller": true}]}}),
            ),
            with(
                "o-3",
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e",
                "uid": "1"}]}}),
            ),
            with(
                "ruled",
                json!({"metadata": {"uid": "mine", "generation": 7, "creationTimestamp":
                "2020-01-01T00:00:00Z", "selfLink": "/x", "deletionGracePeriodSeconds": 3}}),
            ),
            with("versioned", json!({"metadata": {"resourceVersion": "1"}})),
            with("unknown", json!({"metadata": {"colour": "red"}})),
        ],
    );
    bodies(table);
    validation(table);
}

fn bodies(table: &mut Table<'_>) {
    let subject = table.subject;
    let collection = subject.collection();
    let raw = |kind: &str, text: &str| Step::post(&collection, Value::Null).text(kind, text);
    let yaml = serde_yaml_ng::to_string(&subject.object("yaml")).expect("it is YAML");
    let good = |name: &str| subject.object(name).to_string();
    let unknown = |name: &str| subject.object_with(name, &json!({"unknown": 1})).to_string();
    let nested = |name: &str| {
        let field =
            if subject.plural == "configmaps" { json!({"unknown": {"x": 1}}) } else { json!({"spec": {"unknown": 1}}) };
        subject.object_with(name, &field).to_string()
    };
    let twice = |name: &str| good(name).replacen("\"kind\"", "\"kind\":\"Twice\",\"kind\"", 1);
    let query = |query: &str, text: String| {
        Step::post(format!("{collection}?{query}"), Value::Null).text("application/json", text)
    };
    table.scenario(
        "bodies",
        vec![
            raw("application/json", ""),
            raw("application/json", "{"),
            raw("application/json", "[]"),
            raw("application/json", "null"),
            raw("application/json", "\"text\""),
            raw("application/json", "{}"),
            raw("text/plain", &good("plain")),
            raw("application/yaml", &yaml),
            raw("application/yaml", "a: [b"),
            raw("application/json; charset=utf-8", &good("charset")),
            query("dryRun=All", good("dry")),
            query("dryRun=Some", good("dry")),
            Step::get(subject.path("dry")),
            query("fieldManager=me", good("managed")),
            query(&format!("fieldManager={}", "x".repeat(129)), good("long")),
            query("fieldValidation=Strict", unknown("strict")),
            query("fieldValidation=Warn", unknown("warn")),
            query("fieldValidation=Ignore", unknown("ignore")),
            query("fieldValidation=Sometimes", unknown("sometimes")),
            query("fieldValidation=Strict", nested("strict")),
            query("fieldValidation=Warn", nested("warn-nested")),
            query("", nested("nested")),
            query("fieldValidation=Strict", twice("twice")),
            query("fieldValidation=Warn", twice("warn-twice")),
            query("pretty=false", good("pretty")),
        ],
    );
}

/// What a kind refuses by its own rules, at creation and at a change.
fn validation(table: &mut Table<'_>) {
    let subject = table.subject;
    let mut steps = Vec::new();
    for (index, wrong) in subject.wrong.iter().enumerate() {
        steps.push(Step::post(subject.collection(), subject.object_with(&format!("wrong-{index}"), wrong)));
    }
    steps.push(Step::post(subject.collection(), subject.object("right")));
    for wrong in &subject.wrong {
        steps.push(Step::patch(subject.path("right"), "merge", wrong.clone()));
    }
    steps.push(Step::get(subject.path("right")));
    table.scenario("validation", steps);
}
