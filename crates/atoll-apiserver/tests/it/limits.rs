//! What the server bounds: bodies, requests in flight, their time, slow watchers, the disk.

use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_store::StoreOptions;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::access::from_network;
use super::support::{CONFIG_MAPS, Plane, answer, config_map, names, version};

const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const WRITES_IN_FLIGHT_MAX: usize = 200;
const READS_IN_FLIGHT_MAX: usize = 400;

/// A body that never comes.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

fn create<B>(body: B) -> Request<B> {
    let request = Request::post(CONFIG_MAPS).header("authorization", "Bearer admin-token");
    request.header("content-type", "application/json").body(body).expect("a request")
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let plane = Plane::new().await;
    let sized = |bytes: usize| {
        let empty = config_map("a", json!({ "x": "" })).to_string().len();
        let map = config_map("a", json!({ "x": "y".repeat(bytes - empty) })).to_string();
        assert_eq!(map.len(), bytes);
        create(Full::new(Bytes::from(map)))
    };
    let large = plane.server.service().oneshot(sized(BODY_BYTES_MAX + 1)).await.expect("it answers");
    let status = answer(large).await.refused(413, "RequestEntityTooLarge");
    assert_eq!(status["message"], format!("Request entity too large: limit is {BODY_BYTES_MAX}"));
    // One byte less is read, and refused for what a ConfigMap may hold.
    let fits = plane.server.service().oneshot(sized(BODY_BYTES_MAX)).await.expect("it answers");
    answer(fits).await.refused(422, "Invalid");
}

#[tokio::test]
async fn a_request_has_a_deadline() {
    let plane = Plane::new().await;
    let mut slow = Box::pin(plane.server.service().oneshot(create(Never)));
    assert!(futures::poll!(slow.as_mut()).is_pending());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    answer(slow.await.expect("it answers")).await.refused(504, "Timeout");
}

