//! kube-rs, in process.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::json;

use super::support::{Plane, config_map, sandbox};

fn sandboxes(plane: &Plane) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("agents.x-k8s.io", "v1beta1", "Sandbox");
    let resource = ApiResource::from_gvk_with_plural(&kind, "sandboxes");
    Api::namespaced_with(plane.client(), "default", &resource)
}

fn typed(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(config_map(name, json!({ "a": value }))).expect("it is one")
}

#[tokio::test]
async fn typed_objects_go_round() {
    let plane = Plane::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    let made = maps.create(&PostParams::default(), &typed("one", "1")).await.expect("it is made");
    assert!(made.metadata.uid.is_some());
    let listed = maps.list(&ListParams::default().labels("!x")).await.expect("it is listed");
    assert_eq!(listed.items.len(), 1);
    let patch = Patch::Merge(json!({ "data": { "b": "2" } }));
    maps.patch("one", &PatchParams::default(), &patch).await.expect("it is patched");
    let mut current = maps.get("one").await.expect("it is there");
    current.data.get_or_insert_default().insert("c".to_owned(), "3".to_owned());
    let replaced = maps.replace("one", &PostParams::default(), &current).await.expect("it is replaced");
    assert_eq!(replaced.data.expect("data").len(), 3);
    let stale = maps.replace("one", &PostParams::default(), &made).await.expect_err("it has changed");
    let kube::Error::Api(status) = stale else { panic!("{stale}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    maps.delete("one", &DeleteParams::default()).await.expect("it is deleted");
    assert!(maps.get_opt("one").await.expect("it answers").is_none());
}

#[tokio::test]
async fn apply_and_status_work_as_kube_rs_does_them() {
    let plane = Plane::new().await;
    let api = sandboxes(&plane);
    let apply = PatchParams::apply("tester").force();
    let made = api.patch("one", &apply, &Patch::Apply(sandbox("one"))).await.expect("it is made");
    assert_eq!(made.metadata.generation, Some(1));
    let status = Patch::Merge(json!({ "status": { "nodeName": "n" } }));
    let reported = api.patch_status("one", &PatchParams::default(), &status).await.expect("it is patched");
    assert_eq!(reported.data["status"]["nodeName"], "n");
    let applied = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "status": { "service": "s" },
    });
    let applied = api.patch_status("one", &PatchParams::apply("reporter"), &Patch::Apply(applied)).await;
    assert_eq!(applied.expect("it is applied").data["status"]["service"], "s");
}

#[tokio::test]
async fn a_watch_is_a_stream_of_changes() {
    let plane = Plane::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    let made = maps.create(&PostParams::default(), &typed("one", "1")).await.expect("it is made");
    let version = made.metadata.resource_version.expect("a version");
    let watch = maps.watch(&WatchParams::default().timeout(10), &version).await.expect("it begins");
    let mut watch = watch.boxed();
    maps.create(&PostParams::default(), &typed("two", "1")).await.expect("it is made");
    maps.delete("one", &DeleteParams::default()).await.expect("it is deleted");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(match watch.try_next().await.expect("it goes on").expect("it goes on") {
            WatchEvent::Added(object) => format!("+{}", object.metadata.name.expect("a name")),
            WatchEvent::Deleted(object) => format!("-{}", object.metadata.name.expect("a name")),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["+two", "-one"]);
}

#[tokio::test]
async fn a_reflector_follows_both_kinds_of_list() {
    let plane = Plane::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    for number in 0..5 {
        maps.create(&PostParams::default(), &typed(&format!("c{number}"), "1")).await.expect("it is made");
    }
    for config in [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = reflector(writer, watcher(maps.clone(), config)).applied_objects().boxed();
        let following = plane.group.spawn("reflector", stream.for_each(|_| std::future::ready(())));
        reader.wait_until_ready().await.expect("it is filled");
        assert_eq!(reader.len(), 5);
        maps.create(&PostParams::default(), &typed("later", "1")).await.expect("it is made");
        while reader.len() < 6 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        maps.delete("later", &DeleteParams::default()).await.expect("it is deleted");
        while reader.len() > 5 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        following.abort();
    }
}

#[tokio::test]
async fn discovery_finds_the_sandbox_kinds() {
    let plane = Plane::new().await;
    let client = plane.client();
    let kind = GroupVersionKind::gvk("extensions.agents.x-k8s.io", "v1beta1", "SandboxClaim");
    let (resource, capabilities) = kube::discovery::pinned_kind(&client, &kind).await.expect("it is served");
    assert_eq!(resource.plural, "sandboxclaims");
    assert!(capabilities.supports_operation("watch"));
    let all = kube::Discovery::new(client.clone()).run().await.expect("it answers");
    assert!(all.has_group("agents.x-k8s.io"));
    let all = kube::Discovery::new(client).run_aggregated().await.expect("it answers");
    assert!(all.has_group("agents.x-k8s.io"));
}

#[tokio::test]
async fn a_pod_can_be_deserialised() {
    let plane = Plane::new().await;
    let pods: Api<Pod> = Api::namespaced(plane.client(), "default");
    let body: Pod = serde_json::from_value(super::support::pod("p")).expect("it is one");
    let made = pods.create(&PostParams::default(), &body).await.expect("it is made");
    assert_eq!(made.status.expect("a status").phase.as_deref(), Some("Pending"));
}
