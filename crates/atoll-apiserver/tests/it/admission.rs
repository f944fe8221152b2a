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
