//! The orchestrator is killed with SIGKILL, again and again, and taken up. No effect happens twice, none is lost.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use atoll_engine::{Event, replay};
use atoll_rt::TaskGroup;
use serde_json::json;

use super::bench::LocalWorkbench;
use super::world::{Models, Plane, Project, git, open_journal};

const DIRECTORY: &str = "ATOLL_CRASH_DIRECTORY";
const GATEWAY: &str = "ATOLL_CRASH_GATEWAY";
/// `entries:N:M`: end it M microseconds after the journal has N entries. `claimed:N:M`: after it has N claims.
const WHEN: &str = "ATOLL_CRASH_WHEN";
const FORGETFUL: &str = "ATOLL_CRASH_FORGETFUL";

/// Kills of an ordinary test run, and of one with full counts.
const KILLS: usize = 100;
const KILLS_SOAK: usize = 1000;
/// Runs that are killed at the same time.
const AT_ONCE: u64 = 2;
/// Between two looks at the journal of a run that is to be killed.
const LOOK_EVERY: Duration = Duration::from_micros(300);

/// Effects of the run; each adds its line to a file outside of every sandbox.
const EFFECTS: usize = 6;

const POLICY: &str = "
agents:
  planner: {description: plans, tools: [agent_delegate, task_create, progress_track], sandboxed: false}
  code-writer:
    description: writes
    tools: [file_read, file_write, git_operations, terminal_execute]
    sandboxed: true
governance:
  require_approval_for: [git_push]
";

fn conversation(counter: &Path) -> String {
    let mut turns = String::new();
    for effect in 1..=EFFECTS {
        // The effect comes first, so that most kills find it done and its command still running.
        let command = format!("echo effect-{effect} >> {}; sleep 0.02", counter.display());
        turns.push_str(&format!("  - calls: [{{tool: terminal_execute, arguments: {{command: '{command}'}}}}]\n"));
        turns.push_str(&format!(
            "  - calls:
    - {{tool: file_write, arguments: {{path: f{effect}.txt, content: '{effect}'}}}}
    - {{tool: git_operations, arguments: {{operation: commit, all: true, message: commit-{effect}}}}}
"
        ));
    }
    format!(
        "
agents:
- agent: planner
  turns:
  - calls: [{{tool: task_create, arguments: {{title: all of it}}}}]
  - calls: [{{tool: agent_delegate, arguments: {{agent: code-writer, task: do it, item: 1}}}}]
  - calls: [{{tool: progress_track, arguments: {{item: 1, status: done}}}}]
  - text: done
- agent: code-writer
  turns:
{turns}
  - calls: [{{tool: git_operations, arguments: {{operation: push}}}}]
  - text: all done
"
    )
}

/// What the parent prepares, and what is left at the end.
struct Case {
    directory: tempfile::TempDir,
    counter: PathBuf,
    project: Project,
    models: Models,
    kills: usize,
}

