//! A served server is killed in the middle of writes. What it acknowledged must be there, and watches must resume.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, TokenIdentity, definitions};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_store::Store;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{CONFIG_MAPS, config_map, version};

const ROUNDS: u64 = 6;
/// When there is time.
const ROUNDS_SOAK: u64 = 1000;
const CLIENTS: u64 = 8;
const FOLDER: &str = "ATOLL_APISERVER_CRASH_FOLDER";

/// Not a test: what the test below starts and kills.
#[test]
#[ignore = "started by the crash test"]
fn served_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let group = TaskGroup::new("child");
        let store = Store::open(Path::new(&folder).join("control.db"), &group).expect("it opens after every crash");
        let tokens = vec![TokenIdentity::new("token", Identity::administrator("admin"))];
        let config = ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens,
            clock: Arc::new(SystemClock),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.expect("it is built");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = atoll_rt::listen::serve_http(&group, listener, server.service());
        writeln!(std::io::stdout(), "\nlistening {address}").expect("the parent reads");
        serving.await.expect("it never ends");
    });
}

fn start(folder: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "it::crash::served_child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
    (child, address.expect("it listens"))
}

#[derive(Clone)]
struct Remote {
    client: Client<HttpConnector, Full<bytes::Bytes>>,
    address: String,
}

impl Remote {
    fn new(address: String) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), address }
    }

    /// The answer; `None` if the connection broke.
    async fn send(&self, method: &str, path: &str, body: Value) -> Option<(u16, Value)> {
        let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", "Bearer token")
            .header("content-type", media_type)
            .body(Full::new(bytes::Bytes::from(text)))
            .expect("a request");
        let response = self.client.request(request).await.ok()?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        Some((code, serde_json::from_slice(&bytes).expect("a whole answer is JSON")))
    }
}

/// Writes until the connection breaks; returns the last acknowledged state.
async fn write_until_cut(remote: Remote, name: String, wrote: Arc<Notify>) -> Option<Value> {
    let path = format!("{CONFIG_MAPS}/{name}");
    let mut last = None;
    for number in 0_u64.. {
        let data = json!({ "n": number.to_string() });
        let answer = if number == 0 {
            match remote.send("POST", CONFIG_MAPS, config_map(&name, json!({}))).await {
                Some((409, _)) => remote.send("GET", &path, Value::Null).await,
                other => other,
            }
        } else {
            remote.send("PATCH", &path, json!({ "data": data })).await
        };
        let Some((code, object)) = answer else { return last };
        assert!((200..300).contains(&code), "{object}");
        last = Some(object);
        wrote.notify_one();
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_server_keeps_what_it_acknowledged() {
    let folder = tempfile::Builder::new().prefix("atoll-crash-").tempdir().expect("a temporary folder");
    let group = TaskGroup::new("test");
    let mut acknowledged: Vec<Value> = Vec::new();
    let soak = std::env::var_os("ATOLL_SOAK").is_some();
    let rounds = if soak { ROUNDS_SOAK } else { ROUNDS };
    for round in 0..rounds {
        let (mut child, address) = start(folder.path());
        let remote = Remote::new(address);
        check(&remote, &acknowledged, round, false).await;
        let wrote = Arc::new(Notify::new());
        let writers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let writer = write_until_cut(remote.clone(), format!("c{client}"), Arc::clone(&wrote));
                group.spawn("writer", writer)
            })
            .collect();
        // However busy the machine is: somebody has written before the end comes.
        wrote.notified().await;
        let mix = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        tokio::time::sleep(std::time::Duration::from_millis(40 + mix % 160)).await;
        child.kill().expect("it is there");
        child.wait().expect("it is there");
        acknowledged.clear();
        for writer in writers {
            acknowledged.extend(writer.await.expect("it ends"));
        }
        assert!(!acknowledged.is_empty(), "round {round}: somebody wrote");
    }
    let (mut child, address) = start(folder.path());
    check(&Remote::new(address), &acknowledged, rounds, true).await;
    if soak {
        println!("SOAK a served API server was killed {rounds} times; nothing that was acknowledged is lost");
    }
    child.kill().expect("it is there");
    child.wait().expect("it is there");
}

async fn check(remote: &Remote, acknowledged: &[Value], round: u64, watches: bool) {
    for object in acknowledged {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let (code, found) =
            remote.send("GET", &format!("{CONFIG_MAPS}/{name}"), Value::Null).await.expect("it answers");
        assert_eq!(code, 200, "round {round}: {name} is lost");
        assert_eq!(found["metadata"]["uid"], object["metadata"]["uid"]);
        assert!(version(&found) >= version(object), "round {round}: {name} went back");
        let number =
            |object: &Value| object["data"]["n"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if version(&found) == version(object) {
            assert_eq!(found, *object, "round {round}");
        } else {
            // The next one of the same round, or the first of a round that had got no further than reading.
            let next = number(&found);
            assert!(next == number(object) + 1 || next == 1, "round {round}: one write was under way");
        }
        // A watch from the last acknowledged version sees what came after, and no more.
        let watch = format!(
            "{CONFIG_MAPS}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3D{name}&resourceVersion={}",
            version(object)
        );
        if watches {
            let lines = watch_lines(remote, &watch).await;
            assert_eq!(lines.len(), usize::from(version(&found) != version(object)), "round {round}: {lines:?}");
        }
    }
}

async fn watch_lines(remote: &Remote, path: &str) -> Vec<Value> {
    let request =
        http::Request::get(format!("http://{}{path}", remote.address)).header("authorization", "Bearer token");
    let request = request.body(Full::new(bytes::Bytes::new())).expect("a request");
    let response = remote.client.request(request).await.expect("it answers");
    let bytes = response.into_body().collect().await.expect("it ends in time").to_bytes();
    let text = std::str::from_utf8(&bytes).expect("it is text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is an event")).collect()
}
