//! The manifests, put together from the embedded schemas.

use serde_json::{Map, Value, json};

use super::super::catalog::read;

static SANDBOX: &[u8] = include_bytes!("../../../../../schemas/sandbox.json");

const VERSION: &str = "v1beta1";

/// What a kind is called.
pub(super) struct Names {
    pub(super) kind: &'static str,
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) short: &'static str,
}

pub(super) static KINDS: [Names; 4] = [
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

impl Names {
    pub(super) fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// The manifest of a kind.
pub(super) fn of(names: &Names) -> Value {
    let mut version = json!({
        "name": VERSION, "served": true, "storage": true,
        "schema": { "openAPIV3Schema": schema(names.kind) },
        "subresources": subresources(names.kind),
    });
    let columns = columns(names.kind);
    if columns.as_array().is_some_and(|columns| !columns.is_empty()) {
        version["additionalPrinterColumns"] = columns;
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": names.crd_name() },
        "spec": {
            "group": names.group,
            "names": {
                "plural": names.plural, "singular": names.kind.to_lowercase(), "shortNames": [names.short],
                "kind": names.kind, "listKind": format!("{}List", names.kind),
            },
            "scope": "Namespaced",
            "versions": [version],
            "conversion": { "strategy": "None" },
        },
    })
}

/// The schema of a kind, references expanded.
pub(super) fn schema(kind: &str) -> Value {
    let document = read(SANDBOX);
    let definitions = document["definitions"].as_object().expect("embedded schemas have definitions");
    expand(&document["kinds"][kind], definitions)
}

pub(super) fn subresources(kind: &str) -> Value {
    match kind {
        "SandboxTemplate" => json!({}),
        "SandboxWarmPool" => json!({
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        }),
        _ => json!({ "status": {} }),
    }
}

fn columns(kind: &str) -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
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

/// Replaces references by what they refer to.
fn expand(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let Value::Object(keywords) = schema else { return schema.clone() };
    let mut expanded = match keywords.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let name = reference.trim_start_matches("#/definitions/");
            expand(definitions.get(name).expect("references of embedded schemas lead somewhere"), definitions)
        }
        None => json!({}),
    };
    for (keyword, value) in keywords {
        let value = match (keyword.as_str(), value) {
            ("$ref", _) => continue,
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter().map(|(name, it)| (name.clone(), expand(it, definitions)));
                Value::Object(properties.collect())
            }
            ("items" | "additionalProperties", value) => expand(value, definitions),
            (_, value) => value.clone(),
        };
        expanded[keyword] = value;
    }
    expanded
}
