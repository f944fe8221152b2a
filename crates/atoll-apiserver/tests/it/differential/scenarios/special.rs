//! What only one kind has.

use serde_json::{Value, json};

use super::super::exchange::Step;
use super::Table;

pub(super) fn add(table: &mut Table<'_>) {
    match table.subject.plural {
        "configmaps" => config_maps(table),
        "sandboxes" => sandboxes(table),
        "sandboxwarmpools" => pools(table),
        "widgets" => widgets(table),
        _ => {}
    }
}

fn config_maps(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    table.scenario_with(
        "immutable",
        &["one"],
        vec![
            Step::patch(&path, "merge", json!({"immutable": true})),
            Step::patch(&path, "merge", subject.change.clone()),
            Step::patch(&path, "merge", json!({"immutable": false})),
            Step::patch(&path, "merge", json!({"immutable": null})),
            Step::patch(&path, "merge", json!({"binaryData": {"x": "eA=="}})),
            Step::patch(&path, "merge", json!({"metadata": {"labels": {"may": "change"}}})),
            Step::delete(&path),
        ],
    );
}

fn volume(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

fn sandboxes(table: &mut Table<'_>) {
    let subject = table.subject;
    let with = |name: &str, volumes: Value| {
        Step::post(subject.collection(), subject.object_with(name, &json!({"spec": {"volumeClaimTemplates": volumes}})))
    };
    let set = |name: &str, volumes: Value| {
        Step::patch(subject.path(name), "merge", json!({"spec": {"volumeClaimTemplates": volumes}}))
    };
    table.scenario(
        "volume claim templates are immutable",
        vec![
            with("with", json!([volume("data", "1Gi")])),
            Step::post(subject.collection(), subject.object("without")),
            set("with", json!([volume("data", "2Gi")])),
            set("with", json!([volume("data", "1Gi"), volume("more", "1Gi")])),
            set("with", Value::Null),
            set("without", json!([volume("data", "1Gi")])),
            set("with", json!([volume("data", "1Gi")])),
            Step::patch(format!("{}?fieldManager=a", subject.path("with")), "apply", subject.object("with")),
            Step::get(subject.path("with")),
        ],
    );
    let container = |more: Value| {
        let mut one = json!({"name": "main", "image": "i"});
        super::super::subjects::merge(&mut one, &more);
        json!({"spec": {"podTemplate": {"metadata": {"labels": {"a": "b"}, "name": "pruned"}, "spec": {"containers": [one]}}}})
    };
    let mut steps = Vec::new();
    for (index, more) in [
        json!({"ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}),
        json!({"ports": [{"containerPort": 80}, {"containerPort": 80}]}),
        json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}, {"name": "A", "value": "twice"}]}),
        json!({"readinessProbe": {"grpc": {"port": 1}}, "livenessProbe": {"httpGet": {"port": "http"}}}),
        json!({"resources": {"limits": {"memory": "1Gi", "cpu": 2}, "requests": {"cpu": "500m"}}}),
        json!({"resources": {"limits": {"memory": "1 Gi"}}}),
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a"}]}),
        json!({"securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}, "tty": true}),
        json!({"unknownField": {"deep": true}}),
        json!({"command": "not a list"}),
    ]
    .into_iter()
    .enumerate()
    {
        steps.push(Step::post(subject.collection(), subject.object_with(&format!("s-{index}"), &container(more))));
    }
    let apply = |manager: &str, container: Value| {
        Step::patch(
            format!("{}?fieldManager={manager}", subject.path("s-0")),
            "apply",
            json!({
            "apiVersion": subject.api_version(), "kind": subject.kind,
            "spec": {"podTemplate": {"spec": {"containers": [container]}}}}),
        )
    };
    steps.extend([
        apply("a", json!({"name": "side", "image": "i"})),
        apply("b", json!({"name": "main", "env": [{"name": "X", "value": "1"}]})),
        apply("a", json!({"name": "main", "env": [{"name": "X", "value": "2"}]})),
        apply("b", json!({"name": "main"})),
        Step::get(subject.path("s-0")),
    ]);
    table.scenario("pod templates", steps);
}

fn pools(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    table.scenario_with(
        "defaults",
        &["one"],
        vec![
            Step::patch(&path, "merge", json!({"spec": {"replicas": null}})),
            Step::patch(&path, "merge", json!({"spec": {"updateStrategy": {}}})),
            Step::patch(&path, "merge", json!({"spec": {"updateStrategy": {"type": "Recreate"}}})),
            Step::patch(&path, "merge", json!({"spec": {"updateStrategy": null, "replicas": 0}})),
            Step::patch(&path, "merge", json!({"spec": {"replicas": 3.0}})),
            Step::patch(&path, "merge", json!({"spec": {"replicas": 3.5}})),
        ],
    );
}

fn widgets(table: &mut Table<'_>) {
    let subject = table.subject;
    let path = subject.path("one");
    let merge = |body: Value| Step::patch(&path, "merge", json!({"spec": body}));
    let apply = |manager: &str, spec: Value| {
        Step::patch(
            format!("{path}?fieldManager={manager}"),
            "apply",
            json!({
            "apiVersion": subject.api_version(), "kind": subject.kind, "spec": spec}),
        )
    };
    table.scenario_with(
        "rules",
        &["one"],
        vec![
            merge(json!({"size": 2})),
            merge(json!({"size": 4})),
            merge(json!({"fixed": "a"})),
            merge(json!({"fixed": "b"})),
            merge(json!({"fixed": null})),
            merge(json!({"low": 9, "high": 2, "either": 1, "or": 1})),
            merge(json!({"low": null, "high": 2})),
            merge(json!({"nothing": null})),
            merge(json!({"when": "2026-01-01T00:00:00Z", "amount": 7, "port": 80})),
            merge(json!({"free": {"any": [1, {"x": null}]}})),
            merge(json!({"colours": {"a": "red"}})),
            merge(json!({"colours": {"b": "pink"}})),
            Step::get(&path),
            Step::get(format!("{}?fieldSelector=spec.colour%3Dred", subject.collection())),
            Step::get(format!("{}?fieldSelector=spec.size%3D4", subject.collection())),
        ],
    );
    table.scenario_with(
        "lists",
        &["one"],
        vec![
            apply("a", json!({"ports": [{"name": "b", "port": 81}], "tags": ["y"]})),
            apply("b", json!({"ports": [{"name": "b", "port": 82}]})),
            apply("b", json!({"ports": [{"name": "c", "port": 83}], "tags": ["y", "z"], "whole": {"a": "1"}})),
            apply("a", json!({"whole": {"b": "1"}})),
            apply("a", json!({"tags": ["y"], "words": ["one", "one"]})),
            apply("b", json!({"words": ["two"]})),
            apply("a", json!({})),
            apply("b", json!({"ports": [{"port": 84}]})),
            apply("b", json!({"ports": [{"name": "c", "port": 84}, {"name": "c", "port": 85}]})),
            Step::get(&path),
        ],
    );
}
