//! Bytes that come while others still go.

use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend;
use crate::plane::{Plane, TOKEN};
use crate::wire::{read_until, request};

async fn plane() -> (Plane, crate::plane::Made) {
    let plane = Plane::start().await;
    let made = plane.sandbox("box", &plane.ip(2)).await;
    backend::tell_unix(&plane.group, "guest", &plane.socket("box"));
    (plane, made)
}

async fn open(plane: &Plane, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    let head = format!("{head}\r\nhost: r\r\nauthorization: Bearer {TOKEN}\r\nx-sandbox-id: box\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_and_end_with_the_client() {
    let (plane, _) = plane().await;
    let mut stream = open(&plane, "GET /ticks HTTP/1.1").await;
    stream.write_all(b"\r\n").await.unwrap();
    let seen = read_until(&mut stream, "data: 0").await;
    assert!(seen.contains("text/event-stream"));
    assert!(!seen.contains("data: 5"), "the first event is not kept back for later ones: {seen}");
    read_until(&mut stream, "data: 3").await;
    assert_eq!(plane.router.metrics().inflight, 1);
    drop(stream);
    plane.metrics_when(|metrics| metrics.inflight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_both_ways_at_once() {
    let (plane, _) = plane().await;
    let mut stream = open(&plane, "POST /echo HTTP/1.1").await;
    stream.write_all(b"transfer-encoding: chunked\r\n\r\n").await.unwrap();
    for word in ["one", "two", "three"] {
        stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).await.unwrap();
        read_until(&mut stream, word).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_unchanged() {
    let (plane, _) = plane().await;
    let size = 20 * 1024 * 1024;
    let stream = open(&plane, "POST /echo HTTP/1.1").await;
    let (mut reader, mut writer) = stream.into_split();
    let upload = plane.group.spawn("upload", async move {
        writer.write_all(format!("content-length: {size}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let block: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
        for _ in 0..size / block.len() {
            writer.write_all(&block).await.unwrap();
        }
        // Closing it now would take the request back.
        writer
    });
    let mut received = 0_usize;
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        match reader.read(&mut buffer).await.unwrap() {
            0 => break,
            count => received += count,
        }
    }
    assert!(received > size, "{received}");
    drop(upload.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_a_tunnel() {
    let (plane, _) = plane().await;
    let mut stream = open(&plane, "GET /upgrade HTTP/1.1").await;
    stream.write_all(b"connection: Upgrade\r\nupgrade: atoll-guest/1\r\nsec-websocket-key: k\r\n\r\n").await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: atoll-guest/1"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, "HELLO").await;
    assert_eq!(plane.router.metrics().tunnels, 1);
    stream.shutdown().await.unwrap();
    read_until(&mut stream, "bye").await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    plane.metrics_when(|metrics| metrics.tunnels == 0 && metrics.inflight == 0).await;
    assert_eq!(plane.router.metrics().requests_by_class[0], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_the_sandbox_declines_is_an_answer() {
    let (plane, _) = plane().await;
    let head = request("GET /missing", &[("x-sandbox-id", "box"), ("upgrade", "websocket")], "");
    let head = head.replace("connection: close", "connection: upgrade");
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\nno").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_streams_end_with_their_pod() {
    let (plane, made) = plane().await;
    let mut tunnel = open(&plane, "GET /upgrade HTTP/1.1").await;
    tunnel.write_all(b"connection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
    read_until(&mut tunnel, "\r\n\r\n").await;
    let mut events = open(&plane, "GET /ticks HTTP/1.1").await;
    events.write_all(b"\r\n").await.unwrap();
    read_until(&mut events, "data: 0").await;
    let mut waiting = open(&plane, "GET /never HTTP/1.1").await;
    waiting.write_all(b"connection: close\r\n\r\n").await.unwrap();
    plane.metrics_when(|metrics| metrics.inflight == 3).await;
    plane.remove_pod("box", &made.pod_uid).await;
    let mut rest = Vec::new();
    let end = async {
        let _reset = tunnel.read_to_end(&mut rest).await;
        let _reset = events.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("both end");
    assert!(read_until(&mut waiting, "backend sandbox: box").await.starts_with("HTTP/1.1 502"));
    plane.metrics_when(|metrics| metrics.inflight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_pod_ends_its_streams_too() {
    let (plane, _) = plane().await;
    let mut events = open(&plane, "GET /ticks HTTP/1.1").await;
    events.write_all(b"\r\n").await.unwrap();
    read_until(&mut events, "data: 0").await;
    plane.pod_status("box", json!({"phase": "Failed"})).await;
    let mut rest = Vec::new();
    let end = events.read_to_end(&mut rest);
    drop(tokio::time::timeout(Duration::from_secs(20), end).await.expect("it ends"));
}
