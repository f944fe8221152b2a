use std::sync::Arc;

use atoll_api::conditions;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{condition_lines, controller, created, lines, now, object, with};
use crate::write::Target;

/// A Sandbox `ns/box` as the API server has it.
fn sandbox(more: &Value) -> Arc<Sandbox> {
    let base = json!({
        "metadata": {"name": "box", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "7"},
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "i"}]}}},
    });
    Arc::new(object(with(base, more)))
}

/// Its Pod, pending.
fn pod(more: &Value) -> Arc<k8s_openapi::api::core::v1::Pod> {
    let base = json!({
        "metadata": {
            "name": "box", "namespace": "ns", "uid": "p", "resourceVersion": "8",
            "labels": {"agents.x-k8s.io/sandbox-name-hash": atoll_stdx::name_hash("box")},
            "ownerReferences": controller("agents.x-k8s.io/v1beta1", "Sandbox", "box", "u"),
        },
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Pending"},
    });
    Arc::new(object(with(base, more)))
}

fn ready_pod(more: &Value) -> Arc<k8s_openapi::api::core::v1::Pod> {
    pod(&with(
        json!({
            "spec": {"nodeName": "n"},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": "True"},
                ],
            },
        }),
        more,
    ))
}

fn service(more: &Value) -> Arc<k8s_openapi::api::core::v1::Service> {
    let hash = atoll_stdx::name_hash("box");
    let base = json!({
        "metadata": {
            "name": "box", "namespace": "ns", "uid": "s", "resourceVersion": "9",
            "labels": {"agents.x-k8s.io/sandbox-name-hash": hash},
            "ownerReferences": controller("agents.x-k8s.io/v1beta1", "Sandbox", "box", "u"),
        },
        "spec": {"clusterIP": "None", "selector": {"agents.x-k8s.io/sandbox-name-hash": hash}},
    });
    Arc::new(object(with(base, more)))
}

fn view(sandbox: Arc<Sandbox>) -> View {
    let volume_claims = sandbox.spec.volume_claim_templates.iter().map(|_| None).collect();
    View {
        sandbox,
        owned_pods: Vec::new(),
        named_pod: None,
        service: None,
        volume_claims,
        rival: None,
        age: Duration::from_secs(60),
        now: now(),
    }
}

fn view_with_pod(sandbox: Arc<Sandbox>, pod: Arc<k8s_openapi::api::core::v1::Pod>) -> View {
    let owned = is_controlled_by(&pod.metadata, &*sandbox);
    View { owned_pods: if owned { vec![Arc::clone(&pod)] } else { Vec::new() }, named_pod: Some(pod), ..view(sandbox) }
}

fn settings() -> Settings {
    Settings {
        cluster_domain: "cluster.local".to_owned(),
        evictable: true,
        first_status_window: Duration::from_secs(1),
    }
}

fn planned(view: &View) -> Plan {
    plan(view, &settings())
}

/// The conditions that the plan writes.
fn told(plan: &Plan) -> Vec<String> {
    condition_lines(&plan.status.as_ref().expect("it writes a status").conditions)
}

/// Two plans: what the first one's status was is in the second one's view.
fn after_status(mut view: View, plan: &Plan) -> View {
    let mut sandbox = (*view.sandbox).clone();
    sandbox.status.clone_from(&plan.status);
    view.sandbox = Arc::new(sandbox);
    view
}

