use serde_json::{Value, json};

use super::*;
use crate::blueprint::secured;
use crate::claim::candidates::Candidates;
use crate::fixtures::{NOW, condition_lines, controller, created, lines, now, object, with};

fn claim(more: &Value) -> Arc<SandboxClaim> {
    let base = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "cu", "generation": 4, "resourceVersion": "1"},
        "spec": {"warmPoolRef": {"name": "p"}},
    });
    Arc::new(object(with(base, more)))
}

fn pool(more: &Value) -> Arc<SandboxWarmPool> {
    let base = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "pu"},
        "spec": {"replicas": 3, "sandboxTemplateRef": {"name": "t"}},
        "status": {"replicas": 3, "readyReplicas": 3},
    });
    Arc::new(object(with(base, more)))
}

fn template(more: &Value) -> Arc<SandboxTemplate> {
    let base = json!({
        "metadata": {"name": "t", "namespace": "ns", "uid": "tu"},
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "i"}]}}},
    });
    Arc::new(object(with(base, more)))
}

fn hash() -> String {
    atoll_stdx::name_hash("t")
}

/// A Ready member of the pool.
fn member(name: &str, more: &Value) -> Arc<Sandbox> {
    let pod_template = secured(&template(&json!({}))).pod_template;
    let base = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "9", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "agents.x-k8s.io/warm-pool-sandbox": "ph", "agents.x-k8s.io/sandbox-template-ref-hash": hash(),
                "agents.x-k8s.io/sandbox-template-hash": "b", "agents.x-k8s.io/sandbox-pod-template-hash": "q",
                "agents.x-k8s.io/launch-type": "warm", "agents.x-k8s.io/created-by": "controller",
            },
            "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "p", "pu"),
        },
        "spec": {"podTemplate": with(
            serde_json::to_value(pod_template).expect("it is JSON"),
            &json!({"metadata": {"labels": {"agents.x-k8s.io/sandbox-template-ref-hash": hash()}}}),
        )},
        "status": {
            "podIPs": ["10.0.0.1"], "nodeName": "n",
            "conditions": [{"type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready",
                "lastTransitionTime": "2026-01-01T00:00:01Z", "observedGeneration": 1}],
        },
    });
    Arc::new(object(with(base, more)))
}

fn not_ready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "DependenciesNotReady",
        "message": "Pod exists with phase: Pending", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

/// The member after the claim has taken it.
fn taken(name: &str, more: &Value) -> Arc<Sandbox> {
    let adopted = json!({"metadata": {
        "labels": {
            "agents.x-k8s.io/warm-pool-sandbox": null, "agents.x-k8s.io/sandbox-template-hash": null,
            "agents.x-k8s.io/sandbox-pod-template-hash": null, "agents.x-k8s.io/created-by": null,
            "agents.x-k8s.io/claim-uid": "cu",
        },
        "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", "c", "cu"),
    }});
    member(name, &with(adopted, more))
}

fn view(claim: Arc<SandboxClaim>) -> View {
    View {
        claim,
        pool: Some(pool(&json!({}))),
        template: Some(template(&json!({}))),
        shadowed: None,
        template_rival: None,
        ahead: 0,
        asked: false,
        owned: Vec::new(),
        bound: None,
        namesake: None,
        candidates: Candidates::default(),
        legacy_policy: None,
        age: Duration::from_secs(60),
        now: now(),
    }
}

fn settings() -> Settings {
    Settings::from(&ControllersConfig::default())
}

fn planned(view: &View) -> Plan {
    plan(view, &settings())
}

fn told(plan: &Plan) -> Vec<String> {
    condition_lines(&plan.status.as_ref().expect("it writes a status").conditions)
}

fn after_status(mut view: View, plan: &Plan) -> View {
    let mut claim = (*view.claim).clone();
    claim.status.clone_from(&plan.status);
    view.claim = Arc::new(claim);
    view
}

#[test]
fn a_ready_member_is_taken_in_one_write() {
    let candidates = Candidates::among(&[member("m", &json!({}))]);
    let claim = claim(&json!({"metadata": {"labels": {"agents.x-k8s.io/created-by": "python-client"}}}));
    let plan = planned(&View { candidates, ..view(claim) });
    assert_eq!(plan.takes.as_deref(), Some("uid-m"));
    assert_eq!(plan.notices[0].note, "Adopted warm pool Sandbox \"m\"");
    let Write::Merge { target, patch } = &plan.writes[0] else { panic!("{:?}", plan.writes) };
    assert_eq!((target.uid.as_str(), plan.writes.len()), ("uid-m", 1));
    insta::assert_json_snapshot!(patch);
    assert!(patch.get("spec").is_none(), "so that its generation stays, and nobody has to tell again that it is Ready");
}

