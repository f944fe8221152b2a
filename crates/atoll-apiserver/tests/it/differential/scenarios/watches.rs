//! Watches: which events come, in which order, and how they end.

use serde_json::json;

use super::super::exchange::Step;
use super::Table;

const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub(super) fn add(table: &mut Table<'_>) {
    let subject = table.subject;
    let collection = subject.collection();
    let watch = |query: &str| Step::watch(&collection, query);
    let label = |name: &str, value: &str| {
        Step::patch(subject.path(name), "merge", json!({"metadata": {"labels": {"app": value}}}))
    };
    let mut steps = vec![
        Step::get(&collection),
        Step::post(&collection, subject.object("one")),
        label("one", "web"),
        Step::post(&collection, subject.object("two")),
        label("one", "db"),
        label("two", "web"),
        Step::patch(subject.path("two"), "merge", subject.change.clone()),
        label("two", "web"),
        Step::delete(subject.path("one")),
    ];
    for query in [
        "resourceVersion=$rv:list$",
        "resourceVersion=$rv:list$&labelSelector=app%3Dweb",
        "resourceVersion=$rv:list$&labelSelector=!app",
        "resourceVersion=$rv:list$&fieldSelector=metadata.name%3Done",
        "resourceVersion=$rv:two$",
        "resourceVersion=0",
        "",
        "labelSelector=app%3Dweb",
    ] {
        steps.push(watch(query));
    }
    steps.push(watch("resourceVersion=$rv:list$").accept(PARTIAL));
    steps.push(watch("").accept(TABLE));
    table.scenario("watched", steps);

    table.scenario_with(
        "how watches begin",
        &["one", "two"],
        vec![
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"),
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3Done"),
            watch("sendInitialEvents=false&resourceVersionMatch=NotOlderThan"),
            watch("sendInitialEvents=true"),
            watch("sendInitialEvents=true&resourceVersionMatch=Exact"),
            watch("resourceVersionMatch=NotOlderThan"),
            watch("sendInitialEvents=perhaps"),
            watch("resourceVersion=x"),
            watch("resourceVersion=-1"),
            watch("labelSelector=a%20b"),
            watch("fieldSelector=spec.nothing%3Dx"),
            watch("limit=1&resourceVersion=0"),
            Step::watch(&subject.path("one"), ""),
            Step::watch(&subject.path("none"), "resourceVersion=0"),
            Step::get(format!("{}/watch/namespaces/$ns$/{}?timeoutSeconds=1&x=watch=true", subject.root(), subject.plural)),
        ],
    );
}