#[test]
fn a_new_sandbox_gets_its_children_in_order() {
    let sandbox = sandbox(&json!({"spec": {
        "service": true,
        "volumeClaimTemplates": [
            {"metadata": {"name": "data", "labels": {"l": "1"}, "annotations": {"a": "2"}}, "spec": {"storageClassName": "x"}},
        ],
        "podTemplate": {
            "metadata": {
                "labels": {"team": "red", "agents.x-k8s.io/claim-uid": "forged"},
                "annotations": {"note": "n", "opentelemetry.io/trace-context": "{}"},
            },
            "spec": {
                "containers": [{"name": "main", "ports": [
                    {"containerPort": 80, "name": "web"}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80},
                ]}],
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "ports": [{"containerPort": 81, "name": "web"}]},
                    {"name": "once", "ports": [{"containerPort": 82}]},
                ],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "other", "emptyDir": {}}],
            },
        },
    }}));
    let plan = planned(&view(sandbox));
    assert_eq!(
        lines(&plan.writes),
        ["create PersistentVolumeClaim ns/data-box", "create Pod ns/box", "create Service ns/box"]
    );
    insta::assert_json_snapshot!(plan.writes.iter().map(created).collect::<Vec<_>>());
}

#[test]
fn readiness_follows_the_pod_and_the_service() {
    let phase = |phase: &str| pod(&json!({"status": {"phase": phase}}));
    let running = |ready: &str, ips: Value| {
        pod(&json!({"status": {"phase": "Running", "podIPs": ips, "conditions": [{"type": "Ready", "status": ready}]}}))
    };
    let ips = json!([{"ip": "10.0.0.1"}]);
    for (pod, wanted, exists, expected) in [
        (Some(phase("Pending")), None, false, "False DependenciesNotReady: Pod exists with phase: Pending"),
        (Some(phase("Unknown")), None, false, "False DependenciesNotReady: Pod exists with phase: Unknown"),
        (Some(phase("Running")), None, false, "False DependenciesNotReady: Pod is Running but not Ready"),
        (Some(running("False", ips.clone())), None, false, "False DependenciesNotReady: Pod is Running but not Ready"),
        (
            Some(running("True", json!([]))),
            None,
            false,
            "False DependenciesNotReady: Pod is Ready but has no podIPs yet",
        ),
        (Some(running("True", ips.clone())), None, false, "True DependenciesReady: Pod is Ready"),
        (Some(running("True", ips.clone())), Some(true), true, "True DependenciesReady: Pod is Ready; Service Exists"),
        (Some(running("True", ips.clone())), None, true, "True DependenciesReady: Pod is Ready; Service Exists"),
        (
            Some(running("True", ips.clone())),
            Some(true),
            false,
            "False DependenciesNotReady: Pod is Ready; Service does not exist",
        ),
        (
            Some(phase("Pending")),
            Some(true),
            true,
            "False DependenciesNotReady: Pod exists with phase: Pending; Service Exists",
        ),
        (None, None, false, "False DependenciesNotReady: Pod does not exist"),
        (Some(phase("Succeeded")), Some(true), false, "False PodSucceeded: Pod completed successfully"),
        (Some(phase("Failed")), None, false, "False PodFailed: Pod failed"),
    ] {
        let sandbox = sandbox(&json!({"spec": {"service": wanted}}));
        let facts = Facts {
            sandbox: &sandbox,
            pod: pod.as_deref(),
            pod_unclear: false,
            service_exists: exists,
            problem: None,
            cluster_domain: "cluster.local",
            now: now(),
        };
        let status = facts.status();
        let ready = conditions::find(&status.conditions, "Ready").expect("it is always there");
        assert_eq!(format!("{} {}: {}", ready.status, ready.reason, ready.message), expected);
        assert_eq!(ready.observed_generation, Some(1));
        assert_eq!(status.service_fqdn.as_deref(), exists.then_some("box.ns.svc.cluster.local"));
    }
}

#[test]
fn a_ready_sandbox_tells_everything_in_one_status() {
    let sandbox = sandbox(&json!({"spec": {"service": true}}));
    let view = View { service: Some(service(&json!({}))), ..view_with_pod(sandbox, ready_pod(&json!({}))) };
    let plan = planned(&view);
    assert_eq!(lines(&plan.writes), [""; 0]);
    insta::assert_json_snapshot!(plan.status);
    assert_eq!(planned(&after_status(view, &plan)), Plan::default(), "then there is nothing left to do");
}

