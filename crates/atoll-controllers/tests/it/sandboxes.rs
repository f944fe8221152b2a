//! Bare Sandboxes.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::it::node::STUCK;
use crate::it::plane::{Plane, text_of, texts_of};

const READY: &str = "True DependenciesReady: Pod is Ready";
const READY_WITH_SERVICE: &str = "True DependenciesReady: Pod is Ready; Service Exists";
const NOT_SUSPENDED: &str = "False NotSuspended: Sandbox is not suspended";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_sandbox_has_pod_service_and_status() {
    let plane = Plane::start().await;
    plane.sandbox("simple", json!({"spec": {"service": true}})).await;
    let sandbox = plane.sandbox_until("simple", READY_WITH_SERVICE).await;
    let pod: Pod = plane.get("simple").await.expect("the pod has the sandbox's name");
    let service: Service = plane.get("simple").await.expect("so has the service");

    let hash = atoll_stdx::name_hash("simple");
    let status = sandbox.status.expect("it is ready");
    let pod_status = pod.status.as_ref().expect("it runs");
    let pod_ips: Vec<String> = pod_status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    assert_eq!(
        texts_of(&status.conditions),
        [
            "PodScheduled True PodScheduled: ",
            &format!("Ready {READY_WITH_SERVICE}"),
            &format!("Suspended {NOT_SUSPENDED}"),
        ]
    );
    assert_eq!(status.service.as_deref(), Some("simple"));
    assert_eq!(status.service_fqdn.as_deref(), Some("simple.default.svc.cluster.local"));
    assert_eq!(status.selector, Some(format!("agents.x-k8s.io/sandbox-name-hash={hash}")));
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    assert_eq!((status.pod_ips, status.node_name.as_deref()), (pod_ips, node));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));

    let uid = sandbox.metadata.uid.as_deref().expect("it has one");
    for metadata in [&pod.metadata, &service.metadata] {
        let owner = &metadata.owner_references.as_deref().expect("it is owned")[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()), ("Sandbox", "simple", uid));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
        assert_eq!(
            metadata.labels.as_ref().and_then(|labels| labels.get("agents.x-k8s.io/sandbox-name-hash")),
            Some(&hash)
        );
    }
    assert_eq!(service.spec.and_then(|spec| spec.cluster_ip).as_deref(), Some("None"));

    plane.delete::<atoll_api::Sandbox>("simple").await;
    plane.until_gone::<Pod>("simple").await;
    plane.until_gone::<Service>("simple").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_sleeps_and_wakes_twice() {
    let plane = Plane::start().await;
    plane.sandbox("sleeper", json!({"spec": {"service": true}})).await;
    plane.sandbox_until("sleeper", READY_WITH_SERVICE).await;
    for cycle in 0..2 {
        let before = plane.pod_uid("sleeper").await;
        plane.merge::<atoll_api::Sandbox>("sleeper", json!({"spec": {"operatingMode": "Suspended"}})).await;
        let asleep = plane.sandbox_until("sleeper", "False SandboxSuspended: Sandbox is suspended").await;
        let status = asleep.status.expect("it is told");
        assert_eq!(asleep.metadata.generation, Some(2 + 2 * cycle));
        assert_eq!(
            text_of(&status.conditions, "Suspended"),
            "True PodTerminated: Pod has been terminated. Sandbox is suspended"
        );
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == asleep.metadata.generation));
        assert_eq!((status.pod_ips, status.node_name, status.service.as_deref()), (Vec::new(), None, Some("sleeper")));
        assert!(plane.get::<Pod>("sleeper").await.is_none());
        assert!(plane.get::<Service>("sleeper").await.is_some(), "the service survives");

        plane.merge::<atoll_api::Sandbox>("sleeper", json!({"spec": {"operatingMode": "Running"}})).await;
        let awake = plane.sandbox_until("sleeper", READY_WITH_SERVICE).await;
        assert_eq!(text_of(&awake.status.expect("it is told").conditions, "Suspended"), NOT_SUSPENDED);
        let after = plane.pod_uid("sleeper").await;
        assert!(after.is_some() && after != before, "it is another pod");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_takes_its_time_to_go_is_waited_for() {
    let plane = Plane::start().await;
    plane.sandbox("slow", json!({})).await;
    plane.sandbox_until("slow", READY).await;
    plane.merge::<Pod>("slow", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    plane.merge::<atoll_api::Sandbox>("slow", json!({"spec": {"operatingMode": "Suspended"}})).await;
    let going = plane.sandbox_until("slow", "False SandboxSuspended: Sandbox is suspending").await;
    assert_eq!(
        text_of(&going.status.expect("it is told").conditions, "Suspended"),
        "False PodTerminating: Pod is terminating. Sandbox is suspending"
    );
    plane.merge::<Pod>("slow", json!({"metadata": {"finalizers": null}})).await;
    plane.sandbox_until("slow", "False SandboxSuspended: Sandbox is suspended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_is_made_again() {
    let plane = Plane::start().await;
    plane.sandbox("phoenix", json!({})).await;
    plane.sandbox_until("phoenix", READY).await;
    let before = plane.pod_uid("phoenix").await;
    plane.delete::<Pod>("phoenix").await;
    plane.until("phoenix", "another pod", |pod: &Pod| pod.uid() != before).await;
    let sandbox = plane.sandbox_until("phoenix", READY).await;
    assert_eq!(text_of(&sandbox.status.expect("it is told").conditions, "Suspended"), NOT_SUSPENDED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_pod_of_the_same_name_is_left_alone() {
    let plane = Plane::start().await;
    let spec = json!({"containers": [{"name": "main", "image": "atoll.local/host"}]});
    let foreign: Pod = plane.create_json(json!({"metadata": {"name": "taken"}, "spec": spec})).await;
    plane.sandbox("taken", json!({"spec": {"operatingMode": "Suspended"}})).await;
    let sandbox = plane.sandbox_until("taken", "False SandboxSuspended: Sandbox is suspending").await;
    assert_eq!(
        text_of(&sandbox.status.expect("it is told").conditions, "Suspended"),
        "False PodNotOwned: Refused to delete pod because it is not owned by this sandbox"
    );
    plane.merge::<atoll_api::Sandbox>("taken", json!({"spec": {"operatingMode": "Running"}})).await;
    plane
        .sandbox_until(
            "taken",
            "False ReconcilerError: Error seen: cannot adopt unowned pod \"taken\": missing required pool authorization \
             label (\"agents.x-k8s.io/adoptable\") or sandbox tracking label (\"agents.x-k8s.io/sandbox-name-hash\")",
        )
        .await;
    assert_eq!(plane.pod_uid("taken").await, foreign.uid());
    plane.delete::<Pod>("taken").await;
    plane.sandbox_until("taken", READY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_sandboxes_start_at_once() {
    let plane = Plane::start().await;
    for number in 0..20 {
        plane.sandbox(&format!("many-{number}"), json!({})).await;
    }
    for number in 0..20 {
        plane.sandbox_until(&format!("many-{number}"), READY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_belong_to_the_sandbox_and_can_not_be_changed() {
    let plane = Plane::start().await;
    let volume = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let sandbox = plane.sandbox("keeper", json!({"spec": {"volumeClaimTemplates": [volume]}})).await;
    plane.sandbox_until("keeper", READY).await;
    let claim: PersistentVolumeClaim = plane.get("data-keeper").await.expect("it is made");
    assert_eq!(claim.owner_references()[0].uid, sandbox.uid().expect("it has one"));
    let pod: Pod = plane.get("keeper").await.expect("it runs");
    let volumes = pod.spec.and_then(|spec| spec.volumes).expect("there is one");
    let source = volumes[0].persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str());
    assert_eq!((volumes[0].name.as_str(), source), ("data", Some("data-keeper")));

    let api: Api<atoll_api::Sandbox> = plane.api();
    for change in [Value::Null, json!([]), json!([{"metadata": {"name": "other"}, "spec": {}}])] {
        let patch = Patch::Merge(json!({"spec": {"volumeClaimTemplates": change}}));
        let error = api.patch("keeper", &PatchParams::default(), &patch).await.expect_err("it is refused");
        assert!(error.to_string().contains("volumeClaimTemplates is immutable"), "{change}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_metadata_follows_the_template_while_it_runs() {
    let plane = Plane::start().await;
    plane.sandbox("labelled", json!({"spec": {"podTemplate": {"metadata": {"labels": {"a": "1", "b": "2"}}}}})).await;
    plane.sandbox_until("labelled", READY).await;
    let before = plane.pod_uid("labelled").await;
    let patch = json!({"spec": {"podTemplate": {
        "metadata": {"labels": {"a": null, "b": "3"}, "annotations": {"c": "4"}},
        "spec": {"hostname": "ignored"},
    }}});
    plane.merge::<atoll_api::Sandbox>("labelled", patch).await;
    let pod = plane
        .until("labelled", "relabelled", |pod: &Pod| {
            let label = |key: &str| pod.labels().get(key).map(String::as_str);
            (label("a"), label("b"), pod.annotations().get("c").map(String::as_str)) == (None, Some("3"), Some("4"))
        })
        .await;
    assert_eq!(pod.uid(), before, "the spec takes effect at the next pod");
    assert_eq!(pod.spec.and_then(|spec| spec.hostname), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_comes_and_goes_as_asked() {
    let plane = Plane::start().await;
    plane.sandbox("serving", json!({})).await;
    plane.sandbox_until("serving", READY).await;
    assert!(plane.get::<Service>("serving").await.is_none());
    plane.merge::<atoll_api::Sandbox>("serving", json!({"spec": {"service": true}})).await;
    plane.sandbox_until("serving", READY_WITH_SERVICE).await;
    plane.merge::<atoll_api::Sandbox>("serving", json!({"spec": {"service": null}})).await;
    plane.sandbox_until("serving", READY_WITH_SERVICE).await;
    plane.merge::<atoll_api::Sandbox>("serving", json!({"spec": {"service": false}})).await;
    let sandbox = plane.sandbox_until("serving", READY).await;
    assert!(plane.get::<Service>("serving").await.is_none());
    assert_eq!(sandbox.status.and_then(|status| status.service), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_start_is_told_of() {
    let plane = Plane::start().await;
    let container = json!({"name": "main", "image": "example.invalid/absent"});
    let template = json!({"metadata": {"annotations": {STUCK: "yes"}}, "spec": {"containers": [container]}});
    plane.sandbox("stuck", json!({"spec": {"podTemplate": template}})).await;
    let sandbox = plane.sandbox_until("stuck", "False DependenciesNotReady: Pod exists with phase: Pending").await;
    assert_eq!(text_of(&sandbox.status.expect("it is told").conditions, "PodScheduled"), "True PodScheduled: ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_told_for_good() {
    let plane = Plane::start().await;
    let name = "n".repeat(70);
    plane.sandbox(&name, json!({"spec": {"service": true}})).await;
    let sandbox = plane
        .until(&name, "refused", |sandbox: &atoll_api::Sandbox| {
            let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            text_of(conditions, "Ready").starts_with("False InvalidConfiguration: failed to create service")
        })
        .await;
    assert_eq!(sandbox.name_any(), name);
}
