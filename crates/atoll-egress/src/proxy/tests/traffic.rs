//! What is allowed gets through.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{EXPLICIT, OUTSIDE, World, talk};
use crate::record::{Spoken, Stage};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn tls_passes_through_unseen_to_the_name_that_it_is_for() {
    let world = World::new("").await;
    let port = world.https(OUTSIDE, "a.example").await;
    world.resolve("a.example", &[OUTSIDE]);
    world.allow(&format!("{{name: a.example, ports: [{port}]}}"));
    let stream = world.dial_name("a.example", port).await;
    let stream = world.tls(stream, "a.example", world.outside.certificate_pem()).await.expect("the real certificate");
    assert!(talk(stream, GET).await.contains("GET /a?b=c HTTP/1.1"));
    let opened = world.record(Stage::Opened).await;
    assert_eq!((opened.name.as_deref(), opened.address, opened.port), (Some("a.example"), Some(OUTSIDE), port));
    assert_eq!((opened.protocol, opened.rule.as_deref()), (Spoken::Tls, Some("configmap/team/rules#1")));
    let closed = world.record(Stage::Closed).await;
    assert_eq!(closed.id, opened.id);
    assert!(closed.bytes_sent > 100 && closed.bytes_received > 500, "{closed:?}");
}

#[tokio::test]
async fn requests_in_the_clear_are_judged_one_by_one() {
    let world = World::new("").await;
    let port = world.http(OUTSIDE).await;
    world.resolve("a.example", &[OUTSIDE]);
    world.allow(&format!("{{name: a.example, ports: [{port}]}}"));
    let stream = world.dial_name("a.example", port).await;
    let host = format!("a.example:{port}");
    let two = format!(
        "GET /one HTTP/1.1\r\nhost: {host}\r\n\r\nPOST /two HTTP/1.1\r\nhost: {host}\r\ncontent-length: 3\r\n\r\nxyz"
    );
    let answer = talk(stream, &two).await;
    assert!(answer.contains("GET /one") && answer.contains("POST /two") && answer.contains("xyz"), "{answer}");
}

#[tokio::test]
async fn any_protocol_passes_where_the_rule_says_raw() {
    let world = World::new("").await;
    let port = world.echo(OUTSIDE).await;
    world.resolve("db.example", &[OUTSIDE]);
    world.allow(&format!("{{name: db.example, ports: [{port}]}}"));
    let refused = talk(world.dial_name("db.example", port).await, "\x01hello").await;
    assert_eq!(refused, "");
    assert_eq!(world.refusal().await, "only TLS and HTTP are allowed to db.example");
    world.allow(&format!("{{name: db.example, ports: [{port}], raw: true}}"));
    assert_eq!(talk(world.dial_name("db.example", port).await, "\x01hello").await, "\x01hello");
}

#[tokio::test]
async fn an_address_is_reached_at_its_port() {
    let world = World::new("").await;
    let (port, other) = (world.echo(OUTSIDE).await, world.echo(OUTSIDE).await);
    world.allow(&format!("{{address: {OUTSIDE}, ports: [{port}]}}"));
    assert_eq!(talk(world.dial(SocketAddrV4::new(OUTSIDE, port)).await, "hello").await, "hello");
    assert_eq!(talk(world.dial(SocketAddrV4::new(OUTSIDE, other)).await, "hello").await, "");
    let refused = world.record(Stage::Refused).await;
    let command = format!("atoll egress allow {OUTSIDE}:{other} --namespace team");
    assert_eq!((refused.address, refused.allow_with), (Some(OUTSIDE), Some(command)));
}

