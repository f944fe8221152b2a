//! Everything around an orchestrator, in one temporary directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::v1;
use atoll_gateway::scripted::{self, Script};
use atoll_gateway::{Dialect, Gateway, GatewayConfig, Timeouts, Upstream};
use atoll_orchestrator::workbench::Workbench;
use atoll_orchestrator::{AGENT_CONCURRENCY_DEFAULT, GatewayEndpoint, Orchestrator, OrchestratorConfig, PolicyInForce};
use atoll_policy::Policy;
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_rt::listen::serve_http;
use atoll_rt::telemetry::{Span, SpanReceiver, SpanSink};
use atoll_stdx::Secret;
use atoll_store::{DatabaseError, Journal, JournalError};
use futures::StreamExt;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use super::bench::LocalWorkbench;

const TOKEN: &str = "api-token";
const GATEWAY_TOKEN: &str = "gateway-token";
const DRAIN: Duration = Duration::from_secs(10);
/// Far beyond what any of these runs takes; a hang has to end as a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// The model's side: gateway and scripted upstream.
pub(super) struct Models {
    pub(super) url: String,
    _group: TaskGroup,
}

impl Models {
    pub(super) async fn start(conversation: &str) -> Self {
        let group = TaskGroup::new("models");
        let script = Script::parse(conversation, "conversation").expect("a conversation");
        let model = script.model().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let key = Secret::new("upstream-key".to_owned());
        scripted::serve(&group, listener, script, key.clone());
        let config = GatewayConfig {
            token: Secret::new(GATEWAY_TOKEN.to_owned()),
            upstreams: vec![Upstream {
                name: "scripted".to_owned(),
                dialect: Dialect::OpenAi,
                base_url: upstream,
                api_key: Some(key),
                models: vec!["*".to_owned()],
            }],
            default_model: model,
            timeouts: Timeouts::default(),
        };
        let gateway = Gateway::new(config).expect("a gateway");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        serve_http(&group, listener, gateway.service());
        Self { url, _group: group }
    }
}

/// How a [`World`] differs from the ordinary one.
pub(super) struct Setup {
    pub(super) conversation: String,
    pub(super) policy: String,
}

impl Setup {
    pub(super) fn new(conversation: impl Into<String>) -> Self {
        Self { conversation: conversation.into(), policy: atoll_policy::DEFAULT_POLICY_YAML.to_owned() }
    }

    pub(super) fn policy(mut self, policy: &str) -> Self {
        self.policy = policy.to_owned();
        self
    }
}

/// An orchestrator at work, and its client.
pub(super) struct World {
    pub(super) directory: PathBuf,
    pub(super) bench: LocalWorkbench,
    pub(super) models: Models,
    policy: String,
    plane: Option<Plane>,
    client: reqwest::Client,
    _guard: tempfile::TempDir,
}

/// The part that stops and starts.
pub(super) struct Plane {
    group: TaskGroup,
    pub(super) journal: Journal,
    pub(super) url: String,
    pub(super) orchestrator: Orchestrator,
    spans: SpanReceiver,
}

impl Plane {
    pub(super) async fn start(directory: &Path, bench: Arc<dyn Workbench>, gateway: &str, policy: &str) -> Self {
        let group = TaskGroup::new("plane");
        let journal = open_journal(directory, &group).await;
        let (spans, receiver) = SpanSink::channel(10_000);
        let config = OrchestratorConfig {
            journal: journal.clone(),
            workbench: bench,
            gateway: GatewayEndpoint { base_url: gateway.to_owned(), token: Secret::new(GATEWAY_TOKEN.to_owned()) },
            policy: PolicyInForce::new(Policy::parse(policy, "policies.yaml").expect("a policy"), 0),
            spans,
            clock: Arc::new(SystemClock),
            data_dir: directory.join("data"),
            instance: atoll_rt::ids::ulid(),
            api_token: Secret::new(TOKEN.to_owned()),
            api_hosts: Vec::new(),
            limits: atoll_engine::Limits::default(),
            agent_concurrency_max: AGENT_CONCURRENCY_DEFAULT,
        };
        let orchestrator = Orchestrator::start(config, &group).await.expect("it starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        serve_http(&group, listener, orchestrator.service(axum::Router::new()));
        Self { group, journal, url, orchestrator, spans: receiver }
    }

    async fn stop(mut self) -> Vec<Span> {
        assert!(self.group.drain(DRAIN).await, "it stops: {:?}", self.group);
        drop((self.journal, self.orchestrator));
        self.spans.recv_many(10_000).await
    }
}

impl World {
    pub(super) async fn new(setup: Setup) -> Self {
        atoll_rt::tls::install_crypto_provider();
        let guard = tempfile::Builder::new().prefix("atoll-orchestrator-").tempdir().expect("a directory");
        let directory = guard.path().to_owned();
        let bench = LocalWorkbench::new(directory.join("benches"));
        let models = Models::start(&setup.conversation).await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut world = Self { directory, bench, models, policy: setup.policy, plane: None, client, _guard: guard };
        world.start().await;
        world
    }

