//! Watches.

use std::time::Duration;

use atoll_apiserver::ResponseBody;
use atoll_store::StoreOptions;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, PODS, Plane, SANDBOXES, config_map, pod, sandbox, version};

/// A watch whose lines are read one by one.
struct Lines {
    body: ResponseBody,
    text: String,
}

impl Lines {
    async fn open(plane: &Plane, path: &str) -> Self {
        let request = Request::get(path).body(Full::new(Bytes::new())).expect("a request");
        let response = plane.send(request).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line).expect("a line is an event");
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("it comes");
            let data = frame?.expect("bodies do not fail").into_data().expect("bodies have no trailers");
            self.text.push_str(std::str::from_utf8(&data).expect("it is text"));
        }
    }

    /// `ADDED one` and so on.
    async fn brief(&mut self) -> String {
        brief(&self.next().await.expect("it goes on"))
    }
}

fn brief(event: &Value) -> String {
    let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
    format!("{} {name}", event["type"].as_str().expect("a type"))
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    let plane = Plane::new().await;
    let one = plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, config_map("two", json!({}))).await.ok();
    let mut after = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&one))).await;
    let mut zero = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=1&resourceVersion=0")).await;
    let mut unset = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true")).await;
    let mut named = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Done")).await;
    assert_eq!(after.brief().await, "ADDED two");
    for watch in [&mut zero, &mut unset] {
        assert_eq!([watch.brief().await, watch.brief().await], ["ADDED one", "ADDED two"]);
    }
    assert_eq!(named.brief().await, "ADDED one");
    let changed = plane.merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { "a": "1" } })).await.ok();
    plane.delete(&format!("{CONFIG_MAPS}/one"), json!(null)).await.ok();
    for watch in [&mut after, &mut zero, &mut unset, &mut named] {
        let event = watch.next().await.expect("it goes on");
        assert_eq!((event["type"].as_str(), &event["object"]), (Some("MODIFIED"), &changed));
        let event = watch.next().await.expect("it goes on");
        assert_eq!(brief(&event), "DELETED one");
        assert!(version(&event["object"]) > version(&changed), "a deletion has a version of its own");
    }
}

#[tokio::test]
async fn an_object_that_leaves_the_selector_is_deleted_from_view() {
    let plane = Plane::new().await;
    let query = "watch=true&resourceVersion=0&labelSelector=app%3Dweb";
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?{query}")).await;
    let mut object = config_map("one", json!({}));
    object["metadata"]["labels"] = json!({ "app": "web" });
    plane.post(CONFIG_MAPS, object).await.ok();
    let path = format!("{CONFIG_MAPS}/one");
    plane.merge(&path, json!({ "metadata": { "labels": { "app": "db" } } })).await.ok();
    let unseen = plane.merge(&path, json!({ "data": { "unseen": "1" } })).await.ok();
    plane.merge(&path, json!({ "metadata": { "labels": { "app": "web" } } })).await.ok();
    assert_eq!(watch.brief().await, "ADDED one");
    let left = watch.next().await.expect("it goes on");
    assert_eq!(brief(&left), "DELETED one");
    assert_eq!(left["object"]["metadata"]["labels"]["app"], "web", "as it was when it last matched");
    assert_eq!(version(&left["object"]), version(&unseen) - 1, "as of the write that made it leave");
    assert_eq!(watch.brief().await, "ADDED one");
}

