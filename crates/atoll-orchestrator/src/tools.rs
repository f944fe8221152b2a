//! What the tools do. A call is first *planned*: looked at without any effect, so that the claim in the journal can say
//! exactly what will be done. Then the plan is carried out; after a crash it is carried out again from the journal, and
//! each kind of plan knows how not to have its effect twice.

mod commands;
mod diff;
mod files;
mod findings;
mod mcp;
pub(crate) mod output;
mod push;

pub(crate) use commands::directory_of;

use std::time::Duration;

use atoll_engine::bounded::bounded;
use atoll_engine::{CallRef, SandboxIdentity, ToolResult, ToolServer, ToolStatus, tools as names};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::sha256_hex;
use crate::mcp::http::HttpClient;
use crate::repos::Repo;
use crate::workbench::{Bench, BenchCommand, BenchError, BenchExit, OutputStream};
use crate::workspace::{self, AgentFacts};
use output::Collected;

/// What is kept of one command's output.
const OUTPUT_KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Live output handed on per call; the result has the rest.
const LIVE_BYTES_MAX: usize = 256 * 1024;
/// Tries to reach a sandbox whose connection broke.
const BROKEN_RETRIES_MAX: u32 = 6;
const BROKEN_PAUSE_MS: u64 = 100;
/// How much longer than a command's own time the sandbox may take to say that it is over.
const GUEST_GRACE_MS: u64 = 30_000;

/// What exactly a call will do; part of its claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Plan {
    /// Reads; may be repeated.
    Read { path: String, start_line: Option<u64>, end_line: Option<u64> },
    /// Replaces a file. Done when the file has the hash `after`; may be repeated while it has the hash `before`.
    Write { path: String, before_sha256: Option<String>, after_sha256: String, diff: String },
    /// Runs a command under the claim's key, which the sandbox never runs twice.
    Run {
        argv: Vec<String>,
        cwd: String,
        timeout_ms: u64,
        stdin_sha256: Option<String>,
        note: Option<String>,
        /// Its output is lines of findings, to be put in order.
        #[serde(default)]
        findings: bool,
    },
    /// Puts a request to an MCP server in the sandbox, by a command under the claim's key.
    McpStdio {
        server: String,
        request_id: String,
        argv: Vec<String>,
        cwd: String,
        timeout_ms: u64,
        stdin_sha256: String,
    },
    /// Puts a request to an MCP server from the plane. Never repeated: what became of it can not be asked.
    McpHttp { server: ToolServer, tool: String, arguments: Value },
    /// Pushes a commit from the plane. Pushing it again changes nothing.
    Push { remote: String, branch: String, commit: String },
}

/// A plan with the bytes that it speaks of by hash.
#[derive(Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

impl From<Plan> for Planned {
    fn from(plan: Plan) -> Self {
        Self { plan, blobs: Vec::new() }
    }
}

/// A call that ends before it is claimed: the text is for the model.
#[derive(Debug, PartialEq)]
pub(crate) struct NotDone(pub(crate) String);

/// Where a call is carried out, and what it needs to know.
pub(crate) struct Site<'a> {
    pub(crate) bench: &'a dyn Bench,
    pub(crate) repo: &'a Repo,
    pub(crate) call: CallRef,
    pub(crate) key: String,
    pub(crate) agent: &'a AgentFacts,
    pub(crate) timeout_ms: u64,
    pub(crate) result_bytes_max: usize,
    /// Takes a running command's output.
    pub(crate) live: &'a (dyn Live + 'a),
    /// Asks MCP servers over HTTP.
    pub(crate) mcp: &'a HttpClient,
}

/// Takes a running command's output as it comes.
pub(crate) trait Live: Send + Sync {
    fn output(&self, stream: OutputStream, text: String);
}

impl Site<'_> {
    /// The agent's working directory.
    fn directory(&self) -> &str {
        self.agent.workspace.directory.as_deref().unwrap_or(workspace::TREE)
    }

    /// Reads a file, through broken connections.
    async fn read_file(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, BenchError> {
        let mut tries = 0;
        loop {
            match self.bench.read_file(path, bytes_max).await {
                Err(BenchError::Broken { .. }) if tries < BROKEN_RETRIES_MAX => pause(&mut tries).await,
                other => return other,
            }
        }
    }

    /// Writes a file, through broken connections: writing the same content twice is writing it once.
    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), BenchError> {
        let mut tries = 0;
        loop {
            match self.bench.write_file(path, content).await {
                Err(BenchError::Broken { .. }) if tries < BROKEN_RETRIES_MAX => pause(&mut tries).await,
                other => return other,
            }
        }
    }
}

