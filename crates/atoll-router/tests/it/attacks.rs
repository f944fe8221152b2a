//! What somebody may try. Each attack has a twin with its control out of the way, in which it succeeds.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use atoll_router::{PodNetwork, RouterConfig};

use crate::backend;
use crate::plane::{LOOKER_TOKEN, POD_NETWORK, Plane, TOKEN, bind, config};
use crate::wire::{get, parse, raw, request, send};

fn direct(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Two sandboxes: the attacker's `mine` and somebody's `victim`, each with a server on port 3000.
async fn plane() -> Plane {
    let plane = Plane::start().await;
    plane.sandbox("mine", &plane.ip(2)).await;
    plane.sandbox("victim", &plane.ip(3)).await;
    backend::tell_tcp(&plane.group, "mine", &plane.at(2, 3000)).await;
    backend::tell_tcp(&plane.group, "victim", &plane.at(3, 3000)).await;
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_of_this_plane_nothing_is_reached() {
    let plane = plane().await;
    let id = "x-sandbox-id: victim\r\nx-sandbox-port: 3000\r\n";
    for (authorization, detail) in [
        ("", "A bearer token is required."),
        ("authorization: Bearer stolen-elsewhere\r\n", "The bearer token is not valid."),
        ("authorization: Bearer\r\n", "The bearer token is not valid."),
        ("authorization: Basic YS1nb29kLXRva2Vu\r\n", "The bearer token is not valid."),
        ("authorization: Bearer a-good-token\r\nauthorization: Bearer x\r\n", "The bearer token is not valid."),
        ("authorization: Bearer a-good-token \tx\r\n", "The bearer token is not valid."),
        ("proxy-authorization: Bearer a-good-token\r\n", "A bearer token is required."),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nhost: r\r\nconnection: close\r\n{id}{authorization}\r\n");
        let answer = send(plane.address, bytes.as_bytes()).await;
        assert_eq!((answer.status, answer.detail().as_str()), (401, detail), "{authorization:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let query = format!("GET /?access_token={TOKEN} HTTP/1.1\r\nhost: r\r\nconnection: close\r\n{id}\r\n");
    assert_eq!(send(plane.address, query.as_bytes()).await.status, 401);
    assert_eq!(plane.router.metrics().unauthorized, 8);

    // Twin: the server itself asks for nothing.
    let bytes = format!("GET / HTTP/1.1\r\nhost: r\r\nconnection: close\r\n{id}\r\n");
    assert_eq!(send(direct(&plane.at(3, 3000)), bytes.as_bytes()).await.json()["server"], "victim");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_caller_reaches_only_what_they_may_use() {
    let plane = plane().await;
    let ask = |id: &str, token: &str| {
        let head = format!("authorization: Bearer {token}\r\nx-sandbox-id: {id}\r\nx-sandbox-port: 3000\r\n");
        let address = plane.address;
        async move {
            let bytes = format!("GET / HTTP/1.1\r\nhost: r\r\nconnection: close\r\n{head}\r\n");
            send(address, bytes.as_bytes()).await
        }
    };
    // Whether the sandbox exists makes no difference to who may not use it.
    for id in ["victim", "nothing"] {
        let answer = ask(id, LOOKER_TOKEN).await;
        let detail = format!("Access to the sandbox is denied: {id} (it needs the verb get on sandboxes/proxy)");
        assert_eq!((answer.status, answer.detail()), (403, detail));
    }
    assert_eq!(ask("victim", TOKEN).await.status, 200);

    // Twin: the same caller, with the right.
    bind(&plane.admin, "ann-edits", "edit", serde_json::json!({ "kind": "User", "name": "ann" })).await;
    for _ in 0..1000 {
        if ask("victim", LOOKER_TOKEN).await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a right that was given is never seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_address_is_never_dialled() {
    let plane = plane().await;
    let mine = [("x-sandbox-id", "mine"), ("x-sandbox-port", "3000")];
    let victim = plane.ip(3);
    for ip in [victim.as_str(), "127.0.0.1", "10.201.0.3", "8.8.8.8"] {
        let answer = get(plane.address, "/", &[mine[0], mine[1], ("x-sandbox-pod-ip", ip)]).await;
        assert_eq!(answer.status, 403, "{ip}: {answer:?}");
        assert_eq!(answer.detail(), "The target IP address does not belong to this sandbox.");
    }
    let own = [mine[0], mine[1], ("x-sandbox-pod-ip", &plane.ip(2))];
    assert_eq!(get(plane.address, "/", &own).await.json()["server"], "mine");

    // Twin: whoever dials what the header says reaches the victim.
    assert_eq!(get(direct(&plane.at(3, 3000)), "/", &own).await.json()["server"], "victim");
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_no_sandboxs_address() {
    let strict = Plane::with(RouterConfig { loopback_pod_ip: false, ..config() }).await;
    let address = strict.ip(2);
    strict.sandbox("mine", &address).await;
    backend::tell_tcp(&strict.group, "mine", &strict.at(2, 3001)).await;
    let headers = [("x-sandbox-id", "mine"), ("x-sandbox-port", "3001"), ("x-sandbox-pod-ip", &address)];
    let answer = get(strict.address, "/", &headers).await;
    assert_eq!((answer.status, answer.detail().as_str()), (400, "Invalid target IP address."));

    // Twin: with the check off the same request passes.
    let lax = Plane::start().await;
    lax.sandbox("mine", &address).await;
    assert_eq!(get(lax.address, "/", &headers).await.json()["server"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_the_pod_networks_is_not_dialled() {
    let plane = Plane::start().await;
    // As if the node had been made to believe it.
    plane.sandbox("mine", "127.0.0.1").await;
    let port = plane.address.port().to_string();
    let headers = [("x-sandbox-id", "mine"), ("x-sandbox-port", port.as_str())];
    assert_eq!(get(plane.address, "/healthz", &headers).await.status, 502);

    // Twin: with the network allowed, the router's own port is reached through the sandbox.
    let network = PodNetwork::new("127.0.0.0".parse().unwrap(), 8);
    let lax = Plane::with(RouterConfig { pod_networks: vec![POD_NETWORK, network], ..config() }).await;
    lax.sandbox("mine", "127.0.0.1").await;
    let port = lax.address.port().to_string();
    let headers = [("x-sandbox-id", "mine"), ("x-sandbox-port", port.as_str())];
    assert_eq!(get(lax.address, "/healthz", &headers).await.body, r#"{"status":"ok"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sandboxs_uid_opens_nothing() {
    let plane = Plane::start().await;
    plane.sandbox("mine", &plane.ip(2)).await;
    let victim = plane.sandbox("victim", &plane.ip(3)).await;
    backend::tell_tcp(&plane.group, "victim", &plane.at(3, 3000)).await;
    let headers = [("x-sandbox-id", "mine"), ("x-sandbox-port", "3000"), ("x-sandbox-uid", victim.uid.as_str())];
    assert_eq!(get(plane.address, "/", &headers).await.status, 403);

    // Twin: the UID is good for the name it belongs to.
    let headers = [("x-sandbox-id", "victim"), headers[1], headers[2]];
    assert_eq!(get(plane.address, "/", &headers).await.json()["server"], "victim");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_only_claims_to_belong_gets_no_traffic() {
    let plane = Plane::start().await;
    let victim = plane.bare_sandbox("victim").await;
    backend::tell_tcp(&plane.group, "thief", &plane.at(66, 3000)).await;
    // The label's hash is public, and owner references can be written by whoever writes Pods.
    plane.pod("thief", "victim", &victim, &plane.ip(66)).await;
    plane.ready("thief", &plane.ip(66)).await;
    let headers = [("x-sandbox-id", "victim"), ("x-sandbox-port", "3000"), ("x-sandbox-timeout", "0.3")];
    assert_eq!(get(plane.address, "/", &headers).await.status, 504);

    // Twin: under the Sandbox's own name, which is unique, the Pod is the Sandbox's.
    plane.pod("victim", "victim", &victim, &plane.ip(66)).await;
    plane.ready("victim", &plane.ip(66)).await;
    let headers = [headers[0], headers[1]];
    assert_eq!(get(plane.address, "/", &headers).await.json()["server"], "thief");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_chooses_no_sandbox_and_is_not_rewritten() {
    let plane = plane().await;
    let mine = [("x-sandbox-id", "mine"), ("x-sandbox-port", "3000")];
    let victim = plane.at(3, 3000);
    for path in [
        "/../victim/",
        "/sandboxes/default/victim/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/a%2F..%2F..%2Fb",
        &format!("//{victim}/"),
        &format!("/x?next=http://{victim}/"),
    ] {
        let told = get(plane.address, path, &mine).await.json();
        assert_eq!((told["server"].as_str(), told["target"].as_str()), (Some("mine"), Some(path)));
    }
    let absolute = get(plane.address, &format!("http://{victim}/x"), &mine).await.json();
    assert_eq!((absolute["server"].as_str(), absolute["target"].as_str()), (Some("mine"), Some("/x")));
    let connect = format!(
        "CONNECT {victim} HTTP/1.1\r\nhost: r\r\nauthorization: Bearer {TOKEN}\r\nx-sandbox-id: mine\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(send(plane.address, connect.as_bytes()).await.status, 405);

    // Twin: a client that takes the path for an address ends up at the victim.
    assert_eq!(get(direct(&victim), &format!("//{victim}/"), &mine).await.json()["server"], "victim");
}

/// Requests that one server reads as one and another as two.
const SMUGGLED: [&str; 4] = [
    "POST /a HTTP/1.1\r\nHOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2a\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nA: bcdefghij\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n26\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nA: bc\r\n\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHOST\r\nContent-Length: 0\r\nContent-Length: 35\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
    "POST /a HTTP/1.1\r\nHOST\r\nContent-Length: 0\r\nTransfer-Encoding: xchunked\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn requests_can_not_be_smuggled_through() {
    let plane = Plane::start().await;
    plane.sandbox("mine", &plane.ip(2)).await;
    let through = backend::careless(&plane.group, &plane.at(2, 3002)).await;
    let alone = backend::careless(&plane.group, &plane.at(9, 3002)).await;
    let host = format!(
        "Host: r\r\nAuthorization: Bearer {TOKEN}\r\nX-Sandbox-ID: mine\r\nX-Sandbox-Port: 3002\r\nX-Sandbox-Timeout: 1\r\nConnection: close"
    );
    for (n, text) in SMUGGLED.iter().enumerate() {
        let before = through.load(Ordering::SeqCst);
        let answer = send(plane.address, text.replace("HOST", &host).as_bytes()).await;
        let seen = through.load(Ordering::SeqCst) - before;
        assert!(seen <= 1, "{n}: the server saw {seen} requests; {answer:?}");

        // Twin: sent to the careless server itself, the hidden request is seen.
        let before = alone.load(Ordering::SeqCst);
        let twin = text.replace("HOST", "Host: r");
        let twin = tokio::time::timeout(
            std::time::Duration::from_millis(500),
            send(direct(&plane.at(9, 3002)), twin.as_bytes()),
        )
        .await;
        drop(twin);
        let seen = alone.load(Ordering::SeqCst) - before;
        assert!(seen >= 2, "{n}: the twin saw {seen} requests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_can_not_be_injected() {
    let plane = plane().await;
    let ask = |extra: &str| {
        let text = format!(
            "GET / HTTP/1.1\r\nhost: r\r\nauthorization: Bearer {TOKEN}\r\nx-sandbox-id: mine\r\nx-sandbox-port: 3000\r\nconnection: close\r\n{extra}\r\n"
        );
        async move { send(plane.address, text.as_bytes()).await }
    };
    // Not HTTP at all.
    for extra in [
        "x-a: b\rx-injected: 1\r\n",
        "x-a: b\0c\r\n",
        "x-a : b\r\n",
        "no colon\r\n",
        "x-a: b\n\tfolded: c\r\n\u{1}: x\r\n",
    ] {
        let answer = ask(extra).await;
        assert_eq!(answer.status, 400, "{extra:?}: {answer:?}");
    }
    // A client that says who it is, or takes away what the router says.
    let answer = ask("connection: x-forwarded-for, x-forwarded-proto\r\nx-forwarded-for: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("6.6.6.6"), "{}", answer.body);
    assert!(answer.body.contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{}", answer.body);

    // Twin: without the router the sandbox sees what the client says.
    let text = "GET / HTTP/1.1\r\nhost: r\r\nconnection: close\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
    assert!(send(direct(&plane.at(2, 3000)), text.as_bytes()).await.body.contains("6.6.6.6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_can_not_smuggle_another_one() {
    let plane = Plane::start().await;
    plane.sandbox("mine", &plane.ip(2)).await;
    const LIE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nx-poison: 1\r\ncontent-length: 0\r\n\r\n";
    backend::fixed(&plane.group, &plane.at(2, 3003), LIE).await;
    let headers = [("x-sandbox-id", "mine"), ("x-sandbox-port", "3003")];
    let text = request("GET /", &headers, "");
    let through = raw(plane.address, text.as_bytes()).await;
    assert_eq!(parse(&through).body, "hello");
    assert!(!String::from_utf8_lossy(&through).contains("poison"));

    // Twin: whoever reads the sandbox's bytes as they are and believes the length gets the other one too.
    let alone = raw(direct(&plane.at(2, 3003)), text.as_bytes()).await;
    assert!(String::from_utf8_lossy(&alone).contains("poison"));
}
