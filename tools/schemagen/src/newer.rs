//! Fields of pod specs and claims that are newer than the Kubernetes version of the built-in kinds.
//! The sandbox kinds know them, since their published definitions do.

use serde_json::{Value, json};

use crate::generator::{Definitions, full_name};

/// Adds the fields of Kubernetes 1.35 to 1.37.
pub fn add(definitions: &mut Definitions) {
    let identifier = json!({"type": "integer", "format": "int64"});
    let text = json!({"type": "string"});
    let strings = json!({"type": "array", "items": {"type": "string"}});
    let fields: &[(&str, &str, &Value)] = &[
        ("core.ClusterTrustBundleProjection", "user", &identifier),
        ("core.ConfigMapVolumeSource", "defaultUser", &identifier),
        ("core.DownwardAPIVolumeFile", "user", &identifier),
        ("core.DownwardAPIVolumeSource", "defaultUser", &identifier),
        ("core.EmptyDirVolumeSource", "mode", &json!({"type": "integer", "format": "int32"})),
        ("core.GRPCAction", "mode", &text),
        ("core.HTTPGetAction", "protocol", &text),
        ("core.KeyToPath", "user", &identifier),
        ("core.PodCertificateProjection", "user", &identifier),
        (
            "core.PodCertificateProjection",
            "userAnnotations",
            &json!({"type": "object", "additionalProperties": {"type": "string"}}),
        ),
        (
            "core.PodSpec",
            "evictionResponders",
            &json!({"type": "array", "items": {"$ref": "#/definitions/io.k8s.api.core.v1.EvictionResponder"}}),
        ),
        ("core.PodSpec", "schedulingGroup", &json!({"$ref": "#/definitions/io.k8s.api.core.v1.PodSchedulingGroup"})),
        ("core.ProjectedVolumeSource", "defaultUser", &identifier),
        ("core.SecretVolumeSource", "defaultUser", &identifier),
        ("core.ServiceAccountTokenProjection", "user", &identifier),
        ("core.VolumeMount", "bindMountOptions", &strings),
    ];
    for (definition, name, schema) in fields {
        let properties =
            definitions.get_mut(&full_name(definition)).and_then(|found| found["properties"].as_object_mut());
        let properties = properties.unwrap_or_else(|| panic!("no definition {definition}"));
        let previous = properties.insert((*name).to_owned(), (*schema).clone());
        assert!(previous.is_none(), "{definition}.{name} is no longer newer: drop it from this table");
    }
    definitions.insert(
        full_name("core.EvictionResponder"),
        json!({
            "type": "object",
            "properties": {"name": {"type": "string"}, "priority": {"type": "integer", "format": "int32"}},
            "required": ["name", "priority"],
        }),
    );
    definitions.insert(
        full_name("core.PodSchedulingGroup"),
        json!({"type": "object", "properties": {"podGroupName": {"type": "string"}}}),
    );
}
