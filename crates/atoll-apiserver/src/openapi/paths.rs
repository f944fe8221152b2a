//! Paths and operations: enough for clients to see what a kind can do.

use serde_json::{Map, Value, json};

use crate::definitions::{Origin, ResourceDefinition};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// One verb on one path.
struct Operation<'a> {
    action: &'a str,
    verb: &'a str,
    parameters: &'a [&'a str],
    body: Option<Value>,
    answer: &'a str,
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "pretty", "propagationPolicy"];
const FLAGS: [&str; 5] = ["allowWatchBookmarks", "force", "orphanDependents", "sendInitialEvents", "watch"];
const NUMBERS: [&str; 3] = ["gracePeriodSeconds", "limit", "timeoutSeconds"];

/// Adds the paths of a kind whose schema is called `root`.
pub(super) fn add(definition: &ResourceDefinition, root: &str, paths: &mut Map<String, Value>) {
    let prefix = if definition.group.is_empty() { "/api" } else { "/apis" };
    let base = format!("{prefix}/{}", definition.api_version());
    let plural = &definition.plural;
    let scope = if definition.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{plural}");
    let list = format!("{root}List");
    let create = || Operation { action: "post", verb: "post", parameters: WRITE, body: Some(body(root)), answer: root };
    let read_all = || Operation { action: "list", verb: "get", parameters: LIST, body: None, answer: &list };
    let mut put = |path: String, operations| {
        let described = item(definition, &path, operations);
        paths.insert(path, described);
    };
    if definition.strategy.answer_only {
        put(collection, vec![create()]);
        return;
    }
    let delete_all =
        Operation { action: "deletecollection", verb: "delete", parameters: DELETE, body: None, answer: root };
    put(collection.clone(), vec![read_all(), create(), delete_all]);
    if definition.namespaced {
        put(format!("{base}/{plural}"), vec![read_all()]);
    }
    let mut operations = changes(definition, root);
    operations.push(Operation { action: "delete", verb: "delete", parameters: DELETE, body: None, answer: root });
    put(format!("{collection}/{{name}}"), operations);
    if definition.subresources.status {
        put(format!("{collection}/{{name}}/status"), changes(definition, root));
    }
}

/// Reading, replacing and patching one object.
fn changes<'a>(definition: &ResourceDefinition, root: &'a str) -> Vec<Operation<'a>> {
    vec![
        Operation { action: "get", verb: "get", parameters: &["pretty"], body: None, answer: root },
        Operation { action: "put", verb: "put", parameters: WRITE, body: Some(body(root)), answer: root },
        Operation {
            action: "patch",
            verb: "patch",
            parameters: PATCH,
            body: Some(patch_body(definition)),
            answer: root,
        },
    ]
}

fn item(definition: &ResourceDefinition, path: &str, operations: Vec<Operation<'_>>) -> Value {
    let mut item = Map::new();
    for operation in operations {
        item.insert(operation.verb.to_owned(), described(definition, operation));
    }
    let in_path: Vec<Value> = ["name", "namespace"]
        .iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    if !in_path.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(in_path));
    }
    Value::Object(item)
}

fn described(definition: &ResourceDefinition, operation: Operation<'_>) -> Value {
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|name| {
            let kind = match *name {
                name if FLAGS.contains(&name) => "boolean",
                name if NUMBERS.contains(&name) => "integer",
                _ => "string",
            };
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        })
        .collect();
    let reference = json!({"$ref": format!("#/components/schemas/{}", operation.answer)});
    let mut described = json!({
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {JSON: {"schema": reference}, YAML: {"schema": reference}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {
            "group": definition.group, "version": definition.version, "kind": definition.kind,
        },
    });
    if let Some(body) = operation.body {
        described["requestBody"] = body;
    }
    described
}

fn body(root: &str) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{root}")});
    json!({"required": true, "content": {JSON: {"schema": reference}, YAML: {"schema": reference}}})
}

fn patch_body(definition: &ResourceDefinition) -> Value {
    let builtin = definition.strategy.origin == Origin::Builtin;
    let accepted = PATCHES.iter().filter(|name| builtin || !name.contains("strategic"));
    let content: Map<String, Value> =
        accepted.map(|name| ((*name).to_owned(), json!({"schema": {"type": "object"}}))).collect();
    json!({"required": true, "content": content})
}
