//! `sandbox.json`: the four sandbox kinds, and the pod, claim and network policy types inside them.

use k8s_openapi::api::{core, networking};
use serde_json::{Map, Value, json};

use crate::generator::Generator;
use crate::{defaults, newer, topology};

const POD_SPEC: &str = "#/definitions/io.k8s.api.core.v1.PodSpec";
const CLAIM_SPEC: &str = "#/definitions/io.k8s.api.core.v1.PersistentVolumeClaimSpec";
const INGRESS_RULE: &str = "#/definitions/io.k8s.api.networking.v1.NetworkPolicyIngressRule";
const EGRESS_RULE: &str = "#/definitions/io.k8s.api.networking.v1.NetworkPolicyEgressRule";

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The quantity grammar of Kubernetes, as a pattern.
const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// The message of the one transition rule. Clients match on it.
const CLAIMS_ARE_IMMUTABLE: &str = "volumeClaimTemplates is immutable";

/// The document: `{"definitions": {name: schema}, "kinds": {kind: schema}}`.
pub fn document() -> Value {
    let mut generator = Generator::default();
    generator.add::<core::v1::PodSpec>();
    generator.add::<core::v1::PersistentVolumeClaimSpec>();
    generator.add::<networking::v1::NetworkPolicySpec>();
    let mut definitions = generator.definitions();
    newer::add(&mut definitions);
    defaults::correct_required(&mut definitions);
    defaults::custom(&mut definitions);
    topology::annotate(&mut definitions, false);
    for (name, pattern) in [(QUANTITY, Some(QUANTITY_PATTERN)), (INT_OR_STRING, None)] {
        let mut schema =
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
        if let Some(pattern) = pattern {
            schema["pattern"] = json!(pattern);
        }
        definitions.insert(name.into(), schema);
    }
    json!({
        "definitions": definitions,
        "kinds": {
            "Sandbox": sandbox(),
            "SandboxClaim": claim(),
            "SandboxTemplate": template(),
            "SandboxWarmPool": warm_pool(),
        },
    })
}

/// Every kind has these beside `spec` and `status`.
fn kind(description: &str, spec: Value, status: Option<Value>) -> Value {
    let mut properties = Map::new();
    properties.insert("apiVersion".into(), json!({"type": "string"}));
    properties.insert("kind".into(), json!({"type": "string"}));
    properties.insert("metadata".into(), json!({"type": "object"}));
    properties.insert("spec".into(), spec);
    if let Some(status) = status {
        properties.insert("status".into(), status);
    }
    json!({"type": "object", "description": description, "properties": properties, "required": ["spec"]})
}

fn text_map(description: &str) -> Value {
    json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}})
}

fn described(description: &str, mut schema: Value) -> Value {
    schema["description"] = json!(description);
    schema
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn pod_template() -> Value {
    json!({
        "type": "object",
        "description": "The Pod to run: metadata is kept in step while it runs, a changed spec takes effect with the next Pod.",
        "properties": {
            "metadata": {
                "type": "object",
                "description": "Labels and annotations of the Pod.",
                "properties": {"annotations": text_map("Annotations of the Pod."), "labels": text_map("Labels of the Pod.")},
            },
            "spec": {"$ref": POD_SPEC, "description": "The Pod's spec."},
        },
        "required": ["spec"],
    })
}

fn claim_templates(description: &str) -> Value {
    json!({
        "type": "array",
        "description": description,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {
                "metadata": {
                    "type": "object",
                    "description": "Name, labels and annotations of the claim. The name is also the volume's.",
                    "properties": {
                        "annotations": text_map("Annotations of the claim."),
                        "labels": text_map("Labels of the claim."),
                        "name": {"type": "string", "description": "Name of the volume in the Pod."},
                    },
                },
                "spec": {"$ref": CLAIM_SPEC, "description": "What is claimed."},
            },
            "required": ["spec"],
        },
    })
}

fn service() -> Value {
    json!({
        "type": "boolean",
        "description": "Whether to keep a headless Service: true makes one, false removes it, unset leaves one that is there.",
    })
}

fn conditions() -> Value {
    json!({
        "type": "array",
        "description": "What is known of the object's state.",
        "items": {
            "type": "object",
            "properties": {
                "lastTransitionTime": time("When the status last changed."),
                "message": {"type": "string", "maxLength": 32768, "description": "Details for people."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that this was found for."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "description": "Why, in one word."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown."},
                "type": {"type": "string", "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "What the condition is about."},
            },
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        },
    })
}

fn addresses() -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": "Addresses of the Pod."})
}

fn reference(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {"name": {"type": "string", "description": "Its name, in the same namespace."}},
        "required": ["name"],
    })
}

