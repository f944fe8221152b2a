//! OpenAPI v3 documents: what `kubectl explain`, `apply` and `diff` read.
//!
//! Making a document takes milliseconds: whoever serves them keeps them until the definitions change.

use serde_json::{Map, Value, json};

use crate::definitions::ResourceDefinition;

mod paths;
mod schemas;

/// The version that documents carry.
const API_VERSION: &str = "v1.34.0";

/// Answer of `/openapi/v3/api/v1` or `/openapi/v3/apis/<group>/<version>`; None when nothing is served there.
/// `group_version` is `v1` or `group/version`.
pub fn v3_group_version(definitions: &[ResourceDefinition], group_version: &str) -> Option<Value> {
    let served: Vec<&ResourceDefinition> =
        definitions.iter().filter(|definition| definition.api_version() == group_version).collect();
    if served.is_empty() {
        return None;
    }
    let mut components = schemas::Components::default();
    let mut paths = Map::new();
    for definition in served {
        let root = components.add_kind(definition);
        paths::add(definition, &root, &mut paths);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": API_VERSION},
        "paths": paths,
        "components": {
            "schemas": components.finish(),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token.",
            }},
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::builtin;

    #[test]
    fn every_group_version_has_a_document() {
        let definitions = builtin();
        for definition in &definitions {
            assert!(v3_group_version(&definitions, &definition.api_version()).is_some());
        }
        assert!(v3_group_version(&definitions, "apps/v1").is_none());
    }

    #[test]
    fn references_lead_somewhere() {
        let definitions = builtin();
        for version in ["v1", "agents.x-k8s.io/v1beta1", "extensions.agents.x-k8s.io/v1beta1", "networking.k8s.io/v1"] {
            let document = v3_group_version(&definitions, version).expect("a document");
            let schemas = document["components"]["schemas"].as_object().expect("schemas");
            let text = document.to_string();
            for reference in text.split("\"#/components/schemas/").skip(1) {
                let name = reference.split('"').next().unwrap_or_default();
                assert!(schemas.contains_key(name), "{version}: {name}");
            }
            assert!(!text.contains("x-atoll"), "{version}");
        }
    }

    #[test]
    fn kubectl_finds_what_it_looks_for() {
        let document = v3_group_version(&builtin(), "v1").expect("a document");
        let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "version": "v1", "kind": "Pod"}]));
        let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(spec["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(spec["x-kubernetes-list-type"], "map");
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
        let parameters = patch["parameters"].as_array().expect("parameters");
        let names: Vec<&Value> = parameters.iter().map(|parameter| &parameter["name"]).collect();
        assert!(names.contains(&&json!("fieldValidation")) && names.contains(&&json!("dryRun")), "{names:?}");
        let custom = v3_group_version(&builtin(), "agents.x-k8s.io/v1beta1").expect("a document");
        let patch = &custom["paths"]["/apis/agents.x-k8s.io/v1beta1/namespaces/{namespace}/sandboxes/{name}"]["patch"];
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());
        let sandbox = &custom["components"]["schemas"]["io.x-k8s.agents.v1beta1.Sandbox"];
        assert_eq!(
            sandbox["properties"]["spec"]["properties"]["operatingMode"]["enum"],
            json!(["Running", "Suspended"])
        );
    }
}
