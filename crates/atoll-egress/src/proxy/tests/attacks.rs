//! Ways around the rules.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{EXPLICIT, OUTSIDE, PRIVATE, World, talk};
use crate::hello::tests::greeting;
use crate::record::Stage;

/// Two hosts at one address, of which one is allowed.
async fn shared_front() -> (World, u16) {
    let world = World::new("").await;
    let port = world.http(OUTSIDE).await;
    world.resolve("good.example", &[OUTSIDE]);
    world.resolve("evil.example", &[OUTSIDE]);
    world.allow(&format!("{{name: good.example, ports: [{port}]}}"));
    (world, port)
}

#[tokio::test]
async fn a_host_header_cannot_name_another() {
    let (world, port) = shared_front().await;
    for (heads, reason) in [
        (format!("GET / HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n"), "says evil.example"),
        (
            format!("GET / HTTP/1.1\r\nhost: good.example:{port}\r\nhost: evil.example:{port}\r\n\r\n"),
            "names two hosts",
        ),
        (format!("GET http://evil.example:{port}/ HTTP/1.1\r\nhost: good.example:{port}\r\n\r\n"), "says evil.example"),
        (format!("GET http://good.example:{port}/ HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n"), "says good.example"),
        (format!("GET / HTTP/1.1\r\nhost: good.example:{}\r\n\r\n", port - 1), "says good.example"),
        (format!("GET / HTTP/1.1\r\nhost: x@good.example:{port}\r\n\r\n"), "no host name"),
        ("GET / HTTP/1.1\r\nhost: good.example.\r\n\r\n".to_owned(), "no host name"),
        ("GET / HTTP/1.1\r\nhost: [::ffff:127.0.0.2]\r\n\r\n".to_owned(), "no host name"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "says nothing"),
        (
            format!("CONNECT evil.example:{port} HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n"),
            "CONNECT is for proxies",
        ),
        (
            format!(
                "GET /ok HTTP/1.1\r\nhost: good.example:{port}\r\n\r\nGET /later HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n"
            ),
            "says evil.example",
        ),
    ] {
        let answer = talk(world.dial_name("good.example", port).await, &heads).await;
        assert!(!answer.contains("host: evil.example") && !answer.contains("/later"), "{heads}: {answer}");
        let refusal = world.refusal().await;
        assert!(refusal.contains(reason), "{heads}: {refusal}");
    }
    world.allow(&format!("{{name: good.example, ports: [{port}]}}, {{name: evil.example, ports: [{port}]}}"));
    let request = format!("GET / HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n");
    assert!(talk(world.dial_name("evil.example", port).await, &request).await.contains("host: evil.example"));
}