async fn pause(tries: &mut u32) {
    tokio::time::sleep(Duration::from_millis(BROKEN_PAUSE_MS << *tries)).await;
    *tries += 1;
}

/// How carrying a plan out went.
pub(crate) enum Done {
    /// The result, with all of the output when the result has only a part.
    Result(ToolResult, Option<Vec<u8>>),
    /// The sandbox of the claim is not there any more.
    SandboxChanged,
}

/// Plans a call whose arguments fit its schema.
pub(crate) async fn plan(tool: &str, input: &Value, site: &Site<'_>) -> Result<Planned, NotDone> {
    match tool {
        names::FILE_READ => Ok(files::plan_read(input, site).into()),
        names::FILE_WRITE => files::plan_write(input, site).await,
        names::GIT_OPERATIONS if input["operation"] == "push" => push::plan(input, site).await.map(Planned::from),
        tool if names::is_external(tool) => mcp::plan(tool, input, site),
        _ => commands::plan(tool, input, site),
    }
}

/// Carries a plan out, or finds out what became of it. `content` has the blob that the plan names, if it names one.
pub(crate) async fn carry_out(
    plan: &Plan,
    sandbox: Option<&SandboxIdentity>,
    content: Option<Vec<u8>>,
    site: &Site<'_>,
) -> Done {
    let result = match plan {
        Plan::Push { remote, branch, commit } => push::carry_out(remote, branch, commit, site).await,
        Plan::Read { path, start_line, end_line } => files::read(path, *start_line, *end_line, site).await,
        Plan::Write { path, before_sha256, after_sha256, diff } => {
            let content = content.unwrap_or_default();
            files::write(path, before_sha256.as_deref(), after_sha256, diff, &content, site).await
        }
        Plan::McpHttp { server, tool, arguments } => return mcp::over_http(server, tool, arguments, site).await,
        Plan::McpStdio { server, request_id, argv, cwd, timeout_ms, .. } => {
            let command = BenchCommand {
                key: site.key.clone(),
                argv: argv.clone(),
                env: workspace::environment(),
                cwd: cwd.clone(),
                timeout_ms: *timeout_ms,
            };
            match run(&command, sandbox, content.as_deref(), site).await {
                Ok((exit, output)) => {
                    return mcp::in_sandbox(server, request_id, exit, &output.text(), *timeout_ms, site).await;
                }
                Err(RunError::SandboxChanged) => return Done::SandboxChanged,
                Err(RunError::Bench(error)) => unsure(&error),
            }
        }
        Plan::Run { argv, cwd, timeout_ms, note, findings, .. } => {
            let command = BenchCommand {
                key: site.key.clone(),
                argv: argv.clone(),
                env: workspace::environment(),
                cwd: cwd.clone(),
                timeout_ms: *timeout_ms,
            };
            match run(&command, sandbox, content.as_deref(), site).await {
                Ok((exit, output)) => {
                    let output = if *findings { findings::in_order(&output.text()) } else { output.text() };
                    return render(exit, output, *timeout_ms, note.as_deref(), site).await;
                }
                Err(RunError::SandboxChanged) => return Done::SandboxChanged,
                Err(RunError::Bench(error)) => unsure(&error),
            }
        }
    };
    Done::Result(result, None)
}

enum RunError {
    SandboxChanged,
    Bench(BenchError),
}

/// The sandbox should have ended the command long ago.
fn silent() -> BenchError {
    BenchError::Unavailable { message: "it did not say what became of the command".to_owned(), hint: None }
}

/// Runs a command to its end, through broken connections.
async fn run(
    command: &BenchCommand,
    sandbox: Option<&SandboxIdentity>,
    stdin: Option<&[u8]>,
    site: &Site<'_>,
) -> Result<(BenchExit, Collected), RunError> {
    let mut output = Collected::new(OUTPUT_KEPT_BYTES_MAX);
    let mut live_bytes = 0;
    let mut tries = 0;
    loop {
        let attempt = async {
            if let Some(text) = stdin {
                site.bench.write_file(&stdin_path(&sha256_hex(text)), text).await?;
            }
            let mut take = |stream, bytes: &[u8]| {
                output.add(bytes);
                // After a broken connection the output comes again from its beginning.
                if tries == 0 && live_bytes < LIVE_BYTES_MAX {
                    live_bytes += bytes.len();
                    site.live.output(stream, String::from_utf8_lossy(bytes).into_owned());
                }
            };
            site.bench.exec(command, &mut take).await
        };
        let patience = Duration::from_millis(command.timeout_ms + GUEST_GRACE_MS);
        match tokio::time::timeout(patience, attempt).await.unwrap_or_else(|_| Err(silent())) {
            Ok(exit) => return Ok((exit, output)),
            Err(BenchError::Broken { message }) if tries < BROKEN_RETRIES_MAX => {
                tracing::debug!(key = command.key, message, "taking a command up again");
                pause(&mut tries).await;
                output.clear();
            }
            Err(error) => return Err(RunError::Bench(error)),
        }
        // The key means nothing to another life of the sandbox: asking there would run the command again.
        match site.bench.identity().await {
            Ok(now) if sandbox.is_some_and(|then| *then != now) => return Err(RunError::SandboxChanged),
            Ok(_) | Err(BenchError::Broken { .. }) => {}
            Err(error) => return Err(RunError::Bench(error)),
        }
    }
}

