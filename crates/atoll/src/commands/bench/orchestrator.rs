//! What the orchestrator adds to each step of an agent: from the end of a model's answer to the arrival of the next
//! request. In between lie the answer, the gate, the claim and the result, each durable in the journal before it counts.
//! Model and tool take no time here: the model answers at once, and the tool is the run's own task list.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_api::v1;
use atoll_orchestrator::workbench::{Bench, BenchError, BenchOrder, Workbench};
use atoll_orchestrator::{GatewayEndpoint, Orchestrator, OrchestratorConfig, PolicyInForce};
use atoll_policy::Policy;
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_rt::listen::serve_http;
use atoll_rt::telemetry::SpanSink;
use atoll_stdx::Secret;
use atoll_store::{AppendBatch, AuditEntry, Journal};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use futures::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::measure::{Report, Row, Samples};
use crate::args::BenchOrchestratorArgs;
use crate::commands::block_on;
use crate::failure::{Exit, Failure};

const TOKEN: &str = "bench";
const DRAIN: Duration = Duration::from_secs(30);
/// One step takes milliseconds; this long means that something is wrong.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
const AUDIT_RECORDS: u64 = 20_000;
const AUDIT_AT_ONCE: usize = 256;
/// Spans that nobody takes are dropped; that is part of the cost too.
const SPANS_MAX: usize = 1024;
/// Model calls told of and not yet counted.
const ASKED_WAITING_MAX: usize = 1024;
/// Model calls beyond those measured: the first makes the list, the last ends the run.
const EXTRA_STEPS: u32 = 2;

const POLICY: &str = "
agents:
  planner: {description: plans, tools: [task_create, progress_track], sandboxed: false}
";

/// Measures with a journal in a directory of its own, which goes afterwards.
pub(super) fn measure(args: &BenchOrchestratorArgs) -> Result<Report, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("atoll-bench-");
    let made = args.directory.as_ref().map_or_else(|| builder.tempdir(), |directory| builder.tempdir_in(directory));
    let directory = made.map_err(|error| failed("cannot make a temporary directory", &error))?;
    block_on(async {
        let mut rows = vec![step_overhead(&directory.path().join("steps"), args.n).await?];
        rows.extend(resume(&directory.path().join("long"), args.long).await?);
        rows.push(audit(&directory.path().join("audit")).await?);
        let report = Report::new("orchestrator", None, rows);
        Ok(report.condition("steps", args.n).condition("long_run_steps", args.long))
    })
}

fn failed(attempted: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::because(Exit::Failure, attempted, error)
}

/// A model that answers at once, and tells when it was asked and when it had answered.
#[derive(Clone)]
struct Model {
    told: mpsc::Sender<Asked>,
    asked: Arc<std::sync::atomic::AtomicU32>,
    /// From this call on it says nothing.
    silent_from: u32,
    /// At this call it ends the run.
    last: u32,
}

struct Asked {
    number: u32,
    arrived: Instant,
    answered: Instant,
}

