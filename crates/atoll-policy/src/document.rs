//! What a policy file says, checked and in typed form.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::Effect;
use crate::shell::pattern::CommandPattern;

/// How long an approval waits when the policy does not say.
pub const APPROVAL_EXPIRY_DEFAULT: Duration = Duration::from_hours(24);
/// How long traces are kept when the policy does not say, in days.
pub const TRACE_RETENTION_DAYS_DEFAULT: u32 = 90;

/// A whole policy file.
#[derive(Debug, Clone)]
pub struct PolicyDocument {
    /// By name.
    pub agents: BTreeMap<String, AgentPolicy>,
    /// What holds for all of them.
    pub governance: Governance,
    /// The MCP servers whose tools they may be given.
    pub mcp: McpPolicy,
    /// Where pull requests may be opened, by host in lower case.
    pub forges: BTreeMap<String, Forge>,
    /// Who may do what with runs, by name, besides the plane's administrator.
    pub people: BTreeMap<String, Person>,
}

/// Somebody who works with runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// SHA-256 of the bearer token that stands for them.
    pub token_sha256: [u8; 32],
    /// What they may do.
    pub may: Vec<Right>,
}

/// What people may do with runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Look at runs, questions, traces, the audit trail and the policy; take results.
    See,
    /// Submit tasks.
    Start,
    /// Answer questions.
    Approve,
    /// Cancel, pause, resume, undo, say something to agents.
    Steer,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::See, Self::Start, Self::Approve, Self::Steer];

    /// The name used in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Start => "start",
            Self::Approve => "approve",
            Self::Steer => "steer",
        }
    }
}

/// A place where repositories and pull requests live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forge {
    /// Which API it has.
    pub kind: ForgeKind,
    /// Where repositories are, without a slash at the end.
    pub url: String,
    /// Where its API is, without a slash at the end.
    pub api: String,
    /// Variable of the plane's environment that holds the token.
    pub token_env: String,
}

/// The APIs of forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeKind {
    /// GitHub, version 2022-11-28 of its REST API.
    GitHub,
    /// GitLab, version 4 of its REST API.
    GitLab,
    /// Gitea and Forgejo, version 1 of their API.
    Gitea,
}

impl ForgeKind {
    /// Where the API of a forge at `url` is, when nothing else is said.
    pub(crate) fn api(self, url: &str) -> String {
        match self {
            Self::GitHub if url == "https://github.com" => "https://api.github.com".to_owned(),
            Self::GitHub => format!("{url}/api/v3"),
            Self::GitLab => format!("{url}/api/v4"),
            Self::Gitea => format!("{url}/api/v1"),
        }
    }
}

/// Forges that everybody knows, used when the policy does not name them.
pub(crate) fn known_forge(host: &str) -> Option<Forge> {
    let (kind, token_env) = match host {
        "github.com" => (ForgeKind::GitHub, "GITHUB_TOKEN"),
        "gitlab.com" => (ForgeKind::GitLab, "GITLAB_TOKEN"),
        "codeberg.org" => (ForgeKind::Gitea, "GITEA_TOKEN"),
        _ => return None,
    };
    let url = format!("https://{host}");
    Some(Forge { kind, api: kind.api(&url), url, token_env: token_env.to_owned() })
}

/// The `mcp` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct McpPolicy {
    /// By name.
    pub servers: BTreeMap<String, McpServer>,
    /// Names of servers that a project may define by itself, in `.atoll/mcp.json`.
    pub project_servers: Vec<String>,
    /// The only addresses that those may have.
    pub project_urls: Vec<String>,
}

impl McpPolicy {
    /// Whether a server may still be called at an address: one of the policy's own servers is there, or a project's may be.
    #[must_use]
    pub fn allows_url(&self, name: &str, url: &str) -> bool {
        let own = self.servers.get(name).map(|server| &server.transport);
        match own {
            Some(McpTransport::Http { url: known, .. }) => known == url,
            Some(McpTransport::Stdio { .. }) => false,
            None => {
                self.project_servers.iter().any(|known| known == name)
                    && self.project_urls.iter().any(|known| known == url)
            }
        }
    }
}

/// One MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    /// How it is reached.
    pub transport: McpTransport,
    /// How long one answer is waited for.
    pub timeout: Option<Duration>,
}

