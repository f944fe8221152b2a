//! `v1alpha1` of the sandbox kinds: manifests that people already have.

use serde_json::{Value, json};

use super::support::{Plane, SANDBOXES, sandbox};

const ALPHA: &str = "/apis/agents.x-k8s.io/v1alpha1/namespaces/default/sandboxes";
const EXTENSIONS: &str = "/apis/extensions.agents.x-k8s.io";

/// A single-container pod with an isolation tier, what it needs, a volume, and a network identity.
fn stateful() -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1alpha1", "kind": "Sandbox",
        "metadata": { "name": "coder", "labels": { "team": "a" } },
        "spec": {
            "podTemplate": { "spec": {
                "runtimeClassName": "gvisor",
                "containers": [{
                    "name": "main", "image": "atoll.local/host",
                    "resources": { "requests": { "cpu": "500m", "memory": "1Gi" } },
                }],
            } },
            "volumeClaimTemplates": [{
                "metadata": { "name": "work" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }],
            "replicas": 1,
        },
    })
}

#[tokio::test]
async fn an_old_sandbox_is_a_new_one_too() {
    let plane = Plane::new().await;
    let answer = plane.post(ALPHA, stateful()).await;
    let warning = answer.headers["warning"].to_str().expect("text").to_owned();
    assert!(warning.contains("agents.x-k8s.io/v1alpha1 Sandbox is deprecated"), "{warning}");
    let made = answer.ok();
    assert_eq!((&made["apiVersion"], &made["spec"]["replicas"]), (&json!("agents.x-k8s.io/v1alpha1"), &json!(1)));
    assert_eq!(made["metadata"].get("annotations"), None);
    let newer = plane.get(&format!("{SANDBOXES}/coder")).await.ok();
    assert_eq!(
        (&newer["apiVersion"], &newer["spec"]["operatingMode"]),
        (&json!("agents.x-k8s.io/v1beta1"), &json!("Running"))
    );
    assert_eq!(newer["spec"]["podTemplate"], made["spec"]["podTemplate"]);
    assert_eq!(newer["metadata"]["uid"], made["metadata"]["uid"]);
    let state = newer["metadata"]["annotations"]["api.agents.x-k8s.io/v1alpha1-sandbox-state"].as_str();
    let state: Value = serde_json::from_str(state.expect("it is kept")).expect("it is JSON");
    assert_eq!((&state["apiVersion"], &state["spec"]["replicas"]), (&json!("agents.x-k8s.io/v1alpha1"), &json!(1)));
}

#[tokio::test]
async fn scaling_to_zero_suspends() {
    let plane = Plane::new().await;
    plane.post(ALPHA, stateful()).await.ok();
    plane.merge(&format!("{ALPHA}/coder/scale"), json!({ "spec": { "replicas": 0 } })).await.ok();
    let path = format!("{SANDBOXES}/coder");
    let suspended = plane.get(&path).await.ok();
    assert_eq!(
        (&suspended["spec"]["operatingMode"], &suspended["metadata"]["generation"]),
        (&json!("Suspended"), &json!(2))
    );
    plane.merge(&path, json!({ "spec": { "operatingMode": "Running" } })).await.ok();
    assert_eq!(plane.get(&format!("{ALPHA}/coder")).await.ok()["spec"]["replicas"], 1);
    let two = json!({ "spec": { "replicas": 2 } });
    plane.merge(&format!("{ALPHA}/coder"), two).await.refused(422, "Invalid");
    plane.merge(&format!("{ALPHA}/coder"), json!({ "metadata": { "labels": { "team": "b" } } })).await.ok();
    assert_eq!(plane.get(&path).await.ok()["metadata"]["labels"]["team"], "b");
}

#[tokio::test]
async fn lists_and_watches_are_in_the_version_asked_for() {
    let plane = Plane::new().await;
    plane.post(SANDBOXES, sandbox("new")).await.ok();
    let list = plane.get(ALPHA).await.ok();
    let item = &list["items"][0];
    assert_eq!((&list["kind"], &item["apiVersion"]), (&json!("SandboxList"), &json!("agents.x-k8s.io/v1alpha1")));
    assert_eq!((&item["spec"]["replicas"], item["spec"].get("operatingMode")), (&json!(1), None));
    let path = format!("{ALPHA}?watch=true&resourceVersion=0&timeoutSeconds=1");
    let events = plane.get(&path).await.text;
    let event: Value = serde_json::from_str(events.lines().next().expect("an event")).expect("it is JSON");
    assert_eq!((&event["type"], &event["object"]["apiVersion"]), (&json!("ADDED"), &json!("agents.x-k8s.io/v1alpha1")));
    let group = plane.get("/apis/agents.x-k8s.io").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1beta1");
}