#[test]
fn binding_is_told_in_one_status() {
    let view = View { owned: vec![taken("m", &json!({}))], ..view(claim(&json!({}))) };
    let plan = planned(&view);
    assert_eq!(lines(&plan.writes), [""; 0]);
    insta::assert_json_snapshot!(plan.status);
    assert_eq!(planned(&after_status(view, &plan)), Plan::default(), "then there is nothing left to do");
}

#[test]
fn the_best_member_is_the_oldest_ready_one_on_the_fullest_node() {
    let on =
        |node: &str, created: &str| json!({"metadata": {"creationTimestamp": created}, "status": {"nodeName": node}});
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
    let members = [
        member("alone", &on("n1", early)),
        member("young", &on("n2", late)),
        member("old", &on("n2", early)),
        member("oldest-but-starting", &with(on("n2", "2025-01-01T00:00:00Z"), &not_ready())),
    ];
    let candidates = Candidates::among(&members);
    assert_eq!(candidates.ready.map(|member| name_of(&*member).to_owned()).as_deref(), Some("old"));
    assert_eq!(candidates.starting.map(|member| name_of(&*member).to_owned()).as_deref(), Some("oldest-but-starting"));
    assert_eq!(candidates.pending, 1);
}

#[test]
fn members_that_are_starting_are_waited_for() {
    let starting = Candidates::among(&[member("m", &not_ready())]);
    let without_address = Candidates::among(&[member("m", &json!({"status": null}))]);
    let none = Candidates::default();
    for (candidates, age, expected) in [
        (&starting, 0, "parks"),
        (&starting, 2_000, "merge"),
        (&without_address, 1_999, "parks"),
        (&without_address, 2_000, "create"),
        (&none, 0, "create"),
    ] {
        let age = Duration::from_millis(age);
        let plan = planned(&View { candidates: candidates.clone(), age, ..view(claim(&json!({}))) });
        let done = if plan.parks { "parks".to_owned() } else { lines(&plan.writes)[0].clone() };
        assert!(done.starts_with(expected), "{age:?}: {done}");
        assert_eq!(plan.status, None, "nothing is told meanwhile");
    }
    let new_pool = Some(pool(&json!({"status": null})));
    let plan = planned(&View { pool: new_pool, age: Duration::ZERO, ..view(claim(&json!({}))) });
    assert!(plan.parks, "a pool that was just made will have members");
    let empty_pool = Some(pool(&json!({"spec": {"replicas": 0}, "status": null})));
    let plan = planned(&View { pool: empty_pool, age: Duration::ZERO, ..view(claim(&json!({}))) });
    assert_eq!(lines(&plan.writes), ["create Sandbox ns/c"]);
}

#[test]
fn a_claim_may_wait_for_a_member_instead_of_starting_cold() {
    let wait = |more: &Value| {
        let annotations = with(json!({"atoll.dev/when-empty": "wait"}), more);
        claim(&json!({"metadata": {"annotations": annotations}}))
    };
    let bounded = json!({"atoll.dev/wait-seconds-max": "90"});
    let age = |seconds| Duration::from_secs(seconds);
    let waiting = planned(&View { age: age(60), ..view(wait(&json!({}))) });
    assert!(waiting.parks && waiting.again.is_none(), "for ever");
    assert_eq!(told(&waiting), ["Ready=False AdoptionPending: Waiting for a Ready Sandbox of the warm pool"]);
    let again = planned(&after_status(View { age: age(61), ..view(wait(&json!({}))) }, &waiting));
    assert!(again.parks && again.status.is_none(), "it is said once");
    let waiting = planned(&View { age: age(60), ..view(wait(&bounded)) });
    assert_eq!((waiting.parks, waiting.again), (true, Some(age(30))));
    let impatient = planned(&View { age: age(90), ..view(wait(&bounded)) });
    assert_eq!(lines(&impatient.writes), ["create Sandbox ns/c"]);
    let served = View { candidates: Candidates::among(&[member("m", &json!({}))]), ..view(wait(&json!({}))) };
    assert_eq!(planned(&served).takes.as_deref(), Some("uid-m"));
}

