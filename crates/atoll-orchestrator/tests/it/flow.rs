//! A whole run, as people get it.

use atoll_api::v1::{AuditList, AuditVerification, OutcomeName, RunEventKind, RunStatus, ToolStatus, Verdict};
use serde_json::json;

use super::world::{Project, Setup, World, conversation};

fn tools(events: &[atoll_api::v1::RunEvent], wanted: ToolStatus) -> Vec<String> {
    let finished = |event: &atoll_api::v1::RunEvent| match &event.event {
        RunEventKind::ToolFinished { agent, tool, status, .. } if *status == wanted => {
            Some(format!("{}: {tool}", agent.name))
        }
        _ => None,
    };
    events.iter().filter_map(finished).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agents_repair_a_project() {
    let mut world = World::new(Setup::new(conversation("conversation.yaml"))).await;
    let project = Project::example("calculator");
    let start = project.head();
    let run = world.submit("make the tests pass", &project).await;
    let (events, detail) = world.finish(&run).await;

    let outcome = detail.summary.outcome.clone().expect("it is over");
    assert_eq!(outcome.name, OutcomeName::Completed, "{outcome:?}\n{events:#?}");
    let agents: Vec<&str> = detail.agents.iter().map(|agent| agent.agent.name.as_str()).collect();
    assert_eq!(agents, ["planner", "code-writer", "code-reviewer"]);
    assert!(detail.agents[0].sandbox.is_none(), "the planner has no sandbox");
    assert_eq!(tools(&events, ToolStatus::Denied), ["code-writer: terminal_execute"]);
    assert_eq!(tools(&events, ToolStatus::Failed), ["code-writer: terminal_execute"], "the tests fail once");
    let denied = events.iter().find_map(|event| match &event.event {
        RunEventKind::ToolDecided { verdict: Verdict::Deny, rule_ids, .. } => Some(rule_ids.clone()),
        _ => None,
    });
    assert!(denied.expect("a denial")[0].contains("blocked_commands"));
    assert!(detail.final_text.expect("a report").starts_with("Done."));
    assert_eq!(detail.plan.len(), 2);
    assert!(events.iter().any(|event| matches!(event.event, RunEventKind::TextDelta { .. })), "text streams");

    let position = |wanted: &dyn Fn(&RunEventKind) -> bool| {
        events.iter().position(|event| wanted(&event.event)).expect("it happened")
    };
    let ended = |event: &RunEventKind| matches!(event, RunEventKind::AgentFinished { agent, .. } if agent.id == 1);
    let returned = |event: &RunEventKind| matches!(event, RunEventKind::ToolFinished { tool, duration_ms, .. } if tool == "agent_delegate" && *duration_ms > 0);
    assert!(position(&ended) < position(&returned), "a child ends before the call that waits for it");

    let result = detail.summary.result.expect("there is work");
    assert_eq!((result.base_commit.as_str(), result.commits, result.files_changed), (start.as_str(), 1, 1));
    project.fetch(&world, &run).await;
    assert_eq!(project.head(), start, "the checkout is not touched");
    assert_eq!(project.git(&["status", "--porcelain"]), "");
    assert_eq!(project.git(&["rev-parse", &format!("atoll/{run}")]), result.commit);
    project.git(&["switch", "-q", &format!("atoll/{run}")]);
    let tests = std::process::Command::new("python3")
        .args(["-m", "unittest"])
        .current_dir(project.directory.path())
        .output()
        .expect("python runs");
    assert!(tests.status.success(), "the tests pass on the result");

    check_audit(&world, &run).await;
    world.closed(&run).await;
    assert_eq!(world.bench.count(), 0, "its benches are gone");
    check_spans(&world.stop().await);
}

async fn check_audit(world: &World, run: &str) {
    let verified: AuditVerification = world.get("/v1/audit/verify").await;
    assert!(verified.ok && verified.records > 10, "{verified:?}");
    let list: AuditList = world.get(&format!("/v1/audit?run={run}")).await;
    assert_eq!(list.records.len() as u64, verified.records, "there is one run");
    let denied: Vec<_> = list.records.iter().filter(|record| record.body["verdict"] == "deny").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(
        (&denied[0].body["agent"], &denied[0].body["action"]),
        (&json!("code-writer"), &json!("tool/terminal_execute"))
    );
    let rest: AuditList = world.get(&format!("/v1/audit?after={}&limit=1", list.records[2].seq)).await;
    assert_eq!(rest.records, [list.records[3].clone()]);
}

fn check_spans(spans: &[atoll_rt::telemetry::Span]) {
    let roots: Vec<&str> =
        spans.iter().filter(|span| span.parent_span_id.is_none()).map(|span| span.name.as_str()).collect();
    assert_eq!(roots, ["invoke_agent code-writer", "invoke_agent code-reviewer", "invoke_agent planner"]);
    let root = |name: &str| spans.iter().find(|span| span.name == name).expect("the root span");
    let writer = root("invoke_agent code-writer");
    let link = writer.links.first().expect("a link to the call that started it");
    assert_eq!(link.trace_id, root("invoke_agent planner").trace_id);
    let linked = spans.iter().find(|span| span.span_id == link.span_id).expect("the linked span is there");
    assert_eq!(linked.name, "execute_tool agent_delegate");
    assert!(linked.start_unix_ms <= writer.start_unix_ms && linked.end_unix_ms >= writer.end_unix_ms);
    let chats: Vec<_> = spans.iter().filter(|span| span.attributes["gen_ai.operation.name"] == "chat").collect();
    assert_eq!(chats.len(), 5 + 7 + 2);
    assert!(chats.iter().all(|span| span.attributes["gen_ai.usage.input_tokens"].as_u64() > Some(0)));
    let denied = spans.iter().find(|span| span.attributes.get("atoll.policy.verdict") == Some(&json!("deny")));
    assert!(denied.expect("the denied call has a span").error.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_resume_where_a_reader_left() {
    let world = World::new(Setup::new(conversation("conversation.yaml"))).await;
    let project = Project::example("calculator");
    let run = world.submit("make the tests pass", &project).await;
    let (all, _) = world.finish(&run).await;
    let kept: Vec<_> = all.into_iter().filter(|event| event.seq.is_some()).collect();
    let seqs: Vec<u64> = kept.iter().filter_map(|event| event.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "they grow: {seqs:?}");
    for cut in [0, 1, kept.len() / 2, kept.len() - 1] {
        let rest = world.follow(&run, seqs[cut], |_| false).await;
        assert_eq!(rest, kept[cut + 1..], "after event {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_can_be_cancelled_while_a_command_runs() {
    let conversation = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: sleep}}]
- agent: code-writer
  turns:
  - calls: [{tool: terminal_execute, arguments: {command: sleep 1000}}]
";
    let world = World::new(Setup::new(conversation)).await;
    let project = Project::small();
    let run = world.submit("sleep", &project).await;
    world.follow(&run, 0, |event| matches!(event.event, RunEventKind::ToolStarted { .. })).await;
    let body = json!({"reason": "no longer needed"});
    let summary: atoll_api::v1::RunSummary = world.post(&format!("/v1/runs/{run}/cancel"), &body).await;
    assert_eq!(summary.status, RunStatus::Finished);
    let (events, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.expect("it is over");
    assert_eq!((outcome.name, outcome.message.as_str()), (OutcomeName::Cancelled, "no longer needed"));
    assert_eq!(tools(&events, ToolStatus::Cancelled).len(), 2, "the command, and the delegation that waited for it");
    world.closed(&run).await;
    assert_eq!(world.bench.count(), 0);
    let again: atoll_api::v1::RunSummary = world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
    assert_eq!(again.outcome.expect("still over").name, OutcomeName::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_does_what_it_says() {
    let conversation = r#"
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: work}}]
  - calls: [{tool: agent_delegate, arguments: {agent: code-reviewer, task: look}}]
    expect: ["2 commits"]
  - text: done
- agent: code-writer
  turns:
  - calls:
    - {tool: file_write, arguments: {path: src/app.py, content: "password = 'hunter2hunter2'\nprint(1)\n"}}
    - {tool: file_write, arguments: {path: notes.txt, old_text: one, new_text: two}}
    - {tool: file_write, arguments: {path: notes.txt, old_text: missing, new_text: x}}
    - {tool: file_read, arguments: {path: src/app.py, start_line: 2}}
    - {tool: file_read, arguments: {path: nowhere.txt}}
    - {tool: terminal_execute, arguments: {command: cat, stdin: "given\n"}}
    - {tool: terminal_execute, arguments: {command: "seq 1 20000; exit 3"}}
    - {tool: terminal_execute, arguments: {command: "sleep 60", timeout_seconds: 1}}
    - {tool: git_operations, arguments: {operation: status}}
    - {tool: git_operations, arguments: {operation: add, paths: [src]}}
    - {tool: git_operations, arguments: {operation: commit, message: "Add 'app'; it's $new"}}
    - {tool: git_operations, arguments: {operation: log}}
    - {tool: git_operations, arguments: {operation: branch, name: side}}
    - {tool: git_diff, arguments: {}}
  - calls:
    - {tool: file_write, arguments: {path: notes.txt, patch: "@@ -1 +1 @@\n-two\n+three\n"}}
    - {tool: file_write, arguments: {path: notes.txt, patch: "@@ -1 +1 @@\n-one\n+four\n"}}
    - {tool: file_search, arguments: {pattern: "^thr"}}
    - {tool: file_search, arguments: {name: "*.py"}}
    - {tool: file_search, arguments: {pattern: PRINT, name: "*.py", ignore_case: true}}
    - {tool: file_search, arguments: {pattern: nowhere}}
    - {tool: terminal_execute, arguments: {command: "cat; echo ready; sleep 600", stdin: "fed\n", background: true}}
    - {tool: terminal_execute, arguments: {command: "until grep -q ready /workspace/.atoll/jobs/a1s2c6/out; do sleep 0.1; done"}}
    - {tool: terminal_process, arguments: {operation: output, id: a1s2c6}}
    - {tool: terminal_process, arguments: {operation: status}}
    - {tool: terminal_process, arguments: {operation: kill, id: a1s2c6}}
    - {tool: terminal_process, arguments: {operation: output, id: a9s9c9}}
  - text: done, one change is not committed
    expect:
    - "Created /workspace/repo/src/app.py"
    - "-one\n+two"
    - "`old_text` does not occur"
    - "     2\tprint(1)"
    - "Exit code 0.\ngiven\n"
    - "Exit code 3.\n1\n2\n"
    - "19999\n20000\n"
    - "lines left out; all of it is in /workspace/.atoll/output/"
    - "Killed after 1 s"
    - "?? src/"
    - "-two\n+three"
    - "the patch does not fit"
    - "notes.txt:1:three"
    - "src/app.py\n"
    - "src/app.py:2:print(1)"
    - "Started in the background as a1s2c6"
    - "a1s2c6 runs\nfed\nready\n"
    - "a1s2c6 was killed"
    - "There is no command a9s9c9"
    - "Add 'app'; it's $new"
- agent: code-reviewer
  turns:
  - calls:
    - {tool: git_diff, arguments: {stat: true}}
    - {tool: linter_run, arguments: {}}
    - {tool: security_scan, arguments: {}}
    - {tool: file_write, arguments: {path: x, content: x}}
  - text: seen
    expect: ["notes.txt", "app.py", "no syntax errors", "app.py:1: warning [built-in/password in code]", "1 findings", "Denied by policy"]
"#;
    let policy = atoll_policy::DEFAULT_POLICY_YAML
        .replace("      - terminal_execute\n", "      - terminal_execute\n      - git_diff\n");
    let world = World::new(Setup::new(conversation).policy(&policy)).await;
    let project = Project::small();
    let run = world.submit("work", &project).await;
    let (events, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.clone().expect("it is over");
    assert_eq!(outcome.name, OutcomeName::Completed, "{outcome:?}\n{events:#?}");
    project.fetch(&world, &run).await;
    let log = project.git(&["log", "--format=%an <%ae> %s", &format!("main..atoll/{run}")]);
    let commits: Vec<&str> = log.lines().collect();
    assert_eq!(
        commits,
        [
            "Atoll code-writer <code-writer@atoll.invalid> Uncommitted work of code-writer",
            "Atoll code-writer <code-writer@atoll.invalid> Add 'app'; it's $new",
        ]
    );
    assert_eq!(project.git(&["show", &format!("atoll/{run}:notes.txt")]), "three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_command_is_given_input() {
    let conversation = r#"
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: talk}}]
  - text: Done.
- agent: code-writer
  turns:
  - calls:
    - {tool: terminal_execute, arguments: {command: 'read -r name; echo "hello $name"; cat', background: true}}
    - {tool: terminal_process, arguments: {operation: write, id: a1s1c0, text: "world\nmore\n"}}
    - {tool: terminal_execute, arguments: {command: "until grep -q more /workspace/.atoll/jobs/a1s1c0/out; do sleep 0.05; done"}}
    - {tool: terminal_process, arguments: {operation: output, id: a1s1c0}}
    - {tool: terminal_process, arguments: {operation: end_input, id: a1s1c0}}
    - {tool: terminal_execute, arguments: {command: "until [ -f /workspace/.atoll/jobs/a1s1c0/exit ]; do sleep 0.05; done"}}
    - {tool: terminal_process, arguments: {operation: write, id: a1s1c0, text: "too late"}}
  - text: Talked.
    expect: ["a1s1c0 runs", "hello world", "more", "has its standard input already"]
"#;
    let world = World::new(Setup::new(conversation)).await;
    let run = world.submit("talk", &Project::small()).await;
    let (events, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.expect("it is over");
    assert_eq!(outcome.name, OutcomeName::Completed, "{outcome:?}\n{events:#?}");
}
