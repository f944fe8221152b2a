//! `v1alpha1`, which the sandbox kinds had before: served beside `v1beta1` for manifests that people already have.
//! Objects are stored as `v1beta1`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{ColumnSource, PrinterColumn, ResourceDefinition, Scale, Serving, StorageForm, Subresources};
use super::manifest::{self, Names};
use crate::objects::{metadata_mut, metadata_text};
use crate::schema::StructuralSchema;

const VERSION: &str = "v1alpha1";
/// The whole object in the older version, as it was last written.
const SANDBOX_STATE: &str = "api.agents.x-k8s.io/v1alpha1-sandbox-state";
/// What the older version has no field for.
const VOLUMES_POLICY: &str = "api.agents.x-k8s.io/v1beta1-volume-claim-templates-policy";
/// What the newer version has no field for.
const TEMPLATE_REF: &str = "api.agents.x-k8s.io/v1alpha1-sandbox-template-ref";
const WARM_POOL: &str = "api.agents.x-k8s.io/v1alpha1-warmpool";
/// Pools that claims without a pool are given, one for each template.
const SHADOW_POOL: &str = "shadow-pool-";

type Conversion = fn(&mut Value);

/// The older version of a kind.
pub(super) fn beside(beta: &ResourceDefinition, names: &Names) -> ResourceDefinition {
    let schema = StructuralSchema::from_openapi_v3(&schema(names.kind)).expect("shipped schemas are structural");
    let (to, from): (Conversion, Conversion) = match names.kind {
        "Sandbox" => (sandbox_up, sandbox_down),
        "SandboxClaim" => (claim_up, claim_down),
        "SandboxTemplate" => (template_up, template_down),
        _ => (pool_up, pool_down),
    };
    let scale = (names.kind == "Sandbox").then(|| Scale {
        spec_replicas: "spec.replicas".to_owned(),
        status_replicas: "status.replicas".to_owned(),
        label_selector: Some("status.selector".to_owned()),
    });
    let mut alpha = beta.clone();
    alpha.version = VERSION.to_owned();
    alpha.subresources = Subresources { scale: scale.or(beta.subresources.scale.clone()), ..beta.subresources.clone() };
    alpha.printer_columns = vec![PrinterColumn {
        name: "Age".to_owned(),
        column_type: "date".to_owned(),
        format: String::new(),
        description: "Time since creation.".to_owned(),
        priority: 0,
        source: ColumnSource::JsonPath(".metadata.creationTimestamp".to_owned()),
    }];
    let schema = schema.with_metadata(super::object_metadata());
    // Pods are the same in both: by far the largest part.
    alpha.schema = Arc::new(schema.sharing(&["spec", "podTemplate"], &beta.schema));
    alpha.storage = Some(StorageForm { group: beta.group.clone(), version: beta.version.clone(), to, from });
    alpha.serving = Serving {
        deprecation: Some(format!(
            "{group}/{VERSION} {kind} is deprecated; use {group}/{} {kind}",
            beta.version,
            group = beta.group,
            kind = beta.kind
        )),
        ..Serving::FIXED
    };
    alpha
}

/// The older version as an entry of a definition's `versions`.
pub(super) fn version(names: &Names) -> Value {
    let mut subresources = manifest::subresources(names.kind);
    if names.kind == "Sandbox" {
        subresources["scale"] = json!({
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        });
    }
    json!({
        "name": VERSION, "served": true, "storage": false, "deprecated": true,
        "schema": { "openAPIV3Schema": schema(names.kind) }, "subresources": subresources,
    })
}

