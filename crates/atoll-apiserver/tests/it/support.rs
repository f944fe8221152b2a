use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, ResponseBody, TokenIdentity, definitions};
use atoll_rt::TaskGroup;
use atoll_stdx::Clock;
use atoll_store::{Store, StoreOptions};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

/// 2026-01-01T00:00:00Z.
const START_MS: u64 = 1_767_225_600_000;

/// Time that stands still unless it is moved.
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).expect("a short time"), Ordering::SeqCst);
    }

    /// Forwards or backwards.
    pub(crate) fn jump(&self, seconds: i64) {
        let milliseconds = seconds.unsigned_abs() * 1000;
        if seconds < 0 {
            self.0.fetch_sub(milliseconds, Ordering::SeqCst);
        } else {
            self.0.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }
}

impl Clock for TestClock {
    fn now_unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A server of its own, with its store.
pub(crate) struct Plane {
    pub(crate) server: ApiServer,
    pub(crate) store: Store,
    pub(crate) group: TaskGroup,
    pub(crate) clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The object, where the request must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.text);
        self.json()
    }

    /// The `Status`, where it must have been refused.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        let status = self.json();
        assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")), "{status}");
        assert_eq!((&status["code"], status["reason"].as_str().unwrap_or("")), (&json!(code), reason), "{status}");
        status
    }
}

impl Plane {
    pub(crate) async fn new() -> Self {
        Self::with(StoreOptions::default()).await
    }

    pub(crate) async fn with(options: StoreOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("atoll-apiserver-").tempdir().expect("a temporary folder");
        Self::within(folder, options).await
    }

    /// With its files below some folder.
    pub(crate) async fn at(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("plane-").tempdir_in(parent).expect("a temporary folder");
        Self::within(folder, StoreOptions::default()).await
    }

    async fn within(folder: tempfile::TempDir, options: StoreOptions) -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(START_MS)));
        let group = TaskGroup::new("test");
        let store = Store::open_with(folder.path().join("control.db"), &group, options).expect("it opens");
        let server = build(&store, Arc::clone(&clock) as Arc<dyn Clock>, &group).await;
        Self { server, store, group, clock, folder }
    }

    /// The same objects in a new server, as after a restart.
    pub(crate) async fn restart(self) -> Self {
        let Self { server, store, group, clock, folder } = self;
        drop((server, store));
        assert!(group.drain(Duration::from_secs(20)).await, "everything ends");
        let group = TaskGroup::new("test");
        let store = Store::open(folder.path().join("control.db"), &group).expect("it opens");
        let server = build(&store, Arc::clone(&clock) as Arc<dyn Clock>, &group).await;
        Self { server, store, group, clock, folder }
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.client_as(Identity::administrator("tester"))
    }

    pub(crate) fn client_as(&self, identity: Identity) -> kube::Client {
        kube::Client::new(self.server.in_process(identity), "default")
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<ResponseBody> {
        let service = self.server.in_process(Identity::administrator("tester"));
        let response: Result<_, Infallible> = service.oneshot(request).await;
        response.expect("it answers")
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", "tester/1.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        answer(self.send(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            "json" | "merge" => format!("application/{kind}-patch+json"),
            kind => format!("application/{kind}-merge-patch+json"),
        };
        self.request("PATCH", path, &[("content-type", &media_type)], &body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Answer {
        self.patch(path, "merge", body).await
    }

    pub(crate) async fn delete(&self, path: &str, options: Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.request("DELETE", path, &[("content-type", "application/json")], &body).await
    }

    /// Reads a path until something holds; what happens behind the scenes happens soon.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
        for _ in 0..1000 {
            let answer = self.get(path).await;
            if holds(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{path} never came to it: {:?}", self.get(path).await);
    }

    pub(crate) async fn until_gone(&self, path: &str) {
        self.until(path, |answer| answer.code == 404).await;
    }
}

async fn build(store: &Store, clock: Arc<dyn Clock>, group: &TaskGroup) -> ApiServer {
    let tokens = vec![
        TokenIdentity::new("admin-token", Identity::administrator("admin")),
        TokenIdentity::new("jo-token", Identity::new("jo", &["devs"])),
        TokenIdentity::new("node-token", Identity::new("system:node:one", &["system:nodes"])),
    ];
    let config = ApiServerConfig {
        store: store.clone(),
        definitions: definitions::builtin(),
        tokens,
        clock,
        group: group.clone(),
    };
    ApiServer::build(config).await.expect("it is built")
}

pub(crate) async fn answer(response: Response<ResponseBody>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("bodies do not fail").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("it is text");
    Answer { code: parts.status.as_u16(), headers: parts.headers, text }
}

pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "atoll.local/host", "command": ["true"] }] },
    })
}

pub(crate) fn sandbox(name: &str) -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": { "name": name },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "main", "image": "atoll.local/host" }] } } },
    })
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const SANDBOXES: &str = "/apis/agents.x-k8s.io/v1beta1/namespaces/default/sandboxes";
pub(crate) const POOLS: &str = "/apis/extensions.agents.x-k8s.io/v1beta1/namespaces/default/sandboxwarmpools";

pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("it has a version").parse().expect("it is a number")
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["metadata"]["name"].as_str().expect("a name"))
        .collect()
}