#[test]
fn who_comes_later_leaves_members_to_those_before() {
    let two = Candidates::among(&[member("m1", &json!({})), member("m2", &json!({}))]);
    for (ahead, age, takes) in [(0, 0, true), (1, 0, true), (2, 0, false), (2, 2_000, true)] {
        let age = Duration::from_millis(age);
        let plan = planned(&View { candidates: two.clone(), ahead, age, ..view(claim(&json!({}))) });
        assert_eq!((plan.takes.is_some(), plan.parks), (takes, !takes), "{ahead} ahead, {age:?}");
    }
}

#[test]
fn a_template_whose_hash_is_taken_is_not_used() {
    let rival = Some(template(&json!({"metadata": {"name": "older"}})));
    let candidates = Candidates::among(&[member("m", &json!({}))]);
    let plan = planned(&View { template_rival: rival, candidates, ..view(claim(&json!({}))) });
    assert!(plan.writes.is_empty());
    assert!(told(&plan)[0].starts_with("Ready=False InvalidConfiguration: SandboxTemplate \"t\" can not be used"));
}

#[test]
fn a_cold_sandbox_is_the_templates_and_the_claims() {
    let claim = claim(&json!({
        "metadata": {
            "labels": {"agents.x-k8s.io/created-by": "go-client"},
            "annotations": {"opentelemetry.io/trace-context": "{}"},
        },
        "spec": {
            "env": [{"name": "A", "value": "1"}],
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "additionalPodMetadata": {"labels": {"sandbox.users.io/team": "red"}, "annotations": {"note": "n"}},
        },
    }));
    let template = template(&json!({"spec": {
        "envVarsInjectionPolicy": "Allowed", "volumeClaimTemplatesPolicy": "Allowed", "service": true,
        "podTemplate": {"metadata": {"labels": {"from": "template"}}},
    }}));
    let candidates = Candidates::among(&[member("m", &json!({}))]);
    let plan = planned(&View { template: Some(template), candidates, ..view(claim) });
    assert_eq!(lines(&plan.writes), ["create Sandbox ns/c"], "its wishes can not be met by a member");
    insta::assert_json_snapshot!(created(&plan.writes[0]));
}

#[test]
fn what_may_not_be_asked_for_is_refused_for_good() {
    let candidates = Candidates::among(&[member("m", &json!({}))]);
    let volume = json!([{"metadata": {"name": "data"}, "spec": {}}]);
    for (spec, template_spec, expected) in [
        (
            json!({"env": [{"name": "A", "value": "1"}]}),
            json!({}),
            "EnvVarsInjectionRejected: environment variable injection rejected: environment variable injection is not \
             allowed by the template policy",
        ),
        (
            json!({"env": [{"name": "A", "value": "1", "containerName": "nowhere"}]}),
            json!({"envVarsInjectionPolicy": "Allowed"}),
            "EnvVarsInjectionRejected: environment variable injection rejected: target container \"nowhere\" not found \
             in template for environment variable \"A\"",
        ),
        (
            json!({"volumeClaimTemplates": volume}),
            json!({}),
            "VolumeClaimTemplatesError: failed to merge volume claim templates: volume claim templates are disallowed \
             by the template",
        ),
        (
            json!({"additionalPodMetadata": {"labels": {"team": "red"}}}),
            json!({}),
            "InvalidMetadata: invalid additionalPodMetadata: failed to validate label \"team\": label \"team\" must have \
             a domain prefix (e.g. 'sandbox.users.io/my-label') to prevent opting into unintended policy domains",
        ),
        (
            json!({"additionalPodMetadata": {"annotations": {"note": "mine"}}}),
            json!({"podTemplate": {"metadata": {"annotations": {"note": "theirs"}}}}),
            "InvalidMetadata: invalid additionalPodMetadata: metadata override conflict: annotation \"note\" is defined \
             in template with value \"theirs\", but claim requests \"mine\"",
        ),
    ] {
        let view = View {
            template: Some(template(&json!({"spec": template_spec}))),
            candidates: candidates.clone(),
            ..view(claim(&json!({"spec": spec})))
        };
        let plan = planned(&view);
        assert_eq!(lines(&plan.writes), [""; 0], "no member is used up");
        assert_eq!(told(&plan), [format!("Ready=False {expected}")]);
        assert_eq!(planned(&after_status(view, &plan)), Plan::default(), "it is not tried again");
    }
}

