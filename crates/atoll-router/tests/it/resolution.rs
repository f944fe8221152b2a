//! Which sandbox a request reaches, and what it waits for.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::backend;
use crate::plane::{Plane, config};
use crate::wire::{get, request, send};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_in_the_published_words() {
    let plane = Plane::start().await;
    let id = ("x-sandbox-id", "box");
    for (headers, detail) in [
        (vec![], "X-Sandbox-ID header is required."),
        (vec![("x-sandbox-id", "Not A Name")], "Invalid sandbox ID format."),
        (vec![id, ("x-sandbox-namespace", "../x")], "Invalid namespace format."),
        (vec![id, ("x-sandbox-port", "99999")], "Invalid port format."),
        (vec![id, ("x-sandbox-pod-ip", "169.254.169.254")], "Invalid target IP address."),
        (vec![id, ("x-sandbox-timeout", "soon")], "Invalid timeout format."),
        (vec![id, id], "Invalid sandbox ID format."),
    ] {
        let answer = get(plane.address, "/", &headers).await;
        assert_eq!((answer.status, answer.detail().as_str()), (400, detail), "{headers:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_sandbox_is_a_bad_gateway() {
    let plane = Plane::start().await;
    let answer = get(plane.address, "/", &[("x-sandbox-id", "nobody")]).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.detail(), "Could not connect to the backend sandbox: nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_sandbox_that_starts() {
    let plane = Plane::start().await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let uid = plane.bare_sandbox("box").await;
    let address = plane.address;
    let asked = plane.group.spawn("client", async move { get(address, "/", &[("x-sandbox-id", "box")]).await });
    plane.metrics_when(|metrics| metrics.held == 1).await;
    plane.pod("box", "box", &uid, &plane.ip(2)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished(), "a Pod that is not ready is not asked");
    plane.ready("box", &plane.ip(2)).await;
    assert_eq!(asked.await.unwrap().json()["server"], "guest");
    assert_eq!(plane.router.metrics().held, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_has_an_end() {
    let plane = Plane::with(atoll_router::RouterConfig { hold_ms_max: 100, ..config() }).await;
    plane.bare_sandbox("box").await;
    let answer = get(plane.address, "/", &[("x-sandbox-id", "box")]).await;
    assert_eq!((answer.status, answer.detail().as_str()), (504, "The sandbox did not become ready in time: box"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_come_is_not_waited_for() {
    let plane = Plane::start().await;
    plane.sandbox("suspended", &plane.ip(2)).await;
    let patch = Patch::Merge(json!({"spec": {"operatingMode": "Suspended"}}));
    plane.sandboxes().patch("suspended", &PatchParams::default(), &patch).await.unwrap();
    plane.sandbox("failed", &plane.ip(3)).await;
    plane.pod_status("failed", json!({"phase": "Failed"})).await;
    for name in ["suspended", "failed"] {
        // The watch may be a moment behind.
        for _ in 0..400 {
            if get(plane.address, "/", &[("x-sandbox-id", name)]).await.status == 502 {
                break;
            }
        }
        let answer = get(plane.address, "/", &[("x-sandbox-id", name)]).await;
        assert_eq!(
            (answer.status, answer.detail()),
            (502, format!("Could not connect to the backend sandbox: {name}"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_uid_tells_namesakes_apart() {
    let plane = Plane::start().await;
    let made = plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let with_uid = async |uid: &str| get(plane.address, "/", &[("x-sandbox-id", "box"), ("x-sandbox-uid", uid)]).await;
    assert_eq!(with_uid(&made.uid).await.status, 200);
    let other = with_uid("00000000-0000-4000-8000-000000000000").await;
    assert_eq!((other.status, other.detail().as_str()), (403, "The sandbox has another UID."));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_it_had_before_asks_the_client_to_look_again() {
    let plane = Plane::start().await;
    let made = plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let ask = async |host: u8| {
        get(plane.address, "/", &[("x-sandbox-id", "box"), ("x-sandbox-pod-ip", &plane.ip(host))]).await.status
    };
    assert_eq!(ask(2).await, 200);
    plane.remove_pod("box", &made.pod_uid).await;
    plane.pod("box", "box", &made.uid, &plane.ip(7)).await;
    plane.ready("box", &plane.ip(7)).await;
    assert_eq!(ask(7).await, 200);
    assert_eq!(ask(2).await, 502, "clients forget an address after a 5xx, and not after a 403");
    assert_eq!(ask(3).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_a_port_is_a_bad_gateway() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    let answer = get(plane.address, "/", &[("x-sandbox-id", "box"), ("x-sandbox-port", "3999")]).await;
    assert_eq!((answer.status, answer.detail().as_str()), (502, "Could not connect to the backend sandbox: box"));
    let metrics = plane.router.metrics();
    assert_eq!((metrics.upstream_dial_errors, metrics.upstream_retries), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_sandbox_is_a_bad_gateway() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::fixed(&plane.group, &plane.at(2, 3001), b"SSH-2.0-OpenSSH_9.2\r\n").await;
    backend::fixed(&plane.group, &plane.at(2, 3002), b"").await;
    backend::fixed(
        &plane.group,
        &plane.at(2, 3003),
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    )
    .await;
    for port in ["3001", "3002", "3003"] {
        let answer = get(plane.address, "/", &[("x-sandbox-id", "box"), ("x-sandbox-port", port)]).await;
        assert_eq!(answer.status, 502, "{port}: {answer:?}");
    }
    assert_eq!(plane.router.metrics().upstream_broken, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_patience_is_kept_to() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let answer = get(plane.address, "/never", &[("x-sandbox-id", "box"), ("x-sandbox-timeout", "0.2")]).await;
    assert_eq!((answer.status, answer.detail().as_str()), (504, "The sandbox did not answer in time: box"));
    assert_eq!(plane.router.metrics().upstream_timeouts, 1);
    plane.metrics_when(|metrics| metrics.inflight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_is_capped() {
    let plane = Plane::with(atoll_router::RouterConfig { request_timeout_ms_max: 200, ..config() }).await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let headers = [("x-sandbox-id", "box"), ("x-sandbox-timeout", "100000")];
    assert_eq!(get(plane.address, "/never", &headers).await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_namespaces_are_other_sandboxes() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    let headers = [("x-sandbox-id", "box"), ("x-sandbox-namespace", "kube-system")];
    let answer = send(plane.address, request("GET /", &headers, "").as_bytes()).await;
    assert_eq!(answer.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_between_two_lives_is_waited_for() {
    let plane = Plane::start().await;
    let made = plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 200);
    let endpoint = plane.forget(&made.pod_uid);
    let address = plane.address;
    let asked = plane.group.spawn("client", async move { get(address, "/", &[("x-sandbox-id", "box")]).await });
    plane.metrics_when(|metrics| metrics.inflight == 1).await;
    plane.remember(&made.pod_uid, endpoint);
    assert_eq!(asked.await.unwrap().status, 200);
    plane.forget(&made.pod_uid);
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 502, "not for ever");
}
