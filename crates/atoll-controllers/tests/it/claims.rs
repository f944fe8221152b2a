//! Claims, warm and cold.

use std::collections::HashSet;
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool};
use atoll_controllers::ControllersConfig;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use crate::it::plane::{NAMESPACE, Plane, eventually, skipped_on_a_cluster, text_of};

const READY: &str = "True DependenciesReady: Pod is Ready";

/// The names of the Sandboxes that claims have, and how they were started.
async fn bound(plane: &Plane, claims: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for number in 0..claims {
        let claim = plane.claim_until(&format!("c-{number}"), READY).await;
        let status = claim.status.expect("it is ready");
        let bound = status.sandbox.expect("what is ready is bound");
        let sandbox: Sandbox = plane.get(&bound.name).await.expect("it is there");
        assert_eq!(sandbox.owner_references()[0].uid, claim.metadata.uid.expect("it has one"));
        assert_eq!(bound.pod_ips, sandbox.status.as_ref().expect("it is ready").pod_ips);
        assert!(!bound.pod_ips.is_empty());
        found.push((bound.name, sandbox.labels()["agents.x-k8s.io/launch-type"].clone()));
    }
    found
}

async fn claim_all(plane: &Plane, claims: usize) {
    let creations = (0..claims).map(|number| async move { plane.claim(&format!("c-{number}"), "p", json!({})).await });
    futures::future::join_all(creations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_serves_claims_at_once_each_its_own() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 25).await;
    plane.pool_until("p", 25).await;
    claim_all(&plane, 20).await;
    let found = bound(&plane, 20).await;
    assert!(found.iter().all(|(_, launch)| launch == "warm"), "{found:?}");
    let names: HashSet<&String> = found.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 20);
    plane.pool_until("p", 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_the_first_version_needs_no_pool() {
    if skipped_on_a_cluster("a_claim_of_the_first_version_needs_no_pool", "a cluster serves that version no more") {
        return;
    }
    let plane = Plane::start().await;
    let version = GroupVersionKind::gvk("extensions.agents.x-k8s.io", "v1alpha1", "SandboxClaim");
    let old: Api<DynamicObject> =
        Api::namespaced_with(plane.client.clone(), NAMESPACE, &ApiResource::from_gvk(&version));
    let claim = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1alpha1", "kind": "SandboxClaim", "metadata": {"name": "c"},
        "spec": {"sandboxTemplateRef": {"name": "t"}},
    });
    let claim = serde_json::from_value(claim).expect("it is an object");
    old.create(&PostParams::default(), &claim).await.expect("it is created");
    plane.template("t", json!({})).await;
    plane.claim_until("c", READY).await;
    let pool: SandboxWarmPool = plane.get("shadow-pool-t").await.expect("it stands in for the template");
    assert_eq!(pool.spec.replicas, 0);
    plane.delete::<SandboxClaim>("c").await;
    plane.delete::<SandboxTemplate>("t").await;
    plane.until_gone::<SandboxWarmPool>("shadow-pool-t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_converted_needs_no_pool() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.claim("c", "shadow-pool-t", json!({})).await;
    plane.claim_until("c", READY).await;
    let pool: SandboxWarmPool = plane.get("shadow-pool-t").await.expect("it stands in for the template");
    assert_eq!(pool.spec.replicas, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pool_lacks_is_started_cold() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 5).await;
    plane.pool_until("p", 5).await;
    claim_all(&plane, 20).await;
    let found = bound(&plane, 20).await;
    let warm = found.iter().filter(|(_, launch)| launch == "warm").count();
    let names: HashSet<&String> = found.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 20);
    assert!((5..20).contains(&warm), "at least the pool's five are warm, and some are cold: {warm}");
    assert!(found.iter().all(|(name, launch)| (launch == "cold") == name.starts_with("c-")), "{found:?}");
    plane.pool_until("p", 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_none_is_a_cold_start() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    let labels = json!({"metadata": {"labels": {"agents.x-k8s.io/created-by": "python-client"}}});
    let claim = plane.claim("c-0", "p", labels).await;
    assert_eq!(bound(&plane, 1).await, [("c-0".to_owned(), "cold".to_owned())]);
    let pod: Pod = plane.get("c-0").await.expect("it runs");
    assert_eq!(pod.labels()["agents.x-k8s.io/created-by"], "python-client");
    assert!(!pod.labels().contains_key("agents.x-k8s.io/claim-uid"), "that is the system's own");
    assert_eq!(pod.labels()["agents.x-k8s.io/sandbox-template-ref-hash"], atoll_stdx::name_hash("t"));
    let sandbox: Sandbox = plane.get("c-0").await.expect("it is there");
    assert_eq!(Some(&sandbox.labels()["agents.x-k8s.io/claim-uid"]), claim.metadata.uid.as_ref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_changes_hands_whole() {
    let plane = Plane::start().await;
    plane.template("t", json!({"spec": {"podTemplate": {"metadata": {"labels": {"from": "template"}}}}})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    let idle = plane.list::<Sandbox>("agents.x-k8s.io/warm-pool-sandbox").await.remove(0);
    let idle_pod: Pod = plane.get(&idle.name_any()).await.expect("it runs");
    assert_eq!(idle_pod.labels()["agents.x-k8s.io/warm-pool-sandbox"], atoll_stdx::name_hash("p"));
    assert_eq!(idle_pod.annotations()["cluster-autoscaler.kubernetes.io/safe-to-evict"], "true");

    let more = json!({
        "metadata": {"labels": {"agents.x-k8s.io/created-by": "python-client"}},
        "spec": {"additionalPodMetadata": {"labels": {"sandbox.users.io/team": "red"}, "annotations": {"note": "n"}}},
    });
    let claim = plane.claim("c-0", "p", more).await;
    assert_eq!(bound(&plane, 1).await, [(idle.name_any(), "warm".to_owned())]);
    let sandbox: Sandbox = plane.get(&idle.name_any()).await.expect("it is there");
    assert_eq!(sandbox.uid(), idle.uid(), "the same one");
    assert_eq!(sandbox.owner_references().len(), 1);
    let label = |key: &str| sandbox.labels().get(&format!("agents.x-k8s.io/{key}")).cloned();
    assert_eq!(label("claim-uid"), claim.metadata.uid);
    assert_eq!(label("created-by").as_deref(), Some("python-client"));
    assert_eq!(label("sandbox-template-ref-hash"), Some(atoll_stdx::name_hash("t")));
    for gone in ["warm-pool-sandbox", "sandbox-template-hash", "sandbox-pod-template-hash"] {
        assert_eq!(label(gone), None, "{gone}");
    }
    let pod = plane
        .until(&idle.name_any(), "handed over", |pod: &Pod| {
            !pod.labels().contains_key("agents.x-k8s.io/warm-pool-sandbox")
        })
        .await;
    assert_eq!(pod.uid(), idle_pod.uid());
    assert_eq!(pod.labels()["from"], "template");
    assert_eq!(pod.labels()["sandbox.users.io/team"], "red");
    assert_eq!(pod.labels()["agents.x-k8s.io/created-by"], "python-client");
    assert_eq!(pod.annotations()["note"], "n");
    assert!(!pod.annotations().contains_key("cluster-autoscaler.kubernetes.io/safe-to-evict"));
    plane.sandbox_until(&idle.name_any(), READY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_claim_takes_its_sandbox_along() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    plane.claim("c-0", "p", json!({})).await;
    let (name, _) = bound(&plane, 1).await.remove(0);
    plane.delete::<SandboxClaim>("c-0").await;
    plane.until_gone::<Sandbox>(&name).await;
    plane.until_gone::<Pod>(&name).await;
    plane.pool_until("p", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_sandbox_is_deleted_gets_another() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 2).await;
    plane.pool_until("p", 2).await;
    plane.claim("c-0", "p", json!({})).await;
    let (name, _) = bound(&plane, 1).await.remove(0);
    plane.delete::<Sandbox>(&name).await;
    plane
        .until("c-0", "bound anew", |claim: &SandboxClaim| {
            let status = claim.status.clone().unwrap_or_default();
            text_of(&status.conditions, "Ready") == READY && status.sandbox.is_some_and(|bound| bound.name != name)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_may_be_made_again_under_its_name() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    for _ in 0..3 {
        let claim = plane.claim("c-0", "p", json!({})).await;
        let ready = plane.claim_until("c-0", READY).await;
        assert_eq!(ready.metadata.uid, claim.metadata.uid);
        plane.delete::<SandboxClaim>("c-0").await;
        plane.until_gone::<SandboxClaim>("c-0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_pool_or_template_is_told_and_made_good() {
    let plane = Plane::start().await;
    plane.claim("c-0", "p", json!({})).await;
    plane.claim_until("c-0", "False WarmPoolNotFound: SandboxWarmPool \"p\" not found").await;
    plane.pool("p", "t", 0).await;
    plane.claim_until("c-0", "False TemplateNotFound: SandboxTemplate \"t\" not found").await;
    plane.template("t", json!({})).await;
    plane.claim_until("c-0", READY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_right_after_its_pool_never_hears_that_it_is_missing() {
    let plane = Plane::start().await;
    for round in 0..10 {
        let (template, pool) = (format!("t-{round}"), format!("p-{round}"));
        let name = format!("c-{round}");
        plane.template(&template, json!({})).await;
        plane.pool(&pool, &template, 1).await;
        plane.claim(&name, &pool, json!({})).await;
        let reason = |claim: &SandboxClaim| {
            let status = claim.status.clone().unwrap_or_default();
            text_of(&status.conditions, "Ready")
        };
        let first = plane.until(&name, "told anything", |claim: &SandboxClaim| !reason(claim).is_empty()).await;
        assert!(!reason(&first).contains("NotFound"), "{}", reason(&first));
        let ready = plane.claim_until(&name, READY).await;
        let sandbox = ready.status.and_then(|status| status.sandbox).expect("it is bound").name;
        assert!(sandbox.starts_with(&pool), "it waited for the pool's first member: {sandbox}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_variables_go_by_the_templates_policy() {
    let plane = Plane::start().await;
    let container = json!({"name": "main", "image": "atoll.local/host", "env": [{"name": "SET", "value": "old"}]});
    for (policy, name, refused) in [
        (json!(null), "NEW", Some("is not allowed by the template policy")),
        (json!("Disallowed"), "NEW", Some("is not allowed by the template policy")),
        (json!("Allowed"), "NEW", None),
        (json!("Allowed"), "SET", Some("override is not allowed by the template policy for variable \"SET\"")),
        (json!("Overrides"), "SET", None),
    ] {
        let id = format!("{}-{}", policy.as_str().unwrap_or("none").to_lowercase(), name.to_lowercase());
        let spec = json!({"spec": {
            "envVarsInjectionPolicy": policy, "podTemplate": {"spec": {"containers": [container]}},
        }});
        plane.template(&id, without_nulls(spec)).await;
        plane.pool(&id, &id, 1).await;
        plane.claim(&id, &id, json!({"spec": {"env": [{"name": name, "value": "new"}]}})).await;
        match refused {
            Some(words) => {
                let claim = plane.claim_until(&id, "False EnvVarsInjectionRejected").await;
                let text = text_of(&claim.status.expect("it is told").conditions, "Ready");
                assert!(text.contains(words), "{text}");
                assert!(plane.get::<Sandbox>(&id).await.is_none());
            }
            None => {
                plane.claim_until(&id, READY).await;
                let pod: Pod = plane.get(&id).await.expect("it is cold, so it has the claim's name");
                let env = pod.spec.expect("it has one").containers[0].env.clone().unwrap_or_default();
                let value =
                    env.iter().find(|variable| variable.name == name).and_then(|variable| variable.value.clone());
                assert_eq!(value.as_deref(), Some("new"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_go_by_the_templates_policy() {
    let plane = Plane::start().await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume = |name: &str| json!({"metadata": {"name": name}, "spec": spec});
    for (id, policy, volumes, expected) in [
        ("none", json!(null), json!([volume("more")]), Err("volume claim templates are disallowed by the template")),
        ("empty-list", json!(null), json!([]), Ok(vec![])),
        ("allowed", json!("Allowed"), json!([volume("more")]), Ok(vec!["data-allowed", "more-allowed"])),
        ("same", json!("Allowed"), json!([volume("data")]), Err("cannot override template volume \"data\"")),
        ("override", json!("Overrides"), json!([volume("data")]), Ok(vec!["data-override"])),
        ("twice", json!("Allowed"), json!([volume("a"), volume("a")]), Err("duplicate name \"a\"")),
        ("unnamed", json!("Allowed"), json!([{"spec": spec}]), Err("name at index 0 is empty")),
    ] {
        let template = json!({"volumeClaimTemplatesPolicy": policy, "volumeClaimTemplates": [volume("data")]});
        plane.template(id, without_nulls(json!({"spec": template}))).await;
        plane.pool(id, id, 1).await;
        plane.pool_until(id, 1).await;
        plane.claim(id, id, json!({"spec": {"volumeClaimTemplates": volumes}})).await;
        match expected {
            Err(words) => {
                let claim = plane.claim_until(id, "False VolumeClaimTemplatesError").await;
                let text = text_of(&claim.status.expect("it is told").conditions, "Ready");
                assert!(text.contains(words), "{id}: {text}");
            }
            Ok(names) => {
                let claim = plane.claim_until(id, READY).await;
                let warm = claim.status.and_then(|status| status.sandbox).expect("it is bound").name != id;
                assert_eq!(warm, names.is_empty(), "{id}: only who asks for nothing is served from the pool");
                for name in names {
                    assert!(plane.get::<PersistentVolumeClaim>(name).await.is_some(), "{name}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_may_not_be_asked_for_uses_up_no_member() {
    let plane = Plane::start().await;
    plane.template("t", json!({"spec": {"podTemplate": {"metadata": {"annotations": {"note": "theirs"}}}}})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    for (name, metadata) in [
        ("label", json!({"labels": {"app": "sandbox-router"}})),
        ("domain", json!({"labels": {"example.com/team": "red"}})),
        ("system", json!({"annotations": {"agents.x-k8s.io/pod-name": "other"}})),
        ("conflict", json!({"annotations": {"note": "mine"}})),
    ] {
        plane.claim(name, "p", json!({"spec": {"additionalPodMetadata": metadata}})).await;
        plane.claim_until(name, "False InvalidMetadata: invalid additionalPodMetadata: ").await;
    }
    let pool = plane.pool_until("p", 1).await;
    let members = plane.list::<Sandbox>("").await;
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].owner_references()[0].uid, pool.uid().expect("it has one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_that_the_pool_made_are_handed_out() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    let member = plane.list::<Sandbox>("agents.x-k8s.io/warm-pool-sandbox").await.remove(0);
    let mut forged = member.clone();
    forged.metadata.name = Some("forged".to_owned());
    forged.metadata.uid = None;
    forged.metadata.resource_version = None;
    forged.status = None;
    plane.create(&forged).await;
    plane.sandbox_until("forged", READY).await;

    claim_all(&plane, 3).await;
    let found = bound(&plane, 3).await;
    assert!(found.iter().all(|(name, _)| name != "forged"), "{found:?}");
    let forged: Sandbox = plane.get("forged").await.expect("it is left alone");
    assert_eq!(forged.owner_references()[0].kind, "SandboxWarmPool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pool_did_not_make_is_taken_away() {
    let config = ControllersConfig { stranger_grace: Duration::ZERO, ..ControllersConfig::default() };
    let plane = Plane::start_with(config).await;
    plane.template("t", json!({})).await;
    let pool = plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    let owner = json!([{
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": pool.uid(),
        "controller": true,
    }]);
    plane.sandbox("forged", json!({"metadata": {"ownerReferences": owner}})).await;
    plane.until_gone::<Sandbox>("forged").await;
    plane.pool_until("p", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_wait_are_served_by_importance() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    plane.merge::<SandboxWarmPool>("p", json!({"metadata": {"annotations": {"atoll.dev/when-empty": "wait"}}})).await;
    let waiting = "False AdoptionPending: Waiting for a Ready Sandbox of the warm pool";
    let order = [("c-0", "low", "-5"), ("c-1", "none", ""), ("c-2", "high", "7")];
    for (name, _, priority) in order {
        let more = json!({"metadata": {"annotations": {"atoll.dev/priority": priority}}});
        plane.claim(name, "p", more).await;
        plane.claim_until(name, waiting).await;
    }
    assert!(plane.list::<Sandbox>("").await.is_empty(), "nothing is started cold");
    // One member at a time.
    for served in ["c-2", "c-1", "c-0"] {
        plane.merge::<SandboxWarmPool>("p", json!({"spec": {"replicas": 1}})).await;
        let claim = plane.claim_until(served, READY).await;
        plane.merge::<SandboxWarmPool>("p", json!({"spec": {"replicas": 0}})).await;
        let bound = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
        assert!(bound.starts_with("p-"), "{bound} is the pool's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_starts_cold_when_its_time_is_over() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    let annotations = json!({"atoll.dev/when-empty": "wait", "atoll.dev/wait-seconds-max": "1"});
    plane.claim("c-0", "p", json!({"metadata": {"annotations": annotations}})).await;
    plane.claim_until("c-0", "False AdoptionPending").await;
    assert_eq!(bound(&plane, 1).await, [("c-0".to_owned(), "cold".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_carry_their_times_where_that_is_wanted() {
    let config = ControllersConfig { claim_observability_annotations: true, ..ControllersConfig::default() };
    let plane = Plane::start_with(config).await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.claim("c-0", "p", json!({})).await;
    let claim = plane
        .until("c-0", "annotated", |claim: &SandboxClaim| {
            claim.annotations().contains_key("agents.x-k8s.io/claim-first-ready-at")
        })
        .await;
    for key in ["controller-first-observed-at", "claim-first-ready-at"] {
        let text = &claim.annotations()[&format!("agents.x-k8s.io/{key}")];
        let fraction = text.strip_suffix('Z').and_then(|text| text.split_once('.')).map(|(_, fraction)| fraction.len());
        assert_eq!(fraction, Some(9), "{key}: {text}");
        text.parse::<k8s_openapi::jiff::Timestamp>().expect("it is a time");
    }
}

/// JSON without members that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_without_quota_says_so() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    let hard = |count: &str| json!({ "spec": { "hard": { "count/sandboxes.agents.x-k8s.io": count, "pods": "1" } } });
    let mut quota = hard("0");
    quota["metadata"] = json!({ "name": "q" });
    plane.create_json::<ResourceQuota>(quota).await;
    plane.claim("c", "p", json!({})).await;
    let ready = |claim: &SandboxClaim| {
        let conditions = claim.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        ready.map_or_else(String::new, |ready| format!("{} {}: {}", ready.status, ready.reason, ready.message))
    };
    let refused = "exceeded quota: q, requested: count/sandboxes.agents.x-k8s.io=1, used: \
                   count/sandboxes.agents.x-k8s.io=0, limited: count/sandboxes.agents.x-k8s.io=0";
    let stopped =
        |claim: &SandboxClaim| ready(claim).starts_with("False ReconcilerError: ") && ready(claim).contains(refused);
    plane.until::<SandboxClaim>("c", "stopped by the quota", stopped).await;
    let told = eventually(|| async {
        let events: Vec<Event> = plane.list("").await;
        let told = |event: &Event| {
            event.reason.as_deref() == Some("FailedCreate")
                && event.note.as_ref().is_some_and(|it| it.contains(refused))
        };
        events.iter().any(told).then_some(())
    });
    assert!(told.await.is_some(), "an event tells people");
    // With room again it goes on by itself.
    plane.merge::<ResourceQuota>("q", hard("1")).await;
    plane.claim_until("c", READY).await;

    // The Pod's quota is used up now: the Sandbox of the next claim says why it has none, and so does the claim.
    plane.merge::<ResourceQuota>("q", hard("2")).await;
    plane.claim("d", "p", json!({})).await;
    let podless = |claim: &SandboxClaim| ready(claim).contains("exceeded quota: q, requested: pods=1");
    plane.until::<SandboxClaim>("d", "stopped by the quota of Pods", podless).await;
}