#[test]
fn a_template_that_is_claimed_without_a_pool_gets_one_of_no_members() {
    let claim = claim(&json!({"spec": {"warmPoolRef": {"name": "shadow-pool-t"}}}));
    let template = template(&json!({}));
    let view = View { pool: None, template: None, shadowed: Some(template), ..view(claim) };
    assert!(planned(&view).asks, "not before the API server was asked for it");
    let plan = planned(&View { asked: true, ..view });
    let [Write::Create(NewObject::SandboxWarmPool(pool))] = &*plan.writes else { panic!("{:?}", plan.writes) };
    assert_eq!((pool.spec.replicas, pool.spec.sandbox_template_ref.name.as_str()), (0, "t"));
    assert_eq!(pool.metadata.name.as_deref(), Some("shadow-pool-t"));
    assert_eq!(annotation(&pool.metadata, annotations::MIGRATION_SOURCE_TEMPLATE), Some("t"));
    assert_eq!(uid_of_controller(pool), "tu", "it goes with the template");
}

fn uid_of_controller(pool: &SandboxWarmPool) -> &str {
    crate::owner::controller_uid(&pool.metadata)
}

#[test]
fn pool_and_template_are_not_missing_before_it_is_certain() {
    let settings = Settings { missing_wait: Duration::from_millis(500), ..settings() };
    for (pool_is_there, expected) in [
        (false, "Ready=False WarmPoolNotFound: SandboxWarmPool \"p\" not found"),
        (true, "Ready=False TemplateNotFound: SandboxTemplate \"t\" not found"),
    ] {
        let look = |asked: bool, age: u64| {
            let view = View {
                pool: pool_is_there.then(|| pool(&json!({}))),
                template: None,
                asked,
                age: Duration::from_millis(age),
                ..view(claim(&json!({})))
            };
            plan(&view, &settings)
        };
        let first = look(false, 900);
        assert!(first.asks && first.status.is_none(), "the cache may be behind");
        let second = look(true, 100);
        assert_eq!((second.status.is_none(), second.again), (true, Some(Duration::from_millis(400))));
        assert_eq!(told(&look(true, 500)), [expected]);
    }
}

#[test]
fn what_the_sandbox_says_is_forwarded() {
    let bound = json!({"status": {"sandbox": {"name": "m"}, "conditions": [{"type": "Ready", "status": "True",
        "reason": "DependenciesReady", "message": "Pod is Ready", "lastTransitionTime": "2025-01-01T00:00:00Z"}]}});
    let says = |conditions: Value| json!({"status": {"conditions": conditions}});
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:07Z"})
    };
    for (said, expected) in [
        (
            says(json!([condition("Ready", "False", "SandboxSuspended", "Sandbox is suspended")])),
            vec!["Ready=False SandboxSuspended: Sandbox is suspended"],
        ),
        (
            says(json!([
                condition("Finished", "True", "PodFailed", "Pod failed"),
                condition("Ready", "False", "PodFailed", "Pod failed"),
            ])),
            vec!["Finished=True PodFailed: Pod failed", "Ready=False PodFailed: Pod failed"],
        ),
        (
            says(json!([condition("Ready", "False", "SandboxExpired", "Sandbox has expired")])),
            vec!["Ready=False SandboxExpired: Underlying Sandbox resource has expired independently of the Claim."],
        ),
        (says(json!([])), vec!["Ready=False SandboxNotReady: Sandbox is not ready"]),
    ] {
        let view = View { owned: vec![taken("m", &said)], ..view(claim(&bound)) };
        let plan = planned(&view);
        assert_eq!(told(&plan), expected);
        let status = plan.status.expect("it is written");
        assert_eq!(status.conditions[0].observed_generation, Some(4));
        if expected[0].contains("Suspended") {
            assert_eq!(status.conditions[0].last_transition_time.0.to_string(), "2026-01-01T00:00:07Z");
        }
    }
}

