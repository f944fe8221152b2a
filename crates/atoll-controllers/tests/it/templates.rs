//! Templates and their NetworkPolicies.

use atoll_api::SandboxTemplate;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde_json::json;

use crate::it::plane::Plane;

const POLICY: &str = "t-network-policy";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_has_a_policy_as_long_as_it_is_managed() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    let policy = plane.until(POLICY, "made", |_: &NetworkPolicy| true).await;
    let template = plane
        .until("t", "labelled", |template: &SandboxTemplate| {
            template.labels().get("agents.x-k8s.io/sandbox-template-ref-hash") == Some(&atoll_stdx::name_hash("t"))
        })
        .await;
    assert_eq!(policy.owner_references()[0].uid, template.uid().expect("it has one"));
    let spec = policy.spec.expect("it has one");
    assert_eq!(spec.egress.as_ref().map(Vec::len), Some(1));

    plane.merge::<NetworkPolicy>(POLICY, json!({"spec": {"egress": [{}]}})).await;
    plane.until(POLICY, "put right", |policy: &NetworkPolicy| policy.spec.as_ref() == Some(&spec)).await;

    plane.merge::<SandboxTemplate>("t", json!({"spec": {"networkPolicy": {"ingress": [{}]}}})).await;
    plane
        .until(POLICY, "the template's", |policy: &NetworkPolicy| {
            policy.spec.as_ref().is_some_and(|spec| {
                spec.ingress.as_ref().is_some_and(|rules| rules.len() == 1 && rules[0].from.is_none())
                    && spec.egress.as_ref().is_none_or(Vec::is_empty)
            })
        })
        .await;

    plane.merge::<SandboxTemplate>("t", json!({"spec": {"networkPolicyManagement": "Unmanaged"}})).await;
    plane.until_gone::<NetworkPolicy>(POLICY).await;
    plane.merge::<SandboxTemplate>("t", json!({"spec": {"networkPolicyManagement": "Managed"}})).await;
    plane.until(POLICY, "made again", |_: &NetworkPolicy| true).await;
    plane.delete::<SandboxTemplate>("t").await;
    plane.until_gone::<NetworkPolicy>(POLICY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_somebody_else_is_left_alone() {
    let plane = Plane::start().await;
    let theirs: NetworkPolicy =
        plane.create_json(json!({"metadata": {"name": POLICY}, "spec": {"podSelector": {}}})).await;
    plane.template("t", json!({})).await;
    plane
        .until("t", "seen to", |template: &SandboxTemplate| {
            template.labels().contains_key("agents.x-k8s.io/sandbox-template-ref-hash")
        })
        .await;
    plane.template("u", json!({})).await;
    plane.until("u-network-policy", "made", |_: &NetworkPolicy| true).await;
    let still: NetworkPolicy = plane.get(POLICY).await.expect("it is there");
    assert_eq!(still.resource_version(), theirs.resource_version());
}