#[tokio::test]
async fn old_claims_templates_and_pools_are_new_ones_too() {
    let plane = Plane::new().await;
    let path = |version: &str, plural: &str| format!("{EXTENSIONS}/{version}/namespaces/default/{plural}");
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "extensions.agents.x-k8s.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        })
    };
    let template = object("SandboxTemplate", "python", json!({ "podTemplate": stateful()["spec"]["podTemplate"] }));
    plane.post(&path("v1alpha1", "sandboxtemplates"), template).await.ok();
    let newer = format!("{}/python", path("v1beta1", "sandboxtemplates"));
    plane.merge(&newer, json!({ "spec": { "volumeClaimTemplatesPolicy": "Allowed" } })).await.ok();
    let older = format!("{}/python", path("v1alpha1", "sandboxtemplates"));
    plane.merge(&older, json!({ "metadata": { "labels": { "a": "b" } } })).await.ok();
    let template = plane.get(&newer).await.ok();
    assert_eq!(template["spec"]["volumeClaimTemplatesPolicy"], "Allowed", "the older version does not lose it");

    let pool = object("SandboxWarmPool", "fast", json!({ "replicas": 2, "sandboxTemplateRef": { "name": "python" } }));
    plane.post(&path("v1alpha1", "sandboxwarmpools"), pool).await.ok();
    let without = object("SandboxWarmPool", "none", json!({ "sandboxTemplateRef": { "name": "python" } }));
    plane.post(&path("v1alpha1", "sandboxwarmpools"), without).await.refused(422, "Invalid");

    for (name, spec, pool) in [
        ("a", json!({ "sandboxTemplateRef": { "name": "python" }, "warmpool": "fast" }), "fast"),
        ("b", json!({ "sandboxTemplateRef": { "name": "python" } }), "shadow-pool-python"),
        ("c", json!({ "sandboxTemplateRef": { "name": "python" }, "warmpool": "none" }), "shadow-pool-python"),
    ] {
        plane.post(&path("v1alpha1", "sandboxclaims"), object("SandboxClaim", name, spec)).await.ok();
        let claim = plane.get(&format!("{}/{name}", path("v1beta1", "sandboxclaims"))).await.ok();
        assert_eq!(claim["spec"]["warmPoolRef"]["name"], pool);
        let claim = plane.get(&format!("{}/{name}", path("v1alpha1", "sandboxclaims"))).await.ok();
        assert_eq!(claim["spec"]["sandboxTemplateRef"]["name"], "python");
    }
}

/// As upstream published its definitions while it had both versions.
fn with_webhook(shipped: &Value) -> Value {
    let mut definition = shipped.clone();
    let schema = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    } });
    definition["spec"]["versions"].as_array_mut().expect("versions").push(json!({
        "name": "v1alpha1", "served": true, "storage": false, "deprecated": true,
        "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} },
    }));
    let service =
        json!({ "name": "agent-sandbox-webhook-service", "namespace": "agent-sandbox-system", "path": "/convert" });
    definition["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": { "clientConfig": { "service": service }, "conversionReviewVersions": ["v1", "v1beta1"] },
    });
    definition
}

#[tokio::test]
async fn a_definition_that_asks_for_a_webhook_is_converted_here() {
    const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sandboxes.agents.x-k8s.io";
    let plane = Plane::new().await;
    let shipped = plane.get(CRD).await.ok();
    plane.put(CRD, with_webhook(&shipped)).await.ok();
    // What is served changes a moment later: then it has no scale subresource.
    plane.until(&format!("{ALPHA}/absent/scale"), |answer| !answer.text.contains("sandboxes.agents")).await;
    let mut asleep = stateful();
    asleep["spec"]["replicas"] = 0.into();
    plane.post(ALPHA, asleep).await.ok();
    let newer = plane.get(&format!("{SANDBOXES}/coder")).await.ok();
    assert_eq!((&newer["spec"]["operatingMode"], newer["spec"].get("replicas")), (&json!("Suspended"), None));
    assert_eq!(plane.get(&format!("{ALPHA}/coder")).await.ok()["spec"]["replicas"], 0);
}
