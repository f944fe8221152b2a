//! What goes with its owner, and what stays.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, Plane, SANDBOXES, config_map, names, sandbox};

fn owned(name: &str, owners: &[&Value], block: bool) -> Value {
    let mut object = config_map(name, json!({}));
    let references = owners.iter().map(|owner| {
        json!({
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block,
        })
    });
    object["metadata"]["ownerReferences"] = references.collect();
    object
}

fn path(name: &str) -> String {
    format!("{CONFIG_MAPS}/{name}")
}

/// Everything that the collector has to do about what is there has been done once this has come and gone.
async fn settle(plane: &Plane) {
    let owner = plane.post(CONFIG_MAPS, config_map("settle-owner", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, owned("settle-owned", &[&owner], false)).await.ok();
    plane.delete(&path("settle-owner"), json!(null)).await.ok();
    plane.until_gone(&path("settle-owned")).await;
}

#[tokio::test]
async fn background_takes_everything_below() {
    let plane = Plane::new().await;
    let top = plane.post(SANDBOXES, sandbox("top")).await.ok();
    let middle = plane.post(CONFIG_MAPS, owned("middle", &[&top], false)).await.ok();
    plane.post(CONFIG_MAPS, owned("bottom", &[&middle], true)).await.ok();
    plane.post(CONFIG_MAPS, config_map("apart", json!({}))).await.ok();
    plane.delete(&format!("{SANDBOXES}/top"), json!({ "propagationPolicy": "Background" })).await.ok();
    plane.get(&format!("{SANDBOXES}/top")).await.refused(404, "NotFound");
    plane.until_gone(&path("bottom")).await;
    settle(&plane).await;
    assert_eq!(names(&plane.get(CONFIG_MAPS).await.ok()), ["apart"]);
}

#[tokio::test]
async fn foreground_waits_for_what_blocks() {
    let plane = Plane::new().await;
    let top = plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    let mut held = owned("held", &[&top], true);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    plane.post(CONFIG_MAPS, held).await.ok();
    plane.post(CONFIG_MAPS, owned("free", &[&top], false)).await.ok();
    let marked = plane.delete(&path("top"), json!({ "propagationPolicy": "Foreground" })).await.ok();
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    plane.until_gone(&path("free")).await;
    plane.until(&path("held"), |answer| answer.text.contains("deletionTimestamp")).await;
    settle(&plane).await;
    plane.get(&path("top")).await.ok();
    plane.merge(&path("held"), json!({ "metadata": { "finalizers": null } })).await.ok();
    plane.until_gone(&path("top")).await;
}

#[tokio::test]
async fn foreground_does_not_wait_for_what_does_not_block() {
    let plane = Plane::new().await;
    let top = plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    let mut held = owned("held", &[&top], false);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    plane.post(CONFIG_MAPS, held).await.ok();
    plane.delete(&path("top"), json!({ "propagationPolicy": "Foreground" })).await.ok();
    plane.until_gone(&path("top")).await;
    plane.until(&path("held"), |answer| answer.text.contains("deletionTimestamp")).await;
}

#[tokio::test]
async fn an_owner_without_dependents_goes_in_the_foreground_too() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    plane.delete(&path("top"), json!({ "propagationPolicy": "Foreground" })).await.ok();
    plane.until_gone(&path("top")).await;
}

