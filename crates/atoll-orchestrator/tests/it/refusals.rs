//! What is not accepted, and what fails in a named way.

use atoll_api::v1::{self, OutcomeName, RunEventKind, ToolStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Project, Setup, World, conversation};

fn task(body: Value) -> Value {
    let mut task = json!({"task": "do it"});
    task.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_are_refused_and_leave_nothing() {
    let world = World::new(Setup::new(conversation("conversation.yaml"))).await;
    let noise = world.upload(b"this is no bundle".to_vec()).await.sha256;
    let repo = |sha256: &str, commit: &str| json!({"repo": {"bundle_sha256": sha256, "commit": commit}});
    let commit = "a".repeat(40);
    for (body, expected) in [
        (json!({"task": "  "}), "the task is empty"),
        (task(json!({"task": "x".repeat(40_000)})), "the task has 40000 bytes"),
        (task(json!({"agent": "painter"})), "there is no agent `painter`"),
        (task(repo(&"0".repeat(64), &commit)), "the repository's bundle is not there"),
        (task(repo("../../etc/passwd", &commit)), "the repository's bundle is not there"),
        (task(repo(&noise, "HEAD")), "the commit is not a full hash"),
        (task(repo(&noise, &commit)), "it is not a git bundle"),
        (json!({"tusk": 1}), "missing field `task`"),
        (json!([]), "the body does not fit"),
    ] {
        let (status, error) = world.refused(world.request(Method::POST, "/v1/tasks").json(&body)).await;
        assert_eq!((status, error.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"), "{body}");
        assert!(error.message.contains(expected), "{body}: {}", error.message);
        assert!(error.hint.is_some(), "{body}");
    }
    let runs: v1::RunList = world.get("/v1/runs").await;
    assert_eq!(runs.runs, []);
    assert_eq!(std::fs::read_dir(world.directory.join("data/repos")).expect("readable").count(), 0);
    for (method, path, status) in [
        (Method::GET, "/v1/runs/nope", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/runs/nope/events", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/runs/nope/bundle", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/runs/nope/cancel", StatusCode::NOT_FOUND),
        (Method::GET, "/v2", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v1/runs", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let (found, _) = world.refused(world.request(method, path)).await;
        assert_eq!(found, status, "{path}");
    }
    let large = world.request(Method::POST, "/v1/tasks").body("x".repeat(2 * 1024 * 1024));
    assert_eq!(world.refused(large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let world = World::new(Setup::new(conversation("conversation.yaml"))).await;
    let runs = || world.request(Method::GET, "/v1/runs");
    let replaced = |name: &'static str, value: &str| {
        let mut request = runs().build().expect("a request");
        request.headers_mut().insert(name, value.parse().expect("a header"));
        reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request)
    };
    for (request, code) in [
        (replaced("authorization", "Bearer wrong"), "unauthorized"),
        (replaced("authorization", "api-token"), "unauthorized"),
        (replaced("host", "evil.example"), "forbidden_host"),
        (replaced("origin", "https://evil.example"), "forbidden_origin"),
        (replaced("origin", "null"), "forbidden_origin"),
    ] {
        assert_eq!(world.refused(request).await.1.code, code);
    }
    let local = replaced("origin", "http://localhost:3000").send().await.expect("it answers");
    assert!(local.status().is_success(), "a page of this machine is fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitting_twice_with_one_key_starts_one_run() {
    let world = World::new(Setup::new("{agents: [{agent: planner, turns: [{text: done}]}]}")).await;
    let body = task(json!({"submission_key": "k1"}));
    let first: v1::TaskAccepted = world.post("/v1/tasks", &body).await;
    let second: v1::TaskAccepted = world.post("/v1/tasks", &body).await;
    assert_eq!((first.created, second.created, &first.run_id), (true, false, &second.run_id));
    let (_, detail) = world.finish(&first.run_id).await;
    assert_eq!(detail.final_text.as_deref(), Some("done"));
    assert_eq!(detail.summary.result, None, "a planner alone changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_model_ends_the_run_with_a_hint() {
    let mut world = World::new(Setup::new("{agents: [{agent: planner, turns: [{text: done}]}]}")).await;
    world.stop().await;
    world.models.url = "http://127.0.0.1:9".to_owned();
    world.start().await;
    let accepted: v1::TaskAccepted = world.post("/v1/tasks", &task(json!({}))).await;
    let (_, detail) = world.finish(&accepted.run_id).await;
    let outcome = detail.summary.outcome.expect("it is over");
    assert_eq!(outcome.name, OutcomeName::ModelUnreachable);
    assert!(outcome.hint.is_some());
    assert_eq!(world.bench.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_off_its_script_ends_the_run_with_its_reason() {
    let conversation = "{agents: [{agent: planner, turns: [{text: x, expect: [what is not there]}]}]}";
    let world = World::new(Setup::new(conversation)).await;
    let accepted: v1::TaskAccepted = world.post("/v1/tasks", &task(json!({}))).await;
    let (_, detail) = world.finish(&accepted.run_id).await;
    let outcome = detail.summary.outcome.expect("it is over");
    assert_eq!(outcome.name, OutcomeName::ModelRefused);
    assert!(outcome.message.contains("what is not there"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_rewrites_history_is_rejected() {
    let conversation = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: rewrite}}]
  - text: told
    expect: ['code-writer did not finish']
- agent: code-writer
  turns:
  - calls:
    - tool: terminal_execute
      arguments: {command: 'git checkout -q --orphan other && git commit -q -m other'}
  - text: rewritten
    expect: [Exit code 0]
";
    let world = World::new(Setup::new(conversation)).await;
    let project = Project::small();
    let run = world.submit("rewrite", &project).await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    let writer = detail.agents[1].outcome.clone().expect("over");
    assert_eq!(writer.name, OutcomeName::RepositoryRejected, "{writer:?}");
    assert_eq!(detail.summary.result, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_started_anew_makes_the_outcome_unknown_and_repeats_nothing() {
    let conversation = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: count}}]
  - text: done
- agent: code-writer
  turns:
  - calls: [{tool: terminal_execute, arguments: {command: 'echo x >> COUNTER; sleep 1000'}}]
  - calls: [{tool: file_read, arguments: {path: notes.txt}}]
    expect: [Outcome unknown, started anew, The working directory was made again]
  - text: done
    expect: [one]
";
    let counter = tempfile::NamedTempFile::new().expect("a file");
    let path = counter.path().to_string_lossy().into_owned();
    let policy = "
agents:
  planner: {description: plans, tools: [agent_delegate], sandboxed: false}
  code-writer: {description: writes, tools: [file_read, terminal_execute], sandboxed: true}
";
    let mut world = World::new(Setup::new(conversation.replace("COUNTER", &path)).policy(policy)).await;
    let project = Project::small();
    let run = world.submit("count", &project).await;
    world.follow(&run, 0, |event| matches!(event.event, RunEventKind::ToolStarted { .. })).await;
    while std::fs::read_to_string(&path).expect("readable").is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.stop().await;
    world.bench.restart_all();
    world.start().await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    let unknown = |event: &&v1::RunEvent| {
        matches!(event.event, RunEventKind::ToolFinished { status: ToolStatus::OutcomeUnknown, .. })
    };
    assert_eq!(events.iter().filter(unknown).count(), 1);
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), "x\n", "it ran once");
}