impl Case {
    async fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("atoll-crash-").tempdir().expect("a directory");
        let counter = directory.path().join("counter");
        let models = Models::start(&conversation(&counter)).await;
        let project = Project::small().with_remote();
        std::fs::write(directory.path().join("bundle"), project.bundle()).expect("it can be written");
        std::fs::write(directory.path().join("commit"), project.head()).expect("it can be written");
        let remote = project.remote.as_ref().expect("a remote").to_string_lossy().into_owned();
        std::fs::write(directory.path().join("remote"), remote).expect("it can be written");
        Self { directory, counter, project, models, kills: 0 }
    }

    /// Runs the orchestrator in a process of its own until it is killed or the run is closed.
    fn run(&mut self, when: &str, forgetful: bool) -> bool {
        let mut child = self.spawn(when, forgetful);
        let status = child.wait().expect("it ends");
        if status.success() {
            return true;
        }
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the orchestrator's process failed: {status}");
        self.kills += 1;
        false
    }

    fn spawn(&self, when: &str, forgetful: bool) -> Child {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["it::crash::orchestrator_process", "--exact", "--ignored", "--nocapture"])
            .env(DIRECTORY, self.directory.path())
            .env(GATEWAY, &self.models.url)
            .env(WHEN, when)
            .env(FORGETFUL, if forgetful { "1" } else { "" })
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts")
    }

    async fn journal_events(&self) -> Vec<(Event, u64)> {
        let group = TaskGroup::new("reader");
        let journal = open_journal(self.directory.path(), &group).await;
        journal.audit_verify(1).await.expect("readable").expect("the audit chain holds");
        let runs = journal.runs().await.expect("readable");
        assert_eq!(runs.len(), 1, "one submission, one run");
        let entries = journal.read(&runs[0].run_id, 1).await.expect("readable");
        let events = entries.iter().map(|entry| {
            let event = serde_json::from_value(entry.body["data"].clone()).expect("an event");
            (event, entry.body["at_ms"].as_u64().expect("a time"))
        });
        let events = events.collect();
        drop(journal);
        group.drain(Duration::from_secs(5)).await;
        events
    }

    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.counter).expect("readable");
        text.lines().map(str::to_owned).collect()
    }
}

