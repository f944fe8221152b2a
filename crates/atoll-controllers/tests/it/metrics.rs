//! What is counted, under the names that dashboards know.

use serde_json::json;

use crate::it::plane::{Plane, eventually};

const START: &str = "launch_type=\"warm\",sandbox_template=\"t\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_sandboxes_are_counted() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    let requested = json!({"agents.x-k8s.io/client-first-requested-at": "2020-01-01T00:00:00.000000001Z"});
    let made_by = json!({"agents.x-k8s.io/created-by": "python-client"});
    plane.claim("warm", "p", json!({"metadata": {"annotations": requested, "labels": made_by}})).await;
    plane.claim_until("warm", "True").await;
    plane.pool_until("p", 1).await;
    plane.pool("none", "t", 0).await;
    plane.claim("cold", "none", json!({})).await;
    plane.claim_until("cold", "True").await;

    let claim = |launch: &str, pool: &str, condition: &str, by: &str| {
        format!(
            "agent_sandbox_claim_creation_total{{namespace=\"default\",sandbox_template=\"t\",launch_type=\"{launch}\",\
             warmpool_name=\"{pool}\",pod_condition=\"{condition}\",created_by=\"{by}\"}} 1"
        )
    };
    let sandboxes = |launch: &str, owner: &str, by: &str| {
        format!(
            "agent_sandboxes{{namespace=\"default\",ready_condition=\"true\",expired=\"false\",launch_type=\"{launch}\",\
             sandbox_template=\"t\",owned_by=\"{owner}\",created_by=\"{by}\"}} 1"
        )
    };
    let expected = [
        claim("warm", "p", "ready", "python-client"),
        claim("cold", "none", "not_ready", "unknown"),
        sandboxes("warm", "SandboxClaim", "python-client"),
        sandboxes("warm", "SandboxWarmPool", "controller"),
        sandboxes("cold", "SandboxClaim", "unknown"),
        format!("agent_sandbox_claim_controller_startup_latency_ms_count{{{START}}} 1"),
        format!("agent_sandbox_claim_controller_startup_latency_ms_bucket{{le=\"240000.0\",{START}}} 1"),
        format!("agent_sandbox_client_claim_startup_latency_ms_count{{{START}}} 1"),
        format!("agent_sandbox_client_claim_startup_latency_ms_bucket{{le=\"240000.0\",{START}}} 0"),
        "agent_sandbox_creation_latency_ms_count{namespace=\"default\",launch_type=\"cold\",sandbox_template=\"t\"} 1"
            .to_owned(),
        "atoll_warm_pool_hits_total{namespace=\"default\",pool=\"p\"} 1".to_owned(),
        "atoll_warm_pool_misses_total{namespace=\"default\",pool=\"none\"} 1".to_owned(),
        "atoll_warm_pool_members_ready{namespace=\"default\",pool=\"p\"} 1".to_owned(),
        "atoll_warm_pool_member_age_at_adoption_seconds_count{namespace=\"default\",pool=\"p\"} 1".to_owned(),
    ];
    let all = eventually(|| {
        let text = plane.metrics();
        let complete = expected.iter().all(|line| text.lines().any(|present| present == line));
        async move { complete.then_some(()) }
    });
    if all.await.is_none() {
        let text = plane.metrics();
        let missing: Vec<&String> =
            expected.iter().filter(|line| !text.lines().any(|present| present == *line)).collect();
        panic!("missing {missing:#?} in\n{text}");
    }
    let text = plane.metrics();
    assert!(text.contains("agent_sandbox_build_info{git_version=\"v"), "{text}");
    assert!(!text.contains("agent_sandbox_claim_startup_latency_ms_count"), "no webhook said when: {text}");
    assert!(text.ends_with("# EOF\n"));
}
