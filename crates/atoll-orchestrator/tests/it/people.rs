//! People with tokens of their own: each may do what the policy says, and the audit trail says who it was.

use atoll_api::v1::{AuditList, RunList, RunSummary};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::world::{Setup, World};

const CONVERSATION: &str = "
agents:
- agent: planner
  turns:
  - calls: [{tool: task_create, arguments: {title: wait}}]
    text: Working.
  - text: Done.
";

fn policy() -> String {
    let person = |name: &str, may: &str| {
        format!(
            "  {name}: {{token_sha256: \"{}\", may: [{may}]}}\n",
            hex::encode(Sha256::digest(format!("token of {name}")))
        )
    };
    let people = [person("sue", "see"), person("stan", "see, start"), person("ann", "approve"), person("bob", "steer")];
    format!("{}\npeople:\n{}", atoll_policy::DEFAULT_POLICY_YAML, people.concat())
}

/// A request in somebody's name.
fn of(world: &World, name: &str, method: &str, path: &str) -> RequestBuilder {
    world.request_with(&format!("token of {name}"), method.parse().expect("a method"), path).json(&json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_may_do_what_the_policy_says() {
    let world = World::new(Setup::new(CONVERSATION).policy(&policy())).await;
    let task = json!({"task": "something", "agent": "planner"});
    let started = of(&world, "stan", "POST", "/v1/tasks").json(&task).send().await.expect("it answers");
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    let run = started.json::<serde_json::Value>().await.expect("JSON")["run_id"].as_str().expect("an id").to_owned();
    world.finish(&run).await;

    let cancel = format!("/v1/runs/{run}/cancel");
    for (name, method, path, allowed) in [
        ("sue", "GET", "/v1/runs", true),
        ("sue", "POST", "/v1/tasks", false),
        ("sue", "POST", &cancel, false),
        ("stan", "POST", &cancel, false),
        ("bob", "POST", &cancel, true),
        ("bob", "GET", "/v1/runs", false),
        ("ann", "POST", "/v1/approvals/none", true),
        ("ann", "POST", "/v1/tasks", false),
        ("bob", "POST", "/v1/approvals/none", false),
        ("sue", "GET", "/v1/backup", false),
    ] {
        let status = of(&world, name, method, path).send().await.expect("it answers").status();
        assert_eq!(status != StatusCode::FORBIDDEN, allowed, "{name} {method} {path}: {status}");
    }
    let stranger = of(&world, "eve", "GET", "/v1/runs").send().await.expect("it answers").status();
    assert_eq!(stranger, StatusCode::UNAUTHORIZED);

    let audit: AuditList = world.get(&format!("/v1/audit?run={run}&action=run/submit")).await;
    assert_eq!(audit.records[0].body["agent"], "person/stan");
    let _everything: RunList = world.get("/v1/runs").await;
    let _also: RunSummary = world.post(&cancel, &json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_out_of_the_policy_may_nothing_any_more() {
    let world = World::new(Setup::new(CONVERSATION).policy(&policy())).await;
    assert!(of(&world, "sue", "GET", "/v1/runs").send().await.expect("it answers").status().is_success());
    let without = atoll_policy::Policy::default();
    world.orchestrator().replace_policy(without).await.expect("it is replaced");
    let status = world.refused_status(of(&world, "sue", "GET", "/v1/runs")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let mine = world.request(Method::GET, "/v1/runs").send().await.expect("it answers");
    assert!(mine.status().is_success(), "the administrator stays");
}
