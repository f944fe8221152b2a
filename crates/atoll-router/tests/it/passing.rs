//! What a sandbox gets of a request, and a client of an answer.

use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::backend;
use crate::plane::{Plane, TOKEN};
use crate::wire::{get, request, send};

async fn plane() -> Plane {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_port_is_the_guests() {
    let plane = plane().await;
    let answer = get(plane.address, "/list/a%2Fb?x=1", &[("x-sandbox-id", "box")]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    assert_eq!((told["server"].as_str(), told["target"].as_str()), (Some("guest"), Some("/list/a%2Fb?x=1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_listens_comes_before_the_guest_but_not_on_the_guests_own_paths() {
    let plane = plane().await;
    backend::tell_tcp(&plane.group, "workload", &plane.at(2, 8888)).await;
    backend::tell_tcp(&plane.group, "app", &plane.at(2, 3000)).await;
    let id = ("x-sandbox-id", "box");
    for (path, port, expected) in [
        ("/execute", "8888", "workload"),
        ("/atoll/v1/session", "8888", "guest"),
        ("/files", "49983", "guest"),
        ("/v1/files/a", "8080", "guest"),
        ("/", "3000", "app"),
        ("/atoll/v1/mine", "3000", "app"),
    ] {
        let answer = get(plane.address, path, &[id, ("x-sandbox-port", port)]).await;
        assert_eq!(answer.json()["server"], expected, "{path} at {port}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_body_goes_through() {
    let plane = plane().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let text = request(&format!("{method} /x"), &[("x-sandbox-id", "box")], "the body");
        let told = send(plane.address, text.as_bytes()).await.json();
        assert_eq!((told["method"].as_str(), told["body"].as_str()), (Some(method), Some("the body")));
    }
    let head = send(plane.address, request("HEAD /x", &[("x-sandbox-id", "box")], "").as_bytes()).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    let star = send(plane.address, request("OPTIONS *", &[("x-sandbox-id", "box")], "").as_bytes()).await;
    assert_eq!(star.json()["target"], "*");
    let chunked = "POST /x HTTP/1.1\r\nhost: r\r\nauthorization: Bearer a-good-token\r\nx-sandbox-id: box\r\n\
                   connection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(send(plane.address, chunked.as_bytes()).await.json()["body"], "abcde");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_as_they_are() {
    let plane = plane().await;
    let missing = get(plane.address, "/missing", &[("x-sandbox-id", "box")]).await;
    assert_eq!((missing.status, missing.body.as_str()), (404, "no"));
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_and_credentials_stay_at_the_router() {
    let plane = plane().await;
    let headers = [
        ("x-sandbox-id", "box"),
        ("x-sandbox-namespace", "default"),
        ("x-sandbox-port", "8888"),
        ("x-sandbox-timeout", "60"),
        ("x-sandbox-future", "1"),
        ("X_Sandbox_ID", "box"),
        ("x-forwarded-for", "10.0.0.1"),
        ("cookie", "a=1"),
        ("accept", "text/plain"),
    ];
    let told = get(plane.address, "/", &headers).await.json();
    let names: std::collections::BTreeSet<&str> =
        told["headers"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap()).collect();
    let expected = ["accept", "cookie", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    assert!(!told.to_string().contains(TOKEN));
    assert!(told["headers"].to_string().contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_requests_to_several_sandboxes() {
    let plane = plane().await;
    plane.sandbox("other", &plane.ip(3)).await;
    backend::tell_unix(&plane.group, "other-guest", &plane.socket("other"));
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    plane.group.spawn("client", async move { drop(connection.await) });
    for (id, expected) in [("box", "guest"), ("other", "other-guest"), ("box", "guest")] {
        let request = Request::builder()
            .method(Method::GET)
            .uri("/")
            .header("host", "r")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("x-sandbox-id", id)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        sender.ready().await.unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["server"], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_works_on_the_clients_side() {
    let plane = plane().await;
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    plane.group.spawn("client", async move { drop(connection.await) });
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/x%2Fy", plane.address))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("x-sandbox-id", "box")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(http_body_util::Full::new(bytes::Bytes::from("over two")))
        .unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((told["target"].as_str(), told["body"].as_str()), (Some("/x%2Fy"), Some("over two")));
    assert!(told["headers"].to_string().contains(r#"["cookie","a=1; b=2"]"#), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_token() {
    let plane = plane().await;
    let bytes = b"GET /healthz HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n";
    let answer = send(plane.address, bytes).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    let of_the_sandbox = get(plane.address, "/healthz", &[("x-sandbox-id", "box")]).await;
    assert_eq!(of_the_sandbox.json()["server"], "guest");
}