#[test]
fn a_first_status_waits_a_moment_for_a_quick_start() {
    let young = Duration::from_millis(100);
    let starting = View { owned: vec![taken("m", &not_ready())], age: young, ..view(claim(&json!({}))) };
    let plan = planned(&starting);
    assert_eq!((plan.status, plan.again), (None, Some(Duration::from_millis(900))));
    let ready = View { owned: vec![taken("m", &json!({}))], age: young, ..view(claim(&json!({}))) };
    assert!(planned(&ready).status.is_some());
}

#[test]
fn a_claim_keeps_the_sandbox_that_its_status_names() {
    let bound = claim(&json!({"status": {"sandbox": {"name": "b"}}}));
    let (a, b) = (taken("a", &json!({})), taken("b", &json!({})));
    let plan = planned(&View { owned: vec![a, Arc::clone(&b)], bound: Some(b), ..view(bound) });
    assert_eq!(lines(&plan.writes), ["delete Sandbox ns/a uid uid-a"], "one is enough");
    assert_eq!(plan.status.and_then(|status| status.sandbox).map(|sandbox| sandbox.name).as_deref(), Some("b"));
}

#[test]
fn metadata_reaches_a_bound_sandbox() {
    let claim = claim(&json!({"spec": {"additionalPodMetadata": {"labels": {"sandbox.users.io/team": "red"}}}}));
    let template = template(&json!({"spec": {"podTemplate": {"metadata": {"annotations": {"note": "new"}}}}}));
    let old = json!({"spec": {"podTemplate": {"metadata": {"annotations": {"gone": "1"}}}}});
    let plan = planned(&View { template: Some(template), owned: vec![taken("m", &old)], ..view(claim) });
    assert_eq!(
        lines(&plan.writes),
        [
            r#"merge Sandbox ns/m {"spec":{"podTemplate":{"metadata":{"labels":{"sandbox.users.io/team":"red"},"annotations":{"gone":null,"note":"new"}}}}}"#
        ]
    );
}

#[test]
fn a_namesake_is_in_the_way_unless_it_is_leaving() {
    let stranger = member("c", &json!({"metadata": {"ownerReferences": null}}));
    let of_predecessor = json!({"metadata": {
        "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", "c", "old"),
    }});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let text = "Ready=False ReconcilerError: Error seen: sandbox \"c\" is not controlled by claim \"c\". Please use a \
                different claim name or delete the sandbox manually";
    for (namesake, age, waits) in [
        (stranger, 0, false),
        (member("c", &of_predecessor), 0, true),
        (member("c", &of_predecessor), 60, false),
        (member("c", &leaving), 0, true),
    ] {
        let plan =
            planned(&View { namesake: Some(namesake), age: Duration::from_secs(age), ..view(claim(&json!({}))) });
        assert_eq!(lines(&plan.writes), [""; 0]);
        assert_eq!(plan.status.is_none(), waits);
        if !waits {
            assert_eq!(told(&plan), [text]);
        }
    }
}

fn expiring(policy: &Value) -> Arc<SandboxClaim> {
    claim(&json!({
        "spec": {"lifecycle": {"shutdownTime": NOW, "shutdownPolicy": policy}},
        "status": {"sandbox": {"name": "m", "podIPs": ["10.0.0.1"]}},
    }))
}

#[test]
fn expiry_is_told_first_and_done_then() {
    for (policy, expected, note) in [
        (json!("Delete"), "delete SandboxClaim ns/c uid cu", "Deleting Claim (ShutdownPolicy=Delete)"),
        (
            json!("DeleteForeground"),
            "delete SandboxClaim ns/c uid cu foreground",
            "Deleting Claim (ShutdownPolicy=DeleteForeground)",
        ),
        (json!("Retain"), "delete Sandbox ns/m uid uid-m", ""),
        (json!(null), "delete Sandbox ns/m uid uid-m", ""),
    ] {
        let sandbox = taken("m", &json!({}));
        let view = View { owned: vec![Arc::clone(&sandbox)], bound: Some(sandbox), ..view(expiring(&policy)) };
        let first = planned(&view);
        assert_eq!(lines(&first.writes), [""; 0]);
        assert_eq!(told(&first), ["Ready=False ClaimExpired: Claim expired. Sandbox cleanup initiated."]);
        assert_eq!(first.notices[0].note, "Claim expired");
        let second = planned(&after_status(view, &first));
        assert_eq!(lines(&second.writes), [expected]);
        assert_eq!(second.notices.first().map(|notice| notice.note.as_str()).unwrap_or_default(), note);
    }
}