#[tokio::test]
async fn a_greeting_cannot_name_another() {
    let world = World::new("").await;
    let port = world.https(OUTSIDE, "evil.example").await;
    world.resolve("good.example", &[OUTSIDE]);
    world.resolve("evil.example", &[OUTSIDE]);
    world.allow(&format!("{{name: good.example, ports: [{port}]}}"));
    let stream = world.dial_name("good.example", port).await;
    assert!(world.tls(stream, "evil.example", world.outside.certificate_pem()).await.is_err());
    assert_eq!(world.refusal().await, "the connection is for good.example, and says evil.example");
    for (hello, reason) in [
        (greeting(&[], 9000), "no SNI"),
        (greeting(&[0xfe, 0x0d, 0, 1, 0], 9000), "encrypted client hello"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00".to_vec(), "malformed"),
    ] {
        let mut stream = world.dial_name("good.example", port).await;
        stream.write_all(&hello).await.expect("it reads");
        assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        let refusal = world.refusal().await;
        assert!(refusal.contains(reason), "{refusal}");
    }
    world.allow(&format!("{{name: evil.example, ports: [{port}]}}"));
    let stream = world.dial_name("evil.example", port).await;
    assert!(world.tls(stream, "evil.example", world.outside.certificate_pem()).await.is_ok());
}

#[tokio::test]
async fn smuggled_requests_are_not_seen_by_the_server() {
    let (world, port) = shared_front().await;
    let host = format!("host: good.example:{port}");
    for (attack, what) in [
        (
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "length and coding",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ntransfer-encoding: chunked\r\ncontent-length: 60\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "coding and length",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ncontent-length: 3\r\ncontent-length: 50\r\n\r\nxyzGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "two lengths",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "a strange coding",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ncontent-length: +3\r\n\r\nxyzGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "a signed length",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\n{host}\r\nx: a\r\n\tb\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n"
            ),
            "a folded header",
        ),
        (format!("GET /\r\nx HTTP/1.1\r\n{host}\r\n\r\n"), "a broken first line"),
        (format!("GET / HTTP/1.1\r\n{host}\r\nx\0y: z\r\n\r\n"), "a zero byte"),
    ] {
        let answer = talk(world.dial_name("good.example", port).await, &attack).await;
        assert!(!answer.contains("evil.example"), "{what}: {answer}");
    }
    // Without a proxy between, the server is taken in.
    let direct = tokio::net::TcpStream::connect((OUTSIDE, port)).await.expect("it listens");
    let attack = format!("GET / HTTP/1.1\r\n{host}\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert!(talk(direct, &attack).await.contains("/smuggled"));
}

#[tokio::test]
async fn a_name_that_is_rebound_leads_nowhere() {
    let world = World::new("").await;
    let port = world.echo(PRIVATE).await;
    world.allow(&format!("{{name: rebind.example, ports: [{port}], raw: true}}"));
    world.resolve("rebind.example", &[OUTSIDE]);
    let address = world.ask("rebind.example", 1).await.1[0];
    // What the name means changes between the question and the connection.
    world.resolve("rebind.example", &[PRIVATE]);
    let attack = || async { talk(world.dial(SocketAddrV4::new(address, port)).await, "hello").await };
    assert_eq!(attack().await, "");
    let refused = world.record(Stage::Refused).await;
    assert_eq!(refused.address, Some(PRIVATE));
    assert_eq!(refused.allow_with, Some(format!("atoll egress floor {PRIVATE}")));
    world.set(&format!("{{name: rebind.example, ports: [{port}], raw: true}}"), |snapshot| {
        snapshot.permitted_for_names = crate::ranges::RangeSet::of([PRIVATE]);
    });
    assert_eq!(attack().await, "hello", "where the address is listed, the attack works");
}

#[tokio::test]
async fn addresses_in_disguise_are_refused() {
    let world = World::new("").await;
    let port = world.http(PRIVATE).await;
    world.allow(&format!("{{name: '*.example.com', ports: [{port}]}}"));
    for host in [
        "127.0.0.3",
        "2130706435",
        "0x7f000003",
        "0x7f.0.0.3",
        "0177.0.0.3",
        "127.3",
        "[::ffff:127.0.0.3]",
        "[::ffff:7f00:3]",
        "127.0.0.3.",
        "127.0.0.3.nip.io",
        "user@127.0.0.3",
        "localhost",
        "127。0。0。3",
    ] {
        let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
        let answer = talk(world.dial(EXPLICIT).await, &connect).await;
        assert!(!answer.contains(" 200 "), "{host}: {answer}");
        let whole = format!("GET http://{host}:{port}/ HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
        let answer = talk(world.dial(EXPLICIT).await, &whole).await;
        assert!(!answer.contains("x-server"), "{host}: {answer}");
    }
    assert_eq!(talk(world.dial(SocketAddrV4::new(PRIVATE, port)).await, "GET / HTTP/1.1\r\n\r\n").await, "");
    world.set(&format!("{{address: {PRIVATE}, ports: [{port}]}}"), |snapshot| {
        snapshot.permitted_for_names = crate::ranges::RangeSet::of([PRIVATE]);
    });
    let connect = format!("CONNECT {PRIVATE}:{port} HTTP/1.1\r\nhost: {PRIVATE}:{port}\r\n\r\n");
    assert!(talk(world.dial(EXPLICIT).await, &connect).await.contains(" 200 "));
}

#[tokio::test]
async fn a_redirect_leads_nowhere_new() {
    let (world, port) = shared_front().await;
    // A client that follows one asks for the new name, which is judged like any other.
    assert_eq!(world.ask("evil.example", 1).await, (3, vec![]));
    let whole = format!("GET http://evil.example:{port}/ HTTP/1.1\r\nhost: evil.example:{port}\r\n\r\n");
    let answer = talk(world.dial(EXPLICIT).await, &whole).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("atoll egress allow evil.example"), "{answer}");
}

#[tokio::test]
async fn slow_clients_are_sent_away() {
    let (world, port) = shared_front().await;
    for first in ["", "G", "GET / HTTP/1.1\r\nhost: good", "\x16\x03\x01"] {
        let mut stream = world.dial_name("good.example", port).await;
        stream.write_all(first.as_bytes()).await.expect("it reads");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{first:?} holds a connection for ever");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let (world, port) = shared_front().await;
    let long = format!("GET / HTTP/1.1\r\nhost: good.example:{port}\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many: String = (0..1000).map(|number| format!("x{number}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: good.example:{port}\r\n{many}\r\n");
    for head in [long, many] {
        let answer = talk(world.dial_name("good.example", port).await, &head).await;
        assert!(!answer.contains("x-server"), "{}", &answer[..answer.len().min(200)]);
    }
    let mut greeting = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
    greeting.resize(40_000, 0);
    let mut stream = world.dial_name("good.example", port).await;
    let _ = stream.write_all(&greeting).await;
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_address_that_stands_for_no_name_is_read_off_the_connection() {
    let (world, port) = shared_front().await;
    let forgotten = SocketAddrV4::new(Ipv4Addr::new(198, 19, 200, 1), port);
    let request = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
    assert!(talk(world.dial(forgotten).await, &request("good.example")).await.contains("x-server"));
    assert!(!talk(world.dial(forgotten).await, &request("evil.example")).await.contains("x-server"));
    assert_eq!(talk(world.dial(forgotten).await, "\x01raw").await, "");
}

#[tokio::test]
async fn nobody_else_is_served() {
    let (world, port) = shared_front().await;
    world.set(&format!("{{name: good.example, ports: [{port}]}}"), |snapshot| {
        let policy = snapshot.sandboxes.remove(&super::world::HOME).expect("the sandbox");
        snapshot.sandboxes.insert(Ipv4Addr::new(10, 201, 0, 9), policy);
    });
    assert_eq!(talk(world.dial(EXPLICIT).await, "GET / HTTP/1.1\r\n\r\n").await, "");
}