    pub(super) async fn start(&mut self) {
        let bench = Arc::new(self.bench.clone());
        self.plane = Some(Plane::start(&self.directory, bench, &self.models.url, &self.policy).await);
    }

    /// Stops the orchestrator in an orderly way; benches go on. Returns the spans it sent.
    pub(super) async fn stop(&mut self) -> Vec<Span> {
        self.plane.take().expect("it runs").stop().await
    }

    pub(super) fn orchestrator(&self) -> &Orchestrator {
        &self.plane.as_ref().expect("it runs").orchestrator
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.plane.as_ref().expect("it runs").journal
    }

    pub(super) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.request_with(TOKEN, method, path)
    }

    /// A request with another token than the administrator's.
    pub(super) fn request_with(&self, token: &str, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = &self.plane.as_ref().expect("it runs").url;
        self.client.request(method, format!("{url}{path}")).bearer_auth(token)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let response = self.request(reqwest::Method::GET, path).send().await.expect("it answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("the type fits")
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> T {
        let response = self.request(reqwest::Method::POST, path).json(body).send().await.expect("it answers");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).expect("the type fits")
    }

    /// A request that is refused.
    pub(super) async fn refused(&self, request: reqwest::RequestBuilder) -> (StatusCode, v1::ErrorDetail) {
        let response = request.send().await.expect("it answers");
        let status = response.status();
        assert!(!status.is_success(), "it must not work");
        let body: v1::ErrorBody = response.json().await.expect("an error body");
        (status, body.error)
    }

    /// The status of a request that is refused, whatever its body.
    pub(super) async fn refused_status(&self, request: reqwest::RequestBuilder) -> StatusCode {
        request.send().await.expect("it answers").status()
    }

    pub(super) async fn upload(&self, bytes: Vec<u8>) -> v1::BlobStored {
        let response = self.request(reqwest::Method::PUT, "/v1/blobs").body(bytes).send().await.expect("it answers");
        assert!(response.status().is_success(), "{}", response.status());
        response.json().await.expect("the type fits")
    }

    /// Uploads a project's commit and submits a task about it.
    pub(super) async fn submit(&self, task: &str, project: &Project) -> String {
        let stored = self.upload(project.bundle()).await;
        let body = v1::SubmitTask {
            task: task.to_owned(),
            repo: Some(v1::RepoSource {
                bundle_sha256: stored.sha256,
                commit: project.head(),
                branch: Some("main".to_owned()),
                remote_url: project.remote.as_ref().map(|remote| remote.to_string_lossy().into_owned()),
                name: Some("project".to_owned()),
            }),
            model: None,
            agent: None,
            submission_key: None,
        };
        let accepted: v1::TaskAccepted = self.post("/v1/tasks", &body).await;
        assert!(accepted.created);
        accepted.run_id
    }

    /// Follows a run until `enough` says so, or to its end.
    pub(super) async fn follow(
        &self,
        run: &str,
        after: u64,
        enough: impl Fn(&v1::RunEvent) -> bool,
    ) -> Vec<v1::RunEvent> {
        let path = format!("/v1/runs/{run}/events?after={after}");
        let response = self.request(reqwest::Method::GET, &path).send().await.expect("it answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let reading = read_events(response, enough);
        tokio::time::timeout(PATIENCE, reading).await.expect("the run goes on")
    }

    /// Follows a run to its end; returns its events and its end.
    pub(super) async fn finish(&self, run: &str) -> (Vec<v1::RunEvent>, v1::RunDetail) {
        let events = self.follow(run, 0, |_| false).await;
        let last = &events.last().expect("there are events").event;
        assert!(matches!(last, v1::RunEventKind::RunFinished { .. }), "{last:?}");
        (events, self.get(&format!("/v1/runs/{run}")).await)
    }

    /// Waits until the run has given back what it held.
    pub(super) async fn closed(&self, run: &str) {
        let closed = async {
            while self.journal().read(run, 1).await.expect("readable").last().expect("entries").kind != "closed" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("it closes");
    }
}

/// Opens the journal of a directory. A process that was just forked by one that was killed may hold the lock for a
/// moment, until it has become another program.
pub(super) async fn open_journal(directory: &Path, group: &TaskGroup) -> Journal {
    for _ in 0..500 {
        match Journal::open(directory.join("runs.db"), group) {
            Ok(journal) => return journal,
            Err(JournalError::Database(DatabaseError::Locked { .. })) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("the journal does not open: {error:?}"),
        }
    }
    panic!("the journal stays locked");
}

async fn read_events(response: reqwest::Response, enough: impl Fn(&v1::RunEvent) -> bool) -> Vec<v1::RunEvent> {
    let mut stream = response.bytes_stream();
    let (mut pending, mut events) = (String::new(), Vec::new());
    while let Some(piece) = stream.next().await {
        pending.push_str(std::str::from_utf8(&piece.expect("the stream holds")).expect("text"));
        while let Some((frame, rest)) = pending.split_once("\n\n") {
            let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
            pending = rest.to_owned();
            let Some(data) = data else { continue };
            let event: v1::RunEvent = serde_json::from_str(&data).expect("an event");
            let over = enough(&event);
            events.push(event);
            if over {
                return events;
            }
        }
    }
    events
}

/// A person's repository.
pub(super) struct Project {
    pub(super) directory: tempfile::TempDir,
    /// A bare repository that it can be pushed to.
    pub(super) remote: Option<PathBuf>,
}

impl Project {
    /// A copy of an example.
    pub(super) fn example(name: &str) -> Self {
        let project = Self::empty();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        for entry in std::fs::read_dir(source).expect("the example is there").flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().ends_with(".yaml") {
                std::fs::copy(entry.path(), project.directory.path().join(name)).expect("it can be copied");
            }
        }
        project.commit();
        project
    }

    /// A repository with one small file.
    pub(super) fn small() -> Self {
        let project = Self::empty();
        std::fs::write(project.directory.path().join("notes.txt"), "one\n").expect("it can be written");
        project.commit();
        project
    }

    /// A repository with these files.
    pub(super) fn with_files(files: &[(&str, &str)]) -> Self {
        let project = Self::empty();
        for (name, content) in files {
            let path = project.directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
            std::fs::write(path, content).expect("it can be written");
        }
        project.commit();
        project
    }

    fn empty() -> Self {
        let directory = tempfile::Builder::new().prefix("atoll-project-").tempdir().expect("a directory");
        let project = Self { directory, remote: None };
        project.git(&["init", "-q", "-b", "main", "."]);
        project
    }

    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "start"]);
    }

    /// Gives it a remote.
    pub(super) fn with_remote(mut self) -> Self {
        let remote = self.directory.path().join(".git/remote.git");
        self.git(&["init", "-q", "--bare", &remote.to_string_lossy()]);
        self.remote = Some(remote);
        self
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        git(self.directory.path(), arguments)
    }

    pub(super) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub(super) fn bundle(&self) -> Vec<u8> {
        let path = self.directory.path().join(".git/out.bundle");
        self.git(&["bundle", "create", "-q", &path.to_string_lossy(), "HEAD", "main"]);
        std::fs::read(path).expect("a bundle")
    }

    /// Fetches a run's result as a person would.
    pub(super) async fn fetch(&self, world: &World, run: &str) {
        let path = format!("/v1/runs/{run}/bundle");
        let response = world.request(reqwest::Method::GET, &path).send().await.expect("it answers");
        assert!(response.status().is_success(), "{}", response.status());
        let path = self.directory.path().join(".git/result.bundle");
        std::fs::write(&path, response.bytes().await.expect("a body")).expect("it can be written");
        let branch = format!("refs/heads/atoll/{run}:refs/heads/atoll/{run}");
        self.git(&["fetch", "-q", &path.to_string_lossy(), &branch]);
    }
}

pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=p", "-c", "user.email=p@x"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The conversation of an example.
pub(super) fn example_conversation(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join("conversation.yaml");
    std::fs::read_to_string(path).expect("the conversation is there")
}

/// A conversation file of the example.
pub(super) fn conversation(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/calculator").join(name);
    std::fs::read_to_string(path).expect("the conversation is there")
}
