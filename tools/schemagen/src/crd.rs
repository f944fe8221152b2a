//! CustomResourceDefinition manifests, with every reference expanded, as a cluster wants them.

use serde_json::{Map, Value, json};

const VERSION: &str = "v1beta1";

struct Names {
    kind: &'static str,
    group: &'static str,
    plural: &'static str,
    short: &'static str,
}

const KINDS: [Names; 4] = [
    Names { kind: "Sandbox", group: "agents.x-k8s.io", plural: "sandboxes", short: "sandbox" },
    Names { kind: "SandboxClaim", group: "extensions.agents.x-k8s.io", plural: "sandboxclaims", short: "sandboxclaim" },
    Names {
        kind: "SandboxTemplate",
        group: "extensions.agents.x-k8s.io",
        plural: "sandboxtemplates",
        short: "sandboxtemplate",
    },
    Names { kind: "SandboxWarmPool", group: "extensions.agents.x-k8s.io", plural: "sandboxwarmpools", short: "swp" },
];

/// The four manifests.
pub fn manifests(document: &Value) -> Vec<Value> {
    KINDS.iter().map(|names| manifest(names, document)).collect()
}

fn manifest(names: &Names, document: &Value) -> Value {
    let definitions = document["definitions"].as_object().expect("definitions");
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": expand(&document["kinds"][names.kind], definitions)},
        "subresources": subresources(names.kind),
    });
    let columns = columns(names.kind);
    if columns.as_array().is_some_and(|columns| !columns.is_empty()) {
        version["additionalPrinterColumns"] = columns;
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", names.plural, names.group)},
        "spec": {
            "group": names.group,
            "names": {
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "shortNames": [names.short],
                "singular": names.kind.to_lowercase(),
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    })
}

fn subresources(kind: &str) -> Value {
    match kind {
        "Sandbox" | "SandboxClaim" => json!({"status": {}}),
        "SandboxWarmPool" => json!({
            "scale": {
                "labelSelectorPath": ".status.selector",
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
            },
            "status": {},
        }),
        _ => json!({}),
    }
}

fn columns(kind: &str) -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let condition =
        |name: &str, field: &str| column(name, "string", &format!(".status.conditions[?(@.type=='Ready')].{field}"));
    let age = column("Age", "date", ".metadata.creationTimestamp");
    match kind {
        "Sandbox" => json!([condition("Ready", "status"), condition("Reason", "reason"), age]),
        "SandboxClaim" => json!([
            condition("Ready", "status"),
            column("Sandbox", "string", ".status.sandbox.name"),
            condition("Reason", "reason"),
            age,
        ]),
        "SandboxWarmPool" => json!([
            column("Ready", "integer", ".status.readyReplicas"),
            column("Desired", "integer", ".spec.replicas"),
            age,
        ]),
        _ => json!([]),
    }
}

/// Replaces references by what they refer to, and drops keywords that only this project's server knows.
fn expand(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let Value::Object(keywords) = schema else { return schema.clone() };
    let mut expanded = match keywords.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let name = reference.trim_start_matches("#/definitions/");
            expand(definitions.get(name).unwrap_or_else(|| panic!("no definition {name}")), definitions)
        }
        None => json!({}),
    };
    let target = expanded.as_object_mut().expect("a schema is an object");
    for (keyword, value) in keywords {
        let value = match (keyword.as_str(), value) {
            ("$ref", _) => continue,
            ("properties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, property)| (name.clone(), expand(property, definitions)))
                .collect::<Map<_, _>>()
                .into(),
            ("items" | "additionalProperties", value) => expand(value, definitions),
            ("x-kubernetes-validations", Value::Array(rules)) => {
                rules.iter().map(standard_rule).collect::<Vec<_>>().into()
            }
            (_, value) => value.clone(),
        };
        target.insert(keyword.clone(), value);
    }
    expanded
}

fn standard_rule(rule: &Value) -> Value {
    json!({"message": rule["message"], "rule": rule["rule"]})
}
