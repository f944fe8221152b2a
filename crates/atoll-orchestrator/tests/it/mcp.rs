//! Tools of MCP servers: real servers, one that is a program on the bench and one behind HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use atoll_api::v1::{self, AuditList, OutcomeName, RunEvent, RunEventKind, ToolStatus};
use serde_json::Value;

use super::world::{Project, Setup, World};

const SERVER: &str = include_str!("mcp/server.py");

/// The server of these tests behind HTTP; it ends with this.
struct HttpServer {
    child: Child,
    port: u16,
}

impl HttpServer {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SERVER, "http"])
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says its port");
        Self { child, port: line.trim().parse().expect("a port") }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A policy with one agent that has these tools, and this section `mcp`.
fn policy(tools: &str, mcp: &str) -> String {
    format!("agents:\n  planner:\n    tools: [{tools}]\n    sandboxed: true\n    description: works\nmcp:\n{mcp}")
}

/// The time holds for starting the server too, on a machine that is busy with other tests.
const STDIO: &str = "  servers:\n    tracker: {command: [python3, server.py], timeout: 10s}\n";

/// A conversation of one call per turn, each with what the result of the one before must hold.
fn conversation(turns: &[(&str, &str, &str)]) -> String {
    let mut text = "agents:\n- agent: planner\n  turns:\n".to_owned();
    let mut expect = String::new();
    for (tool, arguments, then) in turns {
        text.push_str(&format!("  - expect: [{expect}]\n    calls: [{{tool: {tool}, arguments: {arguments}}}]\n"));
        expect = format!("{then:?}");
    }
    text.push_str(&format!("  - expect: [{expect}]\n    text: Done.\n"));
    text
}

fn project() -> Project {
    Project::with_files(&[("server.py", SERVER)])
}

fn statuses(events: &[RunEvent]) -> Vec<ToolStatus> {
    let status = |event: &RunEvent| match &event.event {
        RunEventKind::ToolFinished { status, .. } => Some(*status),
        _ => None,
    };
    events.iter().filter_map(status).collect()
}