#[test]
fn a_first_status_waits_a_moment_for_a_quick_start() {
    let young = View { age: Duration::from_millis(300), ..view_with_pod(sandbox(&json!({})), pod(&json!({}))) };
    let plan = planned(&young);
    assert_eq!((plan.status, plan.again), (None, Some(Duration::from_millis(700))));
    let old = View { age: Duration::from_secs(1), ..young.clone() };
    assert_eq!(
        told(&planned(&old)),
        [
            "PodScheduled=Unknown PodSchedulingUnknown: Pod has not reported a PodScheduled condition yet",
            "Ready=False DependenciesNotReady: Pod exists with phase: Pending",
            "Suspended=False NotSuspended: Sandbox is not suspended",
        ]
    );
    let ready = View { age: Duration::from_millis(1), ..view_with_pod(sandbox(&json!({})), ready_pod(&json!({}))) };
    assert!(planned(&ready).status.is_some(), "what is good is told at once");
    let failed = pod(&json!({"status": {"phase": "Failed"}}));
    let failed = View { age: Duration::from_millis(1), ..view_with_pod(sandbox(&json!({})), failed) };
    assert!(planned(&failed).status.is_some(), "what is over is told at once");
}

#[test]
fn a_node_alone_is_not_worth_a_write() {
    let sandbox = sandbox(&json!({}));
    let before = view_with_pod(sandbox, pod(&json!({})));
    let before = after_status(before.clone(), &planned(&before));
    let with_node = view_with_pod(Arc::clone(&before.sandbox), pod(&json!({"spec": {"nodeName": "n"}})));
    assert_eq!(planned(&with_node), Plan::default());
    let scheduled = pod(&json!({
        "spec": {"nodeName": "n"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
    }));
    let plan = planned(&view_with_pod(before.sandbox, scheduled));
    assert_eq!(told(&plan)[0], "PodScheduled=True PodScheduled: ");
    assert_eq!(plan.status.expect("it is written").node_name.as_deref(), Some("n"));
}

#[test]
fn scheduling_is_mirrored_from_the_own_pod() {
    for (condition, expected) in [
        (json!({"status": "True"}), Some("PodScheduled=True PodScheduled: ")),
        (
            json!({"status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}),
            Some("PodScheduled=False Unschedulable: 0/1 nodes are available"),
        ),
        (json!({"status": "False"}), Some("PodScheduled=False PodSchedulingUnknown: ")),
    ] {
        let condition = with(json!({"type": "PodScheduled"}), &condition);
        let pod = pod(&json!({"status": {"conditions": [condition]}}));
        let plan = planned(&view_with_pod(sandbox(&json!({})), pod));
        assert_eq!(told(&plan).first().map(String::as_str), expected);
    }
}

#[test]
fn suspending_deletes_the_pod_and_tells_when_it_is_gone() {
    let suspended = sandbox(&json!({"metadata": {"generation": 2}, "spec": {"operatingMode": "Suspended"}}));
    let running = view_with_pod(Arc::clone(&suspended), ready_pod(&json!({})));
    assert_eq!(lines(&planned(&running).writes), ["delete Pod ns/box uid p"]);

    let leaving = ready_pod(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let plan = planned(&view_with_pod(Arc::clone(&suspended), leaving));
    assert_eq!(lines(&plan.writes), [""; 0]);
    assert_eq!(
        told(&plan),
        [
            "PodScheduled=True PodScheduled: ",
            "Ready=False SandboxSuspended: Sandbox is suspending",
            "Suspended=False PodTerminating: Pod is terminating. Sandbox is suspending",
        ]
    );

    let gone = planned(&view(Arc::clone(&suspended)));
    assert_eq!(
        told(&gone),
        [
            "Ready=False SandboxSuspended: Sandbox is suspended",
            "Suspended=True PodTerminated: Pod has been terminated. Sandbox is suspended",
        ]
    );
    let status = gone.status.clone().expect("it is written");
    assert_eq!((status.pod_ips, status.node_name), (Vec::new(), None));
    assert_eq!(planned(&after_status(view(suspended), &gone)), Plan::default());
}

#[test]
fn a_service_and_volumes_survive_suspension() {
    let suspended = sandbox(&json!({"spec": {
        "operatingMode": "Suspended",
        "service": true,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
    }}));
    let claim = object(json!({"metadata": {
        "name": "data-box", "namespace": "ns", "uid": "c",
        "ownerReferences": controller("agents.x-k8s.io/v1beta1", "Sandbox", "box", "u"),
    }}));
    let view =
        View { service: Some(service(&json!({}))), volume_claims: vec![Some(Arc::new(claim))], ..view(suspended) };
    let plan = planned(&view);
    assert_eq!(lines(&plan.writes), [""; 0]);
    assert_eq!(plan.status.expect("it is written").service.as_deref(), Some("box"));
}

#[test]
fn the_selector_stays_once_there_was_a_pod() {
    let first = view_with_pod(sandbox(&json!({})), ready_pod(&json!({})));
    let first = after_status(first.clone(), &planned(&first));
    let mut suspended = (*first.sandbox).clone();
    suspended.spec.operating_mode = Some(atoll_api::sandbox::OperatingMode::Suspended);
    let status = planned(&view(Arc::new(suspended))).status.expect("it is written");
    let expected = format!("agents.x-k8s.io/sandbox-name-hash={}", atoll_stdx::name_hash("box"));
    assert_eq!(status.selector, Some(expected));
}

#[test]
fn the_time_of_a_transition_moves_with_the_status_alone() {
    let old = json!({"type": "Ready", "status": "False", "reason": "DependenciesNotReady", "message": "m",
        "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": 1});
    let sandbox = sandbox(&json!({"status": {"conditions": [old]}}));
    let time = |plan: &Plan| {
        let status = plan.status.clone().expect("it is written");
        conditions::find(&status.conditions, "Ready").expect("it is there").last_transition_time.0
    };
    let still_not = planned(&view_with_pod(Arc::clone(&sandbox), pod(&json!({}))));
    assert_eq!(time(&still_not).to_string(), "2025-01-01T00:00:00Z");
    let ready = planned(&view_with_pod(sandbox, ready_pod(&json!({}))));
    assert_eq!(time(&ready), now());
}

#[test]
fn pods_that_are_not_ours_are_left_alone() {
    let foreign = json!({"metadata": {"ownerReferences": controller("apps/v1", "ReplicaSet", "r", "x")}});
    let unowned = json!({"metadata": {"ownerReferences": null, "labels": {"agents.x-k8s.io/sandbox-name-hash": null}}});
    let adoptable = with(unowned.clone(), &json!({"metadata": {"labels": {"agents.x-k8s.io/adoptable": "true"}}}));
    let tracked = json!({"metadata": {"ownerReferences": null}});
    for (running, more, writes, ready) in [
        (
            true,
            &foreign,
            0,
            "ReconcilerError: Error seen: pod \"box\" is owned by ReplicaSet/r (UID: x), not by sandbox \"box\"",
        ),
        (
            true,
            &unowned,
            0,
            "ReconcilerError: Error seen: cannot adopt unowned pod \"box\": missing required pool authorization label \
             (\"agents.x-k8s.io/adoptable\") or sandbox tracking label (\"agents.x-k8s.io/sandbox-name-hash\")",
        ),
        (true, &adoptable, 1, "DependenciesNotReady: Pod exists with phase: Pending"),
        (true, &tracked, 1, "DependenciesNotReady: Pod exists with phase: Pending"),
        (false, &foreign, 0, "SandboxSuspended: Sandbox is suspending"),
        (false, &unowned, 0, "SandboxSuspended: Sandbox is suspending"),
    ] {
        let mode = if running { "Running" } else { "Suspended" };
        let sandbox = sandbox(&json!({"spec": {"operatingMode": mode}}));
        let plan = planned(&view_with_pod(sandbox, pod(more)));
        assert_eq!(plan.writes.len(), writes, "{mode} {more}");
        let told = told(&plan);
        assert!(told.contains(&format!("Ready=False {ready}")), "{mode} {more}: {told:#?}");
        if !running {
            let refused = "Suspended=False PodNotOwned: Refused to delete pod because it is not owned by this sandbox";
            assert!(told.iter().any(|line| line == refused), "{told:#?}");
            assert!(!told.iter().any(|line| line.starts_with("PodScheduled")), "{told:#?}");
        }
    }
}

#[test]
fn a_pod_is_taken_over_with_its_other_owners() {
    let other = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "x"}]);
    let pod = pod(&json!({"metadata": {"ownerReferences": other}}));
    let plan = planned(&view_with_pod(sandbox(&json!({})), pod));
    assert_eq!(
        lines(&plan.writes),
        [
            r#"merge Pod ns/box {"metadata":{"resourceVersion":"8","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"c","uid":"x"},{"apiVersion":"agents.x-k8s.io/v1beta1","blockOwnerDeletion":true,"controller":true,"kind":"Sandbox","name":"box","uid":"u"}]}}"#
        ]
    );
}

#[test]
fn a_name_whose_hash_is_taken_gets_no_children() {
    let rival = || Some(sandbox(&json!({"metadata": {"name": "older", "uid": "r"}})));
    let wanted = sandbox(&json!({"spec": {"service": true}}));
    let plan = planned(&View { rival: rival(), ..view(Arc::clone(&wanted)) });
    assert_eq!(lines(&plan.writes), [""; 0]);
    assert!(
        told(&plan)[0].starts_with("Ready=False InvalidConfiguration: the name has the same hash as that of sandbox"),
        "{:?}",
        told(&plan)
    );
    let before = planned(&View { rival: rival(), ..view_with_pod(sandbox(&json!({})), ready_pod(&json!({}))) });
    assert!(told(&before).iter().any(|line| line.starts_with("Ready=True")), "what runs already is left alone");
    assert!(!planned(&view(wanted)).writes.is_empty(), "without the other it gets them");
}

#[test]
fn two_pods_are_one_too_many() {
    let other = ready_pod(&json!({"metadata": {"name": "other", "uid": "q"}}));
    let view = View {
        owned_pods: vec![ready_pod(&json!({})), other],
        ..view_with_pod(sandbox(&json!({})), ready_pod(&json!({})))
    };
    let plan = planned(&view);
    assert_eq!(lines(&plan.writes), [""; 0]);
    assert_eq!(
        told(&plan),
        [
            "PodScheduled=Unknown PodSchedulingUnknown: Pod state is unknown. Pod scheduling cannot be determined",
            "Ready=False MultiplePods: multiple Pods (2) are controlled by this Sandbox; refusing to choose or create a Pod",
            "Suspended=False NotSuspended: Sandbox is not suspended",
        ]
    );
    assert_eq!(plan.notices.len(), 1);
    assert!(planned(&after_status(view.clone(), &plan)).notices.is_empty(), "it is told once");
    let mut suspended = (*view.sandbox).clone();
    suspended.spec.operating_mode = Some(atoll_api::sandbox::OperatingMode::Suspended);
    let told = told(&planned(&View { sandbox: Arc::new(suspended), ..view }));
    assert!(told.contains(
        &"Suspended=Unknown PodStateUnknown: Pod state is unknown. Sandbox suspension cannot be confirmed".to_owned()
    ));
}

#[test]
fn a_pod_that_ended_is_never_started_again() {
    let plan = planned(&view_with_pod(sandbox(&json!({})), pod(&json!({"status": {"phase": "Failed"}}))));
    assert_eq!(lines(&plan.writes), [""; 0]);
    assert!(told(&plan).contains(&"Finished=True PodFailed: Pod failed".to_owned()));
}

#[test]
fn a_pod_that_is_gone_is_made_again() {
    let first = view_with_pod(sandbox(&json!({})), ready_pod(&json!({})));
    let first = after_status(first.clone(), &planned(&first));
    assert_eq!(lines(&planned(&view(first.sandbox)).writes), ["create Pod ns/box"]);
}

#[test]
fn the_pods_metadata_follows_the_template() {
    let present = json!({"metadata": {
        "labels": {
            "team": "red", "mine": "1", "other": "kept",
            "agents.x-k8s.io/warm-pool-sandbox": "pool", "agents.x-k8s.io/created-by": "controller",
        },
        "annotations": {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "true", "kept": "yes",
            "agents.x-k8s.io/propagated-labels": "mine,team",
            "agents.x-k8s.io/propagated-annotations": "cluster-autoscaler.kubernetes.io/safe-to-evict",
        },
    }});
    let claimed = sandbox(&json!({
        "metadata": {
            "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", "c", "cu"),
            "labels": {
                "agents.x-k8s.io/claim-uid": "cu", "agents.x-k8s.io/created-by": "python-client",
                "agents.x-k8s.io/sandbox-template-ref-hash": "t",
            },
        },
        "spec": {"podTemplate": {"metadata": {"labels": {"team": "blue"}}}},
    }));
    let view = view_with_pod(claimed, pod(&present));
    assert_eq!(
        lines(&planned(&view).writes),
        [concat!(
            r#"merge Pod ns/box {"metadata":{"labels":{"agents.x-k8s.io/created-by":"python-client","#,
            r#""agents.x-k8s.io/sandbox-template-ref-hash":"t","team":"blue","agents.x-k8s.io/warm-pool-sandbox":null,"#,
            r#""mine":null},"annotations":{"agents.x-k8s.io/propagated-labels":"team","#,
            r#""agents.x-k8s.io/propagated-annotations":null,"cluster-autoscaler.kubernetes.io/safe-to-evict":null}}}"#,
        )]
    );
}