/// The schema of the older version: the newer one's with the differences worked in.
fn schema(kind: &str) -> Value {
    let mut schema = manifest::schema(kind);
    let root = &mut schema["properties"];
    match kind {
        "Sandbox" => {
            let replicas = json!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": 1, "default": 1 });
            remove(&mut root["spec"], "x-kubernetes-validations");
            remove(&mut root["spec"]["properties"], "operatingMode");
            root["spec"]["properties"]["replicas"] = replicas;
            remove(&mut root["status"]["properties"], "nodeName");
            root["status"]["properties"]["replicas"] = json!({ "type": "integer", "format": "int32" });
        }
        "SandboxClaim" => {
            let spec = &mut root["spec"];
            remove(&mut spec["properties"], "warmPoolRef");
            spec["properties"]["sandboxTemplateRef"] = json!({
                "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
            });
            spec["properties"]["warmpool"] = json!({ "type": "string", "default": "default" });
            spec["required"] = json!(["sandboxTemplateRef"]);
        }
        "SandboxTemplate" => remove(&mut root["spec"]["properties"], "volumeClaimTemplatesPolicy"),
        _ => {
            remove(&mut root["spec"]["properties"]["replicas"], "default");
            root["spec"]["required"] = json!(["replicas", "sandboxTemplateRef"]);
            remove(&mut root["status"]["properties"], "observedGeneration");
        }
    }
    schema
}

fn remove(object: &mut Value, name: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(name);
    }
}

fn take(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name)
}

/// The spec, if there is one.
fn spec(object: &mut Value) -> Option<&mut Value> {
    object.get_mut("spec").filter(|spec| spec.is_object())
}

fn annotate(object: &mut Value, name: &str, value: String) {
    let annotations = metadata_mut(object).entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(name.to_owned(), value.into());
    }
}

fn take_annotation(object: &mut Value, name: &str) -> Option<String> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut)?;
    let taken = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken.as_str().map(str::to_owned)
}

fn sandbox_up(sandbox: &mut Value) {
    let mut state = sandbox.clone();
    if let Some(metadata) = state.get_mut("metadata").and_then(Value::as_object_mut) {
        // What changes with every write says nothing about the object.
        metadata.retain(|name, _| !matches!(name.as_str(), "managedFields" | "resourceVersion" | "generation"));
    }
    let Some(spec) = spec(sandbox) else { return };
    let replicas = take(spec, "replicas").and_then(|replicas| replicas.as_i64());
    spec["operatingMode"] = if replicas == Some(0) { "Suspended" } else { "Running" }.into();
    if let Some(status) = sandbox.get_mut("status") {
        remove(status, "replicas");
    }
    annotate(sandbox, SANDBOX_STATE, state.to_string());
}

fn sandbox_down(sandbox: &mut Value) {
    take_annotation(sandbox, SANDBOX_STATE);
    if let Some(spec) = spec(sandbox) {
        let mode = take(spec, "operatingMode");
        spec["replicas"] = i32::from(mode.as_ref().and_then(Value::as_str) != Some("Suspended")).into();
    }
    let Some(status) = sandbox.get_mut("status").filter(|status| status.is_object()) else { return };
    remove(status, "nodeName");
    let has_pod = status["podIPs"].as_array().is_some_and(|addresses| !addresses.is_empty());
    status["replicas"] = i32::from(has_pod).into();
}

fn claim_up(claim: &mut Value) {
    let bound = claim["status"]["sandbox"]["name"].as_str().unwrap_or_default().to_owned();
    let name = metadata_text(claim, "name").to_owned();
    let Some(spec) = spec(claim) else { return };
    let template = take(spec, "sandboxTemplateRef").unwrap_or_default();
    let template = template["name"].as_str().unwrap_or_default().to_owned();
    let asked = take(spec, "warmpool").and_then(|pool| pool.as_str().map(str::to_owned)).unwrap_or_default();
    let pool = match asked.as_str() {
        "" | "default" | "none" if !bound.is_empty() && bound != name => {
            bound.rsplit_once('-').map_or(bound.as_str(), |(pool, _)| pool).to_owned()
        }
        "" | "default" | "none" => format!("{SHADOW_POOL}{template}"),
        pool => pool.to_owned(),
    };
    spec["warmPoolRef"] = json!({ "name": pool });
    annotate(claim, TEMPLATE_REF, template);
    annotate(claim, WARM_POOL, asked);
}

