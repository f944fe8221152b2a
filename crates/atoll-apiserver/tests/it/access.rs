//! Who is who, and who may do what.

use atoll_apiserver::Identity;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::support::{Answer, CONFIG_MAPS, PODS, Plane, SANDBOXES, answer, config_map, pod};

/// A request as it comes from a listener.
pub(crate) async fn from_network(plane: &Plane, method: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.body(Full::new(Bytes::from(text))).expect("a request");
    answer(plane.server.service().oneshot(request).await.expect("it answers")).await
}

pub(crate) async fn as_user(plane: &Plane, identity: Identity, method: &str, path: &str, body: Value) -> Answer {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = Request::builder().method(method).uri(path);
    if method == "PATCH" {
        request = request.header("content-type", "application/merge-patch+json");
    }
    let request = request.body(Full::new(Bytes::from(text))).expect("a request");
    answer(plane.server.in_process(identity).oneshot(request).await.expect("it answers")).await
}

/// A request without a body, with headers of its own.
pub(crate) async fn with_headers(
    plane: &Plane,
    identity: Identity,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    answer(plane.server.in_process(identity).oneshot(request).await.expect("it answers")).await
}

#[tokio::test]
async fn a_stranger_is_sent_away() {
    let plane = Plane::new().await;
    for token in ["wrong", ""] {
        let answer = from_network(&plane, "GET", PODS, Some(token), json!(null)).await;
        assert!(answer.headers.contains_key("www-authenticate"));
        assert_eq!(answer.refused(401, "Unauthorized")["message"], "Unauthorized");
    }
    // Who says nothing about who they are is known by a name of its own, which may do nothing.
    let refused = from_network(&plane, "GET", PODS, None, json!(null)).await.refused(403, "Forbidden");
    let words = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the \
                 namespace \"default\"";
    assert_eq!(refused["message"], words);
    let refused = from_network(&plane, "GET", "/apis", None, json!(null)).await.refused(403, "Forbidden");
    assert_eq!(refused["message"], "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(from_network(&plane, "GET", path, None, json!(null)).await.code, 200, "{path}");
    }
    let basic = Request::get(PODS).header("authorization", "Basic cm9vdDpyb290").body(Full::new(Bytes::new()));
    let basic = plane.server.service().oneshot(basic.expect("a request")).await.expect("it answers");
    assert_eq!(basic.status(), 401);
}

#[tokio::test]
async fn a_token_says_who_one_is() {
    let plane = Plane::new().await;
    from_network(&plane, "GET", PODS, Some("admin-token"), json!(null)).await.ok();
    let status = from_network(&plane, "GET", PODS, Some("jo-token"), json!(null)).await.refused(403, "Forbidden");
    let words =
        "pods is forbidden: User \"jo\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!(status["message"], words);
    from_network(&plane, "GET", "/apis", Some("jo-token"), json!(null)).await.ok();
    from_network(&plane, "GET", "/metrics", Some("jo-token"), json!(null)).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn nobody_on_the_network_names_themselves() {
    let plane = Plane::new().await;
    let request = || {
        let mut request = Request::get(PODS).body(Full::new(Bytes::new())).expect("a request");
        request.extensions_mut().insert(Identity::administrator("intruder"));
        request
    };
    let refused = plane.server.service().oneshot(request()).await.expect("it answers");
    assert_eq!(refused.status(), 403);
    // The same request, where extensions are trusted.
    let served = plane.server.in_process_by_extension().oneshot(request()).await.expect("it answers");
    assert_eq!(served.status(), 200);
    let nameless = Request::get(PODS).body(Full::new(Bytes::new())).expect("a request");
    let refused = plane.server.in_process_by_extension().oneshot(nameless).await.expect("it answers");
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn components_do_their_work_and_nothing_else() {
    let plane = Plane::new().await;
    plane.post(PODS, pod("p")).await.ok();
    plane.post(SANDBOXES, super::support::sandbox("s")).await.ok();
    let node = || Identity::new("system:node:one", &["system:nodes"]);
    let scheduler = || Identity::new("system:atoll:scheduler", &[]);
    let running = json!({ "status": { "phase": "Running" } });
    as_user(&plane, node(), "PATCH", &format!("{PODS}/p/status"), running.clone()).await.ok();
    as_user(&plane, node(), "PATCH", &format!("{PODS}/p"), json!({})).await.refused(403, "Forbidden");
    as_user(&plane, node(), "POST", PODS, pod("q")).await.refused(403, "Forbidden");
    as_user(&plane, node(), "GET", SANDBOXES, json!(null)).await.refused(403, "Forbidden");
    as_user(&plane, scheduler(), "PATCH", &format!("{SANDBOXES}/s"), json!({})).await.refused(403, "Forbidden");
    let binding = json!({ "target": { "kind": "Node", "name": "one" } });
    as_user(&plane, scheduler(), "POST", &format!("{PODS}/p/binding"), binding).await.ok();
    let nobody = Identity::new("system:atoll:nobody", &[]);
    as_user(&plane, nobody, "GET", PODS, json!(null)).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn questions_are_answered() {
    let plane = Plane::new().await;
    let review = |token: &str| json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let good = from_network(&plane, "POST", path, Some("node-token"), review("jo-token")).await;
    assert_eq!(good.code, 201);
    let good = good.json();
    assert_eq!(good["status"]["authenticated"], true);
    assert_eq!(good["status"]["user"], json!({ "username": "jo", "groups": ["devs", "system:authenticated"] }));
    let bad = from_network(&plane, "POST", path, Some("admin-token"), review("guess")).await.ok();
    assert_ne!(bad["status"]["authenticated"], json!(true));
    from_network(&plane, "POST", path, Some("jo-token"), review("admin-token")).await.refused(403, "Forbidden");
    from_network(&plane, "GET", path, Some("admin-token"), json!(null)).await.refused(405, "MethodNotAllowed");

    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = from_network(&plane, "POST", me, Some("jo-token"), json!({})).await.ok();
    assert_eq!(who["status"]["userInfo"]["username"], "jo");
    let may = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str| json!({ "spec": { "resourceAttributes": { "verb": verb, "resource": "pods", "namespace": "default" } } });
    for (token, allowed) in [("jo-token", false), ("admin-token", true)] {
        let answer = from_network(&plane, "POST", may, Some(token), ask("get")).await.ok();
        assert_eq!(answer["status"]["allowed"], json!(allowed), "{token}");
    }
}

#[tokio::test]
async fn writes_are_counted_by_who_made_them() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("a", json!({}))).await.ok();
    plane.merge(&format!("{CONFIG_MAPS}/a"), json!({ "data": { "x": "1" } })).await.ok();
    plane.get(CONFIG_MAPS).await.ok();
    let counts = plane.server.write_counts();
    let counts: Vec<(&str, &str, &str, u64)> = counts
        .iter()
        .map(|(series, count)| (series.user.as_str(), series.verb, series.resource.as_str(), *count))
        .collect();
    assert_eq!(counts, [("tester", "create", "configmaps", 1), ("tester", "patch", "configmaps", 1)]);
    let text = plane.get("/metrics").await.text;
    let line = "atoll_apiserver_writes_total{user=\"tester\",verb=\"create\",resource=\"configmaps\"} 1";
    assert!(text.contains(line), "{text}");
}
