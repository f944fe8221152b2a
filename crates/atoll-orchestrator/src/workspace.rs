//! An agent's place in its sandbox: a private clone, a worktree on a branch of its own, and the way back out.

use std::collections::BTreeMap;

use atoll_engine::{AgentProfile, RepoInfo, RunState, SandboxIdentity, ToolServer, Workspace};

use crate::tools::output::Collected;
use crate::workbench::{Bench, BenchCommand, BenchError};

/// Everything of a run is below this directory of the sandbox.
pub(crate) const ROOT: &str = "/workspace";
/// The agent's worktree.
pub(crate) const TREE: &str = "/workspace/repo";
/// Where what is cut from a result can be read.
pub(crate) const OUTPUT: &str = "/workspace/.atoll/output";
/// Texts given to commands on standard input.
pub(crate) const STDIN: &str = "/workspace/.atoll/stdin";

const START_BUNDLE: &str = "/workspace/.atoll/start.bundle";
const OUT_BUNDLE: &str = "/workspace/.atoll/out.bundle";
const SCRIPT_TIMEOUT_MS: u64 = 120_000;
const SCRIPT_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Clones the bundle, makes the worktree. Arguments: branch (empty for none), name and address of the agent, name of
/// the person's branch (may be empty), id of the agent.
const SETUP: &str = r#"set -eu
cd /workspace
mkdir -p .atoll/home .atoll/output .atoll/stdin
rm -rf .atoll/clone.git repo
git init -q --bare --template= -b atoll .atoll/clone.git
cd .atoll/clone.git
git fetch -q --no-tags ../start.bundle '+refs/atoll/base:refs/atoll/base' "+refs/atoll/starts/$5:refs/atoll/start" \
  '+refs/heads/atoll/*:refs/heads/atoll/*'
git config user.name "$2"
git config user.email "$3"
git config advice.detachedHead false
if [ -n "$4" ]; then git update-ref "refs/heads/$4" refs/atoll/base; fi
if [ -n "$1" ]; then
  git worktree add -q -b "$1" /workspace/repo refs/atoll/start
else
  git worktree add -q --detach /workspace/repo refs/atoll/start
fi
"#;

/// Commits what is left, bundles what is new. Arguments: message, commit the agent started from. Says `none` or `made`.
const COLLECT: &str = r#"set -eu
cd /workspace/repo
if [ -n "$(git status --porcelain)" ]; then
  git add -A
  git -c core.hooksPath=/dev/null commit -q --no-verify -m "$1"
fi
if [ "$(git rev-parse HEAD)" = "$2" ]; then echo none; exit 0; fi
rm -f /workspace/.atoll/out.bundle
git bundle create -q /workspace/.atoll/out.bundle HEAD "^$2"
echo made
"#;

/// A workspace could not be made, or its work not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("the sandbox failed")]
    Bench(#[from] BenchError),
    #[error("{what} failed with exit code {code}: {output}")]
    Script { what: &'static str, code: i32, output: String },
}

/// What has to be known of an agent to work for it.
#[derive(Clone, Debug)]
pub(crate) struct AgentFacts {
    pub(crate) run_id: String,
    pub(crate) id: u32,
    pub(crate) profile: AgentProfile,
    pub(crate) workspace: Workspace,
    pub(crate) repo: Option<RepoInfo>,
    pub(crate) delegations: u32,
    /// The MCP servers of the run.
    pub(crate) servers: Vec<ToolServer>,
}

impl AgentFacts {
    /// The facts of an agent that exists.
    pub(crate) fn of(state: &RunState, id: u32) -> Option<Self> {
        let agent = state.agent(id)?;
        Some(Self {
            run_id: state.config.run_id.clone(),
            id,
            profile: state.profile(agent).clone(),
            workspace: agent.workspace.clone(),
            repo: state.config.repo.clone(),
            delegations: agent.delegations,
            servers: state.config.servers.clone(),
        })
    }

    /// The branch of its worktree; none for an agent whose work is thrown away.
    pub(crate) fn branch(&self) -> Option<String> {
        let suffix = if self.id <= 1 { String::new() } else { format!("-{}", self.id) };
        (!self.profile.read_only).then(|| format!("atoll/{}/{}{suffix}", self.run_id, self.profile.name))
    }

    /// Where it works, once that is made in a sandbox at a commit.
    pub(crate) fn placed(&self, sandbox: SandboxIdentity, commit: String) -> Workspace {
        Workspace {
            sandbox: Some(sandbox),
            directory: Some(TREE.to_owned()),
            branch: self.branch(),
            commit: Some(commit),
            servers: Vec::new(),
        }
    }
}

/// What commands of an agent find in their environment.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let set = [
        ("HOME", "/workspace/.atoll/home"),
        ("LANG", "C.UTF-8"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("GIT_EDITOR", "true"),
        ("GIT_TERMINAL_PROMPT", "0"),
        // Byte code beside the sources would end up in commits.
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    set.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Puts the clone and the worktree in place. `key` names this making: the same key does not make it twice.
pub(crate) async fn set_up(
    bench: &dyn Bench,
    agent: &AgentFacts,
    bundle: &[u8],
    key: String,
) -> Result<(), WorkspaceError> {
    bench.write_file(START_BUNDLE, bundle).await?;
    let branch = agent.branch().unwrap_or_default();
    let name = format!("Atoll {}", agent.profile.name);
    let address = format!("{}@atoll.invalid", agent.profile.name);
    let theirs = agent.repo.as_ref().and_then(|repo| repo.branch.clone()).unwrap_or_default();
    script(bench, "making the workspace", SETUP, &[&branch, &name, &address, &theirs, &agent.id.to_string()], key)
        .await
        .map(drop)
}

/// The agent's commits as a bundle, what was not committed included; none when there is nothing new.
pub(crate) async fn collect(
    bench: &dyn Bench,
    agent: &AgentFacts,
    key: String,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, WorkspaceError> {
    let message = format!("Uncommitted work of {}", agent.profile.name);
    let start = agent.workspace.commit.clone().unwrap_or_default();
    let said = script(bench, "fetching the work", COLLECT, &[&message, &start], key).await?;
    if said.trim() == "none" {
        return Ok(None);
    }
    Ok(Some(bench.read_file(OUT_BUNDLE, bytes_max).await?))
}

async fn script(
    bench: &dyn Bench,
    what: &'static str,
    text: &str,
    arguments: &[&str],
    key: String,
) -> Result<String, WorkspaceError> {
    let mut argv: Vec<String> = ["/bin/sh", "-c", text, "sh"].map(str::to_owned).into();
    argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let command = BenchCommand { key, argv, env: environment(), cwd: ROOT.to_owned(), timeout_ms: SCRIPT_TIMEOUT_MS };
    let mut output = Collected::new(SCRIPT_OUTPUT_BYTES_MAX);
    let exit = bench.exec(&command, &mut |_, bytes| output.add(bytes)).await?;
    let output = output.text();
    if exit.code == 0 {
        return Ok(output);
    }
    Err(WorkspaceError::Script { what, code: exit.code, output: output.trim().to_owned() })
}