/// Not a test: the process that is killed. Takes the run up, or submits it, and sees it to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests of this file"]
async fn orchestrator_process() {
    let (Ok(directory), Ok(gateway)) = (std::env::var(DIRECTORY), std::env::var(GATEWAY)) else { return };
    let directory = PathBuf::from(directory);
    let bench = LocalWorkbench::new(directory.join("benches"));
    let forgetful = std::env::var(FORGETFUL).is_ok_and(|value| !value.is_empty());
    let bench = if forgetful { bench.forgetful() } else { bench };
    let plane = Plane::start(&directory, Arc::new(bench), &gateway, POLICY).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let run = submit(&plane, &client, &directory).await;
    let when = std::env::var(WHEN).expect("when to end");
    let mut parts = when.split(':');
    let what = parts.next().expect("what to count").to_owned();
    let mut number = || parts.next().expect("a number").parse::<u64>().expect("a number");
    let (count, delay_us) = (number(), number());
    let answering = approve_everything(&plane, &client);
    let watching = async {
        let (mut read, mut claimed) = (0, 0);
        loop {
            // Only what is new is read: the watcher must not take the time of what it watches.
            let entries = plane.journal.read(&run, read + 1).await.expect("readable");
            read += entries.len() as u64;
            claimed += entries.iter().filter(|entry| entry.kind == "claimed").count() as u64;
            let seen = if what == "claimed" { claimed } else { read };
            if seen >= count {
                // A timer of the runtime is too coarse for points within a transaction.
                std::thread::sleep(Duration::from_micros(delay_us));
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                    .expect("it may end itself");
            }
            if entries.last().is_some_and(|entry| entry.kind == "closed") {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = answering => {}
        () = watching => {}
    }
}

async fn submit(plane: &Plane, client: &reqwest::Client, directory: &Path) -> String {
    let read = |name: &str| std::fs::read(directory.join(name)).expect("readable");
    let text = |name: &str| String::from_utf8(read(name)).expect("text");
    let url = format!("{}/v1/blobs", plane.url);
    let stored = client.put(url).bearer_auth("api-token").body(read("bundle")).send().await.expect("it answers");
    let stored: serde_json::Value = stored.json().await.expect("JSON");
    let body = json!({
        "task": "do it",
        "submission_key": "the one",
        "repo": {
            "bundle_sha256": stored["sha256"],
            "commit": text("commit"),
            "branch": "main",
            "remote_url": text("remote"),
        },
    });
    let url = format!("{}/v1/tasks", plane.url);
    let accepted = client.post(url).bearer_auth("api-token").json(&body).send().await.expect("it answers");
    let accepted: serde_json::Value = accepted.json().await.expect("JSON");
    accepted["run_id"].as_str().unwrap_or_else(|| panic!("not accepted: {accepted}")).to_owned()
}

async fn approve_everything(plane: &Plane, client: &reqwest::Client) {
    loop {
        let url = format!("{}/v1/approvals?state=pending", plane.url);
        let list = client.get(url).bearer_auth("api-token").send().await.expect("it answers");
        let list: serde_json::Value = list.json().await.expect("JSON");
        for approval in list["approvals"].as_array().expect("a list") {
            let url = format!("{}/v1/approvals/{}", plane.url, approval["id"].as_str().expect("an id"));
            let body = json!({"decision": "grant"});
            client.post(url).bearer_auth("api-token").json(&body).send().await.expect("it answers");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A small generator of repeatable numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn survive(seed: u64) -> usize {
    let mut case = Case::new().await;
    let mut dice = Dice(seed);
    let mut entries = 0;
    loop {
        entries += 1 + dice.roll(7);
        let when = format!("entries:{entries}:{}", dice.roll(4) * dice.roll(1500));
        if case.run(&when, false) {
            break;
        }
        assert!(case.kills < 200, "seed {seed}: the run makes no progress");
        entries = entries.max(case.journal_events_count().await);
    }
    let events = case.journal_events().await;
    let state = replay(events.iter().map(|(event, at_ms)| (event, *at_ms))).expect("a run");
    let outcome = state.outcome().expect("it is over");
    assert_eq!(outcome.name, atoll_engine::OutcomeName::Completed, "seed {seed}: {outcome:?}");
    let expected: Vec<String> = (1..=EFFECTS).map(|effect| format!("effect-{effect}")).collect();
    assert_eq!(case.effects(), expected, "seed {seed}: each effect once and in order");
    let head = state.head.expect("there is work");
    assert_eq!(head.commits, EFFECTS as u64, "seed {seed}: each commit once");
    let remote = case.project.remote.clone().expect("a remote");
    let branch = format!("atoll/{}", state.config.run_id);
    assert_eq!(git(&remote, &["rev-parse", &branch]), head.commit, "seed {seed}: the push arrived");
    let unknown = events.iter().filter(|(event, _)| {
        matches!(event, Event::Completed { result, .. } if result.status == atoll_engine::ToolStatus::OutcomeUnknown)
    });
    assert_eq!(unknown.count(), 0, "seed {seed}: the sandbox never went away, so everything can be known");
    case.kills
}

impl Case {
    async fn journal_events_count(&self) -> u64 {
        if self.directory.path().join("runs.db").exists() { self.count().await } else { 0 }
    }

    async fn count(&self) -> u64 {
        let group = TaskGroup::new("reader");
        let journal = open_journal(self.directory.path(), &group).await;
        let last = journal.runs().await.expect("readable").first().map_or(0, |run| run.last_seq);
        drop(journal);
        group.drain(Duration::from_secs(5)).await;
        last
    }
}

#[test]
fn no_effect_is_repeated_or_lost_however_often_the_orchestrator_is_killed() {
    let wanted = if std::env::var_os("ATOLL_SOAK").is_some() { KILLS_SOAK } else { KILLS };
    let (kills, seed) = (AtomicUsize::new(0), AtomicU64::new(0));
    // Each lane has a runtime of its own, because waiting for a process that is killed blocks.
    let lane = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            while kills.load(Ordering::Relaxed) < wanted {
                let survived = survive(1 + seed.fetch_add(1, Ordering::Relaxed)).await;
                kills.fetch_add(survived, Ordering::Relaxed);
            }
        });
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            lane.join().expect("no effect is repeated or lost");
        }
    });
    println!("{} kills in {} runs", kills.into_inner(), seed.into_inner());
}

/// The twin: with a bench that runs a key twice, the same kill repeats an effect. So the test above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_ledger_of_keys_an_effect_is_repeated() {
    let mut case = Case::new().await;
    assert!(!case.run("claimed:1:10000", true), "it is killed while the first command runs");
    while !case.run("entries:1000000:0", true) {}
    let first = case.effects().iter().filter(|effect| *effect == "effect-1").count();
    assert_eq!(first, 2, "{:?}", case.effects());
}