async fn answer(State(model): State<Model>, _body: bytes::Bytes) -> axum::response::Response {
    let arrived = Instant::now();
    let number = 1 + model.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if number >= model.silent_from {
        let _nobody_waits = model.told.send(Asked { number, arrived, answered: arrived }).await;
        return std::future::pending().await;
    }
    let call = |tool: &str, arguments: serde_json::Value| {
        json!([{"index": 0, "id": format!("c{number}"), "type": "function",
                "function": {"name": tool, "arguments": arguments.to_string()}}])
    };
    let delta = match number {
        1 => json!({"role": "assistant", "tool_calls": call("task_create", json!({"title": "measure"}))}),
        last if last == model.last => json!({"role": "assistant", "content": "done"}),
        n => json!({"role": "assistant", "tool_calls":
                    call("progress_track", json!({"item": 1, "status": "in_progress", "note": n.to_string()}))}),
    };
    let finish = if number == model.last { "stop" } else { "tool_calls" };
    let chunk = json!({"model": "instant", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                       "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    let body = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let _nobody_waits = model.told.send(Asked { number, arrived, answered: Instant::now() }).await;
    ([(http::header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// No agent here has a sandbox.
struct NoSandboxes;

#[async_trait::async_trait]
impl Workbench for NoSandboxes {
    async fn open(&self, _order: &BenchOrder) -> Result<Arc<dyn Bench>, BenchError> {
        Err(BenchError::Unavailable { message: "there are none in a measurement".to_owned(), hint: None })
    }

    async fn release(&self, _run_id: &str) -> Result<(), BenchError> {
        Ok(())
    }
}

/// An orchestrator with its model, submitted one task.
struct Bed {
    group: TaskGroup,
    told: mpsc::Receiver<Asked>,
    url: String,
}

impl Bed {
    async fn start(directory: &Path, steps: u32, silent_from: u32) -> Result<Self, Failure> {
        atoll_rt::tls::install_crypto_provider();
        let group = TaskGroup::new("bench");
        let (sender, told) = mpsc::channel(ASKED_WAITING_MAX);
        let model = Model { told: sender, asked: Arc::default(), silent_from, last: steps };
        let routes = axum::Router::new()
            .route("/v1/chat/completions", post(answer))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(model);
        let gateway = listen(&group, routes).await?;
        let orchestrator = orchestrator(directory, &group, gateway).await?;
        let url = listen(&group, orchestrator.service(axum::Router::new())).await?;
        Ok(Self { group, told, url })
    }

    async fn submit(&self) -> Result<(), Failure> {
        let http = reqwest::Client::builder().no_proxy().build().map_err(|error| failed("no HTTP client", &error))?;
        let body =
            v1::SubmitTask { task: "measure".to_owned(), repo: None, model: None, agent: None, submission_key: None };
        let sent = http.post(format!("{}/v1/tasks", self.url)).bearer_auth(TOKEN).json(&body).send().await;
        let status = sent.map_err(|error| failed("the task was not taken", &error))?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(Failure::new(Exit::Failure, format!("the task was refused: {status}")))
        }
    }

    async fn next(&mut self) -> Result<Asked, Failure> {
        match tokio::time::timeout(STEP_PATIENCE, self.told.recv()).await {
            Ok(Some(asked)) => Ok(asked),
            _ => Err(Failure::new(Exit::Failure, "the run stands still")),
        }
    }

    async fn stop(self) {
        if !self.group.drain(DRAIN).await {
            tracing::warn!("the measured orchestrator did not stop in time");
        }
    }
}

async fn listen(group: &TaskGroup, routes: axum::Router) -> Result<String, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed("no port", &error))?;
    let address = listener.local_addr().map_err(|error| failed("no address", &error))?;
    serve_http(group, listener, routes);
    Ok(format!("http://{address}"))
}

async fn orchestrator(directory: &Path, group: &TaskGroup, gateway: String) -> Result<Orchestrator, Failure> {
    std::fs::create_dir_all(directory).map_err(|error| failed("cannot make a directory", &error))?;
    let journal = Journal::open(directory.join("runs.db"), group).map_err(|error| failed("no journal", &error))?;
    let limits = atoll_engine::Limits {
        agent_steps_max: u64::MAX,
        run_steps_max: u64::MAX,
        agent_calls_max: u64::MAX,
        run_tokens_max: u64::MAX,
        run_wall_ms_max: u64::MAX,
        agent_wall_ms_max: u64::MAX,
        ..atoll_engine::Limits::default()
    };
    let config = OrchestratorConfig {
        journal,
        workbench: Arc::new(NoSandboxes),
        gateway: GatewayEndpoint { base_url: gateway, token: Secret::new(TOKEN.to_owned()) },
        policy: PolicyInForce::new(Policy::parse(POLICY, "policies.yaml").expect("it is well formed"), 0),
        spans: SpanSink::channel(SPANS_MAX).0,
        clock: Arc::new(SystemClock),
        data_dir: directory.to_owned(),
        instance: atoll_rt::ids::ulid(),
        api_token: Secret::new(TOKEN.to_owned()),
        api_hosts: Vec::new(),
        limits,
        agent_concurrency_max: 20,
    };
    Orchestrator::start(config, group).await.map_err(|error| failed("the orchestrator does not start", &error))
}

async fn step_overhead(directory: &Path, steps: u32) -> Result<Row, Failure> {
    let mut bed = Bed::start(directory, steps + EXTRA_STEPS, u32::MAX).await?;
    bed.submit().await?;
    let mut samples = Samples::default();
    let mut before = bed.next().await?;
    while before.number < steps + EXTRA_STEPS {
        let asked = bed.next().await?;
        samples.record(asked.arrived.duration_since(before.answered), true);
        before = asked;
    }
    bed.stop().await;
    Ok(samples.row("step_overhead"))
}

/// Makes a long run, stops in the middle of it, and takes it up again.
async fn resume(directory: &Path, steps: u32) -> Result<Vec<Row>, Failure> {
    let mut bed = Bed::start(directory, u32::MAX, steps + 1).await?;
    bed.submit().await?;
    while bed.next().await?.number <= steps {}
    bed.stop().await;
    let bytes = std::fs::metadata(directory.join("runs.db")).map_or(0, |file| file.len());
    let group = TaskGroup::new("bench");
    let began = Instant::now();
    // Nobody answers there: the run is taken up, and waits.
    let _orchestrator = orchestrator(directory, &group, "http://127.0.0.1:9".to_owned()).await?;
    let took = began.elapsed();
    group.drain(DRAIN).await;
    let name = |what: &str| format!("{what}_{steps}_steps");
    Ok(vec![
        Row::value(&name("resume"), "ms", took.as_secs_f64() * 1_000.0),
        Row::value(&name("journal"), "MiB", bytes as f64 / 1024.0 / 1024.0),
    ])
}

async fn audit(directory: &Path) -> Result<Row, Failure> {
    std::fs::create_dir_all(directory).map_err(|error| failed("cannot make a directory", &error))?;
    let group = TaskGroup::new("bench");
    let journal = Journal::open(directory.join("runs.db"), &group).map_err(|error| failed("no journal", &error))?;
    let began = Instant::now();
    let append = |number: u64| {
        let journal = journal.clone();
        async move {
            let entry = AuditEntry {
                at_unix_ms: number,
                actor: "agent/code-writer".to_owned(),
                action: "tool/terminal_execute".to_owned(),
                outcome: "allow".to_owned(),
                run_id: None,
                detail: json!({"call_id": "a1s1c0", "summary": "terminal_execute: make test", "number": number}),
            };
            journal.append(AppendBatch { audit: vec![entry], ..AppendBatch::default() }).await
        }
    };
    let mut results = futures::stream::iter((0..AUDIT_RECORDS).map(append)).buffer_unordered(AUDIT_AT_ONCE);
    while let Some(result) = results.next().await {
        result.map_err(|error| failed("an audit record was not written", &error))?;
    }
    drop(results);
    let rate = AUDIT_RECORDS as f64 / began.elapsed().as_secs_f64();
    drop(journal);
    group.drain(DRAIN).await;
    Ok(Row::value("audit_append_per_second", "1/s", rate))
}