#[test]
fn an_idle_members_pod_is_marked() {
    let member = |annotations: Value| {
        sandbox(&json!({
            "metadata": {
                "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "p", "pu"),
                "labels": {
                    "agents.x-k8s.io/warm-pool-sandbox": "pool", "agents.x-k8s.io/created-by": "controller",
                    "agents.x-k8s.io/sandbox-template-ref-hash": "t", "agents.x-k8s.io/sandbox-template-hash": "b",
                },
            },
            "spec": {"podTemplate": {"metadata": {"annotations": annotations}}},
        }))
    };
    let metadata = |sandbox: Arc<Sandbox>, evictable: bool| {
        let settings = Settings { evictable, ..settings() };
        created(&plan(&view(sandbox), &settings).writes[0])["metadata"].clone()
    };
    let marked = metadata(member(json!({})), true);
    assert_eq!(
        marked["labels"],
        json!({
            "agents.x-k8s.io/created-by": "controller",
            "agents.x-k8s.io/sandbox-name-hash": atoll_stdx::name_hash("box"),
            "agents.x-k8s.io/sandbox-template-ref-hash": "t",
            "agents.x-k8s.io/warm-pool-sandbox": "pool",
        })
    );
    let safe_to_evict = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    assert_eq!(marked["annotations"][safe_to_evict], "true");
    assert_eq!(metadata(member(json!({safe_to_evict: "false"})), true)["annotations"][safe_to_evict], "false");
    assert_eq!(metadata(member(json!({})), false)["annotations"], Value::Null);
}