fn sandbox() -> Value {
    let spec = json!({
        "type": "object",
        "description": "What the sandbox is to be.",
        "properties": {
            "operatingMode": {"type": "string", "enum": ["Running", "Suspended"], "default": "Running",
                "description": "Running keeps a Pod; Suspended removes it and keeps its volumes."},
            "podTemplate": pod_template(),
            "service": service(),
            "shutdownPolicy": {"type": "string", "enum": ["Delete", "Retain"], "default": "Retain",
                "description": "Whether the object itself goes at shutdownTime."},
            "shutdownTime": time("When the sandbox ends. It can be moved."),
            "volumeClaimTemplates": claim_templates("Volumes that live as long as the sandbox. They can not be changed."),
        },
        "required": ["podTemplate"],
        "x-kubernetes-validations": [{
            "message": CLAIMS_ARE_IMMUTABLE,
            "rule": "has(self.volumeClaimTemplates) == has(oldSelf.volumeClaimTemplates) && \
                (!has(self.volumeClaimTemplates) || self.volumeClaimTemplates == oldSelf.volumeClaimTemplates)",
        }],
    });
    let status = json!({
        "type": "object",
        "description": "What the sandbox is.",
        "properties": {
            "conditions": conditions(),
            "nodeName": {"type": "string", "description": "The node that the Pod runs on."},
            "podIPs": addresses(),
            "selector": {"type": "string", "description": "Label selector of the Pod."},
            "service": {"type": "string", "description": "Name of the headless Service."},
            "serviceFQDN": {"type": "string", "description": "Full DNS name of the headless Service."},
        },
    });
    kind(
        "A sandbox: one Pod with a stable name, its own volumes, and a state that can be suspended.",
        spec,
        Some(status),
    )
}

fn template() -> Value {
    let policy = |description: &str, default: &str, values: &[&str]| json!({"type": "string", "enum": values, "default": default, "description": description});
    let rules =
        |description: &str, rule: &str| json!({"type": "array", "items": {"$ref": rule}, "description": description});
    let spec = json!({
        "type": "object",
        "description": "What sandboxes made from this are like.",
        "properties": {
            "envVarsInjectionPolicy": policy(
                "Whether claims may add environment variables, and replace them.", "Disallowed", &["Allowed", "Overrides", "Disallowed"]),
            "networkPolicy": {
                "type": "object",
                "description": "Rules that take the place of the default ones.",
                "properties": {
                    "egress": rules("Where the sandboxes may connect to.", EGRESS_RULE),
                    "ingress": rules("Who may connect to the sandboxes.", INGRESS_RULE),
                },
            },
            "networkPolicyManagement": policy(
                "Whether a NetworkPolicy is kept for the sandboxes.", "Managed", &["Managed", "Unmanaged"]),
            "podTemplate": pod_template(),
            "service": service(),
            "volumeClaimTemplates": claim_templates("Volumes that live as long as each sandbox."),
            "volumeClaimTemplatesPolicy": policy(
                "Whether claims may add volumes, and replace them.", "Disallowed", &["Disallowed", "Allowed", "Overrides"]),
        },
        "required": ["podTemplate"],
    });
    kind("What sandboxes of one sort are like.", spec, None)
}

fn claim() -> Value {
    let spec = json!({
        "type": "object",
        "description": "Which sandbox is wanted.",
        "properties": {
            "additionalPodMetadata": {
                "type": "object",
                "description": "More labels and annotations for the Pod.",
                "properties": {"annotations": text_map("More annotations."), "labels": text_map("More labels.")},
            },
            "env": {
                "type": "array",
                "description": "Environment variables. They need a sandbox of its own, made after the claim.",
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "properties": {
                        "containerName": {"type": "string", "description": "The container that gets it; the first one if unset."},
                        "name": {"type": "string", "description": "Name of the variable."},
                        "value": {"type": "string", "description": "Value of the variable."},
                    },
                    "required": ["name", "value"],
                },
            },
            "lifecycle": {
                "type": "object",
                "description": "When the claim ends.",
                "properties": {
                    "shutdownPolicy": {"type": "string", "enum": ["Delete", "DeleteForeground", "Retain"], "default": "Retain",
                        "description": "What happens to the claim when it ends."},
                    "shutdownTime": time("When the claim ends."),
                    "ttlSecondsAfterFinished": {"type": "integer", "format": "int32", "minimum": 0,
                        "description": "How long the claim stays after its Pod finished."},
                },
            },
            "volumeClaimTemplates": claim_templates("Volumes. They need a sandbox of its own, made after the claim."),
            "warmPoolRef": reference("The pool to take the sandbox from."),
        },
        "required": ["warmPoolRef"],
    });
    let status = json!({
        "type": "object",
        "description": "Which sandbox was given.",
        "properties": {
            "conditions": conditions(),
            "sandbox": {
                "type": "object",
                "description": "The sandbox.",
                "properties": {"name": {"type": "string", "description": "Its name."}, "podIPs": addresses()},
            },
        },
    });
    kind("A request for one sandbox out of a pool.", spec, Some(status))
}

fn warm_pool() -> Value {
    let count = |description: &str| json!({"type": "integer", "format": "int32", "description": description});
    let mut replicas = described("How many sandboxes to keep ready.", count(""));
    replicas["default"] = json!(1);
    replicas["minimum"] = json!(0);
    let spec = json!({
        "type": "object",
        "description": "Which sandboxes to keep ready.",
        "properties": {
            "replicas": replicas,
            "sandboxTemplateRef": reference("The template that they are made from."),
            "updateStrategy": {
                "type": "object",
                "description": "What happens to members when the template changes.",
                "properties": {
                    "type": {"type": "string", "enum": ["Recreate", "OnReplenish"], "default": "OnReplenish",
                        "description": "Recreate replaces them at once, OnReplenish as they are used."},
                },
            },
        },
        "required": ["sandboxTemplateRef"],
    });
    let status = json!({
        "type": "object",
        "description": "Which sandboxes are ready.",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                "description": "The metadata.generation that this was found for."},
            "readyReplicas": count("Members that are ready and not taken."),
            "replicas": count("Members that are not taken."),
            "selector": {"type": "string", "description": "Label selector of the members."},
        },
    });
    kind("A number of sandboxes kept ready to be claimed.", spec, Some(status))
}