#[test]
fn a_retained_claim_loses_its_sandbox_and_keeps_that_it_finished() {
    let finished = json!({"type": "Finished", "status": "True", "reason": "PodSucceeded",
        "message": "Pod completed successfully", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let expired = claim(&json!({
        "spec": {"lifecycle": {"ttlSecondsAfterFinished": 0}},
        "status": {"sandbox": {"name": "m"}, "conditions": [finished]},
    }));
    let first = planned(&view(Arc::clone(&expired)));
    let told_first = after_status(view(expired), &first);
    let plan = planned(&told_first);
    let status = plan.status.clone().expect("it is written");
    assert_eq!(status.sandbox, None);
    assert_eq!(
        told(&plan),
        [
            "Finished=True PodSucceeded: Pod completed successfully",
            "Ready=False ClaimExpired: Claim expired. Sandbox cleanup initiated.",
        ]
    );
    assert_eq!(planned(&after_status(told_first.clone(), &plan)), Plan::default());
    let stranger = member("m", &json!({"metadata": {"ownerReferences": null}}));
    let plan = planned(&View { bound: Some(stranger), ..told_first });
    assert!(told(&plan)[1].ends_with("is not owned by claim \"c\"; deletion skipped."), "{:?}", told(&plan));
}

#[test]
fn the_earlier_of_two_ends_counts() {
    let finished = json!({"type": "Finished", "status": "True", "reason": "PodFailed", "message": "",
        "lastTransitionTime": "2026-01-02T03:04:00Z"});
    for (shutdown, ttl, finishes, expected) in [
        (json!(null), json!(null), true, None),
        (json!("2026-01-02T03:04:25Z"), json!(null), true, Some(20)),
        (json!(null), json!(30), true, Some(25)),
        (json!(null), json!(30), false, None),
        (json!("2026-01-02T03:04:25Z"), json!(30), true, Some(20)),
        (json!("2026-01-02T03:05:25Z"), json!(30), true, Some(25)),
        (json!(null), json!(5), true, Some(0)),
    ] {
        let conditions = if finishes { json!([finished]) } else { json!([]) };
        let claim = claim(&json!({
            "spec": {"lifecycle": {"shutdownTime": shutdown, "ttlSecondsAfterFinished": ttl}},
            "status": {"conditions": conditions},
        }));
        let deadline = expiry::deadline(&claim, &claim.status.clone().expect("it has one"));
        let left = deadline.map(|deadline| deadline.duration_since(now()).as_secs());
        assert_eq!(left, expected, "{shutdown} {ttl} {finishes}");
    }
}

#[test]
fn annotations_that_tell_when_are_written_last_and_only_if_wanted() {
    let ready = View { owned: vec![taken("m", &json!({}))], ..view(claim(&json!({}))) };
    let settled = after_status(ready.clone(), &planned(&ready));
    assert_eq!(lines(&planned(&settled).writes), [""; 0]);
    let wanting = Settings { observability_annotations: true, ..settings() };
    assert_eq!(lines(&plan(&ready, &wanting).writes), [""; 0], "the status goes first");
    assert_eq!(
        lines(&plan(&settled, &wanting).writes),
        [concat!(
            r#"merge SandboxClaim ns/c {"metadata":{"annotations":{"#,
            r#""agents.x-k8s.io/controller-first-observed-at":"2026-01-02T03:03:05.000000000Z","#,
            r#""agents.x-k8s.io/claim-first-ready-at":"2026-01-02T03:04:05.000000000Z"}}}"#,
        )]
    );
}

#[test]
fn failures_are_told() {
    let view = view(claim(&json!({})));
    let write = Write::delete(&*member("m", &json!({})));
    for (error, expected) in [
        (WriteError::Other("quota".to_owned()), "ReconcilerError: Error seen: failed to delete sandbox \"m\": quota"),
        (WriteError::Invalid("bad".to_owned()), "InvalidConfiguration: failed to delete sandbox \"m\": bad"),
    ] {
        assert_eq!(told(&plan_failure(&view, &write, &error)), [format!("Ready=False {expected}")]);
    }
}

#[test]
fn a_claim_that_goes_is_left_alone() {
    let leaving = claim(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let candidates = Candidates::among(&[member("m", &json!({}))]);
    assert_eq!(planned(&View { candidates, ..view(leaving) }), Plan::default());
}
