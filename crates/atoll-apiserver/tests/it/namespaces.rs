//! Namespaces: the first ones, and the end of others.

use serde_json::{Value, json};

use super::support::{PODS, Plane, config_map, names, pod};

const NAMESPACES: &str = "/api/v1/namespaces";

async fn make(plane: &Plane, name: &str) -> Value {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    plane.post(NAMESPACES, namespace).await.ok()
}

#[tokio::test]
async fn the_first_namespaces_are_there_and_stay() {
    let plane = Plane::new().await;
    let list = plane.get(NAMESPACES).await.ok();
    assert_eq!(names(&list), ["default", "kube-node-lease", "kube-public", "kube-system"]);
    assert_eq!(list["items"][0]["metadata"]["labels"]["kubernetes.io/metadata.name"], "default");
    assert_eq!(list["items"][0]["status"]["phase"], "Active");
    let status = plane.delete(&format!("{NAMESPACES}/default"), json!(null)).await.refused(403, "Forbidden");
    assert_eq!(status["message"], "namespaces \"default\" is forbidden: this namespace may not be deleted");
    let plane = plane.restart().await;
    assert_eq!(plane.get(NAMESPACES).await.ok()["items"], list["items"], "made once");
}

#[tokio::test]
async fn an_empty_namespace_goes() {
    let plane = Plane::new().await;
    make(&plane, "short").await;
    let marked = plane.delete(&format!("{NAMESPACES}/short"), json!(null)).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    plane.until_gone(&format!("{NAMESPACES}/short")).await;
}

#[tokio::test]
async fn a_namespace_goes_after_all_that_is_in_it() {
    let plane = Plane::new().await;
    make(&plane, "team").await;
    let maps = "/api/v1/namespaces/team/configmaps";
    for number in 0..20 {
        plane.post(maps, config_map(&format!("c{number}"), json!({}))).await.ok();
    }
    let mut held = config_map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    plane.post(maps, held).await.ok();
    let pods = "/api/v1/namespaces/team/pods";
    plane.post(pods, pod("p")).await.ok();
    plane.post(&format!("{pods}/p/binding"), json!({ "target": { "kind": "Node", "name": "one" } })).await.ok();
    plane.post(PODS, pod("elsewhere")).await.ok();
    plane.delete(&format!("{NAMESPACES}/team"), json!(null)).await.ok();
    plane.until(maps, |answer| names(&answer.json()) == ["held"]).await;
    let status = plane.post(maps, config_map("late", json!({}))).await.refused(403, "Forbidden");
    let words = "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being terminated";
    assert_eq!(status["message"], words);
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    plane.merge(&format!("{maps}/held"), json!({ "metadata": { "finalizers": null } })).await.ok();
    // The pod ends in its own time: its node says when.
    plane.until(&format!("{pods}/p"), |answer| answer.text.contains("deletionTimestamp")).await;
    plane.get(&format!("{NAMESPACES}/team")).await.ok();
    plane.delete(&format!("{pods}/p"), json!({ "gracePeriodSeconds": 0 })).await.ok();
    plane.until_gone(&format!("{NAMESPACES}/team")).await;
    plane.get(&format!("{PODS}/elsewhere")).await.ok();
    make(&plane, "team").await;
    assert_eq!(plane.get(maps).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_namespace_that_was_going_goes_on_after_a_restart() {
    let plane = Plane::new().await;
    make(&plane, "team").await;
    let maps = "/api/v1/namespaces/team/configmaps";
    plane.post(maps, config_map("c", json!({}))).await.ok();
    plane.group.cancel();
    tokio::task::yield_now().await;
    plane.delete(&format!("{NAMESPACES}/team"), json!(null)).await.ok();
    let plane = plane.restart().await;
    plane.until_gone(&format!("{NAMESPACES}/team")).await;
}
