//! Directories of Pods and of claims.

use atoll_node::PodRuntime;
use atoll_sandbox::{ExitReason, MountKind};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::plane::{Plane, is_ready, runtime, waiting_reason};

fn claim(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_bound_at_its_first_use_and_outlives_its_pods() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    let with_claim = |pod: &mut Value| {
        pod["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    };
    plane.pod("p", with_claim).await;
    plane.pod_when("p", |pod| waiting_reason(pod) == "CreateContainerConfigError").await;
    let uid = plane.create::<PersistentVolumeClaim>(claim("data")).await.metadata.uid.unwrap();
    plane.pod_when("p", is_ready).await;
    let claims = plane.api::<PersistentVolumeClaim>();
    let status = claims.get("data").await.unwrap().status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    assert_eq!(status.capacity.unwrap()["storage"].0, "1Gi");
    let mount = &runtime.created()[0].mounts[0];
    assert_eq!(mount.target, "/data");
    assert_eq!(mount.kind, MountKind::Directory { host_path: format!("/simulated/pvc-{uid}").into() });

    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    assert_eq!(runtime.list_volumes().await.unwrap(), [format!("pvc-{uid}")]);
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    for _ in 0..2000 {
        if runtime.list_volumes().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the claim's directory was not removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_dir_survives_a_restart_and_goes_with_its_pod() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    let uid = plane
        .pod("p", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
        })
        .await;
    plane.pod_when("p", is_ready).await;
    let volume = format!("pod-{uid}.scratch");
    assert_eq!(runtime.list_volumes().await.unwrap(), std::slice::from_ref(&volume));
    runtime.exit(&uid, 1, ExitReason::Error);
    plane.pod_when("p", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(runtime.list_volumes().await.unwrap(), [volume]);
    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    assert!(runtime.list_volumes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_belong_to_nobody_are_collected_at_the_start() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let claim = plane.create::<PersistentVolumeClaim>(claim("kept")).await.metadata.uid.unwrap();
    for name in [format!("pvc-{claim}"), "pvc-gone".to_owned(), "pod-gone.scratch".to_owned()] {
        runtime.make_volume(&name).await.unwrap();
    }
    let _node = plane.node(&runtime).await;
    for _ in 0..2000 {
        if runtime.list_volumes().await.unwrap() == [format!("pvc-{claim}")] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{:?}", runtime.list_volumes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_variables_come_from_config_maps_and_secrets() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    plane.create::<ConfigMap>(json!({"metadata": {"name": "cm"}, "data": {"a.txt": "A"}})).await;
    plane.create::<Secret>(json!({"metadata": {"name": "s"}, "stringData": {"token": "s3cret"}})).await;
    plane
        .pod("p", |pod| {
            pod["spec"]["volumes"] = json!([
                {"name": "config", "configMap": {"name": "cm"}},
                {"name": "secret", "secret": {"secretName": "s"}},
            ]);
            let container = &mut pod["spec"]["containers"][0];
            container["volumeMounts"] =
                json!([{"name": "config", "mountPath": "/config"}, {"name": "secret", "mountPath": "/secret"}]);
            container["command"] = json!(["echo", "$(TOKEN)", "$(POD_IP)"]);
            container["env"] = json!([
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ]);
        })
        .await;
    plane.pod_when("p", is_ready).await;
    let spec = runtime.created().remove(0);
    assert_eq!(spec.workload.unwrap().argv, ["echo", "s3cret", "10.201.0.2"]);
    let names: Vec<Vec<String>> = spec
        .mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Files { files, .. } => files.keys().cloned().collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [["a.txt"], ["token"]]);
}
