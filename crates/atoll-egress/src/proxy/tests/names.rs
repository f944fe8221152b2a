//! The resolver.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::world::{HOME, World, parse_answer, question};
use crate::name::HostName;
use crate::policy::{self};
use crate::ranges::RangeSet;
use crate::record::{Spoken, Stage};
use crate::synthetic::is_synthetic;

const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;

#[tokio::test]
async fn only_allowed_names_are_told() {
    let world = World::new("{name: a.example}, {name: '*.b.example'}").await;
    for (name, code, addresses) in [
        ("a.example", 0, 1),
        ("A.Example", 0, 1),
        ("x.b.example", 0, 1),
        ("b.example", NO_SUCH_NAME, 0),
        ("evil.example", NO_SUCH_NAME, 0),
        ("a.example.evil.example", NO_SUCH_NAME, 0),
    ] {
        let (found, told) = world.ask(name, 1).await;
        assert_eq!((found, told.len()), (code, addresses), "{name}");
        assert!(told.into_iter().all(is_synthetic), "{name}");
    }
    let refused = world.record(Stage::Refused).await;
    assert_eq!((refused.protocol, refused.name.as_deref()), (Spoken::Dns, Some("b.example")));
    assert_eq!(refused.allow_with.as_deref(), Some("atoll egress allow b.example --namespace team"));
}

#[tokio::test]
async fn no_record_but_addresses_is_told() {
    let world = World::new("{name: a.example}").await;
    let (txt, null, any, ipv6, https) = (16, 10, 255, 28, 65);
    for kind in [txt, null, any, 2, 5, 6, 12, 15, 33, 252] {
        assert_eq!(world.ask("a.example", kind).await, (REFUSED, vec![]), "{kind}");
        assert_eq!(world.ask("other.example", kind).await, (NO_SUCH_NAME, vec![]), "{kind}");
    }
    for kind in [ipv6, https] {
        assert_eq!(world.ask("a.example", kind).await, (0, vec![]), "{kind}");
    }
}

#[tokio::test]
async fn a_tunnel_through_names_carries_nothing() {
    let world = World::new("{name: '*.b.example'}").await;
    // The resolver asks nobody: what is in the name goes nowhere, and the same address comes back each time.
    let secret = "73656372657473656372657473656372657473656372657473656372.b.example";
    assert_eq!(world.ask(secret, 1).await, world.ask(secret, 1).await);
    assert_eq!(world.ask("73656372657473656372.evil.example", 1).await, (NO_SUCH_NAME, vec![]));
    // And not in a flood.
    let socket = UdpSocket::bind((HOME, 0)).await.expect("a port");
    for _ in 0..1000 {
        socket.send_to(&question(secret, 1), world.dns).await.expect("it is sent");
    }
    let mut answers = 0;
    let mut buffer = [0; 600];
    while tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await.is_ok() {
        answers += 1;
    }
    assert!(answers < 500, "{answers} of 1000 questions were answered");
}

#[tokio::test]
async fn strangers_and_nonsense_are_not_answered() {
    let world = World::new("{name: a.example}").await;
    world.set("", |snapshot| snapshot.sandboxes.clear());
    let socket = UdpSocket::bind((HOME, 0)).await.expect("a port");
    let mut buffer = [0; 600];
    let mut silent = async |message: &[u8]| {
        socket.send_to(message, world.dns).await.expect("it is sent");
        tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await.is_err()
    };
    assert!(silent(&question("a.example", 1)).await, "nobody's sandbox");
    world.allow("{name: a.example}");
    assert!(!silent(&question("a.example", 1)).await, "its own");
    assert!(silent(b"nonsense").await && silent(&[0; 700]).await);
}

#[tokio::test]
async fn questions_come_over_tcp_too() {
    let world = World::new("{name: a.example}").await;
    let mut stream = TcpStream::connect(world.dns).await.expect("it listens");
    for _ in 0..2 {
        let message = question("a.example", 1);
        let length = u16::try_from(message.len()).expect("short").to_be_bytes();
        stream.write_all(&[&length, message.as_slice()].concat()).await.expect("it reads");
        let length = stream.read_u16().await.expect("an answer");
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(parse_answer(&answer).1.len(), 1);
    }
    let mut slow = TcpStream::connect(world.dns).await.expect("it listens");
    slow.write_all(&[0xff, 0xff]).await.expect("it reads");
    assert_eq!(slow.read(&mut [0; 1]).await.expect("it is closed"), 0, "a message beyond the limit");
}

#[tokio::test]
async fn services_are_told_to_those_who_may_reach_them() {
    let world = World::new("").await;
    let service = "db.team.svc.cluster.local";
    let peer = "10.201.0.7".parse().expect("an address");
    let with_rule = |rule: bool| {
        world.set("", |snapshot| {
            snapshot.services.insert(HostName::parse(service).expect("a name"), vec![peer]);
            if rule {
                let addresses = RangeSet::of([peer]).to_rules();
                let rule = atoll_sandbox::network::rules::NetworkRule { addresses, protocol: None, ports: vec![] };
                assert!(policy::allows(std::slice::from_ref(&rule), peer, 1));
                snapshot.sandboxes.values_mut().for_each(|policy| policy.egress = vec![rule.clone()]);
            }
        });
    };
    with_rule(false);
    assert_eq!(world.ask(service, 1).await, (NO_SUCH_NAME, vec![]));
    with_rule(true);
    assert_eq!(world.ask(service, 1).await, (0, vec![peer]));
}