fn claim_down(claim: &mut Value) {
    let (template, asked) = (take_annotation(claim, TEMPLATE_REF), take_annotation(claim, WARM_POOL));
    let Some(spec) = spec(claim) else { return };
    let pool = take(spec, "warmPoolRef").unwrap_or_default();
    let pool = pool["name"].as_str().unwrap_or_default().to_owned();
    let shadowed = pool.strip_prefix(SHADOW_POOL);
    let template = template.unwrap_or_else(|| shadowed.unwrap_or(&pool).to_owned());
    let asked = asked.unwrap_or_else(|| if shadowed.is_some() { "default".to_owned() } else { pool.clone() });
    spec["sandboxTemplateRef"] = json!({ "name": template });
    if !asked.is_empty() {
        spec["warmpool"] = asked.into();
    }
}

fn template_up(template: &mut Value) {
    let policy = take_annotation(template, VOLUMES_POLICY);
    if let (Some(policy), Some(spec)) = (policy, spec(template)) {
        spec["volumeClaimTemplatesPolicy"] = policy.into();
    }
}

fn template_down(template: &mut Value) {
    let policy = spec(template).and_then(|spec| take(spec, "volumeClaimTemplatesPolicy"));
    if let Some(policy) = policy.as_ref().and_then(Value::as_str) {
        annotate(template, VOLUMES_POLICY, policy.to_owned());
    }
}

fn pool_up(_pool: &mut Value) {}

fn pool_down(pool: &mut Value) {
    if let Some(status) = pool.get_mut("status") {
        remove(status, "observedGeneration");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(up: fn(&mut Value), down: fn(&mut Value), alpha: &Value) -> (Value, Value) {
        let mut beta = alpha.clone();
        up(&mut beta);
        let mut back = beta.clone();
        down(&mut back);
        (beta, back)
    }

    #[test]
    fn sandboxes_are_converted_there_and_back() {
        for (replicas, mode) in [(0, "Suspended"), (1, "Running")] {
            let alpha = json!({"metadata": {"name": "a"}, "spec": {"podTemplate": {}, "replicas": replicas}});
            let (beta, back) = there_and_back(sandbox_up, sandbox_down, &alpha);
            assert_eq!(beta["spec"], json!({"podTemplate": {}, "operatingMode": mode}));
            let state = beta["metadata"]["annotations"][SANDBOX_STATE].as_str().expect("the state is kept");
            assert_eq!(serde_json::from_str::<Value>(state).expect("it is JSON"), alpha);
            assert_eq!(back, alpha);
        }
    }

    #[test]
    fn claims_get_the_pool_that_they_mean() {
        let claim = |warmpool: &str, bound: &str| {
            json!({
                "metadata": {"name": "c"},
                "spec": {"sandboxTemplateRef": {"name": "python"}, "warmpool": warmpool},
                "status": {"sandbox": {"name": bound}},
            })
        };
        let cases = [
            ("fast", "", "fast"),
            ("default", "", "shadow-pool-python"),
            ("none", "", "shadow-pool-python"),
            ("default", "c", "shadow-pool-python"),
            ("default", "fast-pool-x7k2p", "fast-pool"),
        ];
        for (warmpool, bound, pool) in cases {
            let alpha = claim(warmpool, bound);
            let (beta, back) = there_and_back(claim_up, claim_down, &alpha);
            assert_eq!(beta["spec"], json!({"warmPoolRef": {"name": pool}}), "{warmpool} {bound}");
            assert_eq!(back, alpha);
        }
        let mut newer = json!({"spec": {"warmPoolRef": {"name": "fast"}}});
        claim_down(&mut newer);
        assert_eq!(newer["spec"], json!({"sandboxTemplateRef": {"name": "fast"}, "warmpool": "fast"}));
    }

    #[test]
    fn what_a_version_has_no_field_for_is_kept_beside() {
        let mut beta = json!({"metadata": {"name": "t"}, "spec": {"volumeClaimTemplatesPolicy": "Allowed"}});
        let before = beta.clone();
        template_down(&mut beta);
        assert_eq!(beta["spec"], json!({}));
        template_up(&mut beta);
        assert_eq!(beta, before);
    }
}
