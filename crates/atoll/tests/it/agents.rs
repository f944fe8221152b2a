//! A task from the command line to a commit: the team, the gate, approvals, a killed plane.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::{World, eventually, skip_without_root};

pub(crate) const TASK: &str = "One test of this project fails. Repair it.";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/calculator").join(name)
}

pub(crate) fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-C"])
        .arg(dir)
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The calculator example as a repository of its own.
pub(crate) fn calculator(world: &World) -> PathBuf {
    let dir = world.path().join("calculator");
    std::fs::create_dir(&dir).expect("it is made");
    for name in ["calculator.py", "test_calculator.py", "README.md"] {
        std::fs::copy(example(name), dir.join(name)).expect("it is copied");
    }
    git(&dir, &["init", "-q", "-b", "main"]);
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-q", "-m", "start"]);
    dir
}

pub(crate) fn scripted(script: &str) -> World {
    let world = World::new();
    world.up(&["--script", &example(script).display().to_string()]).ok();
    world
}

/// Events of a run, from its beginning.
fn events(world: &World, run: &str) -> Vec<serde_json::Value> {
    let done = world.atoll(&["runs", "show", run, "--follow", "--json"]).ok();
    // Events are lines; the description that follows is a document over several.
    done.stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|value| value.get("type").is_some())
        .collect()
}

