//! What a namespace lets in: Pod Security Standards, service accounts.

use serde_json::{Value, json};

use super::support::{Answer, Plane, pod};

const PODS: &str = "/api/v1/namespaces/team/pods";
const LEVEL: &str = "pod-security.kubernetes.io/";

/// A server with the namespace `team` under these Pod Security labels.
async fn with_labels(labels: &[(&str, &str)]) -> Plane {
    let plane = Plane::new().await;
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(name, value)| (format!("{LEVEL}{name}"), json!(value))).collect();
    plane.post("/api/v1/namespaces", namespace(labels.into())).await.ok();
    plane
}

fn namespace(labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team", "labels": labels } })
}

fn privileged(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    pod
}

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|it| it.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn an_enforced_level_keeps_pods_out() {
    let plane = with_labels(&[("enforce", "baseline")]).await;
    let status = plane.post(PODS, privileged("p")).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"main\" must not set \
         securityContext.privileged=true)"
    );
    plane.post(PODS, pod("p")).await.ok();
    // Where nothing is demanded, the same Pod is let in.
    plane.post("/api/v1/namespaces/default/pods", privileged("p")).await.ok();
}

#[tokio::test]
async fn a_level_that_only_warns_warns() {
    let plane = with_labels(&[("warn", "restricted"), ("audit", "restricted")]).await;
    let answer = plane.post(PODS, pod("p")).await;
    let warnings = warnings(&answer);
    answer.ok();
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    let begins =
        "299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container";
    assert!(warning.starts_with(begins), "{warning}");
}

#[tokio::test]
async fn a_raised_level_tells_of_pods_that_are_there() {
    let plane = with_labels(&[]).await;
    for name in ["b", "a", "c"] {
        plane.post(PODS, privileged(name)).await.ok();
    }
    let labels = |level: &str| json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
    let answer = plane.merge("/api/v1/namespaces/team", labels("baseline")).await;
    assert_eq!(
        warnings(&answer),
        [
            "299 - \"existing pods in namespace \\\"team\\\" violate the new PodSecurity enforce level \
             \\\"baseline:latest\\\"\"",
            "299 - \"a (and 2 other pods): privileged\""
        ]
    );
    let answer = plane.merge("/api/v1/namespaces/team", labels("privileged")).await;
    assert_eq!(warnings(&answer), [""; 0]);
    let status = plane.merge("/api/v1/namespaces/team", labels("strict")).await.refused(422, "Invalid");
    assert_eq!(
        status["message"],
        "Namespace \"team\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": \
         must be one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_exists() {
    let plane = with_labels(&[]).await;
    let mut named = pod("p");
    named["spec"]["serviceAccountName"] = "bot".into();
    let status = plane.post(PODS, named.clone()).await.refused(403, "Forbidden");
    let words = "pods \"p\" is forbidden: error looking up service account team/bot: serviceaccount \"bot\" not found";
    assert_eq!(status["message"], words);
    let bot = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } });
    plane.post("/api/v1/namespaces/team/serviceaccounts", bot).await.ok();
    plane.post(PODS, named).await.ok();
}

/// A server with the namespace `team` and a quota in it.
async fn with_quota(hard: Value) -> Plane {
    let plane = with_labels(&[]).await;
    let quota =
        json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "q" }, "spec": { "hard": hard } });
    plane.post(QUOTAS, quota).await.ok();
    plane
}

const QUOTAS: &str = "/api/v1/namespaces/team/resourcequotas";
const SANDBOXES: &str = "/apis/agents.x-k8s.io/v1beta1/namespaces/team/sandboxes";

fn sized(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": cpu }, "limits": { "cpu": "2" } });
    pod
}

async fn until_used(plane: &Plane, name: &str, amount: &str) {
    let holds = |answer: &Answer| answer.json()["status"]["used"][name] == amount;
    plane.until(&format!("{QUOTAS}/q"), holds).await;
}