pub(crate) fn stdin_path(sha256: &str) -> String {
    format!("{}/{sha256}", workspace::STDIN)
}

async fn render(exit: BenchExit, all: String, timeout_ms: u64, note: Option<&str>, site: &Site<'_>) -> Done {
    let mut text = match exit {
        BenchExit { timed_out: true, .. } => format!("Killed after {} s: the time was up.\n", timeout_ms / 1000),
        BenchExit { killed: true, code, .. } => format!("Killed, most likely for its memory (exit code {code}).\n"),
        BenchExit { code, .. } => format!("Exit code {code}.\n"),
    };
    if exit.lost_bytes > 0 {
        text.push_str(&format!("[The first {} bytes of output are lost.]\n", exit.lost_bytes));
    }
    let cut = all.len() > site.result_bytes_max;
    if all.is_empty() {
        text.push_str("(no output)\n");
    } else if cut {
        text.push_str(&shorten(&all, site).await);
    } else {
        text.push_str(&all);
    }
    if let Some(note) = note {
        text.push_str(note);
    }
    let status = match exit {
        BenchExit { timed_out: true, .. } => ToolStatus::TimedOut,
        BenchExit { code: 0, .. } => ToolStatus::Ok,
        _ => ToolStatus::Failed,
    };
    let full_sha256 = cut.then(|| sha256_hex(all.as_bytes()));
    let result = ToolResult { status, text, exit_code: Some(exit.code), full_sha256, duration_ms: 0 };
    Done::Result(result, cut.then(|| all.into_bytes()))
}

/// Cuts a text to what the model is told; all of it can be read from a file in the sandbox.
async fn shorten(all: &str, site: &Site<'_>) -> String {
    let path = format!("{}/{}.txt", workspace::OUTPUT, site.call);
    let how = match site.write_file(&path, all.as_bytes()).await {
        Ok(()) => format!("all of it is in {path}"),
        Err(_) => "run it again with less output to see more".to_owned(),
    };
    bounded(all, site.result_bytes_max, &how).text
}

/// The result of a claimed call that failed: where the sandbox refused, it did nothing; where it can not be heard of,
/// nobody knows.
pub(crate) fn unsure(error: &BenchError) -> ToolResult {
    match error {
        BenchError::Unavailable { .. } | BenchError::Broken { .. } => told(
            ToolStatus::OutcomeUnknown,
            format!(
                "Outcome unknown: {error}. It may have happened, in part or in full, or not at all. Look before you do it again."
            ),
        ),
        BenchError::NotFound { .. } | BenchError::Refused { .. } | BenchError::TooLarge { .. } => failed(error),
    }
}

/// The result of a call that had no effect.
pub(crate) fn failed(error: &BenchError) -> ToolResult {
    told(ToolStatus::Failed, format!("Failed: {error}."))
}

/// A result that is only a text.
pub(crate) fn told(status: ToolStatus, text: String) -> ToolResult {
    ToolResult { status, text, exit_code: None, full_sha256: None, duration_ms: 0 }
}

/// A path as the sandbox knows it: absolute, without `.` and `..`.
pub(crate) fn absolute(path: &str, directory: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(crate) fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_plain() {
        for (path, expected) in [
            ("a.py", "/workspace/repo/a.py"),
            ("./src/../a.py", "/workspace/repo/a.py"),
            ("/etc//passwd", "/etc/passwd"),
            ("../../../../etc/passwd", "/etc/passwd"),
            ("", "/workspace/repo"),
        ] {
            assert_eq!(absolute(path, workspace::TREE), expected, "{path:?}");
        }
    }

    #[test]
    fn plans_survive_the_journal() {
        let plan = Plan::Write {
            path: "/a".to_owned(),
            before_sha256: None,
            after_sha256: "x".to_owned(),
            diff: String::new(),
        };
        let value = serde_json::to_value(&plan).expect("it serialises");
        assert_eq!(value["kind"], "write");
        assert_eq!(serde_json::from_value::<Plan>(value).expect("it comes back"), plan);
    }
}
