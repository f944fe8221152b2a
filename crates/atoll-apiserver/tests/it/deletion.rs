//! Deleting: preconditions, finalizers, grace.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, PODS, Plane, SANDBOXES, config_map, names, pod, sandbox};

#[tokio::test]
async fn a_deletion_says_what_it_deleted() {
    let plane = Plane::new().await;
    let made = plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let status = plane.delete(&format!("{CONFIG_MAPS}/one"), json!(null)).await.ok();
    let expected = json!({ "name": "one", "kind": "configmaps", "uid": made["metadata"]["uid"] });
    assert_eq!((&status["status"], &status["details"]), (&json!("Success"), &expected));
    plane.delete(&format!("{CONFIG_MAPS}/one"), json!(null)).await.refused(404, "NotFound");
    plane.post(SANDBOXES, sandbox("s")).await.ok();
    let status = plane.delete(&format!("{SANDBOXES}/s"), json!(null)).await.ok();
    assert_eq!(status["details"]["group"], "agents.x-k8s.io");
}

#[tokio::test]
async fn preconditions_must_hold() {
    let plane = Plane::new().await;
    let path = format!("{SANDBOXES}/s");
    let made = plane.post(SANDBOXES, sandbox("s")).await.ok();
    let status = plane.delete(&path, json!({ "preconditions": { "uid": "another" } })).await.refused(409, "Conflict");
    let uid = made["metadata"]["uid"].as_str().expect("a uid");
    let words = format!(
        "Operation cannot be fulfilled on Sandbox.agents.x-k8s.io \"s\": the UID in the precondition (another) does not \
         match the UID in record ({uid}). The object might have been deleted and then recreated"
    );
    assert_eq!(status["message"], json!(words));
    plane.delete(&path, json!({ "preconditions": { "resourceVersion": "1" } })).await.refused(409, "Conflict");
    plane.delete(&path, json!({ "kind": "DeleteOptions", "preconditions": { "uid": uid } })).await.ok();
    plane.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn malformed_options_are_refused() {
    let plane = Plane::new().await;
    let path = format!("{CONFIG_MAPS}/one");
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    plane.delete(&path, json!({ "propagationPolicy": "Sideways" })).await.refused(422, "Invalid");
    plane
        .delete(&path, json!({ "propagationPolicy": "Orphan", "orphanDependents": true }))
        .await
        .refused(422, "Invalid");
    plane.delete(&path, json!({ "kind": "Pod" })).await.refused(400, "BadRequest");
    plane.delete(&path, json!([])).await.refused(400, "BadRequest");
    plane.get(&path).await.ok();
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let plane = Plane::new().await;
    let path = format!("{CONFIG_MAPS}/one");
    let mut object = config_map("one", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    plane.post(CONFIG_MAPS, object).await.ok();
    let marked = plane.delete(&path, json!(null)).await.ok();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    plane.clock.advance(Duration::from_secs(5));
    assert_eq!(plane.delete(&path, json!(null)).await.ok(), marked, "a second deletion changes nothing");
    let status =
        plane.merge(&path, json!({ "metadata": { "finalizers": ["example.com/a", "example.com/new"] } })).await;
    let status = status.refused(422, "Invalid");
    let words = "no new finalizers can be added if the object is being deleted";
    assert!(status["message"].as_str().expect("a message").contains(words), "{status}");
    plane.merge(&path, json!({ "metadata": { "finalizers": ["example.com/b"] } })).await.ok();
    plane.get(&path).await.ok();
    let last = plane.merge(&path, json!({ "metadata": { "finalizers": null } })).await.ok();
    assert_eq!(last["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    plane.get(&path).await.refused(404, "NotFound");
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
}

async fn running_pod(plane: &Plane, name: &str) -> String {
    plane.post(PODS, pod(name)).await.ok();
    let path = format!("{PODS}/{name}");
    plane.post(&format!("{path}/binding"), json!({ "target": { "kind": "Node", "name": "one" } })).await.ok();
    path
}

#[tokio::test]
async fn a_running_pod_ends_in_its_time() {
    let plane = Plane::new().await;
    let path = running_pod(&plane, "p").await;
    let marked = plane.delete(&path, json!(null)).await.ok();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let status = json!({ "status": { "phase": "Running" } });
    plane.merge(&format!("{path}/status"), status).await.ok();
    let sooner = plane.delete(&path, json!({ "gracePeriodSeconds": 5 })).await.ok();
    assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
    let later = plane.delete(&path, json!({ "gracePeriodSeconds": 60 })).await.ok();
    assert_eq!(later["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z", "never slower");
    plane.get(&path).await.ok();
    let uid = later["metadata"]["uid"].clone();
    // What the node does once it has stopped the pod.
    let gone = plane.delete(&path, json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } })).await.ok();
    assert_eq!(gone["kind"], "Pod", "a deleted pod is answered with the pod");
    plane.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_pod_that_nobody_runs_goes_at_once() {
    let plane = Plane::new().await;
    plane.post(PODS, pod("pending")).await.ok();
    plane.delete(&format!("{PODS}/pending"), json!(null)).await.ok();
    plane.get(&format!("{PODS}/pending")).await.refused(404, "NotFound");
    let path = running_pod(&plane, "over").await;
    plane.merge(&format!("{path}/status"), json!({ "status": { "phase": "Succeeded" } })).await.ok();
    plane.delete(&path, json!(null)).await.ok();
    plane.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_pod_held_by_a_finalizer_outlives_its_node() {
    let plane = Plane::new().await;
    let path = running_pod(&plane, "p").await;
    plane.merge(&path, json!({ "metadata": { "finalizers": ["example.com/a"] } })).await.ok();
    plane.delete(&path, json!(null)).await.ok();
    let over = plane.delete(&path, json!({ "gracePeriodSeconds": 0 })).await.ok();
    assert_eq!(over["metadata"]["deletionGracePeriodSeconds"], 0);
    plane.merge(&path, json!({ "metadata": { "finalizers": [] } })).await.ok();
    plane.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn an_eviction_is_a_deletion() {
    let plane = Plane::new().await;
    let path = running_pod(&plane, "p").await;
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } });
    assert_eq!(plane.post(&format!("{path}/eviction"), eviction).await.code, 201);
    assert_ne!(plane.get(&path).await.ok()["metadata"]["deletionTimestamp"], Value::Null);
}

#[tokio::test]
async fn a_collection_can_be_deleted_by_selector() {
    let plane = Plane::new().await;
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({ "app": app });
        plane.post(CONFIG_MAPS, object).await.ok();
    }
    let deleted = plane.delete(&format!("{CONFIG_MAPS}?labelSelector=app%3Dweb"), json!(null)).await.ok();
    assert_eq!(names(&deleted), ["a", "c"]);
    assert_eq!(names(&plane.get(CONFIG_MAPS).await.ok()), ["b"]);
}
