//! Updating and patching.

use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, PODS, POOLS, Plane, SANDBOXES, config_map, pod, sandbox, version};

#[tokio::test]
async fn an_update_replaces_and_respects_the_version() {
    let plane = Plane::new().await;
    let path = format!("{CONFIG_MAPS}/one");
    let made = plane.post(CONFIG_MAPS, config_map("one", json!({ "a": "1" }))).await.ok();
    let mut changed = made.clone();
    changed["data"] = json!({ "b": "2" });
    let second = plane.put(&path, changed.clone()).await.ok();
    assert_eq!(second["data"], json!({ "b": "2" }));
    assert!(version(&second) > version(&made));
    let status = plane.put(&path, changed).await.refused(409, "Conflict");
    let words = "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; please apply your \
                 changes to the latest version and try again";
    assert_eq!(status["message"], words);
    // Without a version it replaces what is there; the uid must fit if it is given.
    let third = plane.put(&path, config_map("one", json!({}))).await.ok();
    assert_eq!(third["metadata"]["uid"], made["metadata"]["uid"]);
    let mut other = config_map("one", json!({}));
    other["metadata"]["uid"] = "another".into();
    let status = plane.put(&path, other).await.refused(409, "Conflict");
    assert!(status["message"].as_str().expect("a message").contains("UID in precondition: another"));
    plane.put(&format!("{CONFIG_MAPS}/gone"), config_map("gone", json!({}))).await.refused(404, "NotFound");
    // A custom kind wants a version.
    plane.post(SANDBOXES, sandbox("s")).await.ok();
    let status = plane.put(&format!("{SANDBOXES}/s"), sandbox("s")).await.refused(422, "Invalid");
    let words = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    assert!(status["message"].as_str().expect("a message").contains(words), "{status}");
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_nothing() {
    let plane = Plane::new().await;
    let path = format!("{CONFIG_MAPS}/one");
    let made = plane.post(CONFIG_MAPS, config_map("one", json!({ "a": "1" }))).await.ok();
    plane.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(plane.put(&path, made.clone()).await.ok(), made);
    assert_eq!(plane.merge(&path, json!({ "data": { "a": "1" } })).await.ok(), made);
    assert_eq!(plane.store.current_revision(), version(&made));
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let plane = Plane::new().await;
    let path = format!("{SANDBOXES}/one");
    let mut made = plane.post(SANDBOXES, sandbox("one")).await.ok();
    made["status"] = json!({ "nodeName": "n" });
    made["spec"]["operatingMode"] = "Suspended".into();
    made["metadata"]["labels"] = json!({ "a": "1" });
    let changed = plane.put(&path, made.clone()).await.ok();
    assert_eq!((&changed["status"], &changed["spec"]["operatingMode"]), (&Value::Null, &json!("Suspended")));
    assert_eq!(changed["metadata"]["generation"], 2);
    made["metadata"]["resourceVersion"] = changed["metadata"]["resourceVersion"].clone();
    made["metadata"]["labels"] = json!({ "a": "2" });
    made["spec"]["operatingMode"] = "Running".into();
    let reported = plane.put(&format!("{path}/status"), made).await.ok();
    assert_eq!(
        (&reported["status"]["nodeName"], &reported["spec"]["operatingMode"]),
        (&json!("n"), &json!("Suspended"))
    );
    assert_eq!((&reported["metadata"]["labels"]["a"], &reported["metadata"]["generation"]), (&json!("1"), &json!(2)));
    let patched = plane
        .merge(
            &format!("{path}/status"),
            json!({ "status": { "service": "s" }, "spec": { "operatingMode": "Running" } }),
        )
        .await
        .ok();
    assert_eq!((&patched["status"]["service"], &patched["spec"]["operatingMode"]), (&json!("s"), &json!("Suspended")));
    assert_eq!(plane.get(&format!("{path}/status")).await.ok(), patched);
    plane.get("/api/v1/namespaces/default/configmaps/x/status").await.refused(404, "NotFound");
}

#[tokio::test]
async fn what_may_not_change_is_refused_with_its_cause() {
    let plane = Plane::new().await;
    let path = format!("{SANDBOXES}/one");
    plane.post(SANDBOXES, sandbox("one")).await.ok();
    let claim = json!([{ "metadata": { "name": "d" }, "spec": { "accessModes": ["ReadWriteOnce"] } }]);
    let status = plane.merge(&path, json!({ "spec": { "volumeClaimTemplates": claim } })).await.refused(422, "Invalid");
    assert!(status["message"].as_str().expect("a message").contains("volumeClaimTemplates is immutable"), "{status}");
    assert_eq!(status["details"]["kind"], "Sandbox");
    let status = plane.merge(&path, json!({ "spec": { "operatingMode": "Flying" } })).await.refused(422, "Invalid");
    assert_eq!(status["details"]["causes"][0]["field"], "spec.operatingMode");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueNotSupported");
}

#[tokio::test]
async fn every_patch_has_its_way() {
    let plane = Plane::new().await;
    let path = format!("{CONFIG_MAPS}/one");
    plane.post(CONFIG_MAPS, config_map("one", json!({ "a": "1", "b": "2" }))).await.ok();
    let merged = plane.merge(&path, json!({ "data": { "a": null, "c": "3" } })).await.ok();
    assert_eq!(merged["data"], json!({ "b": "2", "c": "3" }));
    let operations = json!([
        { "op": "test", "path": "/data/b", "value": "2" },
        { "op": "replace", "path": "/data/b", "value": "4" },
        { "op": "add", "path": "/metadata/labels", "value": { "x": "y" } },
    ]);
    let patched = plane.patch(&path, "json", operations).await.ok();
    assert_eq!((&patched["data"]["b"], &patched["metadata"]["labels"]["x"]), (&json!("4"), &json!("y")));
    let failing = json!([{ "op": "test", "path": "/data/b", "value": "9" }]);
    assert_eq!(plane.patch(&path, "json", failing).await.code, 422);
    let strategic = plane.patch(&path, "strategic", json!({ "data": { "d": "5" } })).await.ok();
    assert_eq!(strategic["data"]["d"], "5");
    plane.merge(&format!("{CONFIG_MAPS}/gone"), json!({})).await.refused(404, "NotFound");
    plane.patch(&path, "json", json!({})).await.refused(400, "BadRequest");
    plane.merge(&path, json!({ "metadata": { "name": "other" } })).await.refused(400, "BadRequest");
    plane.merge(&path, json!({ "metadata": { "resourceVersion": "1" } })).await.refused(409, "Conflict");
    let plain = plane.request("PATCH", &path, &[("content-type", "application/json")], "{}").await;
    plain.refused(415, "UnsupportedMediaType");
    plane.post(SANDBOXES, sandbox("s")).await.ok();
    plane.patch(&format!("{SANDBOXES}/s"), "strategic", json!({})).await.refused(415, "UnsupportedMediaType");
    plane.merge(&format!("{path}?force=true"), json!({})).await.refused(422, "Invalid");
}

#[tokio::test]
async fn lists_merge_by_their_keys_in_a_strategic_patch() {
    let plane = Plane::new().await;
    plane.post(PODS, pod("p")).await.ok();
    let patch = json!({ "spec": { "containers": [{ "name": "main", "image": "atoll.local/host:2" }] } });
    let patched = plane.patch(&format!("{PODS}/p"), "strategic", patch).await.ok();
    let containers = patched["spec"]["containers"].as_array().expect("a list");
    assert_eq!((containers.len(), &containers[0]["command"]), (1, &json!(["true"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_at_the_same_time_all_count() {
    const PATCHES: usize = 24;
    let plane = std::sync::Arc::new(Plane::new().await);
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let tasks: Vec<_> = (0..PATCHES)
        .map(|number| {
            let plane = std::sync::Arc::clone(&plane);
            plane.group.clone().spawn("patch", async move {
                let mut answer =
                    plane.merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { format!("k{number}"): "x" } })).await;
                while answer.code == 409 {
                    answer = plane
                        .merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { format!("k{number}"): "x" } }))
                        .await;
                }
                answer.ok();
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
    let data = plane.get(&format!("{CONFIG_MAPS}/one")).await.ok()["data"].clone();
    assert_eq!(data.as_object().expect("data").len(), PATCHES);
}

#[tokio::test]
async fn apply_makes_changes_and_takes_away() {
    let plane = Plane::new().await;
    let path = |manager: &str| format!("{CONFIG_MAPS}/one?fieldManager={manager}");
    let made = plane.patch(&path("a"), "apply", config_map("one", json!({ "x": "1", "y": "1" }))).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.ok()["metadata"]["managedFields"][0]["manager"], "a");
    let again = plane.patch(&path("a"), "apply", config_map("one", json!({ "x": "1" }))).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.ok()["data"], json!({ "x": "1" }), "what is applied no more goes");
    let status =
        plane.patch(&path("b"), "apply", config_map("one", json!({ "x": "2" }))).await.refused(409, "Conflict");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(status["details"]["causes"][0]["field"], ".data.x");
    let forced =
        plane.patch(&format!("{}&force=true", path("b")), "apply", config_map("one", json!({ "x": "2" }))).await.ok();
    assert_eq!(forced["data"]["x"], "2");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {z: \"3\"}\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    assert_eq!(plane.request("PATCH", &path("c"), &headers, yaml).await.ok()["data"], json!({ "x": "2", "z": "3" }));
    let status =
        plane.patch(&format!("{CONFIG_MAPS}/one"), "apply", config_map("one", json!({}))).await.refused(422, "Invalid");
    assert!(
        status["message"]
            .as_str()
            .expect("a message")
            .contains("fieldManager: Required value: is required for apply patch")
    );
}

#[tokio::test]
async fn scale_is_a_view_of_the_object() {
    let plane = Plane::new().await;
    let pool = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "metadata": { "name": "p" },
        "spec": { "replicas": 2, "sandboxTemplateRef": { "name": "t" } },
    });
    let made = plane.post(POOLS, pool).await.ok();
    plane.merge(&format!("{POOLS}/p/status"), json!({ "status": { "replicas": 1, "selector": "a=b" } })).await.ok();
    let path = format!("{POOLS}/p/scale");
    let mut scale = plane.get(&path).await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 2 }), &json!({ "replicas": 1, "selector": "a=b" }))
    );
    assert_eq!(scale["metadata"]["uid"], made["metadata"]["uid"]);
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(plane.put(&path, scale.clone()).await.ok()["spec"]["replicas"], 5);
    assert_eq!(plane.merge(&path, json!({ "spec": { "replicas": 7 } })).await.ok()["spec"]["replicas"], 7);
    let object = plane.get(&format!("{POOLS}/p")).await.ok();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(7), &json!(3)));
    plane.put(&path, scale).await.refused(409, "Conflict");
    plane.merge(&path, json!({ "spec": { "replicas": -1 } })).await.refused(422, "Invalid");
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let plane = Plane::new().await;
    plane.post(PODS, pod("p")).await.ok();
    let binding = |node: &str| json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } });
    let path = format!("{PODS}/p/binding");
    plane.post(&path, binding("")).await.refused(422, "Invalid");
    assert_eq!(plane.post(&path, binding("one")).await.code, 201);
    let bound = plane.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "one");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let status = plane.post(&path, binding("two")).await.refused(409, "Conflict");
    assert!(status["message"].as_str().expect("a message").contains("pod p is already assigned to node \"one\""));
    plane.post(&format!("{PODS}/gone/binding"), binding("one")).await;
    let selected = plane.get("/api/v1/pods?fieldSelector=spec.nodeName%3Done").await.ok();
    assert_eq!(selected["items"].as_array().expect("a list").len(), 1);
}
