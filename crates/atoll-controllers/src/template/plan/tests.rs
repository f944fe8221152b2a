use atoll_api::SandboxTemplate;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{controller, created, lines, object, with};

fn template(more: &Value) -> SandboxTemplate {
    let base = json!({
        "metadata": {
            "name": "t", "namespace": "ns", "uid": "tu",
            "labels": {"agents.x-k8s.io/sandbox-template-ref-hash": name_hash("t")},
        },
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "main"}]}}},
    });
    object(with(base, more))
}

fn policy_of(template: &SandboxTemplate, more: &Value) -> NetworkPolicy {
    let made = serde_json::to_value(policy(template)).expect("it is JSON");
    object(with(with(made, &json!({"metadata": {"uid": "nu"}})), more))
}

#[test]
fn a_new_template_gets_label_and_policy() {
    let plan = plan(&template(&json!({"metadata": {"labels": null}})), None, None);
    let hash = name_hash("t");
    assert_eq!(
        lines(&plan.writes),
        [
            format!(
                r#"merge SandboxTemplate ns/t {{"metadata":{{"labels":{{"agents.x-k8s.io/sandbox-template-ref-hash":"{hash}"}}}}}}"#
            ),
            "create NetworkPolicy ns/t-network-policy".to_owned(),
        ]
    );
    insta::assert_json_snapshot!(created(&plan.writes[1]));
}

#[test]
fn rules_of_the_template_are_used_verbatim() {
    let rules = json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]});
    let plan = plan(&template(&json!({"spec": {"networkPolicy": rules}})), None, None);
    let spec = created(&plan.writes[0])["spec"].clone();
    assert_eq!(
        spec,
        json!({
            "podSelector": {"matchLabels": {"agents.x-k8s.io/sandbox-template-ref-hash": name_hash("t")}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": rules["egress"],
        }),
        "no ingress rule means no ingress"
    );
}

#[test]
fn the_policy_is_kept_as_it_should_be() {
    let managed = template(&json!({}));
    let unmanaged = template(&json!({"spec": {"networkPolicyManagement": "Unmanaged"}}));
    let closed = template(&json!({"spec": {"networkPolicy": {"egress": [{"ports": [{"port": 53}]}]}}}));
    let foreign = json!({"metadata": {"ownerReferences": controller("v1", "Other", "o", "x")}});
    for (template, present, expected) in [
        (&managed, Some(policy_of(&managed, &json!({}))), None),
        (&managed, Some(policy_of(&managed, &json!({"spec": {"ingress": null}}))), Some("merge NetworkPolicy")),
        (&managed, Some(policy_of(&managed, &foreign)), None),
        (&unmanaged, Some(policy_of(&managed, &json!({}))), Some("delete NetworkPolicy ns/t-network-policy uid nu")),
        (&unmanaged, Some(policy_of(&managed, &foreign)), None),
        (&unmanaged, None, None),
        (&closed, Some(policy_of(&managed, &json!({}))), Some(r#""ingress":null"#)),
        (
            &closed,
            Some(policy_of(
                &closed,
                &json!({"spec": {"ingress": [], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]}}),
            )),
            None,
        ),
    ] {
        let plan = plan(template, present.as_ref(), None);
        let lines = lines(&plan.writes);
        assert_eq!(lines.is_empty(), expected.is_none(), "{lines:?}");
        assert!(expected.is_none_or(|expected| lines[0].contains(expected)), "{lines:?}");
    }
    let problem = plan(&managed, Some(&policy_of(&managed, &foreign)), None).problem;
    assert_eq!(
        problem.as_deref(),
        Some("refusing to update NetworkPolicy \"t-network-policy\" as it is not controlled by SandboxTemplate \"t\"")
    );
}

#[test]
fn what_is_on_its_way_out_is_left_alone() {
    let leaving = template(&json!({"metadata": {"labels": null, "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(plan(&leaving, None, None), Plan::default());
}

#[test]
fn a_name_whose_hash_is_taken_gets_no_policy() {
    let (younger, older) = (template(&json!({})), template(&json!({"metadata": {"name": "older", "uid": "o"}})));
    let plan = plan(&younger, None, Some(&older));
    assert!(plan.writes.is_empty());
    assert!(plan.problem.is_some_and(|problem| problem.contains("has the same hash")));
}

#[test]
fn conditions_are_reported_where_they_are_wanted() {
    let asked = json!({"metadata": {"annotations": {"atoll.dev/report-conditions": "true"}}});
    let reported = |template: &SandboxTemplate, policy: Option<&NetworkPolicy>, rival: Option<&SandboxTemplate>| {
        let plan = plan_and_report(template, policy, rival, crate::fixtures::now());
        let text = plan.writes.iter().find_map(|write| match write {
            Write::Merge { patch, .. } => patch["metadata"]["annotations"]["atoll.dev/conditions"].as_str(),
            _ => None,
        });
        let text = text.unwrap_or("[]");
        crate::fixtures::condition_lines(&serde_json::from_str::<Vec<_>>(text).expect("they are conditions"))
    };
    let (plain, asking) = (template(&json!({})), template(&asked));
    assert_eq!(reported(&plain, None, None), [""; 0]);
    assert_eq!(reported(&asking, None, None), ["NetworkPolicyReady=True Managed: ", "Ready=True Accepted: "]);
    let older = template(&json!({"metadata": {"name": "older", "uid": "o"}}));
    assert!(reported(&asking, None, Some(&older))[1].starts_with("Ready=False NameHashCollision: the name of"));
    let foreign = policy_of(&asking, &json!({"metadata": {"ownerReferences": null}}));
    assert!(reported(&asking, Some(&foreign), None)[0].starts_with("NetworkPolicyReady=False NotOwned: refusing"));
    let open = template(&with(asked, &json!({"spec": {"networkPolicyManagement": "Unmanaged"}})));
    assert_eq!(reported(&open, None, None)[0], "NetworkPolicyReady=False Unmanaged: no NetworkPolicy is wanted");
}
