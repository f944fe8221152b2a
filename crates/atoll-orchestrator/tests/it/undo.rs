//! Going back to an earlier state of a run's work.

use atoll_api::v1::{CheckpointList, RunSummary};
use serde_json::json;

use super::world::{Project, Setup, World};

const TWO_COMMITS: &str = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: write twice}}]
  - text: Done.
- agent: code-writer
  turns:
  - calls:
    - {tool: file_write, arguments: {path: notes.txt, content: \"one\\ntwo\\n\"}}
    - {tool: git_operations, arguments: {operation: commit, message: Add two, all: true}}
    - {tool: file_write, arguments: {path: notes.txt, content: \"wrong\\n\"}}
    - {tool: file_write, arguments: {path: more.txt, content: \"more\\n\"}}
    - {tool: git_operations, arguments: {operation: commit, message: Replace everything, all: true}}
  - text: Written.
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_an_earlier_step_come_back_and_nothing_is_forgotten() {
    let world = World::new(Setup::new(TWO_COMMITS)).await;
    let project = Project::small();
    let run = world.submit("write", &project).await;
    world.finish(&run).await;
    world.closed(&run).await;
    project.fetch(&world, &run).await;
    let branch = format!("atoll/{run}");
    let file = |name: &str| project.git(&["show", &format!("{branch}:{name}")]);
    assert_eq!((file("notes.txt").as_str(), file("more.txt").as_str()), ("wrong", "more"));
    let before = project.git(&["rev-parse", &branch]);

    let steps: CheckpointList = world.get(&format!("/v1/runs/{run}/checkpoints")).await;
    let titles: Vec<&str> = steps.checkpoints.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(titles, ["start", "Add two", "Replace everything"]);

    let undone: RunSummary = world.post(&format!("/v1/runs/{run}/undo"), &json!({})).await;
    let result = undone.result.expect("there is work");
    assert_eq!((result.commits, result.files_changed), (3, 1), "history grows, and the second file is gone");
    project.fetch(&world, &run).await;
    assert_eq!(file("notes.txt"), "one\ntwo");
    assert_eq!(project.git(&["ls-tree", "--name-only", &branch]), "notes.txt");
    assert_eq!(project.git(&["rev-parse", &format!("{branch}~1")]), before, "it is a step on top of what was");

    // Back to what was undone, and to the very beginning.
    let _: RunSummary = world.post(&format!("/v1/runs/{run}/undo"), &json!({"step": 2})).await;
    project.fetch(&world, &run).await;
    assert_eq!((file("notes.txt").as_str(), file("more.txt").as_str()), ("wrong", "more"));
    let start: RunSummary = world.post(&format!("/v1/runs/{run}/undo"), &json!({"step": 0})).await;
    assert_eq!(start.result.map(|result| result.files_changed), Some(0));
    let shown: atoll_api::v1::RunDetail = world.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(shown.summary.result.map(|result| result.files_changed), Some(0));
    assert_eq!(project.git(&["status", "--porcelain"]), "", "the checkout is not touched");

    let audit: atoll_api::v1::AuditList = world.get(&format!("/v1/audit?run={run}")).await;
    let undone = audit.records.iter().filter(|record| record.body["action"] == "run/undo").count();
    assert_eq!(undone, 3);
    let path = format!("/v1/runs/{run}/undo");
    let request = world.request(reqwest::Method::POST, &path).json(&json!({"step": 99}));
    let (_, error) = world.refused(request).await;
    assert!(error.message.contains("and no step 99"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_not_over_is_not_undone() {
    let conversation = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: wait}}]
- agent: code-writer
  turns:
  - calls: [{tool: terminal_execute, arguments: {command: sleep 600}}]
";
    let world = World::new(Setup::new(conversation)).await;
    let run = world.submit("wait", &Project::small()).await;
    let path = format!("/v1/runs/{run}/undo");
    let (status, error) = world.refused(world.request(reqwest::Method::POST, &path).json(&json!({}))).await;
    assert_eq!((status.as_u16(), error.message.as_str()), (409, format!("run {run} is not over").as_str()));
    let _: RunSummary = world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
    world.closed(&run).await;
}
