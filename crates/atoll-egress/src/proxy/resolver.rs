//! The node's resolver: tells sandboxes of the names that they may reach, and of nothing else. It asks nobody: what a
//! sandbox puts into a name goes nowhere.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::{Accepted, Shared};
use crate::dns::{Answer, Kind, MESSAGE_BYTES_MAX, Query};
use crate::name::{HostName, NamePattern};
use crate::policy::allows;
use crate::record::Spoken;
use crate::snapshot::SandboxPolicy;
use crate::verdict::{Refusal, is_told};

/// Questions of one sandbox in a second, on average and at once.
const QUESTIONS_PER_SECOND: f64 = 50.0;
const QUESTIONS_AT_ONCE: f64 = 200.0;
/// How long a connection may stay without a question.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// A refused name is recorded once in this time.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Refused names that are remembered; beyond this they are recorded again.
const TOLD_MAX: usize = 4096;

/// Gives every exact name of a rule its address, so that one which a sandbox learned before a restart still means it.
pub(super) async fn keep_known_names(shared: Arc<Shared>) {
    let mut policy = shared.policy.clone();
    loop {
        let snapshot = Arc::clone(&policy.borrow_and_update());
        for active in snapshot.sandboxes.values().flat_map(|sandbox| &sandbox.allow) {
            if let Some(name) = active.allow.name.as_ref().and_then(NamePattern::exact) {
                shared.names().address_of(name);
            }
        }
        drop(snapshot);
        if policy.changed().await.is_err() {
            return;
        }
    }
}

pub(super) async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    let mut desk = Desk::default();
    let mut buffer = [0; MESSAGE_BYTES_MAX + 1];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let SocketAddr::V4(from) = peer else { continue };
        if let Some(answer) = desk.answer(&shared, *from.ip(), &buffer[..length]).await {
            // A client that has gone does not wait for it.
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

pub(super) async fn serve_tcp(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { mut stream, sandbox, own_room, _room } = accepted;
    if own_room.is_none() {
        return;
    }
    let mut desk = Desk::default();
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let question = async {
            let length = usize::from(stream.read_u16().await.ok()?);
            let message = buffer.get_mut(..length)?;
            stream.read_exact(message).await.ok()?;
            Some(length)
        };
        let Ok(Some(length)) = tokio::time::timeout(IDLE_TIMEOUT, question).await else { return };
        let Some(answer) = desk.answer(&shared, sandbox, &buffer[..length]).await else { return };
        let size = u16::try_from(answer.len()).expect("answers are small").to_be_bytes();
        if stream.write_all(&[&size, answer.as_slice()].concat()).await.is_err() {
            return;
        }
    }
}

/// Answers, within each sandbox's rate.
#[derive(Default)]
struct Desk {
    allowances: HashMap<Ipv4Addr, (f64, Instant)>,
    told: VecDeque<(Instant, Ipv4Addr, String)>,
}

impl Desk {
    /// `None` for what is not answered: strangers, floods, and what is no question.
    async fn answer(&mut self, shared: &Shared, sandbox: Ipv4Addr, message: &[u8]) -> Option<Vec<u8>> {
        let policy = shared.policy_of(sandbox)?;
        let now = Instant::now();
        self.spend(sandbox, now, shared)?;
        let query = Query::parse(message).ok()?;
        let answer = match &query.name {
            Ok(name) => answer(shared, &policy, name, query.kind),
            Err(_) => Answer::NoSuchName,
        };
        if let (Ok(name), Answer::NoSuchName) = (&query.name, &answer)
            && self.is_news(now, sandbox, name)
        {
            let mut about = shared.about(Spoken::Dns, 0);
            about.name = Some(name.to_string());
            shared.refuse(&policy, &about, &Refusal::Name(name.clone())).await;
        }
        Some(query.answer(&answer))
    }

    fn spend(&mut self, sandbox: Ipv4Addr, now: Instant, shared: &Shared) -> Option<()> {
        if !self.allowances.contains_key(&sandbox) {
            let snapshot = shared.snapshot();
            self.allowances.retain(|known, _| snapshot.sandboxes.contains_key(known));
        }
        let (left, since) = self.allowances.entry(sandbox).or_insert((QUESTIONS_AT_ONCE, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * QUESTIONS_PER_SECOND).min(QUESTIONS_AT_ONCE);
        *since = now;
        (*left >= 1.0).then(|| *left -= 1.0)
    }

    /// Whether the refusal of a name was not recorded lately.
    fn is_news(&mut self, now: Instant, sandbox: Ipv4Addr, name: &HostName) -> bool {
        while self.told.front().is_some_and(|(at, ..)| now.duration_since(*at) > TOLD_AGAIN_AFTER) {
            self.told.pop_front();
        }
        if self.told.iter().any(|(_, who, what)| *who == sandbox && what == name.as_str()) {
            return false;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back((now, sandbox, name.to_string()));
        true
    }
}

fn answer(shared: &Shared, policy: &SandboxPolicy, name: &HostName, kind: Kind) -> Answer {
    let service = shared.snapshot().services.get(name).map(|addresses| {
        let permitted = addresses.iter().copied().filter(|address| reaches(policy, *address));
        permitted.collect::<Vec<_>>()
    });
    let addresses = match service {
        Some(addresses) if addresses.is_empty() => return Answer::NoSuchName,
        Some(addresses) => addresses,
        None if is_told(policy, name) => vec![shared.names().address_of(name)],
        None => return Answer::NoSuchName,
    };
    match kind {
        Kind::Address => Answer::Addresses(addresses),
        Kind::Beside => Answer::Addresses(Vec::new()),
        Kind::Other(_) => Answer::Refused,
    }
}

/// Whether network policies let a sandbox reach another at any port.
fn reaches(policy: &SandboxPolicy, address: Ipv4Addr) -> bool {
    let any_port = |rule: &atoll_sandbox::network::rules::NetworkRule| {
        let port = rule.ports.first().map_or(1, |range| range.first);
        let as_tcp = atoll_sandbox::network::rules::NetworkRule { protocol: None, ..rule.clone() };
        allows(&[as_tcp], address, port)
    };
    policy.egress.iter().any(any_port)
}
