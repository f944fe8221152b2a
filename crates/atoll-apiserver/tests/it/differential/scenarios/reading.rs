//! Getting and listing: forms, selectors, pages.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const PARTIALS: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

pub(super) fn add(table: &mut Table<'_>) {
    let subject = table.subject;
    let collection = subject.collection();
    let list = |query: &str| Step::get(format!("{collection}?{query}"));
    table.scenario_with(
        "forms",
        &["one"],
        vec![
            Step::get(subject.path("one")),
            Step::get(subject.path("none")),
            Step::get(format!("{}?resourceVersion=x", subject.path("one"))),
            Step::get(subject.path("one")).accept(TABLE),
            Step::get(format!("{}?includeObject=None", subject.path("one"))).accept(TABLE),
            Step::get(format!("{}?includeObject=Object", subject.path("one"))).accept(TABLE),
            Step::get(subject.path("one")).accept(PARTIAL),
            Step::get(subject.path("none")).accept(TABLE),
            Step::get(subject.path("one")).accept("*/*"),
            Step::get(subject.path("one")).accept("image/png"),
            Step::get(subject.path("one")).accept("application/json;as=Other;v=v1;g=meta.k8s.io"),
            list(""),
            list("").accept(TABLE),
            list("").accept(PARTIALS),
            list("limit=1").accept(TABLE),
            Step::get(collection.clone()).accept("text/html"),
        ],
    );

    let labels =
        [("a", json!({"app": "web", "tier": "front"})), ("b", json!({"app": "web"})), ("c", json!({"app": "db"}))];
    let mut steps: Vec<Step> = labels
        .iter()
        .map(|(name, labels)| {
            Step::post(&collection, subject.object_with(name, &json!({"metadata": {"labels": labels}})))
        })
        .collect();
    steps.push(Step::post(&collection, subject.object("d")));
    for selector in [
        "app=web",
        "app==web",
        "app!=web",
        "app in (web,db)",
        "app notin (web)",
        "tier",
        "!tier",
        "app,tier=front",
        "app in (web),!tier",
        "app=",
        "nothing=here",
        "app>1",
        "app=a b",
        "in (a)",
        "app in",
        "app in ()",
        "=web",
        "a/b/c=d",
        "-app=web",
        "app=web,",
        ",",
    ] {
        steps.push(list(&format!("labelSelector={}", escaped(selector))).accept(PARTIALS));
    }
    for selector in [
        "metadata.name=a",
        "metadata.name==a",
        "metadata.name!=a",
        "metadata.name=a,metadata.name=b",
        "metadata.namespace=$ns$",
        "metadata.namespace=other",
        "metadata.uid=x",
        "spec.nothing=x",
        "metadata.name",
        "metadata.name>a",
        "metadata.name in (a)",
        "=a",
        "metadata.name=",
    ] {
        steps.push(list(&format!("fieldSelector={}", escaped(selector))).accept(PARTIALS));
    }
    table.scenario("selectors", steps);

    table.scenario_with(
        "pages",
        &["a", "b", "c", "d", "e"],
        vec![
            list("limit=2").accept(PARTIALS),
            list("limit=2&continue=$continue$").accept(PARTIALS),
            list("limit=2&continue=$continue$").accept(PARTIALS),
            list("limit=0").accept(PARTIALS),
            list("limit=-1").accept(PARTIALS),
            list("limit=x").accept(PARTIALS),
            list("limit=100").accept(PARTIALS),
            list("limit=1&continue=bad").accept(PARTIALS),
            list("limit=2").accept(PARTIALS),
            list("limit=2&continue=$continue$&resourceVersion=1").accept(PARTIALS),
            list("limit=2&continue=$continue$&labelSelector=a%3Db").accept(PARTIALS),
            list("resourceVersion=0").accept(PARTIALS),
            list("resourceVersion=x").accept(PARTIALS),
            list("resourceVersion=-1").accept(PARTIALS),
            list("resourceVersionMatch=Exact").accept(PARTIALS),
            list("resourceVersion=0&resourceVersionMatch=Exact").accept(PARTIALS),
            list("resourceVersion=0&resourceVersionMatch=NotOlderThan").accept(PARTIALS),
            list("resourceVersion=$rv:list$&resourceVersionMatch=Exact").accept(PARTIALS),
            list("resourceVersion=$rv:list$&resourceVersionMatch=NotOlderThan").accept(PARTIALS),
            list("resourceVersion=1&resourceVersionMatch=Perhaps").accept(PARTIALS),
            list("sendInitialEvents=true").accept(PARTIALS),
            list("allowWatchBookmarks=true").accept(PARTIALS),
            list("timeoutSeconds=x").accept(PARTIALS),
        ],
    );
    wrong_requests(table);
}

/// Requests that no kind answers.
fn wrong_requests(table: &mut Table<'_>) {
    let subject = table.subject;
    let (root, collection) = (subject.root(), subject.collection());
    let method = |method: &'static str, path: String| {
        let mut step = Step::post(path, json!({}));
        step.method = method;
        step
    };
    table.scenario_with(
        "wrong requests",
        &["one"],
        vec![
            method("PUT", collection.clone()),
            method("PATCH", collection.clone()),
            method("POST", subject.path("one")),
            method("TRACE", subject.path("one")),
            Step::get(format!("{root}/namespaces/$ns$/nothings")),
            Step::get(format!("{root}/namespaces/$ns$/nothings/one")),
            Step::get(format!("{}/nothing", subject.path("one"))),
            Step::get(format!("{}/one", collection.replace("$ns$", "nowhere"))),
            Step::get(collection.replace("$ns$", "nowhere")),
            Step::post(collection.replace("$ns$", "nowhere"), subject.object("one")),
            Step::post(format!("{root}/{}", subject.plural), subject.object("one")),
            Step::get(format!("{root}/{}/one", subject.plural)),
            Step::get(format!("/apis/nothing.example.com/v1/{}", subject.plural)),
            Step::get(subject.path("a%2Fb")),
            Step::get(format!("{collection}/")),
            Step::patch(subject.path("one"), "text/plain", Value::Null),
        ],
    );
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|one| match one {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '$' => one.to_string(),
            other => format!("%{:02X}", u32::from(other)),
        })
        .collect()
}