async fn play(policy: &str, turns: &[(&str, &str, &str)], project: &Project) -> (World, String, Vec<RunEvent>) {
    let world = World::new(Setup::new(conversation(turns)).policy(policy)).await;
    let run = world.submit("use the tracker", project).await;
    let (events, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.expect("it is over");
    assert_eq!(outcome.name, OutcomeName::Completed, "{outcome:?}\n{events:#?}");
    (world, run, events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_the_sandbox_is_called_and_what_it_does_wrong_has_a_name() {
    use ToolStatus::{Denied, Failed, Invalid, Ok, TimedOut};
    let tools = "mcp.tracker.echo, mcp.tracker.count, mcp.tracker.hang, mcp.tracker.lie, mcp.tracker.die, \
                 mcp.tracker.endless, mcp.tracker.fail, file_read";
    let turns = [
        ("mcp__tracker__echo", "{text: hi}", "echo: hi"),
        ("mcp__tracker__echo", "{}", "`text` is missing"),
        ("mcp__tracker__count", "{}", "count is 1"),
        ("mcp__tracker__count", "{}", "count is 2"),
        ("mcp__tracker__fail", "{}", "no such ticket"),
        ("mcp__tracker__hang", "{}", "it did not answer within 10 s"),
        ("mcp__tracker__count", "{}", "count is 1"),
        ("mcp__tracker__lie", "{}", "it broke the protocol: its answer is none to what was asked"),
        ("mcp__tracker__die", "{}", "it ended: the disk is on fire"),
        ("mcp__tracker__endless", "{}", "it broke the protocol: its answer has no end"),
        ("mcp__tracker__count", "{}", "count is 1"),
        // What the description asks for.
        ("terminal_execute", "{command: 'rm -rf /'}", "Denied by policy"),
        ("mcp__tracker__secret", "{}", "Denied by policy"),
        ("mcp__other__echo", "{}", "There is no tool"),
    ];
    let (world, run, events) = play(&policy(tools, STDIO), &turns, &project()).await;
    let expected = [Ok, Invalid, Ok, Ok, Failed, TimedOut, Ok, Failed, Failed, Failed, Ok, Denied, Denied, Invalid];
    assert_eq!(statuses(&events), expected);

    // Every call that ran was decided, claimed and completed, in the audit trail too.
    let list: AuditList = world.get(&format!("/v1/audit?run={run}")).await;
    let of = |verdict: &str| {
        let calls = list.records.iter().filter(|record| {
            record.body["action"].as_str().is_some_and(|action| action.starts_with("tool/mcp.tracker."))
                && record.body["verdict"] == verdict
        });
        calls.count()
    };
    assert_eq!((of("allow"), of("claimed"), of("deny")), (10, 10, 1));

    // What the server lists is in the journal, without what was not acceptable.
    let entries = world.journal().read(&run, 1).await.expect("readable");
    let prepared = entries.iter().find(|entry| entry.kind == "prepared").expect("it was prepared");
    let server = &prepared.body["data"]["workspace"]["servers"][0];
    assert_eq!(server["tools"].as_array().map(Vec::len), Some(8), "{server}");
    assert!(server["trouble"].as_str().is_some_and(|text| text.starts_with("1 of the tools")), "{server}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_is_offered_is_what_the_policy_grants_whatever_the_server_lists() {
    let turns = [("mcp__tracker__count", "{}", "count is 1"), ("mcp__tracker__echo", "{text: x}", "Denied by policy")];
    let (_, _, events) = play(&policy("mcp.tracker.count", STDIO), &turns, &project()).await;
    assert_eq!(statuses(&events), [ToolStatus::Ok, ToolStatus::Denied]);
    // The twin: the very same call where the policy grants it.
    let turns = [("mcp__tracker__count", "{}", "count is 1"), ("mcp__tracker__echo", "{text: x}", "echo: x")];
    let (_, _, events) = play(&policy("mcp.tracker.count, mcp.tracker.echo", STDIO), &turns, &project()).await;
    assert_eq!(statuses(&events), [ToolStatus::Ok, ToolStatus::Ok]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_work_keeps_nobody_from_working() {
    let mcp =
        "  servers:\n    tracker: {command: [/no/such/program]}\n    slow: {command: [sleep, '600'], timeout: 1s}\n";
    let tools = "mcp.tracker.echo, mcp.slow.echo, file_read";
    let turns = [
        ("mcp__tracker__echo", "{text: x}", "it ended"),
        ("mcp__slow__echo", "{text: x}", "it did not answer within 1 s"),
        ("file_read", "{path: server.py}", "An MCP server for tests"),
    ];
    let (_, _, events) = play(&policy(tools, mcp), &turns, &project()).await;
    assert_eq!(statuses(&events), [ToolStatus::Invalid, ToolStatus::Invalid, ToolStatus::Ok]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_http_is_called_by_the_plane() {
    let server = HttpServer::start(&[]);
    let mcp = format!("  servers:\n    tracker: {{url: '{}', private_network: true, timeout: 5s}}\n", server.url());
    let turns = [
        ("mcp__tracker__echo", "{text: hi}", "echo: hi"),
        ("mcp__tracker__count", "{}", "count is 1"),
        ("mcp__tracker__fail", "{}", "no such ticket"),
        ("mcp__tracker__hang", "{}", "it did not answer within 5 s"),
        ("mcp__tracker__lie", "{}", "its stream ended without the answer"),
    ];
    let tools = "mcp.tracker.echo, mcp.tracker.count, mcp.tracker.fail, mcp.tracker.hang, mcp.tracker.lie";
    let (_, _, events) = play(&policy(tools, &mcp), &turns, &project()).await;
    use ToolStatus::{Failed, Ok, OutcomeUnknown, TimedOut};
    assert_eq!(statuses(&events), [Ok, Ok, Failed, TimedOut, OutcomeUnknown]);
}

/// What an agent is told of the one server of its run.
async fn trouble(mcp: &str) -> String {
    let turns = [("mcp__tracker__echo", "{text: x}", "There is no tool")];
    let (world, run, _) = play(&policy("mcp.tracker.echo", mcp), &turns, &project()).await;
    let entries = world.journal().read(&run, 1).await.expect("readable");
    let prepared = entries.iter().find(|entry| entry.kind == "prepared").expect("it was prepared");
    let told: &Value = &prepared.body["data"]["workspace"]["servers"][0]["trouble"];
    told.as_str().expect("there is trouble").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_this_machine_and_its_network_are_not_called() {
    let server = HttpServer::start(&[]);
    let port = server.port;
    for (url, expected) in [
        (format!("https://127.0.0.1:{port}/mcp"), "127.0.0.1 is not an address of the public network"),
        (format!("https://[::ffff:127.0.0.1]:{port}/mcp"), "is not an address of the public network"),
        (format!("https://localhost:{port}/mcp"), "which is not public"),
        ("https://169.254.169.254/latest/meta-data".to_owned(), "is not an address of the public network"),
    ] {
        let told = trouble(&format!("  servers:\n    tracker: {{url: '{url}'}}\n")).await;
        assert!(told.contains(expected), "{url}: {told}");
    }
    // A server that may be here still leads nowhere else.
    let url = format!("http://127.0.0.1:{port}/elsewhere");
    let told = trouble(&format!("  servers:\n    tracker: {{url: '{url}', private_network: true}}\n")).await;
    assert!(told.contains("a redirect, which is not followed"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_or_a_revision_that_is_missing_is_told() {
    let server = HttpServer::start(&[("TOKEN", "t")]);
    let of =
        |more: &str| format!("  servers:\n    tracker: {{url: '{}', private_network: true{more}}}\n", server.url());
    assert!(trouble(&of("")).await.contains("it wants another token"));
    let told = trouble(&of(", token_env: ATOLL_TEST_NO_SUCH_TOKEN")).await;
    assert!(told.contains("has no ATOLL_TEST_NO_SUCH_TOKEN"), "{told}");
    let old = HttpServer::start(&[("OLD", "1")]);
    let mcp = format!("  servers:\n    tracker: {{url: '{}', private_network: true}}\n", old.url());
    assert!(trouble(&mcp).await.contains("the revision 1900-01-01, which was not offered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_brings_servers_that_the_policy_names_and_no_others() {
    let file = r#"{"mcpServers": {"tracker": {"command": "python3", "args": ["server.py"], "env": {"MODE": "x"}}}}"#;
    let project = Project::with_files(&[("server.py", SERVER), (".atoll/mcp.json", file)]);
    let turns = [("mcp__tracker__echo", "{text: hi}", "echo: hi")];
    let named = policy("mcp.tracker.echo", "  project_servers: [tracker]\n");
    let (_, _, events) = play(&named, &turns, &project).await;
    assert_eq!(statuses(&events), [ToolStatus::Ok]);

    let other = policy("mcp.other.echo", "  project_servers: [other]\n");
    let world = World::new(Setup::new(conversation(&turns)).policy(&other)).await;
    let stored = world.upload(project.bundle()).await;
    let body = v1::SubmitTask {
        task: "use the tracker".to_owned(),
        repo: Some(v1::RepoSource {
            bundle_sha256: stored.sha256,
            commit: project.head(),
            branch: None,
            remote_url: None,
            name: None,
        }),
        model: None,
        agent: None,
        submission_key: None,
    };
    let (status, error) = world.refused(world.request(reqwest::Method::POST, "/v1/tasks").json(&body)).await;
    assert_eq!(status, 422, "{error:?}");
    assert!(error.message.contains("lets no project define the MCP server `tracker`"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_a_person_where_policy_wants_it() {
    let text = policy("mcp.tracker.echo", STDIO) + "governance:\n  require_approval_for: [external_tool]\n";
    let turns = [("mcp__tracker__echo", "{text: hi}", "A person was asked and said no")];
    let world = World::new(Setup::new(conversation(&turns)).policy(&text)).await;
    let run = world.submit("use the tracker", &project()).await;
    let asked = |event: &RunEvent| matches!(event.event, RunEventKind::ApprovalRequested { .. });
    let events = world.follow(&run, 0, asked).await;
    let Some(RunEventKind::ApprovalRequested { approval }) = events.last().map(|event| &event.event) else {
        panic!("a question")
    };
    assert_eq!(approval.summary, r#"mcp.tracker.echo: {"text":"hi"}"#);
    let body = serde_json::json!({"decision": "deny"});
    let _: v1::Approval = world.post(&format!("/v1/approvals/{}", approval.id), &body).await;
    let (events, _) = world.finish(&run).await;
    assert_eq!(statuses(&events), [ToolStatus::Denied]);
}
