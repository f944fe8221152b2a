//! Rules about requests, and credentials that the sandbox never sees.

use super::world::{OUTSIDE, World, talk};
use crate::record::{Spoken, Stage};

const PLACEHOLDER: &str = "atoll-credential-forge";
const TOKEN: &str = "real-forge-token";

/// Sends a request over TLS that ends at the proxy.
async fn request(world: &World, port: u16, head: &str) -> String {
    let stream = world.dial_name("forge.example", port).await;
    match world.tls(stream, "forge.example", &world.authority_pem).await {
        Ok(stream) => talk(stream, &head.replace("HOST", &format!("forge.example:{port}"))).await,
        Err(error) => panic!("the proxy speaks TLS: {error}"),
    }
}

async fn forge(rule: &str) -> (World, u16) {
    let world = World::new("").await;
    let port = world.https(OUTSIDE, "forge.example").await;
    world.resolve("forge.example", &[OUTSIDE]);
    world.allow(&format!("{{name: forge.example, ports: [{port}], {rule}}}"));
    (world, port)
}

#[tokio::test]
async fn methods_and_paths_are_limited() {
    let (world, port) = forge("methods: [GET], paths: ['/repos/acme/**']").await;
    for (request_line, allowed) in [
        ("GET /repos/acme/x", true),
        ("POST /repos/acme/x", false),
        ("GET /repos/other/x", false),
        ("GET /repos/acme/../other/x", false),
        ("GET /repos/acme/%2e%2e/other/x", false),
    ] {
        let answer = request(&world, port, &format!("{request_line} HTTP/1.1\r\nhost: HOST\r\n\r\n")).await;
        assert_eq!(answer.contains("x-server"), allowed, "{request_line}: {answer}");
        if !allowed {
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
            assert_eq!(world.record(Stage::Refused).await.protocol, Spoken::Https);
        }
    }
}

#[tokio::test]
async fn the_real_server_must_prove_itself() {
    let (world, _) = forge("methods: [GET]").await;
    let port = world.https(OUTSIDE, "other.example").await;
    world.allow(&format!("{{name: forge.example, ports: [{port}], methods: [GET]}}"));
    let answer = request(&world, port, "GET / HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("x-server"), "{answer}");
}

#[tokio::test]
async fn the_token_goes_on_the_wire_and_comes_back_as_asterisks() {
    let (world, port) = forge("credential: {secret: forge}").await;
    for sent in [format!("authorization: Bearer {PLACEHOLDER}\r\n"), String::new()] {
        let answer = request(&world, port, &format!("GET /x HTTP/1.1\r\nhost: HOST\r\n{sent}\r\n")).await;
        // The server tells what it got: the token, in place of the placeholder; the sandbox sees neither.
        let hidden = "*".repeat(TOKEN.len());
        assert!(answer.contains(&format!("authorization: Bearer {hidden}")), "{answer}");
        assert!(!answer.contains(TOKEN) && !answer.contains(PLACEHOLDER), "{answer}");
    }
    // Where nothing takes it out, it is seen: the same server, asked directly.
    let direct = tokio::net::TcpStream::connect((OUTSIDE, port)).await.expect("it listens");
    let direct = world.tls(direct, "forge.example", world.outside.certificate_pem()).await.expect("TLS");
    let head = format!("GET /x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    assert!(talk(direct, &head).await.contains(TOKEN));
}

#[tokio::test]
async fn git_speaks_basic() {
    let (world, port) = forge("credential: {secret: forge, scheme: basic, user: x}").await;
    let answer =
        request(&world, port, "GET /r.git/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    assert!(answer.contains("authorization: Basic ****"), "{answer}");
    assert!(!answer.contains("eDpyZWFsLWZvcmdlLXRva2Vu"), "{answer}");
}

#[tokio::test]
async fn credentials_of_others_are_refused_at_brokered_hosts() {
    let (world, port) = forge("credential: {secret: forge}").await;
    for (head, place) in [
        ("GET / HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer attacker\r\n\r\n", "authorization"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\nprivate-token: attacker\r\n\r\n", "private-token"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\ncookie: session=attacker\r\n\r\n", "cookie"),
        ("GET /?private_token=attacker HTTP/1.1\r\nhost: HOST\r\n\r\n", "private_token"),
    ] {
        let answer = request(&world, port, head).await;
        assert!(!answer.contains("x-server") && answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(world.refusal().await.contains(place), "{head}");
    }
    world.allow(&format!("{{name: forge.example, ports: [{port}], methods: [GET]}}"));
    let answer = request(&world, port, "GET / HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer attacker\r\n\r\n").await;
    assert!(answer.contains("attacker"), "where nothing is brokered, the attack works: {answer}");
}

#[tokio::test]
async fn the_token_goes_nowhere_else() {
    let (world, port) = forge("credential: {secret: forge}").await;
    let clear = world.http(OUTSIDE).await;
    let other = world.https(OUTSIDE, "other.example").await;
    world.resolve("other.example", &[OUTSIDE]);
    world.allow(&format!(
        "{{name: forge.example, ports: [{port}, {clear}], credential: {{secret: forge}}}}, {{name: other.example, ports: [{other}], methods: [GET]}}"
    ));
    let head = format!("GET / HTTP/1.1\r\nhost: forge.example:{clear}\r\nauthorization: Bearer {PLACEHOLDER}\r\n\r\n");
    let answer = talk(world.dial_name("forge.example", clear).await, &head).await;
    assert!(answer.contains("goes only over TLS") && !answer.contains("x-server"), "{answer}");
    let stream = world.dial_name("other.example", other).await;
    let stream = world.tls(stream, "other.example", &world.authority_pem).await.expect("TLS");
    let head = format!("GET / HTTP/1.1\r\nhost: other.example:{other}\r\nauthorization: Bearer {PLACEHOLDER}\r\n\r\n");
    let answer = talk(stream, &head).await;
    assert!(answer.contains(PLACEHOLDER) && !answer.contains(TOKEN), "another host gets the placeholder: {answer}");
}

#[tokio::test]
async fn a_missing_token_is_told() {
    let (world, port) = forge("methods: [GET]").await;
    world.set(&format!("{{name: forge.example, ports: [{port}], credential: {{secret: forge}}}}"), |snapshot| {
        for active in snapshot.sandboxes.values_mut().flat_map(|policy| &mut policy.allow) {
            active.credential.as_mut().expect("a credential").token = None;
        }
    });
    let answer = request(&world, port, "GET / HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("credential for forge.example is missing"),
        "{answer}"
    );
}
