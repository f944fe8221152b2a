//! What can be asked for on the command line. Pure: nothing here touches the world.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use runs::RunsCommand;

mod runs;
mod up;

const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  failure
    2  wrong usage
    3  what was named does not exist
    4  refused by policy, a person or a protection
    5  the machine lacks something: root, a kernel feature, a free port, disk space
    6  the state directory is unusable: in use, damaged, of a newer version
    7  no plane could be reached
    8  the run ended without success
  125  `atoll run` itself failed
       otherwise `run` and `exec` pass the command's own code on

Start with `atoll doctor`, then `atoll demo`.";

/// An operating system for AI agents: sealed, stateful sandboxes, and teams of agents that work in them under policy.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Where the plane keeps its state
    #[arg(long, global = true, env = "ATOLL_STATE_DIR", default_value = "/var/lib/atoll", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// Print machine-readable JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no remarks on standard error
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole of Atoll in under half a minute, in a fresh temporary plane
    Demo(DemoArgs),
    /// Start the plane on this machine
    Up(UpArgs),
    /// Stop the plane and every sandbox
    Down(DownArgs),
    /// Tell whether a plane runs, where, and what is in it
    Status,
    /// Tell what this machine can do, per isolation tier, and how to get the rest
    Doctor(DoctorArgs),
    /// Run one command in a fresh sandbox
    Run(RunArgs),
    /// Work with sandboxes
    #[command(subcommand, visible_alias = "sb")]
    Sandbox(SandboxCommand),
    /// Images that sandboxes run on
    #[command(subcommand)]
    Image(ImageCommand),
    /// Give a task to the team of agents
    Ask(AskArgs),
    /// Look at runs of agents, stop them, take their results
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Answer what agents ask permission for
    Approve(ApproveArgs),
    /// Look at traces: what each agent did, how long it took, how many tokens it cost
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Check and read the audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what sandboxes connect to, and allow or grant it
    #[command(subcommand)]
    Egress(EgressCommand),
    /// Check a policy, or explain a decision
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Measure, with percentiles and conditions
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Run the sandbox controllers on a Kubernetes cluster
    Controllers(ControllersArgs),
    /// Print the definitions of the sandbox kinds, for `kubectl apply --server-side -f -`
    Crds {
        /// With v1alpha1 beside v1beta1, converted by the webhook of `atoll controllers`, in one JSON list
        #[arg(long)]
        v1alpha1: bool,
    },
    /// Write everything that the plane keeps to a file, while it goes on working
    ///
    /// Objects, runs, the audit trail, repositories and keys: whoever reads the file can act as the administrator. Not in
    /// it: what lies in sandboxes and their volumes.
    Backup(BackupArgs),
    /// Put a backup in the place of what a state directory keeps; no plane may run on it
    Restore(RestoreArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which model agents use. Without any, `atoll demo` plays a written conversation.
#[derive(Debug, Clone, Args, Default)]
pub(crate) struct ModelArgs {
    /// The model's name at its provider (for example gpt-5 or claude-sonnet-4-5)
    #[arg(long, env = "ATOLL_MODEL", value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// A written conversation to play instead of a model
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub(crate) script: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Keep the plane and everything the demo made
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Return as soon as the plane answers
    #[arg(long, short)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) ports: PortArgs,
    /// The policy that agents work under (default: the one shipped)
    #[arg(long, value_name = "FILE", env = "ATOLL_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// Agents at work at the same time, over all runs
    #[arg(long, default_value_t = 20, env = "MAX_AGENT_CONCURRENCY", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max_agent_concurrency: u32,
    /// How long one tool call of an agent may take
    #[arg(long, default_value_t = 300, env = "EXECUTION_TIMEOUT_SECONDS", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) execution_timeout_seconds: u64,
    /// Credentials that the egress proxy puts on the wire for sandboxes: a YAML file of names, hosts and sources
    #[arg(long, value_name = "FILE", env = "ATOLL_EGRESS_CREDENTIALS")]
    pub(crate) egress_credentials: Option<PathBuf>,
    /// What to log, for example info or warn,atoll_node=debug
    #[arg(long, env = "ATOLL_LOG", default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
    /// Log JSON lines
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    pub(crate) log_format: LogForm,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogForm {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Where the plane listens. 0 means any free port.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PortArgs {
    /// Kubernetes API (TLS)
    #[arg(long, default_value_t = 6443, env = "ATOLL_API_PORT", value_name = "PORT")]
    pub(crate) api_port: u16,
    /// Router to sandboxes
    #[arg(long, default_value_t = 8080, env = "ATOLL_ROUTER_PORT", value_name = "PORT")]
    pub(crate) router_port: u16,
    /// Platform API (/v1)
    #[arg(long, default_value_t = 8081, env = "ATOLL_PLATFORM_PORT", value_name = "PORT")]
    pub(crate) platform_port: u16,
    /// Policy API (/v1/policy), for other systems
    #[arg(long, default_value_t = 8082, env = "ATOLL_POLICY_PORT", value_name = "PORT")]
    pub(crate) policy_port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Leave sandboxes running; the next `atoll up` takes them over
    #[arg(long)]
    pub(crate) keep_sandboxes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only what is missing
    #[arg(long)]
    pub(crate) missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArg {
    /// Namespaces, seccomp, no capabilities: shares the host's kernel
    Native,
    /// A kernel in user space (needs runsc)
    Gvisor,
    /// By the declared risk: arbitrary code by people who are not strangers, unless said otherwise
    Auto,
}

impl TierArg {
    /// The RuntimeClass of that name.
    pub(crate) const fn runtime_class(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gvisor => "gvisor",
            Self::Auto => "auto",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Remove the sandbox afterwards (kept otherwise)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Pass standard input on
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Set an environment variable (NAME=VALUE, or NAME to pass one on)
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory inside the sandbox
    #[arg(long, short, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Mount a file or folder of this machine (SOURCE:TARGET, SOURCE:TARGET:ro). What is yours there is the sandbox's
    /// user's inside, and what it makes is yours
    #[arg(long, short, value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// The image
    #[arg(long, default_value = "atoll.local/host")]
    pub(crate) image: String,
    /// The isolation tier; refused if this machine cannot do it
    #[arg(long, value_enum)]
    pub(crate) tier: Option<TierArg>,
    /// Name of the sandbox (default: made up)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Namespace
    #[arg(long, default_value = "default")]
    pub(crate) namespace: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Import an archive of `docker save`, an OCI layout, or a root file system (an archive or a directory)
    Import {
        /// The file or directory
        path: PathBuf,
        /// A name for it, beside those that it brings
        #[arg(long, short)]
        name: Option<String>,
    },
    /// Remove names, and images with their last name or by their id
    Rm {
        /// The names or ids
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// List sandboxes
    #[command(visible_alias = "list")]
    Ls {
        /// Of every namespace
        #[arg(long, short = 'A')]
        all_namespaces: bool,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
    /// Create a sandbox and wait until it is ready
    Create {
        /// Name of the sandbox
        name: String,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// The image
        #[arg(long, default_value = "atoll.local/host")]
        image: String,
        /// The isolation tier; refused if this machine cannot do it
        #[arg(long, value_enum)]
        tier: Option<TierArg>,
    },
    /// Run a command in a sandbox
    Exec {
        /// Name of the sandbox
        name: String,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// Pass standard input on
        #[arg(long, short)]
        interactive: bool,
        /// Give the command a terminal
        #[arg(long, short)]
        tty: bool,
        /// Set an environment variable (NAME=VALUE)
        #[arg(long, short, value_name = "NAME[=VALUE]")]
        env: Vec<String>,
        /// Working directory inside the sandbox
        #[arg(long, short, value_name = "DIR")]
        workdir: Option<String>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Copy files in or out: one side is SANDBOX:PATH
    Cp {
        /// From
        source: String,
        /// To
        target: String,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
    /// Print what the sandbox's own command wrote
    Logs {
        /// Name of the sandbox
        name: String,
        /// Go on printing what it writes
        #[arg(long, short)]
        follow: bool,
        /// The last so many lines
        #[arg(long, value_name = "LINES")]
        tail: Option<i64>,
        /// Of the command's life before this one
        #[arg(long, short)]
        previous: bool,
        /// When each line was written
        #[arg(long)]
        timestamps: bool,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
    /// Delete sandboxes
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// What to do, in your words
    pub(crate) task: String,
    /// The git repository to work on (a private copy enters the sandbox; your checkout is not touched)
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub(crate) repo: PathBuf,
    /// Take a repository with uncommitted changes; they are left out
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Return at once; see `atoll runs`
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// When it ends well, open a pull request at the project's remote, once a person has approved what is sent
    #[arg(long, conflicts_with = "detach")]
    pub(crate) pr: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The request's id, or the beginning of it; without one the open requests are listed
    pub(crate) request: Option<String>,
    /// Answer every open request that fits --run and --effect
    #[arg(long, conflicts_with = "request")]
    pub(crate) all: bool,
    /// Only requests of this run (its id, or the beginning of it)
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Only requests with this effect, for example git_push
    #[arg(long, value_name = "EFFECT")]
    pub(crate) effect: Option<String>,
    /// Allow this exact call of this agent for the rest of the run
    #[arg(long, conflicts_with = "deny")]
    pub(crate) remember: bool,
    /// Say no
    #[arg(long)]
    pub(crate) deny: bool,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// List traces, newest first
    #[command(visible_alias = "list")]
    Ls,
    /// Show one run's trace as a tree
    Show {
        /// The run's id, or the beginning of it
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no record was changed, removed or put in between
    Verify {
        /// Signed heads that were kept elsewhere (what `atoll audit heads` printed)
        #[arg(long, value_name = "FILE")]
        heads: Option<PathBuf>,
    },
    /// Print the signed heads of the chain, to be kept elsewhere
    Heads,
    /// Print records for other systems
    Export {
        /// The form
        #[arg(long, value_enum, default_value_t = AuditForm::Ocsf)]
        format: AuditForm,
        #[command(flatten)]
        filter: AuditFilterArgs,
    },
    /// Print records
    #[command(visible_alias = "query")]
    Ls(AuditFilterArgs),
}

/// Which audit records.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditFilterArgs {
    /// Only those of one run
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Only what this actor did, for example agent/code-writer or person/admin
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Only actions that begin like this, for example tool/ or approval/
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// Only with this verdict or outcome, for example deny
    #[arg(long, value_name = "VERDICT")]
    pub(crate) verdict: Option<String>,
    /// Only the last so many hours
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditForm {
    /// OCSF-like API activity, one JSON object a line
    Ocsf,
    /// The records as they are, one JSON object a line
    Jsonl,
    /// Syslog lines (RFC 5424)
    Syslog,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EgressCommand {
    /// List connections of sandboxes: what was allowed by which rule, and what would allow the rest
    #[command(visible_alias = "list")]
    Ls {
        /// Go on as they happen
        #[arg(long, short)]
        follow: bool,
        /// Only of this namespace
        #[arg(long, short)]
        namespace: Option<String>,
        /// Only of this sandbox
        #[arg(long)]
        sandbox: Option<String>,
    },
    /// Let sandboxes reach a name (or an address) through the proxy
    Allow {
        /// NAME, *.NAME or ADDRESS, with :PORT where it is not 443
        destination: String,
        /// Only sandboxes made from this template
        #[arg(long)]
        template: Option<String>,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// Any protocol, not only TLS and HTTP that name the host
        #[arg(long)]
        raw: bool,
    },
    /// Take a destination back; its connections end
    Deny {
        /// As it was allowed
        destination: String,
        /// Of the rules for this template
        #[arg(long)]
        template: Option<String>,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
    /// Set the most that network policies can open: `public`, networks such as 10.1.0.0/16, or `closed`
    Floor {
        /// What is open; without any, what is open now is shown
        open: Vec<String>,
    },
    /// Open a rule that needs approval, for one sandbox and a while
    Grant {
        /// The rule's name
        name: String,
        /// The sandbox
        #[arg(long)]
        sandbox: String,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// Seconds
        #[arg(long = "for", default_value_t = 300, value_name = "SECONDS")]
        seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a policy file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Check a policy against a table of expectations
    Test {
        /// The policy file
        file: PathBuf,
        /// The table (default: FILE with .test.yaml in place of .yaml)
        #[arg(long, value_name = "FILE")]
        expectations: Option<PathBuf>,
    },
    /// Make the decisions of past runs again under another policy, and show what would change
    Simulate {
        /// The policy file
        file: PathBuf,
        /// Only these runs (default: the newest 1000)
        #[arg(long, value_name = "RUN", num_args = 1..)]
        runs: Vec<String>,
    },
    /// Show which policy is in force
    Show,
    /// Say what would happen, by which rule, and what would change it
    Explain {
        /// The agent
        #[arg(long)]
        agent: String,
        /// The tool
        #[arg(long)]
        tool: String,
        /// The tool's input as JSON
        #[arg(long, default_value = "{}")]
        input: String,
        /// The policy file (default: the one shipped)
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

/// Names as upstream's controllers have them, where they have them.
#[derive(Debug, Args)]
pub(crate) struct ControllersArgs {
    /// The cluster (default: the one this runs in, as a Pod)
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig (default: the current one)
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Print the roles that the controllers need, and end
    #[arg(long)]
    pub(crate) print_rbac: bool,
    /// Where /metrics is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub(crate) metrics_bind_address: SocketAddr,
    /// Where /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub(crate) health_probe_bind_address: SocketAddr,
    /// Serve /convert there, for definitions with v1alpha1 (`atoll crds --v1alpha1`), which are told to trust it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) conversion_webhook_bind_address: Option<SocketAddr>,
    /// Work only while holding the lease that one process at a time holds
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) leader_elect: bool,
    /// Where the lease is (default: the Pod's own namespace, else agent-sandbox-system)
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) leader_election_namespace: Option<String>,
    /// The last part of Service names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Sandboxes worked on at once
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = workers)]
    pub(crate) sandbox_concurrent_workers: usize,
    /// Claims worked on at once
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = workers)]
    pub(crate) sandbox_claim_concurrent_workers: usize,
    /// Write into claims when they were seen and when they became Ready: two more writes each
    #[arg(long)]
    pub(crate) claim_observability_annotations: bool,
    /// What to log, for example info or warn,atoll_controllers=debug
    #[arg(long, env = "ATOLL_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// Log JSON lines
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    pub(crate) log_format: LogForm,
}

fn workers(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=1_000).contains(count)).ok_or_else(|| "a number from 1 to 1000".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write
    pub(crate) file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// Replace what is there; it is kept beside what is restored as `….before-restore`
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// What a Kubernetes API server can do: this plane's, or any other's
    Api(BenchApiArgs),
    /// From a claim's creation to Ready, as a client sees it
    Claim(BenchClaimArgs),
    /// `atoll run -- true` from start to exit
    Run {
        /// How many
        #[arg(long, short, default_value_t = 30)]
        n: u32,
    },
    /// What an idle plane costs
    Idle,
    /// What the orchestrator adds to a step, and how fast a long run is taken up again
    Orchestrator(BenchOrchestratorArgs),
    /// How long a decision takes
    Policy {
        /// How many of each kind
        #[arg(long, short, default_value_t = 2000)]
        n: u32,
    },
    /// What the egress proxy adds to a connection, and how much it carries
    Egress {
        /// Connections
        #[arg(long, short, default_value_t = 1000)]
        n: u32,
    },
    /// From the call to the tier's driver to the first byte of output, beside the runtimes that are found here
    Start {
        /// How many of each
        #[arg(long, short, default_value_t = 100)]
        n: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchOrchestratorArgs {
    /// Steps that are measured
    #[arg(long, short, default_value_t = 300)]
    pub(crate) n: u32,
    /// Steps of the run that is taken up again
    #[arg(long, default_value_t = 10_000)]
    pub(crate) long: u32,
    /// Where the journal is written; its disk counts
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// Who runs the Pods of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchPods {
    /// This machine's node, in native sandboxes
    Native,
    /// A node that pretends: what is measured is the control plane alone
    Simulated,
}

#[derive(Debug, Args)]
pub(crate) struct BenchApiArgs {
    /// Measure the server of this kubeconfig (default: the plane's own)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How long each kind of request is made
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Clients at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) clients: u32,
    /// Objects that are there while watchers watch
    #[arg(long, default_value_t = 10_000)]
    pub(crate) objects: u32,
    /// Watchers at a time (0: none)
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=3000))]
    pub(crate) watchers: u32,
}

#[derive(Debug, Args)]
pub(crate) struct BenchClaimArgs {
    /// Sequential claims
    #[arg(long, short, default_value_t = 50)]
    pub(crate) n: u32,
    /// Members of the warm pool
    #[arg(long, default_value_t = 10)]
    pub(crate) pool: u32,
    /// Claims of the burst (0: no burst)
    #[arg(long, default_value_t = 0)]
    pub(crate) burst: u32,
    /// Claims per second of the sustained measurement (0: none)
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    /// How long the sustained measurement takes
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) seconds: u32,
    /// Who runs the Pods
    #[arg(long, value_enum, default_value_t = BenchPods::Native, conflicts_with = "kubeconfig")]
    pub(crate) pods: BenchPods,
    /// Measure the cluster that this names, with the nodes it has, instead of a plane on this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The /metrics of the controllers of that cluster: their writes are counted
    #[arg(long, value_name = "URL", requires = "kubeconfig")]
    pub(crate) controllers_metrics: Option<String>,
    /// A process whose time and memory are told, as NAME=PID (repeatable)
    #[arg(long, value_name = "NAME=PID")]
    pub(crate) process: Vec<NamedProcess>,
}

/// A process, and what to call it.
#[derive(Debug, Clone)]
pub(crate) struct NamedProcess {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl FromStr for NamedProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
        let (name, pid) = parts.ok_or_else(|| "NAME=PID, for example etcd=4711".to_owned())?;
        Ok(Self { name, pid })
    }
}
