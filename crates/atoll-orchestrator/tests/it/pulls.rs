//! Pull requests out of a run's work, at a forge that speaks each of the three APIs.

use atoll_api::v1::{ApprovalList, ApprovalState, PullRequest};
use reqwest::Method;
use serde_json::json;

use super::forge::{Forge, occurs};
use super::world::{Project, Setup, World, git};

/// A variable that every test has and the forge takes for its token.
const TOKEN_ENV: &str = "CARGO_PKG_NAME";

const CONVERSATION: &str = "
agents:
- agent: planner
  turns:
  - calls: [{tool: agent_delegate, arguments: {agent: code-writer, task: add two}}]
  - text: Added a line.
- agent: code-writer
  turns:
  - calls:
    - {tool: file_write, arguments: {path: notes.txt, content: \"one\\ntwo\\n\"}}
    - {tool: git_operations, arguments: {operation: commit, message: Add two, all: true}}
  - text: Written.
";

fn token() -> String {
    std::env::var(TOKEN_ENV).unwrap_or_else(|_| env!("CARGO_PKG_NAME").to_owned())
}

/// A finished run on a project whose remote is the forge.
async fn finished(forge: &Forge, kind: &str, token_env: &str) -> (World, String) {
    let policy = format!(
        "{}\nforges:\n  '127.0.0.1:{port}': {{kind: {kind}, url: 'http://127.0.0.1:{port}', token_env: {token_env}}}\n",
        atoll_policy::DEFAULT_POLICY_YAML,
        port = forge.port
    );
    let world = World::new(Setup::new(CONVERSATION).policy(&policy)).await;
    let mut project = Project::small();
    project.remote = Some(forge.remote().into());
    let run = world.submit("Add a second line", &project).await;
    world.finish(&run).await;
    world.closed(&run).await;
    (world, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_is_opened_once_a_person_has_said_yes() {
    if std::env::var(TOKEN_ENV).is_err() {
        println!(
            "SKIPPED a_pull_request_is_opened_once_a_person_has_said_yes: {TOKEN_ENV} is not set; run it with cargo"
        );
        return;
    }
    for kind in ["gitea", "github", "gitlab"] {
        let forge = Forge::start(&token()).await;
        let (mut world, run) = finished(&forge, kind, TOKEN_ENV).await;
        let path = format!("/v1/runs/{run}/pull-request");
        let pull: PullRequest = world.post(&path, &json!({})).await;
        assert_eq!((pull.approval.state, pull.url), (ApprovalState::Pending, None));
        let again: PullRequest = world.post(&path, &json!({})).await;
        assert_eq!(again.approval.id, pull.approval.id, "{kind}: asking twice is asking once");
        let branches = || git(&forge.repository(), &["branch", "--list"]);
        assert_eq!((branches(), forge.pulls().len()), (String::new(), 0), "{kind}: nothing happens before the yes");
        let listed: ApprovalList = world.get("/v1/approvals?state=pending").await;
        assert_eq!(listed.approvals.len(), 1);

        let decide = format!("/v1/approvals/{}", pull.approval.id);
        let other = json!({"decision": "grant", "input_digest": "0".repeat(64)});
        world.refused(world.request(Method::POST, &decide).json(&other)).await;
        let yes = json!({"decision": "grant", "input_digest": pull.approval.input_digest});
        let _: atoll_api::v1::Approval = world.post(&decide, &yes).await;
        let open: PullRequest = world.get(&path).await;
        assert_eq!(open.error, None, "{kind}");
        let url = open.url.expect("it is open");
        assert!(url.ends_with("/1"), "{url}");
        let pulls = forge.pulls();
        assert_eq!((pulls[0].title.as_str(), pulls[0].base.as_str()), ("Add a second line", "main"));
        assert!(pulls[0].body.contains("Added a line.") && pulls[0].body.contains("- Add two"), "{}", pulls[0].body);
        assert_eq!(git(&forge.repository(), &["show", &format!("{}:notes.txt", pulls[0].head)]), "one\ntwo");

        // Asked again after a restart, it is the same one.
        world.stop().await;
        world.start().await;
        let same: PullRequest = world.post(&path, &json!({})).await;
        assert_eq!((same.url, forge.pulls().len()), (Some(url), 1), "{kind}");
        world.refused(world.request(Method::POST, &decide).json(&yes)).await;
        world.stop().await;
        assert!(!occurs(&token_word(&forge), &world.directory), "{kind}: the token is in no file of the plane");
    }
}

/// What git sends as the token; no file has it by chance.
fn token_word(_forge: &Forge) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("oauth2:{}", token()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_told_and_can_be_mended() {
    let forge = Forge::start("another token").await;
    let (world, run) = finished(&forge, "gitea", TOKEN_ENV).await;
    let path = format!("/v1/runs/{run}/pull-request");
    let pull: PullRequest = world.post(&path, &json!({})).await;
    let yes = json!({"decision": "grant"});
    let _: atoll_api::v1::Approval = world.post(&format!("/v1/approvals/{}", pull.approval.id), &yes).await;
    let failed: PullRequest = world.get(&path).await;
    let error = failed.error.expect("the token is wrong");
    assert!(error.contains("the push to") && !error.contains(&token_word(&forge)), "{error}");
    assert!(failed.url.is_none() && forge.pulls().is_empty());

    // A no is a no.
    let other: PullRequest = world.post(&path, &json!({"base": "develop"})).await;
    assert_ne!(other.approval.id, pull.approval.id, "another input is another question");
    let no = json!({"decision": "deny"});
    let _: atoll_api::v1::Approval = world.post(&format!("/v1/approvals/{}", other.approval.id), &no).await;
    let denied: PullRequest = world.get(&path).await;
    assert_eq!((denied.approval.state, denied.url), (ApprovalState::Denied, None));

    let forge = Forge::start("x").await;
    let (world, run) = finished(&forge, "gitea", "ATOLL_TEST_NO_SUCH_TOKEN").await;
    let path = format!("/v1/runs/{run}/pull-request");
    let pull: PullRequest = world.post(&path, &json!({})).await;
    let _: atoll_api::v1::Approval = world.post(&format!("/v1/approvals/{}", pull.approval.id), &yes).await;
    let failed: PullRequest = world.get(&path).await;
    assert!(failed.error.expect("there is no token").contains("has no ATOLL_TEST_NO_SUCH_TOKEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_that_is_on_no_known_forge_is_refused_before_anyone_is_asked() {
    let world = World::new(Setup::new(CONVERSATION)).await;
    let mut project = Project::small();
    project.remote = Some("https://git.invalid/acme/tools.git".into());
    let run = world.submit("Add a second line", &project).await;
    world.finish(&run).await;
    world.closed(&run).await;
    let path = format!("/v1/runs/{run}/pull-request");
    let (_, error) = world.refused(world.request(Method::POST, &path).json(&json!({}))).await;
    assert!(error.message.contains("knows no forge at git.invalid"), "{error:?}");
}
