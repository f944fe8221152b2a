//! Questions to people.

use atoll_api::v1::{
    self, ApprovalDecision, ApprovalState, DecideApproval, OutcomeName, RunEventKind, RunStatus, ToolStatus,
};
use reqwest::{Method, StatusCode};

use super::world::{Project, Setup, World, conversation, git};

const QUICK_EXPIRY: &str = "
agents:
  planner: {description: plans, tools: [agent_delegate, task_create, progress_track], sandboxed: false}
  code-writer:
    description: writes
    tools: [file_read, file_write, git_operations, terminal_execute]
    sandboxed: true
    blocked_commands: ['curl * | bash']
  code-reviewer: {description: reviews, tools: [file_read, git_diff], sandboxed: true, read_only: true}
governance:
  require_approval_for: [git_push]
  approvals: {expiry: 1s}
";

fn asks(event: &v1::RunEvent) -> bool {
    matches!(event.event, RunEventKind::ApprovalRequested { .. })
}

fn push_status(events: &[v1::RunEvent]) -> ToolStatus {
    let push = |event: &v1::RunEvent| match &event.event {
        RunEventKind::ToolFinished { summary, status, .. } if summary.contains("push") => Some(*status),
        _ => None,
    };
    events.iter().find_map(push).expect("the push ended")
}

async fn asked(world: &World, run: &str) -> v1::Approval {
    world.follow(run, 0, asks).await;
    let summary: v1::RunDetail = world.get(&format!("/v1/runs/{run}")).await;
    assert_eq!((summary.summary.status, summary.summary.pending_approvals), (RunStatus::WaitingForApproval, 1));
    let list: v1::ApprovalList = world.get("/v1/approvals?state=pending").await;
    assert_eq!(list.approvals.len(), 1);
    list.approvals[0].clone()
}

fn answer(decision: ApprovalDecision, approval: &v1::Approval) -> DecideApproval {
    let (reason, input_digest) = (Some("because".to_owned()), Some(approval.input_digest.clone()));
    DecideApproval { decision, reason, input_digest, remember: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_push_happens_outside_the_sandbox() {
    let mut world = World::new(Setup::new(conversation("conversation-push.yaml"))).await;
    let project = Project::example("calculator").with_remote();
    let remote = project.remote.clone().expect("a remote");
    let run = world.submit("make the tests pass", &project).await;
    let approval = asked(&world, &run).await;
    assert_eq!(approval.effects, ["git_push"]);
    assert_eq!(git(&remote, &["for-each-ref"]), "", "nothing is pushed before the answer");

    // The question outlives the process that put it.
    world.stop().await;
    world.start().await;
    assert_eq!(asked(&world, &run).await, approval);

    let path = format!("/v1/approvals/{}", approval.id);
    let mut wrong = answer(ApprovalDecision::Grant, &approval);
    wrong.input_digest = Some("0".repeat(64));
    let (status, error) = world.refused(world.request(Method::POST, &path).json(&wrong)).await;
    assert_eq!((status, error.code.as_str()), (StatusCode::CONFLICT, "conflict"));

    let body = answer(ApprovalDecision::Grant, &approval);
    let granted: v1::Approval = world.post(&path, &body).await;
    assert_eq!(granted.state, ApprovalState::Granted);
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    assert_eq!(push_status(&events), ToolStatus::Ok);
    let result = detail.summary.result.expect("work");
    assert_eq!(git(&remote, &["rev-parse", &format!("atoll/{run}")]), result.commit);

    let (status, _) = world.refused(world.request(Method::POST, &path).json(&body)).await;
    assert_eq!(status, StatusCode::CONFLICT, "an answer counts once");
    let list: v1::ApprovalList = world.get(&format!("/v1/approvals?run={run}")).await;
    assert_eq!(list.approvals, [granted]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_push_does_not_happen_and_the_run_goes_on() {
    let world = World::new(Setup::new(conversation("conversation-push.yaml"))).await;
    let project = Project::example("calculator").with_remote();
    let run = world.submit("make the tests pass", &project).await;
    let approval = asked(&world, &run).await;
    let body = answer(ApprovalDecision::Deny, &approval);
    let denied: v1::Approval = world.post(&format!("/v1/approvals/{}", approval.id), &body).await;
    assert_eq!((denied.state, denied.decision_reason.as_deref()), (ApprovalState::Denied, Some("because")));
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed);
    assert_eq!(push_status(&events), ToolStatus::Denied);
    assert_eq!(git(project.remote.as_ref().expect("a remote"), &["for-each-ref"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_expires() {
    let setup = Setup::new(conversation("conversation-push.yaml")).policy(QUICK_EXPIRY);
    let world = World::new(setup).await;
    let project = Project::example("calculator").with_remote();
    let run = world.submit("make the tests pass", &project).await;
    let (events, detail) = world.finish(&run).await;
    assert_eq!(detail.summary.outcome.expect("over").name, OutcomeName::Completed, "{events:#?}");
    assert_eq!(push_status(&events), ToolStatus::ApprovalExpired);
    assert_eq!(git(project.remote.as_ref().expect("a remote"), &["for-each-ref"]), "");
    let list: v1::ApprovalList = world.get("/v1/approvals").await;
    assert_eq!(list.approvals[0].state, ApprovalState::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_a_run_withdraws_its_question() {
    let world = World::new(Setup::new(conversation("conversation-push.yaml"))).await;
    let project = Project::example("calculator").with_remote();
    let run = world.submit("make the tests pass", &project).await;
    let approval = asked(&world, &run).await;
    let _: v1::RunSummary = world.post(&format!("/v1/runs/{run}/cancel"), &serde_json::json!({})).await;
    let list: v1::ApprovalList = world.get("/v1/approvals").await;
    assert_eq!(list.approvals[0].state, ApprovalState::Cancelled);
    let path = format!("/v1/approvals/{}", approval.id);
    let body = answer(ApprovalDecision::Grant, &approval);
    let (status, _) = world.refused(world.request(Method::POST, &path).json(&body)).await;
    assert_eq!(status, StatusCode::CONFLICT);
}