#[test]
fn volume_claims_of_others_are_not_used() {
    let sandbox = sandbox(&json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}}));
    let claim = |metadata: &Value| {
        let base = json!({"metadata": {"name": "data-box", "namespace": "ns", "uid": "c", "resourceVersion": "3"}});
        Some(Arc::new(object(with(base, &json!({"metadata": metadata})))))
    };
    let foreign = claim(&json!({"ownerReferences": controller("v1", "Other", "o", "x")}));
    let plan =
        planned(&View { volume_claims: vec![foreign], ..view_with_pod(Arc::clone(&sandbox), ready_pod(&json!({}))) });
    assert_eq!(
        told(&plan)[1],
        "Ready=False ReconcilerError: Error seen: PVC \"data-box\" is owned by Other/o (UID: x), not by sandbox \"box\""
    );
    for (metadata, adopted) in [
        (json!({"labels": {"agents.x-k8s.io/adoptable": "true"}}), true),
        (json!({"labels": {"agents.x-k8s.io/sandbox-name-hash": atoll_stdx::name_hash("box")}}), true),
        (json!({"labels": {"agents.x-k8s.io/sandbox-name-hash": "00000000"}}), false),
        (json!({}), false),
    ] {
        let view = View {
            volume_claims: vec![claim(&metadata)],
            ..view_with_pod(Arc::clone(&sandbox), ready_pod(&json!({})))
        };
        assert_eq!(!planned(&view).writes.is_empty(), adopted, "{metadata}");
    }
}