/// How an MCP server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum McpTransport {
    /// A program in the agent's own sandbox, spoken to on its standard input and output.
    Stdio {
        /// The program and its arguments; it starts in the agent's working directory.
        argv: Vec<String>,
        /// Added to its environment.
        env: BTreeMap<String, String>,
    },
    /// Streamable HTTP. The plane makes the calls; sandboxes never reach it.
    Http {
        /// Of its one endpoint.
        url: String,
        /// Variable of the plane's environment that holds a bearer token.
        token_env: Option<String>,
        /// Whether it may be at an address that is not public.
        private_network: bool,
    },
}

/// One entry of `agents`.
#[derive(Debug, Clone)]
pub struct AgentPolicy {
    /// What the agent is for.
    pub description: String,
    /// The only tools it may use, in the order of the file.
    pub tools: Vec<String>,
    /// Whether it has a sandbox of its own.
    pub sandboxed: bool,
    /// Limit of one tool call.
    pub max_execution_time: Option<Duration>,
    /// Limits of its sandbox.
    pub resource_limits: ResourceLimits,
    /// Globs of absolute paths; `None` sets no limit, an empty list allows no path.
    pub allowed_paths: Option<Vec<String>>,
    /// Commands that never run.
    pub blocked_commands: Vec<CommandPattern>,
    /// When given, the only commands that run.
    pub allow_commands: Option<Vec<CommandPattern>>,
    /// Nothing may be changed.
    pub read_only: bool,
    /// How many subtasks it may hand out in one run.
    pub max_delegations: Option<u32>,
    /// The model that it is given; the run's own when `None`.
    pub model: Option<String>,
    /// What it and the agents below it may spend.
    pub budget: BudgetLimits,
}

impl AgentPolicy {
    /// An agent that may do nothing.
    pub(crate) fn empty() -> Self {
        Self {
            description: String::new(),
            tools: Vec::new(),
            sandboxed: true,
            max_execution_time: None,
            resource_limits: ResourceLimits::default(),
            allowed_paths: None,
            blocked_commands: Vec::new(),
            allow_commands: None,
            read_only: false,
            max_delegations: None,
            model: None,
            budget: BudgetLimits::default(),
        }
    }
}

/// `resource_limits` of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// As a Kubernetes quantity, for example `2` or `500m`.
    pub cpu: Option<String>,
    /// As a Kubernetes quantity, for example `4Gi`.
    pub memory: Option<String>,
}

/// The `governance` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governance {
    /// Effects that wait for a person.
    pub require_approval_for: Vec<Effect>,
    /// How long they wait.
    pub approval_expiry: Duration,
    /// What becomes of a shell command that cannot be understood.
    pub unclear_commands: UnclearCommands,
    /// Whether allowed actions are put into the audit trail too; refusals and approvals always are.
    pub audit_all_actions: bool,
    /// Days that traces are kept.
    pub trace_retention_days: u32,
    /// What runs may spend, and what models cost.
    pub budgets: Budgets,
}

impl Default for Governance {
    fn default() -> Self {
        Self {
            require_approval_for: Vec::new(),
            approval_expiry: APPROVAL_EXPIRY_DEFAULT,
            unclear_commands: UnclearCommands::Deny,
            audit_all_actions: true,
            trace_retention_days: TRACE_RETENTION_DAYS_DEFAULT,
            budgets: Budgets::default(),
        }
    }
}

/// What may be spent; `None` leaves it to the limits of the plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Millionths of a US dollar.
    pub microusd: Option<u64>,
    /// Input and output together.
    pub tokens: Option<u64>,
    /// Model calls.
    pub steps: Option<u64>,
    /// Time at work; waiting for people does not count.
    pub time: Option<Duration>,
}

/// `governance.budgets`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets {
    /// All agents of a run together.
    pub run: BudgetLimits,
    /// Agents of a run at work at the same time.
    pub agents_at_once: Option<u32>,
    /// From this share of a budget on, the agent is told to come to an end, in percent.
    pub soft_percent: Option<u8>,
    /// In the order of the file: the first that fits counts.
    pub prices: Vec<Price>,
}

/// What a model costs, in millionths of a US dollar for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Name of the model; a `*` at the end stands for any ending.
    pub model: String,
    /// Of input.
    pub input_microusd: u64,
    /// Of output.
    pub output_microusd: u64,
}

/// What becomes of a shell command that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnclearCommands {
    /// It is refused, and the agent is told how to write it.
    Deny,
    /// It waits for a person.
    RequireApproval,
}
