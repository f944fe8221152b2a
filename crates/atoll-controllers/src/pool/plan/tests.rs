use std::sync::Arc;

use atoll_api::SandboxWarmPool;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{controller, lines, object, with};
use crate::pool::memory::Recollection;

fn pool(more: &Value) -> Arc<SandboxWarmPool> {
    let base = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "pu", "generation": 3},
        "spec": {"replicas": 3, "sandboxTemplateRef": {"name": "t"}},
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

/// The member that the pool would make of the template, with a name.
fn member_of(template: &SandboxTemplate, name: &str) -> Member {
    let view = View { template: Some(Arc::new(template.clone())), ..view(pool(&json!({})), Vec::new()) };
    let mut sandbox = new_member(&view, template);
    sandbox.metadata.name = Some(name.to_owned());
    sandbox.metadata.uid = Some(format!("uid-{name}"));
    sandbox.metadata.resource_version = Some("5".to_owned());
    Member {
        sandbox: Arc::new(sandbox),
        ready: true,
        terminating: false,
        age: Duration::from_secs(10),
        unschedulable: false,
    }
}

fn member(name: &str) -> Member {
    member_of(&template(&json!({})), name)
}

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|number| member(&format!("m{number}"))).collect()
}

/// A pool that has long had the status that it should have.
fn view(pool: Arc<SandboxWarmPool>, members: Vec<Member>) -> View {
    let mut view = View {
        pool,
        template: Some(template(&json!({}))),
        template_rival: None,
        members,
        strangers: Vec::new(),
        waiting_claims: 0,
        now: crate::fixtures::now(),
        recollection: Recollection { filled: true, short_for: Duration::ZERO, ..Recollection::default() },
    };
    let mut pool = (*view.pool).clone();
    pool.status = Some(view.status());
    view.pool = Arc::new(pool);
    view
}

fn settings() -> Settings {
    Settings::from(&ControllersConfig::default())
}

fn planned(view: &View) -> Plan {
    plan(view, &settings())
}

fn creates(plan: &Plan) -> usize {
    plan.creates.as_ref().map_or(0, |(count, _)| *count)
}

