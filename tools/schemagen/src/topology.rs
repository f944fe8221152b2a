//! How lists and maps merge. The published types do not carry this; it is part of the Kubernetes API all the same.

use serde_json::{Value, json};

use crate::generator::{Definitions, full_name, property};

/// Lists whose items are told apart by keys: definition, property, keys.
/// The first key is also the strategic merge key, except in [`KEYED_FOR_APPLY_ONLY`].
const KEYED: &[(&str, &str, &[&str])] = &[
    ("core.Container", "env", &["name"]),
    ("core.Container", "ports", &["containerPort", "protocol"]),
    ("core.Container", "volumeDevices", &["devicePath"]),
    ("core.Container", "volumeMounts", &["mountPath"]),
    ("core.ContainerStatus", "allocatedResourcesStatus", &["name"]),
    ("core.ContainerStatus", "volumeMounts", &["mountPath"]),
    ("core.EphemeralContainer", "env", &["name"]),
    ("core.EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("core.EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("core.EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("core.NamespaceStatus", "conditions", &["type"]),
    ("core.NodeStatus", "addresses", &["type"]),
    ("core.NodeStatus", "conditions", &["type"]),
    ("core.PersistentVolumeClaimStatus", "conditions", &["type"]),
    ("core.PodSpec", "containers", &["name"]),
    ("core.PodSpec", "ephemeralContainers", &["name"]),
    ("core.PodSpec", "hostAliases", &["ip"]),
    ("core.PodSpec", "imagePullSecrets", &["name"]),
    ("core.PodSpec", "initContainers", &["name"]),
    ("core.PodSpec", "resourceClaims", &["name"]),
    ("core.PodSpec", "schedulingGates", &["name"]),
    ("core.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("core.PodSpec", "volumes", &["name"]),
    ("core.PodStatus", "conditions", &["type"]),
    ("core.PodStatus", "podIPs", &["ip"]),
    ("core.PodStatus", "resourceClaimStatuses", &["name"]),
    ("core.ServiceAccount", "secrets", &["name"]),
    ("core.ServiceSpec", "ports", &["port", "protocol"]),
    ("core.ServiceStatus", "conditions", &["type"]),
    ("meta.ObjectMeta", "ownerReferences", &["uid"]),
];

/// As [`KEYED`], but without a strategic merge key.
const KEYED_FOR_APPLY_ONLY: &[(&str, &str, &[&str])] = &[
    ("apiextensions.CustomResourceDefinitionStatus", "conditions", &["type"]),
    ("core.PodSpec", "evictionResponders", &["name"]),
    ("core.ResourceRequirements", "claims", &["name"]),
    ("core.ResourceStatus", "resources", &["resourceID"]),
];

/// Lists that are sets of scalars.
const SETS: &[(&str, &str)] = &[
    ("core.ContainerRestartRuleOnExitCodes", "values"),
    ("core.NodeSpec", "podCIDRs"),
    ("discovery.Endpoint", "addresses"),
    ("meta.ObjectMeta", "finalizers"),
];

/// Lists of scalars to which a strategic merge patch adds.
const PATCHED_SETS: &[(&str, &str)] = &[("core.NodeSpec", "podCIDRs"), ("meta.ObjectMeta", "finalizers")];

/// Lists that apply replaces whole and a strategic merge patch merges by key.
const KEYED_FOR_PATCH_ONLY: &[(&str, &str, &str)] = &[("core.PodStatus", "hostIPs", "ip")];

/// Lists whose items a strategic merge patch replaces field by field, dropping what `$retainKeys` does not name.
const RETAIN_KEYS: &[(&str, &str)] =
    &[("core.PodSpec", "resourceClaims"), ("core.PodSpec", "volumes"), ("core.PodStatus", "resourceClaimStatuses")];

/// Objects that one manager owns whole: definitions.
const ATOMIC_DEFINITIONS: &[&str] = &[
    "core.ConfigMapKeySelector",
    "core.FileKeySelector",
    "core.LocalObjectReference",
    "core.NodeSelector",
    "core.NodeSelectorTerm",
    "core.ObjectFieldSelector",
    "core.ObjectReference",
    "core.ResourceFieldSelector",
    "core.SecretKeySelector",
    "core.SecretReference",
    "core.TypedLocalObjectReference",
    "discovery.EndpointPort",
    "meta.LabelSelector",
    "meta.OwnerReference",
];

/// Objects that one manager owns whole: properties.
const ATOMIC_PROPERTIES: &[(&str, &str)] =
    &[("core.PodSpec", "nodeSelector"), ("core.ServiceSpec", "selector"), ("node.Scheduling", "nodeSelector")];

/// Adds list and map types. With `patch_keys` also what strategic merge patch needs (not allowed in custom kinds).
pub fn annotate(definitions: &mut Definitions, patch_keys: bool) {
    for (definition, name, keys) in KEYED.iter().chain(KEYED_FOR_APPLY_ONLY) {
        if let Some(schema) = present(definitions, definition, name) {
            schema.insert("x-kubernetes-list-type".into(), json!("map"));
            schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
        }
    }
    for (definition, name) in SETS {
        if let Some(schema) = present(definitions, definition, name) {
            schema.insert("x-kubernetes-list-type".into(), json!("set"));
        }
    }
    for definition in ATOMIC_DEFINITIONS {
        if let Some(Value::Object(schema)) = definitions.get_mut(&full_name(definition)) {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
    }
    for (definition, name) in ATOMIC_PROPERTIES {
        if let Some(schema) = present(definitions, definition, name) {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
    }
    mark_other_lists_atomic(definitions);
    if patch_keys {
        annotate_for_patches(definitions);
    }
}

fn mark_other_lists_atomic(definitions: &mut Definitions) {
    let properties = definitions.values_mut().filter_map(|schema| schema.get_mut("properties")?.as_object_mut());
    for property in properties.flat_map(|properties| properties.values_mut()) {
        if property["type"] == "array" && property.get("x-kubernetes-list-type").is_none() {
            property["x-kubernetes-list-type"] = json!("atomic");
        }
    }
}

fn annotate_for_patches(definitions: &mut Definitions) {
    let keyed = KEYED.iter().map(|(definition, name, keys)| (*definition, *name, keys[0]));
    for (definition, name, key) in keyed.chain(KEYED_FOR_PATCH_ONLY.iter().copied()) {
        if let Some(schema) = present(definitions, definition, name) {
            schema.insert("x-kubernetes-patch-merge-key".into(), json!(key));
            let retain = RETAIN_KEYS.contains(&(definition, name));
            schema
                .insert("x-kubernetes-patch-strategy".into(), json!(if retain { "merge,retainKeys" } else { "merge" }));
        }
    }
    for (definition, name) in PATCHED_SETS {
        if let Some(schema) = present(definitions, definition, name) {
            schema.insert("x-kubernetes-patch-strategy".into(), json!("merge"));
        }
    }
}

/// The property, unless its definition is not part of this document. A missing property is an error in the tables.
fn present<'a>(
    definitions: &'a mut Definitions,
    definition: &str,
    name: &str,
) -> Option<&'a mut serde_json::Map<String, Value>> {
    let full = full_name(definition);
    // The one property of the tables that only newer pod specs have.
    let optional = name == "evictionResponders";
    let known = definitions.get(&full)?["properties"].get(name).is_some();
    if !known && optional {
        return None;
    }
    Some(property(definitions, &full, name))
}
