//! Agents that a repository brings, agents side by side, people who steer, budgets.

use atoll_api::v1::{
    self, ApprovalDecision, ApprovalRef, ApprovalState, DecideApprovals, OutcomeName, Resource, RunEvent, RunEventKind,
    RunStatus, TellAgent,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::world::{Project, Setup, World};

const LEFT: &str = "---\nbase: code-writer\ndescription: Writes on the left\n---\nYou write on the left.\n";
const RIGHT: &str = "---\nbase: code-writer\ntools: [file_read, file_write]\n---\nYou write on the right.\n";
const NOTES: &str = "Indent with tabs.\n";

fn project() -> Project {
    Project::with_files(&[
        ("notes.txt", "one\n"),
        ("AGENTS.md", NOTES),
        (".atoll/agents/left.md", LEFT),
        (".atoll/agents/right.md", RIGHT),
    ])
}

/// Both write at the same time; `left_file` and `right_file` are what they write.
fn side_by_side(left_file: &str, right_file: &str) -> String {
    format!(
        r#"
agents:
- agent: planner
  turns:
  - calls:
    - {{tool: agent_delegate, arguments: {{agent: left, task: write}}}}
    - {{tool: agent_delegate, arguments: {{agent: right, task: write}}}}
  - text: done
- agent: left
  turns:
  - calls: [{{tool: file_write, arguments: {{path: {left_file}, content: left}}}}]
  - text: written on the left
- agent: right
  turns:
  - calls:
    - {{tool: file_write, arguments: {{path: {right_file}, content: right}}}}
    - {{tool: terminal_execute, arguments: {{command: "true"}}}}
  - text: written on the right
    expect: ["Denied by policy", "repository.agents.right.tools"]
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_the_repository_work_side_by_side_and_their_work_is_merged() {
    let world = World::new(Setup::new(side_by_side("left.txt", "right.txt"))).await;
    let project = project();
    let run = world.submit("write", &project).await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    let started = |event: &RunEvent| matches!(event.event, RunEventKind::AgentStarted { .. });
    let finished = |event: &RunEvent| matches!(event.event, RunEventKind::AgentFinished { .. });
    let last_start = events.iter().rposition(started).expect("they start");
    assert!(last_start < events.iter().position(finished).expect("they end"), "both are at work at once");
    project.fetch(&world, &run).await;
    let tip = format!("atoll/{run}");
    for (file, content) in [("left.txt", "left"), ("right.txt", "right"), ("notes.txt", "one")] {
        assert_eq!(project.git(&["show", &format!("{tip}:{file}")]), content);
    }
    assert_eq!(project.git(&["rev-list", "--count", "--merges", &format!("main..{tip}")]), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_does_not_go_together_is_kept_beside_and_told() {
    let world = World::new(Setup::new(side_by_side("notes.txt", "notes.txt"))).await;
    let project = project();
    let run = world.submit("write", &project).await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    let aside = events.iter().find_map(|event| match &event.event {
        RunEventKind::WorkCollected { result, .. } => result.side_branch.clone().zip(Some(result.conflicts.clone())),
        _ => None,
    });
    let (branch, conflicts) = aside.expect("the second comes too late");
    assert_eq!(conflicts, ["notes.txt"]);
    let told = events.iter().any(|event| {
        matches!(&event.event, RunEventKind::ToolFinished { text, .. } if text.contains(&format!("is on branch {branch}")))
    });
    assert!(told, "the planner hears of it");
    project.fetch(&world, &run).await;
    let bundle = project.directory.path().join(".git/result.bundle").display().to_string();
    assert!(project.git(&["bundle", "list-heads", &bundle]).contains(&format!("refs/heads/{branch}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_file_that_grants_itself_more_is_refused() {
    let world = World::new(Setup::new(side_by_side("a", "b"))).await;
    let file = "---\nbase: code-reviewer\ntools:\n- terminal_execute\n---\n";
    let project = Project::with_files(&[(".atoll/agents/sly.md", file)]);
    let stored = world.upload(project.bundle()).await;
    let body = json!({"task": "x", "repo": {"bundle_sha256": stored.sha256, "commit": project.head()}});
    let (status, error) = world.refused(world.request(Method::POST, "/v1/tasks").json(&body)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(error.message.starts_with(".atoll/agents/sly.md:4:3: `code-reviewer` does not have"), "{}", error.message);
}

/// A code-writer that runs one slow command, then another.
const SLOW: &str = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: work}}]
  - text: done
- agent: code-writer
  turns:
  - calls: [{tool: terminal_execute, arguments: {command: sleep 0.3}}]
  - text: first
  - text: second
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_pause_a_run_say_something_and_let_it_go_on() {
    let mut world = World::new(Setup::new(SLOW)).await;
    let run = world.submit("work", &Project::small()).await;
    let started = |event: &RunEvent| matches!(event.event, RunEventKind::ToolStarted { .. });
    world.follow(&run, 0, started).await;
    let paused: v1::RunSummary = world.post(&format!("/v1/runs/{run}/pause"), &json!({})).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let twice = world.request(Method::POST, &format!("/v1/runs/{run}/pause"));
    assert_eq!(world.refused(twice).await.0, StatusCode::CONFLICT);
    let ended = |event: &RunEvent| matches!(event.event, RunEventKind::ToolFinished { .. });
    world.follow(&run, 0, ended).await;
    // It stays paused through a stop of the plane.
    world.stop().await;
    world.start().await;
    let said = TellAgent { text: "mind the tabs".to_owned(), agent: 1 };
    let still: v1::RunSummary = world.post(&format!("/v1/runs/{run}/messages"), &said).await;
    assert_eq!((still.status, still.steps), (RunStatus::Paused, 2), "no model was asked meanwhile");
    let _: v1::RunSummary = world.post(&format!("/v1/runs/{run}/resume"), &json!({})).await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    let heard = |event: &RunEvent| matches!(&event.event, RunEventKind::MessageReceived { text, .. } if text == "mind the tabs");
    assert!(events.iter().any(heard));
    let nobody = world.request(Method::POST, &format!("/v1/runs/{run}/messages")).json(&said);
    assert_eq!(world.refused(nobody).await.0, StatusCode::CONFLICT, "it is over");
}

const MONEY: &str = "
agents:
  planner: {description: plans, tools: [agent_delegate, task_create], sandboxed: false}
  code-writer:
    description: writes
    tools: [file_write, terminal_execute]
    sandboxed: true
    budget: {steps: 3}
governance:
  require_approval_for: [git_push]
  budgets:
    run: {money: MONEY, tokens: 500_000, time: 10m}
    agents_at_once: 2
    prices: [{model: 'scripted*', input: 2, output: 10}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_counted_per_agent_and_ends_the_run_when_it_is_spent() {
    let policy = MONEY.replace("MONEY", "3.50").replace("scripted*", "*");
    let world = World::new(Setup::new(SLOW).policy(&policy)).await;
    let run = world.submit("work", &Project::small()).await;
    let (_, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed);
    let of = |agent: u32, resource: Resource| {
        let found = detail.budgets.iter().find(|line| line.agent.id == agent && line.resource == resource);
        found.map(|line| (line.spent, line.reserved, line.cap))
    };
    assert_eq!(of(0, Resource::Microusd), Some((detail.summary.microusd, 0, 3_500_000)));
    assert!(detail.summary.microusd > 0 && detail.agents[1].microusd > 0);
    assert_eq!(of(1, Resource::Steps), Some((2, 0, 3)), "the writer's share");
    assert_eq!(of(0, Resource::Steps).map(|(spent, ..)| spent), Some(4), "the root's account has them all");

    let world = World::new(Setup::new(SLOW).policy(&MONEY.replace("MONEY", "0.0101").replace("scripted*", "*"))).await;
    let run = world.submit("work", &Project::small()).await;
    let (_, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.expect("over");
    assert_eq!(outcome.name, OutcomeName::CostLimit, "{}", outcome.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_price_is_refused_where_money_is_limited() {
    let policy = MONEY.replace("MONEY", "1");
    let world = World::new(Setup::new(SLOW).policy(&policy)).await;
    let body = json!({"task": "x", "model": "dear-1"});
    let (status, error) = world.refused(world.request(Method::POST, "/v1/tasks").json(&body)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        error.message.contains("the model `dear-1`") && error.message.contains("has no price"),
        "{}",
        error.message
    );
}

/// The same command needs a yes twice, another one once more.
const PUSHES: &str = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: push}}]
  - text: done
- agent: code-writer
  turns:
  - calls: [{tool: terminal_execute, arguments: {command: git push somewhere}}]
  - calls: [{tool: terminal_execute, arguments: {command: git push somewhere}}]
  - calls: [{tool: terminal_execute, arguments: {command: git push elsewhere}}]
  - text: pushed
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_questions_are_answered_at_once_and_a_yes_can_hold_for_the_run() {
    let world = World::new(Setup::new(PUSHES)).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        runs.push(world.submit("push", &Project::small()).await);
    }
    let asks = |event: &RunEvent| matches!(event.event, RunEventKind::ApprovalRequested { .. });
    for run in &runs {
        world.follow(run, 0, asks).await;
    }
    let pending = || async { world.get::<v1::ApprovalList>("/v1/approvals?state=pending").await.approvals };
    let several = |approvals: &[v1::Approval]| DecideApprovals {
        approvals: approvals
            .iter()
            .map(|approval| ApprovalRef { id: approval.id.clone(), input_digest: approval.input_digest.clone() })
            .collect(),
        decision: ApprovalDecision::Grant,
        reason: None,
        remember: true,
    };
    let open = pending().await;
    assert_eq!(open.len(), 2);
    let mut body = several(&open);
    body.approvals[1].input_digest = "0".repeat(64);
    let answered: v1::ApprovalList = world.post("/v1/approvals", &body).await;
    assert_eq!(answered.approvals.len(), 1, "the one that is about something else stays open");
    let answered: v1::ApprovalList = world.post("/v1/approvals", &several(&open)).await;
    assert!(answered.approvals.iter().all(|approval| approval.state == ApprovalState::Granted));
    for run in &runs {
        let elsewhere = |event: &RunEvent| matches!(&event.event, RunEventKind::ApprovalRequested { approval } if approval.summary.ends_with("elsewhere"));
        world.follow(run, 0, elsewhere).await;
    }
    let _: v1::ApprovalList = world.post("/v1/approvals", &several(&pending().await)).await;
    for run in &runs {
        world.finish(run).await;
        let asked: v1::ApprovalList = world.get(&format!("/v1/approvals?run={run}")).await;
        assert_eq!(asked.approvals.len(), 2, "the second push of the same kind was not asked about");
    }
}