#[test]
fn the_service_is_as_it_is_asked_for() {
    let ours = json!({});
    let foreign = json!({"metadata": {"ownerReferences": controller("v1", "Other", "o", "x")}});
    let unowned = json!({"metadata": {"ownerReferences": null}});
    let with_ip = with(unowned.clone(), &json!({"spec": {"clusterIP": "10.1.2.3"}}));
    let stray = json!({"spec": {"selector": {"agents.x-k8s.io/sandbox-name-hash": "wrong", "more": "1"}}});
    let ported = json!({"spec": {"ports": [{"port": 99, "protocol": "TCP", "name": "x", "targetPort": 99}]}});
    let hash = atoll_stdx::name_hash("box");
    let repaired = format!(
        r#"merge Service ns/box {{"spec":{{"selector":{{"more":null,"agents.x-k8s.io/sandbox-name-hash":"{hash}"}}}}}}"#
    );
    for (wanted, present, write, exists) in [
        (None, None, None, false),
        (Some(false), None, None, false),
        (Some(true), None, Some("create Service ns/box"), false),
        (None, Some(&ours), None, true),
        (Some(true), Some(&ours), None, true),
        (Some(false), Some(&ours), Some("delete Service ns/box uid s"), false),
        (None, Some(&foreign), None, false),
        (Some(false), Some(&foreign), None, false),
        (Some(true), Some(&foreign), None, false),
        (Some(true), Some(&with_ip), None, false),
        (None, Some(&stray), Some(repaired.as_str()), true),
        (None, Some(&ported), None, true),
        (Some(true), Some(&ported), Some(r#"merge Service ns/box {"spec":{"ports":[]}}"#), true),
    ] {
        let sandbox = sandbox(&json!({"spec": {"service": wanted}}));
        let view = View { service: present.map(service), ..view_with_pod(sandbox, ready_pod(&json!({}))) };
        let plan = planned(&view);
        assert_eq!(lines(&plan.writes).first().map(String::as_str), write, "{wanted:?} {present:?}");
        let status = plan.status.expect("it is written");
        assert_eq!(status.service.is_some(), exists, "{wanted:?} {present:?}");
    }
    let sandbox = sandbox(&json!({"spec": {"service": true}}));
    let taken = View { service: Some(service(&unowned)), ..view_with_pod(sandbox, ready_pod(&json!({}))) };
    assert!(lines(&planned(&taken).writes)[0].contains("ownerReferences"));
}

#[test]
fn expiry_is_told_first_and_done_then() {
    for (policy, deletes) in [
        (json!(null), vec!["delete Pod ns/box uid p", "delete Service ns/box uid s"]),
        (json!("Retain"), vec!["delete Pod ns/box uid p", "delete Service ns/box uid s"]),
        (
            json!("Delete"),
            vec!["delete Pod ns/box uid p", "delete Service ns/box uid s", "delete Sandbox ns/box uid u"],
        ),
    ] {
        let sandbox = sandbox(&json!({
            "spec": {"shutdownTime": crate::fixtures::NOW, "shutdownPolicy": policy},
            "status": {
                "service": "box", "serviceFQDN": "f", "selector": "s", "podIPs": ["10.0.0.1"], "nodeName": "n",
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "reason": "PodScheduled", "message": "",
                     "lastTransitionTime": "2025-01-01T00:00:00Z"},
                    {"type": "Finished", "status": "True", "reason": "PodSucceeded", "message": "Pod completed successfully",
                     "lastTransitionTime": "2025-01-01T00:00:00Z"},
                ],
            },
        }));
        let view = View { service: Some(service(&json!({}))), ..view_with_pod(sandbox, ready_pod(&json!({}))) };
        let first = planned(&view);
        assert_eq!(lines(&first.writes), [""; 0]);
        let conditions = [
            "Finished=True PodSucceeded: Pod completed successfully",
            "Ready=False SandboxExpired: Sandbox has expired",
        ];
        assert_eq!(told(&first), conditions);
        let second = planned(&after_status(view, &first));
        assert_eq!(lines(&second.writes), deletes, "{policy}");
        if policy != "Delete" {
            assert_eq!(told(&second), conditions);
            let status = second.status.expect("it is written");
            assert_eq!(status, SandboxStatus { conditions: status.conditions.clone(), ..SandboxStatus::default() });
        }
    }
}

