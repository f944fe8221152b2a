//! How much at a time, and how it ends.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend;
use crate::plane::{Plane, config};
use crate::wire::{get, read_until, request, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_has_only_so_many_requests_at_a_time() {
    let plane = Plane::with(atoll_router::RouterConfig { requests_per_guest_max: 2, ..config() }).await;
    for (name, address) in [("box", &plane.ip(2)), ("other", &plane.ip(3))] {
        plane.sandbox(name, address).await;
        backend::tell_unix(&plane.group, "guest", &plane.socket(name));
    }
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(plane.address).await.unwrap();
        stream.write_all(request("GET /never", &[("x-sandbox-id", "box")], "").as_bytes()).await.unwrap();
        held.push(stream);
    }
    plane.metrics_when(|metrics| metrics.inflight == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = get(plane.address, "/", &[("x-sandbox-id", "box")]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "other")]).await.status, 200);
    drop(held);
    plane.metrics_when(|metrics| metrics.inflight == 0).await;
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_router_has_only_so_many_requests_at_a_time() {
    let plane = Plane::with(atoll_router::RouterConfig { requests_max: 1, ..config() }).await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(request("GET /never", &[("x-sandbox-id", "box")], "").as_bytes()).await.unwrap();
    plane.metrics_when(|metrics| metrics.inflight == 1).await;
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_requests_wait() {
    let plane = Plane::with(atoll_router::RouterConfig { held_max: 1, ..config() }).await;
    plane.bare_sandbox("box").await;
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(request("GET /", &[("x-sandbox-id", "box")], "").as_bytes()).await.unwrap();
    plane.metrics_when(|metrics| metrics.held == 1).await;
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_requests_end_and_takes_no_more() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let mut upload = TcpStream::connect(plane.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: r\r\nauthorization: Bearer a-good-token\r\nx-sandbox-id: box\r\n\
                connection: close\r\ncontent-length: 6\r\n\r\nabc";
    upload.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut upload, "abc").await;
    let router = plane.router.clone();
    let drain = plane.group.spawn("drain", async move { router.drain(Duration::from_secs(20)).await });
    for _ in 0..400 {
        if get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status == 503 {
            break;
        }
    }
    assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.detail(), "The router is draining.");
    assert!(!drain.is_finished());
    upload.write_all(b"def").await.unwrap();
    read_until(&mut upload, "def").await;
    assert!(drain.await.unwrap(), "all ended by themselves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_off_what_does_not_end() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    let mut events = TcpStream::connect(plane.address).await.unwrap();
    events.write_all(request("GET /ticks", &[("x-sandbox-id", "box")], "").as_bytes()).await.unwrap();
    read_until(&mut events, "data: 0").await;
    assert!(!plane.router.drain(Duration::from_millis(50)).await);
    plane.metrics_when(|metrics| metrics.inflight == 0).await;
    let after = send(plane.address, b"GET /healthz HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await;
    assert_eq!(after.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_once_in_a_while() {
    let plane = Plane::start().await;
    plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    for _ in 0..20 {
        assert_eq!(get(plane.address, "/", &[("x-sandbox-id", "box")]).await.status, 200);
    }
    let reviews: u64 = plane
        .server
        .write_counts()
        .iter()
        .filter(|(count, _)| count.resource == "tokenreviews")
        .map(|(_, number)| *number)
        .sum();
    assert!(reviews <= 1, "{reviews}");
    assert_eq!(plane.router.metrics().authorized, 20);
}