#[tokio::test]
async fn a_quota_bounds_what_pods_ask_for() {
    let plane = with_quota(json!({ "requests.cpu": "1", "pods": "3", "limits.cpu": "10" })).await;
    plane.post(PODS, sized("a", "600m")).await.ok();
    let status = plane.post(PODS, sized("b", "500m")).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: \
         requests.cpu=1"
    );
    let status = plane.post(PODS, pod("c")).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "pods \"c\" is forbidden: failed quota: q: must specify limits.cpu for: main; requests.cpu for: main"
    );
    plane.post(PODS, sized("b", "400m")).await.ok();
    until_used(&plane, "requests.cpu", "1").await;
    let quota = plane.get(&format!("{QUOTAS}/q")).await.ok();
    assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
    assert_eq!(quota["status"]["used"], json!({ "requests.cpu": "1", "pods": "2", "limits.cpu": "4" }));
    // A Pod that has ended makes room, one that is gone too; another namespace never took any.
    let ended = json!({ "status": { "phase": "Succeeded" } });
    plane.merge(&format!("{PODS}/a/status"), ended).await.ok();
    plane.post(PODS, sized("c", "500m")).await.ok();
    plane.delete(&format!("{PODS}/b"), json!({ "gracePeriodSeconds": 0 })).await.ok();
    plane.until_gone(&format!("{PODS}/b")).await;
    plane.post(PODS, sized("d", "500m")).await.ok();
    plane.post("/api/v1/namespaces/default/pods", sized("z", "2")).await.ok();
    plane.post(PODS, sized("e", "1m")).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn a_spawn_loop_stops_at_the_quota() {
    let plane = with_quota(json!({ "count/sandboxes.agents.x-k8s.io": "5", "count/configmaps": "2" })).await;
    // All at once: no two of them take the last place together.
    let attempts = (0..20).map(|number| {
        let plane = &plane;
        async move { plane.post(SANDBOXES, super::support::sandbox(&format!("s{number}"))).await.code }
    });
    let codes = futures::future::join_all(attempts).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 403).count(), 15, "{codes:?}");
    until_used(&plane, "count/sandboxes.agents.x-k8s.io", "5").await;
    let status = plane.post(SANDBOXES, super::support::sandbox("more")).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "sandboxes.agents.x-k8s.io \"more\" is forbidden: exceeded quota: q, requested: \
         count/sandboxes.agents.x-k8s.io=1, used: count/sandboxes.agents.x-k8s.io=5, limited: \
         count/sandboxes.agents.x-k8s.io=5"
    );
    // What a refused or proposed write would have taken is not kept.
    let maps = "/api/v1/namespaces/team/configmaps";
    let map = |name: &str| super::support::config_map(name, json!({}));
    for _ in 0..3 {
        plane.post(&format!("{maps}?dryRun=All"), map("a")).await.ok();
    }
    plane.post(maps, map("a")).await.ok();
    for _ in 0..3 {
        plane.post(maps, map("a")).await.refused(409, "AlreadyExists");
    }
    plane.post(maps, map("b")).await.ok();
    plane.post(maps, map("c")).await.refused(403, "Forbidden");
    // The quota gone, so is the bound; raised, so is the room.
    plane.merge(&format!("{QUOTAS}/q"), json!({ "spec": { "hard": { "count/configmaps": "3" } } })).await.ok();
    plane.post(maps, map("c")).await.ok();
    plane.post(maps, map("d")).await.refused(403, "Forbidden");
    plane.delete(&format!("{QUOTAS}/q"), Value::Null).await.ok();
    plane.post(maps, map("d")).await.ok();
    plane.post(SANDBOXES, super::support::sandbox("more")).await.ok();
}

#[tokio::test]
async fn what_is_used_is_known_after_a_restart() {
    let plane = with_quota(json!({ "pods": "2" })).await;
    plane.post(PODS, pod("a")).await.ok();
    let plane = plane.restart().await;
    plane.post(PODS, pod("b")).await.ok();
    plane.post(PODS, pod("c")).await.refused(403, "Forbidden");
    until_used(&plane, "pods", "2").await;
    plane
        .merge(&format!("{QUOTAS}/q"), json!({ "spec": { "hard": { "pods": "many" } } }))
        .await
        .refused(400, "BadRequest");
    plane
        .merge(&format!("{QUOTAS}/q"), json!({ "spec": { "hard": { "coffees": "1" } } }))
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn a_limit_range_gives_and_bounds() {
    let plane = with_labels(&[]).await;
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "r" },
        "spec": { "limits": [{ "type": "Container", "max": { "cpu": "1" }, "defaultRequest": { "cpu": "100m" } }] },
    });
    let made = plane.post("/api/v1/namespaces/team/limitranges", range.clone()).await.ok();
    assert_eq!(made["spec"]["limits"][0]["default"], json!({ "cpu": "1" }));
    let given = plane.post(PODS, pod("a")).await.ok();
    let expected = json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "100m" } });
    assert_eq!(given["spec"]["containers"][0]["resources"], expected);
    let remark = "LimitRanger plugin set: cpu request for container main; cpu limit for container main";
    assert_eq!(given["metadata"]["annotations"]["kubernetes.io/limit-ranger"], remark);
    let status = plane.post(PODS, sized("b", "500m")).await.refused(403, "Forbidden");
    let words = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!(status["message"], words);
    let mut wrong = range;
    wrong["metadata"]["name"] = "wrong".into();
    wrong["spec"]["limits"][0]["min"] = json!({ "cpu": "2" });
    plane.post("/api/v1/namespaces/team/limitranges", wrong).await.refused(422, "Invalid");
}
