//! Deleting objects, one and many.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    let subject = table.subject;
    let collection = subject.collection();
    let delete = |name: &str, options: Value| Step::delete(subject.path(name)).json(options);
    let options = |more: Value| {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        super::super::subjects::merge(&mut body, &more);
        body
    };
    table.scenario_with(
        "deleted",
        &["one", "two", "three", "four", "five", "six"],
        vec![
            Step::get(subject.path("one")),
            delete("one", options(json!({"preconditions": {"uid": "other"}}))),
            delete("one", options(json!({"preconditions": {"resourceVersion": "1"}}))),
            delete("one", options(json!({"dryRun": ["All"]}))),
            Step::delete(format!("{}?dryRun=All", subject.path("one"))),
            delete("one", options(json!({"dryRun": ["Some"]}))),
            delete("one", options(json!({"propagationPolicy": "Sometimes"}))),
            delete("one", options(json!({"propagationPolicy": "Orphan", "orphanDependents": true}))),
            delete("one", options(json!({"gracePeriodSeconds": -1, "unknown": 1}))),
            delete("one", json!([])),
            Step::delete(subject.path("one")).text("application/json", "{"),
            delete("one", options(json!({"preconditions": {"uid": "$uid:one$", "resourceVersion": "$rv:one$"}}))),
            Step::delete(subject.path("one")),
            Step::delete(subject.path("two")),
            Step::delete(format!("{}?propagationPolicy=Background", subject.path("three"))),
            delete("four", options(json!({"gracePeriodSeconds": 0}))),
            delete("five", options(json!({"gracePeriodSeconds": 30}))),
            delete("six", json!({"propagationPolicy": "Background"})),
            Step::get(&collection),
            Step::post(&collection, subject.object("one")),
        ],
    );
    let held = |name: &str| subject.object_with(name, &json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    table.scenario(
        "held",
        vec![
            Step::post(&collection, held("held")),
            Step::delete(subject.path("held")),
            Step::delete(subject.path("held")),
            Step::get(subject.path("held")),
            Step::post(&collection, held("held")),
            Step::patch(subject.path("held"), "merge", json!({"metadata": {"labels": {"still": "here"}}})),
            Step::patch(
                subject.path("held"),
                "merge",
                json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}),
            ),
            Step::patch(subject.path("held"), "merge", json!({"metadata": {"deletionTimestamp": null}})),
            Step::patch(subject.path("held"), "merge", json!({"metadata": {"finalizers": null}})),
            Step::get(subject.path("held")),
        ],
    );
    let labelled = |name: &str, app: &str| {
        Step::post(&collection, subject.object_with(name, &json!({"metadata": {"labels": {"app": app}}})))
    };
    table.scenario(
        "many deleted",
        vec![
            labelled("a", "web"),
            labelled("b", "web"),
            labelled("c", "db"),
            Step::delete(format!("{collection}?labelSelector=app%3Dnothing")),
            Step::delete(format!("{collection}?labelSelector=app%3Dweb&dryRun=All")),
            Step::delete(format!("{collection}?labelSelector=app%3D%3D%3D")),
            Step::delete(format!("{collection}?labelSelector=app%3Dweb")),
            Step::get(&collection),
            Step::delete(format!("{collection}?fieldSelector=metadata.name%3Dc")),
            Step::get(&collection),
            Step::delete(&collection),
        ],
    );
}
