//! Init containers.

use atoll_sandbox::ExitReason;
use serde_json::{Value, json};

use crate::plane::{Plane, eventually, is_ready, runtime};

fn with_init(pod: &mut Value) {
    pod["spec"]["initContainers"] = json!([
        {"name": "first", "image": "atoll.local/host", "command": ["one"]},
        {"name": "second", "image": "atoll.local/host", "command": ["two"]},
    ]);
}

fn state<'a>(pod: &'a Value, index: usize, kind: &str) -> &'a Value {
    &pod["status"]["initContainerStatuses"][index]["state"][kind]
}

fn initialized(pod: &Value) -> &str {
    let conditions = pod["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Initialized"));
    found.map_or("", |condition| condition["status"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_one_after_the_other_before_the_pods_own() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node_that_announces(&runtime, 20).await;
    let uid = plane.pod("p", with_init).await;
    let pod = plane.pod_when("p", |pod| state(pod, 0, "running").is_object()).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(initialized(&pod), "False");
    assert_eq!(state(&pod, 1, "waiting")["reason"], "PodInitializing");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");

    runtime.exit(&format!("{uid}-init-0"), 0, ExitReason::Completed);
    let pod = plane.pod_when("p", |pod| state(pod, 1, "running").is_object()).await;
    assert_eq!(state(&pod, 0, "terminated")["reason"], "Completed");
    runtime.exit(&format!("{uid}-init-1"), 0, ExitReason::Completed);
    let pod = plane.pod_when("p", is_ready).await;
    assert_eq!(initialized(&pod), "True");
    assert_eq!(runtime.present().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&uid));

    // A second life of the Pod's own container does not need them again.
    runtime.exit(&uid, 1, ExitReason::Error);
    plane.pod_when("p", |pod| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    let started: Vec<String> = runtime.created().into_iter().map(|spec| spec.id).collect();
    assert_eq!(started, [format!("{uid}-init-0"), format!("{uid}-init-1"), uid.clone(), uid]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_that_fails_runs_again_or_fails_its_pod() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node_that_announces(&runtime, 20).await;
    let again = plane.pod("again", with_init).await;
    let never = plane
        .pod("never", |pod| {
            with_init(pod);
            pod["spec"]["restartPolicy"] = json!("Never");
        })
        .await;
    for (name, uid) in [("again", &again), ("never", &never)] {
        plane.pod_when(name, |pod| state(pod, 0, "running").is_object()).await;
        runtime.exit(&format!("{uid}-init-0"), 7, ExitReason::Error);
    }
    let failed = plane.pod_when("never", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(state(&failed, 0, "terminated")["exitCode"], 7);

    let waits = plane.pod_when("again", |pod| state(pod, 0, "waiting")["reason"] == "CrashLoopBackOff").await;
    assert_eq!(waits["status"]["phase"], "Pending");
    let second = plane.pod_when("again", |pod| state(pod, 0, "running").is_object()).await;
    let status = &second["status"]["initContainerStatuses"][0];
    assert_eq!((&status["restartCount"], &status["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_takes_its_init_container_along() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node_that_announces(&runtime, 20).await;
    let uid = plane.pod("p", with_init).await;
    plane.pod_when("p", |pod| state(pod, 0, "running").is_object()).await;
    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    eventually("nothing is left", || runtime.present().is_empty()).await;
    assert!(runtime.destroyed().contains(&(format!("{uid}-init-0"), 1000)), "with the Pod's own grace");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_that_an_earlier_plane_left_is_begun_anew() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let node = plane.node_that_announces(&runtime, 20).await;
    let uid = plane.pod("p", with_init).await;
    plane.pod_when("p", |pod| state(pod, 0, "running").is_object()).await;
    node.stop().await;
    let _node = plane.node_that_announces(&runtime, 20).await;
    let first = format!("{uid}-init-0");
    eventually("it runs anew", || runtime.created().iter().filter(|spec| spec.id == first).count() == 2).await;
    eventually("it is the only one", || runtime.present().into_keys().eq([first.clone()])).await;
}