#[test]
fn children_of_others_survive_expiry() {
    let sandbox = sandbox(&json!({
        "spec": {"shutdownTime": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "SandboxExpired",
            "message": "Sandbox has expired", "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": 1}]},
    }));
    let foreign = json!({"metadata": {"ownerReferences": controller("v1", "Other", "o", "x")}});
    let view = View { service: Some(service(&foreign)), ..view_with_pod(sandbox, pod(&foreign)) };
    assert_eq!(planned(&view), Plan::default());
}

#[test]
fn time_that_is_not_over_is_waited_for_and_moved_time_revives() {
    let sandbox = sandbox(&json!({
        "spec": {"shutdownTime": "2026-01-02T03:04:15Z"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "SandboxExpired",
            "message": "Sandbox has expired", "lastTransitionTime": "2025-01-01T00:00:00Z"}]},
    }));
    let plan = planned(&view(sandbox));
    assert_eq!(lines(&plan.writes), ["create Pod ns/box"]);
    assert_eq!(plan.again, Some(Duration::from_secs(10)));
}

#[test]
fn failures_are_told() {
    let view = view(sandbox(&json!({})));
    let write = Write::delete(&*pod(&json!({})));
    for (error, expected) in [
        (
            WriteError::Other("quota".to_owned()),
            "Ready=False ReconcilerError: Error seen: failed to delete pod \"box\": quota",
        ),
        (
            WriteError::Invalid("bad name".to_owned()),
            "Ready=False InvalidConfiguration: failed to delete pod \"box\": bad name",
        ),
    ] {
        let plan = plan_failure(&view, &settings(), &write, &error);
        assert!(plan.writes.is_empty());
        assert!(told(&plan).contains(&expected.to_owned()), "{:?}", told(&plan));
    }
}

#[test]
fn what_is_on_its_way_out_is_left_alone() {
    let leaving = sandbox(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(planned(&view(Arc::clone(&leaving))), Plan::default());
    let write = Write::Delete {
        target: Target::of(&*leaving),
        resource_version: None,
        propagation: crate::write::Propagation::Background,
    };
    assert_eq!(plan_failure(&view(leaving), &settings(), &write, &WriteError::Conflict), Plan::default());
}