fn count(events: &[serde_json::Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

#[test]
fn the_team_repairs_the_calculator() {
    if skip_without_root("the_team_repairs_the_calculator") {
        return;
    }
    let world = scripted("conversation.yaml");
    let project = calculator(&world);
    let head = git(&project, &["rev-parse", "HEAD"]);
    let done = world.atoll(&["ask", TASK, "--repo", &project.display().to_string()]).ok();
    assert!(done.stdout.contains("refused:"), "one command is blocked: {}", done.stdout);

    assert_eq!(git(&project, &["rev-parse", "HEAD"]), head, "the checkout is not touched");
    assert_eq!(git(&project, &["status", "--porcelain"]), "");
    let branch = git(&project, &["for-each-ref", "--format=%(refname:short)", "refs/heads/atoll/"]);
    let tree = world.path().join("result");
    git(&project, &["worktree", "add", "-q", &tree.display().to_string(), &branch]);
    let tests = Command::new("python3").args(["-m", "unittest"]).current_dir(&tree).output().expect("python runs");
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));

    let runs = world.atoll(&["runs", "ls", "--json"]).ok().json();
    let run = runs["runs"][0]["run_id"].as_str().expect("there is one").to_owned();
    assert_eq!(runs["runs"][0]["outcome"]["name"], "completed");
    let events = events(&world, &run);
    assert_eq!(count(&events, "agent_started"), 3, "planner, code-writer, code-reviewer");
    let denied = events.iter().find(|event| event["type"] == "tool_decided" && event["verdict"] == "deny");
    let denied = denied.expect("one command is blocked");
    assert!(!denied["rule_ids"].as_array().expect("a list").is_empty(), "{denied}");

    let trace = world.atoll(&["trace", "show", &run]).ok().stdout;
    for words in ["invoke_agent planner", "invoke_agent code-writer", "execute_tool", "chat ", "tokens:"] {
        assert!(trace.contains(words), "{words:?} is not in {trace}");
    }
    world.atoll(&["audit", "verify"]).ok();
    let audit = world.atoll(&["audit", "ls", "--run", &run]).ok().stdout;
    assert!(audit.contains("deny"), "{audit}");
    eventually("the run's sandboxes are gone", || {
        world.atoll(&["sandbox", "ls", "-A", "--json"]).json().as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_run_goes_on_after_the_plane_was_killed() {
    if skip_without_root("a_run_goes_on_after_the_plane_was_killed") {
        return;
    }
    let world = scripted("conversation.yaml");
    let project = calculator(&world);
    let script = example("conversation.yaml").display().to_string();
    let run = world.atoll(&["ask", TASK, "--repo", &project.display().to_string(), "--detach"]).ok().stdout;
    let run = run.trim().to_owned();
    eventually("the code-writer works", || {
        let agents = world.atoll(&["runs", "show", &run, "--json"]).json()["agents"].clone();
        agents.as_array().is_some_and(|agents| {
            agents.iter().any(|agent| agent["agent"]["name"] == "code-writer" && agent["tool_calls"].as_u64() > Some(1))
        })
    });
    world.kill_plane();
    world.up(&["--script", &script]).ok();

    let events = events(&world, &run);
    let last = events.last().expect("there are events");
    assert_eq!(last["type"], "run_finished", "{last}");
    assert_eq!(last["outcome"]["name"], "completed", "{last}");
    let finished: Vec<_> =
        events.iter().filter(|event| event["type"] == "tool_finished").map(|event| &event["call_id"]).collect();
    let mut once = finished.clone();
    once.dedup();
    assert_eq!(finished, once, "no call was completed twice");
    let commits = last["result"]["commits"].as_u64();
    assert_eq!(commits, Some(1), "the commit was made once: {last}");
    world.atoll(&["audit", "verify"]).ok();
}

#[test]
fn a_push_waits_for_an_approval_and_happens_outside() {
    if skip_without_root("a_push_waits_for_an_approval_and_happens_outside") {
        return;
    }
    for (answer, pushed) in [(["approve"].as_slice(), true), (&["approve", "--deny", "--reason", "not today"], false)] {
        let world = scripted("conversation-push.yaml");
        let project = calculator(&world);
        let (remote, _daemon) = serve_remote(&world, &project);
        let run = world.atoll(&["ask", TASK, "--repo", &project.display().to_string(), "--detach"]).ok().stdout;
        let mut request = String::new();
        eventually("an approval is asked for", || {
            let approvals = world.atoll(&["approve", "--json"]).ok().json();
            request = approvals["approvals"][0]["id"].as_str().unwrap_or_default().to_owned();
            !request.is_empty()
        });
        assert_eq!(git(&remote, &["for-each-ref", "--format=%(refname)", "refs/heads/atoll/"]), "", "not before");
        let mut arguments = vec![answer[0], request.as_str()];
        arguments.extend(&answer[1..]);
        world.atoll(&arguments).ok();
        events(&world, run.trim());
        let branches = git(&remote, &["for-each-ref", "--format=%(refname)", "refs/heads/atoll/"]);
        assert_eq!(!branches.is_empty(), pushed, "{branches}");
    }
}

/// A bare repository that `origin` names, served by git's own daemon on loopback.
fn serve_remote(world: &World, project: &Path) -> (PathBuf, Daemon) {
    let remote = world.path().join("remote.git");
    git(world.path(), &["init", "-q", "--bare", &remote.display().to_string()]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    // `git daemon` would start this as a child and leave it behind when killed.
    let programs = git(project, &["--exec-path"]);
    let child = Command::new(Path::new(programs.trim()).join("git-daemon"))
        .args(["--reuseaddr", "--listen=127.0.0.1", "--export-all", "--enable=receive-pack"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", world.path().display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("git daemon runs");
    eventually("git's daemon listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    git(project, &["remote", "add", "origin", &format!("git://127.0.0.1:{port}/remote.git")]);
    (remote, Daemon(child))
}

struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_can_be_cancelled() {
    if skip_without_root("a_run_can_be_cancelled") {
        return;
    }
    let world = scripted("conversation-push.yaml");
    let project = calculator(&world);
    git(&project, &["remote", "add", "origin", "git://127.0.0.1:1/nowhere.git"]);
    let run = world.atoll(&["ask", TASK, "--repo", &project.display().to_string(), "--detach"]).ok().stdout;
    let run = run.trim();
    eventually("it waits for an approval", || {
        world.atoll(&["approve", "--json"]).json()["approvals"].as_array().is_some_and(|list| !list.is_empty())
    });
    world.atoll(&["runs", "cancel", run]).ok();
    let events = events(&world, run);
    assert_eq!(events.last().expect("there are events")["outcome"]["name"], "cancelled");
    assert_eq!(world.atoll(&["approve", "--json"]).ok().json()["approvals"].as_array().map(Vec::len), Some(0));
}
