//! The plane ends and comes back while sandboxes run on.

use atoll_sandbox::ExitReason;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::plane::{Plane, eventually, is_ready, runtime};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_sandbox_is_taken_over_untouched() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let node = plane.node(&runtime).await;
    let uid = plane.pod("p", |_| ()).await;
    let before = plane.pod_when("p", is_ready).await;
    node.stop().await;

    let node = plane.node(&runtime).await;
    assert_eq!(node.node.locate_guest(&uid).map(|guest| guest.address.to_string()).as_deref(), Some("10.201.0.2"));
    let after = plane.pod_when("p", is_ready).await;
    assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "nothing was written");
    assert_eq!(runtime.created().len(), 1);
    assert!(runtime.destroyed().is_empty());
    plane.pod("q", |_| ()).await;
    assert_eq!(
        plane.pod_when("q", is_ready).await["status"]["podIP"],
        "10.201.0.3",
        "its address is known to be taken"
    );
    runtime.exit(&uid, 1, ExitReason::Error);
    plane.pod_when("p", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_meanwhile_is_made_good() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let node = plane.node(&runtime).await;
    let ended = plane.pod("ended", |_| ()).await;
    let lost = plane.pod("lost", |_| ()).await;
    let deleted = plane.pod("deleted", |_| ()).await;
    let deleting = plane.pod("deleting", |_| ()).await;
    let finished = plane.pod("finished", |pod| pod["spec"]["restartPolicy"] = json!("Never")).await;
    for name in ["ended", "lost", "deleted", "deleting", "finished"] {
        plane.pod_when(name, is_ready).await;
    }
    node.stop().await;
    runtime.exit(&ended, 9, ExitReason::Error);
    runtime.lose(&lost);
    runtime.lose(&finished);
    let pods = plane.api::<k8s_openapi::api::core::v1::Pod>();
    pods.delete("deleted", &DeleteParams::default().grace_period(0)).await.unwrap();
    plane.delete_pod("deleting").await;
    plane.pod("new", |_| ()).await;

    let _node = plane.node(&runtime).await;
    let lost_address = plane.pod_when("lost", |pod| !pod.is_null()).await["status"]["podIP"].clone();
    for (name, code) in [("ended", 9), ("lost", 137)] {
        let pod = plane
            .pod_when(name, |pod| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1)
            .await;
        assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], code);
    }
    assert_eq!(plane.pod_when("lost", is_ready).await["status"]["podIP"], lost_address);
    let pod = plane.pod_when("finished", |pod| pod["status"]["phase"] == "Failed").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["reason"], "ContainerStatusUnknown");
    plane.pod_when("deleting", Value::is_null).await;
    plane.pod_when("new", is_ready).await;
    eventually("the orphans' removal", || {
        let present = runtime.present();
        !present.contains_key(&deleted) && !present.contains_key(&deleting)
    })
    .await;
    assert_eq!(runtime.present().len(), 3, "ended, lost and new");
}