#[tokio::test]
async fn too_many_writes_at_a_time_leave_reads_and_watches_alone() {
    let plane = Plane::new().await;
    let mut waiting: Vec<_> =
        (0..WRITES_IN_FLIGHT_MAX).map(|_| Box::pin(plane.server.service().oneshot(create(Never)))).collect();
    for request in &mut waiting {
        assert!(futures::poll!(request.as_mut()).is_pending());
    }
    let refused = from_network(&plane, "POST", CONFIG_MAPS, Some("admin-token"), config_map("a", json!({}))).await;
    assert_eq!(refused.headers["retry-after"], "1");
    let status = refused.refused(429, "TooManyRequests");
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    from_network(&plane, "GET", CONFIG_MAPS, Some("admin-token"), Value::Null).await.ok();
    let watch = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0");
    assert_eq!(from_network(&plane, "GET", &watch, Some("admin-token"), Value::Null).await.code, 200);
    // Whoever gives up makes room, for one that waits first of all.
    let mut next = Box::pin(
        plane.server.service().oneshot(create(Full::new(Bytes::from(config_map("next", json!({})).to_string())))),
    );
    assert!(futures::poll!(next.as_mut()).is_pending());
    waiting.pop();
    answer(next.await.expect("it answers")).await.ok();
    from_network(&plane, "POST", CONFIG_MAPS, Some("admin-token"), config_map("a", json!({}))).await.ok();
    // Watches are counted neither as reads nor as writes.
    let mut watches = Vec::new();
    for _ in 0..=READS_IN_FLIGHT_MAX {
        let request = Request::get(format!("{CONFIG_MAPS}?watch=true")).header("authorization", "Bearer admin-token");
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        watches.push(plane.server.service().oneshot(request).await.expect("it answers"));
    }
    from_network(&plane, "GET", CONFIG_MAPS, Some("admin-token"), Value::Null).await.ok();
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_and_counted() {
    /// More than a watch holds for its reader.
    const EVENTS: usize = 6000;
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("a", json!({}))).await.ok();
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true&resourceVersion=0"));
    let mut slow = plane.send(request.body(Full::new(Bytes::new())).expect("a request")).await.into_body();
    let mut last = Value::Null;
    for batch in 0..EVENTS / 100 {
        let writes = (0..100).map(|number| {
            let plane = &plane;
            async move {
                let name = format!("m{number}");
                if batch == 0 {
                    return plane.post(CONFIG_MAPS, config_map(&name, json!({}))).await.ok();
                }
                plane.merge(&format!("{CONFIG_MAPS}/{name}"), json!({ "data": { "n": batch.to_string() } })).await.ok()
            }
        });
        last = futures::future::join_all(writes).await.pop().expect("there were some");
    }
    let metric = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim().parse().expect("a number")
    };
    let text = plane.get("/metrics").await.text;
    assert_eq!(metric(&text, "atoll_apiserver_watches_cut_total "), 1);
    let mut lines = Vec::new();
    while let Some(frame) = slow.frame().await {
        lines.extend_from_slice(&frame.expect("it does not fail").into_data().expect("data"));
    }
    let text = String::from_utf8(lines).expect("text");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let end = events.last().expect("it is told");
    assert_eq!(
        (&end["type"], &end["object"]["code"], &end["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    // What came before the gap is whole and in order.
    let versions: Vec<u64> = events[..events.len() - 1].iter().map(|event| version(&event["object"])).collect();
    assert!(versions.is_sorted() && versions.len() > 4000, "{}", versions.len());
    assert!(*versions.last().expect("some") < version(&last));
}

#[tokio::test]
async fn history_is_bounded_and_old_versions_are_gone() {
    let plane = Plane::with(StoreOptions { history_events_max: 100, ..StoreOptions::default() }).await;
    let first = plane.post(CONFIG_MAPS, config_map("a", json!({}))).await.ok();
    for number in 0..400 {
        plane.merge(&format!("{CONFIG_MAPS}/a"), json!({ "data": { "n": number.to_string() } })).await.ok();
    }
    let old = version(&first);
    let list = format!("{CONFIG_MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    plane.get(&list).await.refused(410, "Expired");
    let watch = plane.get(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion={old}")).await;
    let line: Value = serde_json::from_str(watch.text.lines().next().expect("a line")).expect("an event");
    assert_eq!((&line["type"], &line["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let text = plane.get("/metrics").await.text;
    let compacted = text.lines().find_map(|line| line.strip_prefix("atoll_apiserver_compacted_revision "));
    assert!(compacted.expect("it is there").parse::<u64>().expect("a number") > old);
}

/// A small file system of its own, where this test may make one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(test: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("atoll-small-").tempdir().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("SKIPPED {test}: a small file system cannot be mounted here");
            return None;
        }
        Some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::new("a_full_disk_refuses_writes_and_loses_nothing") else { return };
    let plane = Plane::at(disk.0.path()).await;
    let text = "x".repeat(100_000);
    let mut kept = Vec::new();
    let mut refused = None;
    for number in 0..200 {
        let name = format!("m{number:03}");
        let answer = plane.post(CONFIG_MAPS, config_map(&name, json!({ "text": text }))).await;
        if answer.code == 507 {
            refused = Some(answer.json());
            break;
        }
        answer.ok();
        kept.push(name);
    }
    let status = refused.expect("the disk is small");
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
    assert!(status["message"].as_str().expect("text").contains("no space left to write"), "{status}");
    assert!(kept.len() > 5, "{kept:?}");
    // It still answers, and tells the truth about what it has.
    assert_eq!(names(&plane.get(CONFIG_MAPS).await.ok()), kept);
    // With room again it writes again, without a restart.
    let bigger = Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.0.path()).status();
    assert!(bigger.expect("it runs").success());
    plane.post(CONFIG_MAPS, config_map("zzz", json!({}))).await.ok();
    kept.push("zzz".to_owned());
    let plane = plane.restart().await;
    assert_eq!(names(&plane.get(CONFIG_MAPS).await.ok()), kept);
}

#[tokio::test]
async fn a_clock_that_jumps_changes_no_order() {
    let plane = Plane::new().await;
    let mut last = 0;
    for (number, jump) in [0_i64, 86_400 * 365, -86_400 * 400, 30, -30].into_iter().enumerate() {
        plane.clock.jump(jump);
        let made = plane.post(CONFIG_MAPS, config_map(&format!("m{number}"), json!({}))).await.ok();
        assert!(version(&made) > last);
        last = version(&made);
        plane.merge(&format!("{CONFIG_MAPS}/m{number}"), json!({ "data": { "x": "1" } })).await.ok();
        plane.get(CONFIG_MAPS).await.ok();
    }
    // A token made before the clock went back is not good before its time, and good again once that has come.
    let token = || async {
        let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
        let made = plane.post(path, json!({ "spec": { "expirationSeconds": 3600 } })).await.ok();
        made["status"]["token"].as_str().expect("a token").to_owned()
    };
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let good = token().await;
    plane.clock.jump(-7200);
    from_network(&plane, "POST", me, Some(&good), json!({})).await.refused(401, "Unauthorized");
    plane.clock.jump(7200);
    from_network(&plane, "POST", me, Some(&good), json!({})).await.ok();
    plane.clock.jump(Duration::from_secs(3601).as_secs().cast_signed());
    from_network(&plane, "POST", me, Some(&good), json!({})).await.refused(401, "Unauthorized");
}