#[tokio::test]
async fn field_selectors_follow_fields() {
    let plane = Plane::new().await;
    let mut mine =
        Lines::open(&plane, "/api/v1/pods?watch=true&resourceVersion=0&fieldSelector=spec.nodeName%3Done").await;
    let mut with_address =
        Lines::open(&plane, "/api/v1/pods?watch=true&resourceVersion=0&fieldSelector=status.podIP%21%3D").await;
    plane.post(PODS, pod("p")).await.ok();
    plane.post(PODS, pod("q")).await.ok();
    let binding = json!({ "target": { "kind": "Node", "name": "one" } });
    plane.post(&format!("{PODS}/p/binding"), binding).await.ok();
    assert_eq!(mine.brief().await, "ADDED p");
    let status = json!({ "status": { "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "phase": "Running" } });
    plane.merge(&format!("{PODS}/q/status"), status).await.ok();
    assert_eq!(with_address.brief().await, "ADDED q");
    plane.delete(&format!("{PODS}/p"), json!({ "gracePeriodSeconds": 0 })).await.ok();
    assert_eq!(mine.brief().await, "DELETED p");
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let query = "watch=true&resourceVersion=0&timeoutSeconds=1&allowWatchBookmarks=true";
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.brief().await, "ADDED one");
    plane.post(SANDBOXES, sandbox("elsewhere")).await.ok();
    let bookmark = watch.next().await.expect("it goes on");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        (&bookmark["object"]["kind"], version(&bookmark["object"])),
        (&json!("ConfigMap"), plane.store.current_revision())
    );
    assert_eq!(watch.next().await, None);
    let mut plain = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(plain.brief().await, "ADDED one");
    assert_eq!(plain.next().await, None, "no bookmark for those who want none");
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_mark() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.brief().await, "ADDED one");
    let mark = watch.next().await.expect("it goes on");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    plane.post(CONFIG_MAPS, config_map("two", json!({}))).await.ok();
    assert_eq!(watch.brief().await, "ADDED two");
    let none = "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?{none}")).await;
    plane.post(CONFIG_MAPS, config_map("three", json!({}))).await.ok();
    assert_eq!(watch.brief().await, "ADDED three");
    plane.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await.refused(422, "Invalid");
    plane.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=x")).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_expired() {
    let plane = Plane::with(StoreOptions { history_events_max: 20, ..StoreOptions::default() }).await;
    let one = plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    for number in 0..300 {
        plane.merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { "n": number.to_string() } })).await.ok();
    }
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&one))).await;
    let event = watch.next().await.expect("it says why");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_resumes_after_a_restart() {
    let plane = Plane::new().await;
    let one = plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    plane.post(CONFIG_MAPS, config_map("two", json!({}))).await.ok();
    plane.delete(&format!("{CONFIG_MAPS}/one"), json!(null)).await.ok();
    let plane = plane.restart().await;
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&one))).await;
    assert_eq!([watch.brief().await, watch.brief().await], ["ADDED two", "DELETED one"]);
    plane.post(CONFIG_MAPS, config_map("three", json!({}))).await.ok();
    assert_eq!(watch.brief().await, "ADDED three");
}

#[tokio::test]
async fn a_slow_watch_is_cut_off_with_410() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let mut slow = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true&resourceVersion=0")).await;
    let mut number = 0;
    while plane.store.watch_counts().1 == 0 {
        number += 1;
        plane.merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { "n": number.to_string() } })).await.ok();
        assert!(number < 100_000, "a watch is bounded");
    }
    let mut seen = 0;
    let last = loop {
        let event = slow.next().await.expect("it says why it ends");
        if event["type"] == "ERROR" {
            break event;
        }
        assert!(version(&event["object"]) > seen);
        seen = version(&event["object"]);
    };
    assert_eq!(last["object"]["code"], 410);
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let plane = Plane::new().await;
    let mut watch = Lines::open(&plane, &format!("{CONFIG_MAPS}?watch=true")).await;
    let group = plane.group.clone();
    group.cancel();
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_can_be_a_table() {
    let plane = Plane::new().await;
    plane.post(SANDBOXES, sandbox("one")).await.ok();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = Request::get(format!("{SANDBOXES}?watch=true")).header("accept", accept);
    let response = plane.send(request.body(Full::new(Bytes::new())).expect("a request")).await;
    let mut watch = Lines { body: response.into_body(), text: String::new() };
    let event = watch.next().await.expect("it goes on");
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"].as_array().expect("rows").len(), 1);
}