#[tokio::test]
async fn a_proxy_that_is_asked_by_name_connects() {
    let world = World::new("").await;
    let (port, tls_port) = (world.http(OUTSIDE).await, world.https(OUTSIDE, "a.example").await);
    world.resolve("a.example", &[OUTSIDE]);
    world.allow(&format!("{{name: a.example, ports: [{port}, {tls_port}]}}"));
    let whole = format!(
        "GET http://a.example:{port}/x HTTP/1.1\r\nhost: a.example:{port}\r\nproxy-authorization: Basic x\r\n\r\n"
    );
    let answer = talk(world.dial(EXPLICIT).await, &whole).await;
    assert!(answer.contains("GET /x HTTP/1.1") && !answer.contains("proxy-authorization"), "{answer}");

    let mut stream = world.dial(EXPLICIT).await;
    let connect = format!("CONNECT a.example:{tls_port} HTTP/1.1\r\nhost: a.example:{tls_port}\r\n\r\n");
    stream.write_all(connect.as_bytes()).await.expect("it reads");
    let mut answer = vec![0; 19];
    stream.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(answer, b"HTTP/1.1 200 OK\r\nda"[..19].to_vec());
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a head"));
    }
    let stream = world.tls(stream, "a.example", world.outside.certificate_pem()).await.expect("the real certificate");
    assert!(talk(stream, GET).await.contains("GET /a?b=c"));
}

#[tokio::test]
async fn websockets_are_carried() {
    let world = World::new("").await;
    let port = world
        .listen(OUTSIDE, |mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                got.push(stream.read_u8().await.expect("a head"));
            }
            let text = String::from_utf8(got).expect("text");
            assert!(text.contains("upgrade: websocket"), "{text}");
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("it is read");
            let byte = stream.read_u8().await.expect("a frame");
            stream.write_all(&[byte, b'!']).await.expect("it is read");
        })
        .await;
    world.resolve("a.example", &[OUTSIDE]);
    world.allow(&format!("{{name: a.example, ports: [{port}]}}"));
    let mut stream = world.dial_name("a.example", port).await;
    let ask =
        format!("GET /socket HTTP/1.1\r\nhost: a.example:{port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a head"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(talk(stream, "x").await, "x!");
}

#[tokio::test]
async fn taking_a_rule_back_ends_its_connections() {
    let world = World::new("").await;
    let port = world.echo(OUTSIDE).await;
    world.resolve("db.example", &[OUTSIDE]);
    world.allow(&format!("{{name: db.example, ports: [{port}], raw: true}}"));
    let mut stream = world.dial_name("db.example", port).await;
    stream.write_all(b"x").await.expect("it reads");
    assert_eq!(stream.read_u8().await.expect("it answers"), b'x');
    world.allow(&format!("{{name: db.example, ports: [{port}], raw: true}}, {{name: other.example}}"));
    stream.write_all(b"y").await.expect("it goes on");
    assert_eq!(stream.read_u8().await.expect("it goes on"), b'y');
    world.allow("");
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await.expect("it ends");
    assert!(ended.is_err());
    assert_eq!(world.record(Stage::Closed).await.reason.as_deref(), Some("the rule that allowed it was taken back"));
}

#[tokio::test]
async fn a_grant_opens_a_route_for_as_long_as_it_lasts() {
    let world = World::new("").await;
    let port = world.echo(OUTSIDE).await;
    world.resolve("db.example", &[OUTSIDE]);
    let rule = format!("{{name: db.example, ports: [{port}], raw: true, onApproval: true}}");
    world.allow(&rule);
    assert_eq!(talk(world.dial_name("db.example", port).await, "x").await, "");
    let refused = world.record(Stage::Refused).await;
    assert_eq!(refused.allow_with.as_deref(), Some("atoll egress grant db.example --namespace team --sandbox box"));
    world.set(&rule, |snapshot| {
        snapshot.sandboxes.values_mut().for_each(|policy| policy.allow[0].granted = true);
    });
    let mut stream = world.dial_name("db.example", port).await;
    stream.write_all(b"x").await.expect("it reads");
    assert_eq!(stream.read_u8().await.expect("it answers"), b'x');
    world.allow(&rule);
    assert!(tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await.expect("it ends").is_err());
}