#[tokio::test]
async fn orphans_stay_and_forget_their_owner() {
    let plane = Plane::new().await;
    let top = plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, owned("orphan", &[&top], true)).await.ok();
    plane.delete(&path("top"), json!({ "propagationPolicy": "Orphan" })).await.ok();
    plane.until_gone(&path("top")).await;
    settle(&plane).await;
    let orphan = plane.get(&path("orphan")).await.ok();
    assert_eq!(orphan["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn one_owner_of_two_is_enough() {
    let plane = Plane::new().await;
    let first = plane.post(CONFIG_MAPS, config_map("first", json!({}))).await.ok();
    let second = plane.post(CONFIG_MAPS, config_map("second", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, owned("shared", &[&first, &second], false)).await.ok();
    plane.delete(&path("first"), json!(null)).await.ok();
    let uid = second["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let shared = plane
        .until(&path("shared"), |answer| {
            answer.json()["metadata"]["ownerReferences"].as_array().is_some_and(|it| it.len() == 1)
        })
        .await
        .ok();
    assert_eq!(shared["metadata"]["ownerReferences"][0]["uid"], json!(uid));
    plane.delete(&path("second"), json!(null)).await.ok();
    plane.until_gone(&path("shared")).await;
}

#[tokio::test]
async fn an_owner_is_known_by_its_uid() {
    let plane = Plane::new().await;
    let mut top = plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, owned("mine", &[&top], false)).await.ok();
    top["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
    plane.post(CONFIG_MAPS, owned("stranger", &[&top], false)).await.ok();
    plane.until_gone(&path("stranger")).await;
    settle(&plane).await;
    plane.get(&path("mine")).await.ok();
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_counts_as_there() {
    let plane = Plane::new().await;
    let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d", "uid": "d-uid" } });
    plane.post(CONFIG_MAPS, owned("mine", &[&owner], false)).await.ok();
    settle(&plane).await;
    plane.get(&path("mine")).await.ok();
}

#[tokio::test]
async fn an_object_that_changes_hands_in_time_stays() {
    let plane = Plane::new().await;
    for round in 0..30 {
        let pool = plane.post(CONFIG_MAPS, config_map(&format!("pool{round}"), json!({}))).await.ok();
        let claim = plane.post(CONFIG_MAPS, config_map(&format!("claim{round}"), json!({}))).await.ok();
        plane.post(CONFIG_MAPS, owned(&format!("member{round}"), &[&pool], true)).await.ok();
        let references = owned("x", &[&claim], true)["metadata"]["ownerReferences"].clone();
        plane
            .merge(&path(&format!("member{round}")), json!({ "metadata": { "ownerReferences": references } }))
            .await
            .ok();
        plane.delete(&path(&format!("pool{round}")), json!(null)).await.ok();
    }
    settle(&plane).await;
    for round in 0..30 {
        plane.get(&path(&format!("member{round}"))).await.ok();
    }
}

#[tokio::test]
async fn what_lost_its_owner_while_nobody_looked_goes_at_the_start() {
    let plane = Plane::new().await;
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "never", "uid": "never" } });
    // Stopped, the collector sees nothing.
    plane.group.cancel();
    tokio::task::yield_now().await;
    plane.post(CONFIG_MAPS, owned("left", &[&owner], false)).await.ok();
    let plane = plane.restart().await;
    plane.until_gone(&path("left")).await;
}

#[tokio::test]
async fn many_go_together() {
    let plane = Plane::new().await;
    let top = plane.post(CONFIG_MAPS, config_map("top", json!({}))).await.ok();
    for number in 0..300 {
        plane.post(CONFIG_MAPS, owned(&format!("c{number}"), &[&top], false)).await.ok();
    }
    plane.delete(&path("top"), json!(null)).await.ok();
    plane.until(CONFIG_MAPS, |answer| answer.json()["items"] == json!([])).await;
}

#[tokio::test]
async fn old_events_go() {
    let plane = Plane::new().await;
    let events = "/api/v1/namespaces/default/events";
    let event = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": name }, "reason": "Started", "type": "Normal",
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        })
    };
    plane.post(events, event("old")).await.ok();
    plane.post(events, event("renewed")).await.ok();
    plane.clock.advance(Duration::from_secs(1800));
    plane.merge(&format!("{events}/renewed"), json!({ "count": 2 })).await.ok();
    plane.post(events, event("new")).await.ok();
    plane.clock.advance(Duration::from_secs(1801));
    // The collector may not have looked at its clock yet when this one is moved: it is moved more than once.
    for _ in 0..10 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    plane.until_gone(&format!("{events}/old")).await;
    assert_eq!(names(&plane.get(events).await.ok()), ["new", "renewed"]);
}
