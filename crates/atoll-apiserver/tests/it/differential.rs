//! The same requests to a kube-apiserver and to this server: what they answer is the same.
//!
//! [`scenarios`] is the one table. A recorder sends it to a real server and writes what came back, in normal form, to
//! `tests/transcripts/`; the ordinary run sends it to this server and compares. `cargo xtask differential` starts a real
//! server and records anew.

mod exchange;
mod normal;
mod scenarios;
mod server;
mod subjects;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use serde_json::Value;

use self::exchange::{Recorded, Scenario};
use self::server::Server;
use super::support::Plane;

/// Where the kubeconfig of a real server is named, by those who want to record it.
const KUBECONFIG: &str = "ATOLL_TEST_KUBECONFIG";
/// Exchanges at least, all subjects together.
const EXCHANGES_MIN: usize = 400;
/// Scenarios under way at once: most wait for watches to end.
const AT_ONCE: usize = 8;
/// Where exchanges are listed whose answers are known to differ, each with what differs.
const DIFFERENCES: &str = "tests/transcripts/differences.txt";
const STALE: &str = "another request was recorded; record again with `cargo xtask differential`";
/// Characters of a request that are shown.
const REQUEST_SHOWN_MAX: usize = 160;

type Transcript = BTreeMap<String, Vec<Recorded>>;

fn path_of(subject: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{subject}.json"))
}

fn read(subject: &str) -> Transcript {
    let path = path_of(subject);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Sends every scenario of a subject to a server.
async fn perform(server: &Server, table: Vec<Scenario>) -> Transcript {
    futures::stream::iter(table)
        .map(|scenario| async move {
            let recorded = server.perform(&scenario).await;
            (scenario.name, recorded)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// What differs between two answers, one line each.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
                let side =
                    |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::from("(absent)"));
                differences(&format!("{path}.{name}"), &side(left), &side(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{path}[{index}]"), left, right, found);
            }
        }
        (left, right) if left != right => found.push(format!("{path}: ours {left}, theirs {right}")),
        _ => {}
    }
}

/// What differs, by exchange.
fn compare(ours: &Transcript, theirs: &Transcript) -> BTreeMap<String, Vec<String>> {
    let mut problems: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
        let (Some(left), Some(right)) = (ours.get(name), theirs.get(name)) else {
            problems.entry(name.clone()).or_default().push(STALE.to_owned());
            continue;
        };
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            let mut found = Vec::new();
            if left.request == right.request {
                differences("", &left.answer, &right.answer, &mut found);
            } else {
                found.push(STALE.to_owned());
            }
            if !found.is_empty() {
                found.insert(0, brief(&left.request));
                problems.insert(format!("{name} #{index}"), found);
            }
        }
        if left.len() != right.len() {
            problems.entry(name.clone()).or_default().push(STALE.to_owned());
        }
    }
    problems
}

fn brief(request: &str) -> String {
    request.lines().next().unwrap_or_default().chars().take(REQUEST_SHOWN_MAX).collect()
}

async fn replay(subject: &str) -> BTreeMap<String, Vec<String>> {
    let plane = Plane::new().await;
    let server = Server::of(plane.client());
    if subject == subjects::CUSTOM {
        if plane.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await.code == 404 {
            println!("SKIPPED {subject}: no CustomResourceDefinitions here");
            return BTreeMap::new();
        }
        server.install(&[subjects::widget_definition()]).await;
    }
    compare(&perform(&server, scenarios::of(subject)).await, &read(subject))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_as_kubernetes_answers_them() {
    let known = known_differences();
    let mut met = BTreeSet::new();
    let mut text = String::new();
    for subject in subjects::NAMES {
        for (exchange, problems) in replay(subject).await {
            if known.contains(&exchange) {
                met.insert(exchange);
                continue;
            }
            write!(text, "\n{subject} {exchange}: {}", problems.join("\n    ")).expect("strings can be written to");
        }
    }
    assert!(text.is_empty(), "answers differ:{text}");
    let gone: Vec<&String> = known.difference(&met).collect();
    assert!(gone.is_empty(), "these answers differ no more, take them from {DIFFERENCES}: {gone:?}");
}

/// Exchanges whose answers are known to differ: what stands before the colon of each line.
fn known_differences() -> BTreeSet<String> {
    let lines = include_str!("../transcripts/differences.txt").lines();
    lines
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(": ").expect("an exchange, a colon, and what differs").0.to_owned())
        .collect()
}

#[test]
fn the_table_is_large_enough() {
    let exchanges: usize =
        subjects::NAMES.iter().flat_map(|subject| read(subject).into_values()).map(|recorded| recorded.len()).sum();
    assert!(exchanges >= EXCHANGES_MIN, "{exchanges} exchanges");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record() {
    let Some(kubeconfig) = std::env::var_os(KUBECONFIG) else {
        println!("SKIPPED record: {KUBECONFIG} names no server to record (cargo xtask differential)");
        return;
    };
    let _set_before = rustls_provider();
    let client = server::client_from(Path::new(&kubeconfig)).await;
    let server = Server::of(client);
    server.install(&subjects::definitions()).await;
    for subject in subjects::NAMES {
        let transcript = perform(&server, scenarios::of(subject)).await;
        let path = path_of(subject);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder can be made");
        std::fs::write(&path, exchange::to_text(&transcript)).expect("it can be written");
    }
}

fn rustls_provider() -> bool {
    rustls::crypto::ring::default_provider().install_default().is_ok()
}