#[test]
fn a_member_carries_its_blueprint() {
    let template = template(&json!({"spec": {
        "service": true,
        "podTemplate": {"metadata": {"labels": {"team": "red"}}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
    }}));
    let view = View { template: Some(template), ..view(pool(&json!({})), Vec::new()) };
    let (count, like) = planned(&view).creates.expect("members are missing");
    assert_eq!(count, 3);
    insta::assert_json_snapshot!(like);
}

#[test]
fn as_many_members_are_made_as_are_missing() {
    for (replicas, present, terminating, expected) in
        [(3, 0, 0, 3), (3, 2, 0, 1), (3, 3, 0, 0), (3, 1, 2, 0), (3, 1, 1, 1), (0, 0, 0, 0), (1000, 0, 0, 300)]
    {
        let mut all = members(present + terminating);
        for member in all.iter_mut().take(terminating) {
            member.terminating = true;
        }
        let plan = planned(&view(pool(&json!({"spec": {"replicas": replicas}})), all));
        assert_eq!(creates(&plan), expected, "{replicas} {present} {terminating}");
        assert_eq!(lines(&plan.deletes), [""; 0]);
    }
}

#[test]
fn what_the_pool_did_not_make_goes_after_a_while() {
    let stranger = |seconds| (member("forged").sandbox, Duration::from_secs(seconds));
    for (known_for, deletes, again) in [(0, 0, Some(30)), (29, 0, Some(1)), (30, 1, None)] {
        let view = View { strangers: vec![stranger(known_for)], ..view(pool(&json!({})), members(3)) };
        let plan = planned(&view);
        assert_eq!((plan.deletes.len(), plan.again), (deletes, again.map(Duration::from_secs)), "{known_for} s");
    }
}

#[test]
fn a_template_whose_hash_is_taken_makes_no_members() {
    let rival = Some(template(&json!({"metadata": {"name": "older"}})));
    let view = View { template_rival: rival, ..view(pool(&json!({})), members(1)) };
    assert_eq!(creates(&planned(&view)), 0);
}

#[test]
fn conditions_are_reported_where_they_are_wanted() {
    let asked = json!({"metadata": {"annotations": {"atoll.dev/report-conditions": "true"}}});
    let told = |view: &View| {
        let Some(Write::Merge { patch, .. }) = planned(view).report else { panic!("{:?}", planned(view)) };
        let text = patch["metadata"]["annotations"]["atoll.dev/conditions"].as_str().expect("it is text").to_owned();
        let conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> =
            serde_json::from_str(&text).expect("they are conditions");
        (crate::fixtures::condition_lines(&conditions), text)
    };
    assert_eq!(planned(&view(pool(&json!({})), members(3))).report, None, "nobody asks");
    let complete = view(pool(&asked), members(3));
    let (lines, text) = told(&complete);
    assert_eq!(lines, ["Progressing=False Complete: 3 members", "Ready=True Complete: 3 of 3 members are Ready"]);
    let known = with(asked.clone(), &json!({"metadata": {"annotations": {"atoll.dev/conditions": text}}}));
    assert_eq!(planned(&view(pool(&known), members(3))).report, None, "it is said once");

    let patient = Recollection { differs_for: Duration::from_secs(9), ..Recollection::default() };
    let of = |more: View| told(&View { recollection: patient, ..more }).0[0].clone();
    let missing = view(pool(&asked), members(1));
    assert_eq!(of(missing), "Progressing=True Filling: 2 members are missing");
    let lost = View { template: None, ..view(pool(&asked), members(3)) };
    assert_eq!(of(lost), "Progressing=False TemplateNotFound: SandboxTemplate \"t\" not found");
    let full = vec![Member { ready: false, unschedulable: true, ..member("m") }];
    assert_eq!(of(view(pool(&asked), full)), "Progressing=False Unschedulable: no node has room for 1 members");
    let changed = json!({"spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "new"}]}}}});
    let outdated = View { template: Some(template(&changed)), ..view(pool(&asked), members(3)) };
    assert_eq!(of(outdated), "Progressing=False Complete: 3 members; 3 are out of date and will be handed out");
}

#[test]
fn without_a_template_nothing_is_made() {
    let view = View { template: None, ..view(pool(&json!({})), members(1)) };
    assert_eq!(planned(&view), Plan::default());
}

#[test]
fn a_pool_that_goes_does_nothing() {
    let pool = pool(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(planned(&view(pool, Vec::new())), Plan::default());
}

#[test]
fn claims_are_served_before_the_pool_is_refilled() {
    let short = |filled: bool, waiting_claims: usize, short_for: u64| {
        let recollection =
            Recollection { filled, short_for: Duration::from_millis(short_for), ..Recollection::default() };
        View { waiting_claims, recollection, ..view(pool(&json!({})), members(1)) }
    };
    for (filled, waiting, short_for, expected) in
        [(true, 0, 0, 2), (true, 4, 0, 0), (true, 4, 999, 0), (true, 4, 1_000, 2), (false, 4, 0, 2)]
    {
        let plan = planned(&short(filled, waiting, short_for));
        assert_eq!(creates(&plan), expected, "{filled} {waiting} {short_for}");
    }
    assert_eq!(planned(&short(true, 4, 400)).again, Some(Duration::from_millis(600)));
}

#[test]
fn what_is_too_much_goes_unready_first_and_newest_first() {
    let mut all = members(5);
    for (member, (created, ready)) in
        all.iter_mut().zip([("01", true), ("05", true), ("03", true), ("02", false), ("04", true)])
    {
        let mut sandbox = (*member.sandbox).clone();
        sandbox.metadata.creation_timestamp = Some(object(json!(format!("2026-01-01T00:00:{created}Z"))));
        member.sandbox = Arc::new(sandbox);
        member.ready = ready;
    }
    let plan = planned(&view(pool(&json!({})), all.clone()));
    assert_eq!(
        lines(&plan.deletes),
        ["delete Sandbox ns/m1 uid uid-m1 at 5", "delete Sandbox ns/m3 uid uid-m3 at 5"],
        "and only if no claim has taken them meanwhile"
    );
    let plan = planned(&view(pool(&json!({"spec": {"replicas": 0}})), all));
    assert_eq!(plan.deletes.len(), 5);
    assert_eq!(creates(&plan), 0);
}

#[test]
fn a_new_blueprint_replaces_members_only_under_recreate() {
    let old = template(&json!({}));
    for (strategy, change, replaced) in [
        (
            json!(null),
            json!({"spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "j"}]}}}}),
            false,
        ),
        (json!("OnReplenish"), json!({"spec": {"podTemplate": {"spec": {"hostname": "h"}}}}), false),
        (json!("Recreate"), json!({"spec": {"podTemplate": {"spec": {"hostname": "h"}}}}), true),
        (json!("Recreate"), json!({"spec": {"service": true}}), true),
        (json!("Recreate"), json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}}), true),
        (json!("Recreate"), json!({"metadata": {"name": "other"}}), true),
        (json!("Recreate"), json!({"spec": {"podTemplate": {"metadata": {"labels": {"team": "red"}}}}}), false),
        (json!("Recreate"), json!({"spec": {"networkPolicyManagement": "Managed"}}), false),
        (json!("Recreate"), json!({}), false),
    ] {
        let members = vec![member_of(&old, "a"), member_of(&old, "b"), member_of(&old, "c")];
        let pool = pool(&json!({"spec": {"updateStrategy": {"type": strategy}}}));
        let view = View { template: Some(template(&change)), ..view(pool, members) };
        let plan = planned(&view);
        assert_eq!(plan.deletes.len(), if replaced { 3 } else { 0 }, "{strategy} {change}");
        assert_eq!(creates(&plan), 0, "what is made is made when the old ones are gone");
    }
}

#[test]
fn members_that_do_not_start_are_replaced_unless_they_wait_for_room() {
    for (ready, age, unschedulable, deleted, again) in [
        (false, 299, false, 0, Some(1)),
        (false, 300, false, 1, None),
        (false, 301, true, 0, Some(60)),
        (true, 999, false, 0, None),
    ] {
        let mut all = members(3);
        all[0].ready = ready;
        all[0].age = Duration::from_secs(age);
        all[0].unschedulable = unschedulable;
        let plan = planned(&view(pool(&json!({})), all));
        assert_eq!(plan.deletes.len(), deleted, "{ready} {age} {unschedulable}");
        assert_eq!(plan.again, again.map(Duration::from_secs), "{ready} {age} {unschedulable}");
        assert_eq!(plan.notice.is_some(), unschedulable, "{ready} {age} {unschedulable}");
    }
}

#[test]
fn people_are_told_once_that_there_is_no_room_and_once_that_there_is() {
    let stuck = |unschedulable: bool, not_progressing: bool| {
        let mut all = members(3);
        all[0].ready = !unschedulable;
        all[0].age = Duration::from_secs(400);
        all[0].unschedulable = unschedulable;
        let recollection = Recollection { filled: true, not_progressing, ..Recollection::default() };
        planned(&View { recollection, ..view(pool(&json!({})), all) }).notice.map(|notice| notice.reason)
    };
    assert_eq!(stuck(true, false), Some("WarmPoolNotProgressing"));
    assert_eq!(stuck(true, true), None);
    assert_eq!(stuck(false, true), Some("WarmPoolProgressing"));
    assert_eq!(stuck(false, false), None);
}

#[test]
fn the_status_is_written_rarely() {
    let millis = Duration::from_millis;
    for (ready, differs_for, written_ago, wait) in [
        (3, 0, None, 0),
        (3, 0, Some(400), 600),
        (3, 0, Some(1_000), 0),
        (2, 0, None, 1_000),
        (2, 300, Some(900), 700),
        (2, 1_000, Some(2_000), 0),
    ] {
        let mut all = members(3);
        all.iter_mut().skip(ready).for_each(|member| member.ready = false);
        let mut view = view(pool(&json!({})), all);
        let mut outdated = (*view.pool).clone();
        outdated.status = None;
        view.pool = Arc::new(outdated);
        view.recollection.differs_for = millis(differs_for);
        view.recollection.status_written_ago = written_ago.map(millis);
        let plan = planned(&view);
        assert_eq!(plan.status.is_some(), wait == 0, "{ready} {differs_for} {written_ago:?}");
        if wait > 0 {
            assert_eq!(plan.again, Some(millis(wait)), "{ready} {differs_for} {written_ago:?}");
        }
    }
}

#[test]
fn the_status_counts_unclaimed_members_that_stay() {
    let mut all = members(4);
    all[0].terminating = true;
    all[1].ready = false;
    let view = view(pool(&json!({})), all);
    let expected = SandboxWarmPoolStatus {
        replicas: 3,
        ready_replicas: 2,
        selector: format!("agents.x-k8s.io/warm-pool-sandbox={}", name_hash("p")),
        observed_generation: Some(3),
    };
    assert_eq!(view.status(), expected);
    assert_eq!(planned(&view).status, None, "it is written already");
}

#[test]
fn members_of_a_pool_are_controlled_by_it() {
    let owners = serde_json::to_value(member("a").sandbox.metadata.owner_references.clone()).expect("it is JSON");
    let expected = controller("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "p", "pu");
    assert_eq!(owners, with(json!([]), &json!([with(expected[0].clone(), &json!({"blockOwnerDeletion": true}))])));
}
