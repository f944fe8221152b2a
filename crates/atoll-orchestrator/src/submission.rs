//! Taking a task in: everything that can be refused is refused before anything is made, and the run is durable before
//! anyone hears of it.

mod project;

use std::sync::Arc;
use std::time::Duration;

use atoll_api::v1;
use atoll_engine::{
    AgentProfile, Budget, Event, Limits, ModelPrice, RepoInfo, RunConfig, ServerTransport, ToolServer, step, tools,
};
use atoll_policy::{AgentPolicy, McpServer, McpTransport, Policy};
use atoll_rt::ids;
use atoll_stdx::{Hint, chain};
use atoll_store::{AppendBatch, JournalError, RecordExpect};
use serde_json::json;

use crate::http::refusal::Refusal;
use crate::mcp::TIMEOUT_MS_DEFAULT;
use crate::orchestrator::Shared;
use crate::records::{self, Acted, RunRecord, put};
use crate::repos::{RepoError, is_pushable};
use crate::view::{self, Logged};

const DEFAULT_AGENT: &str = "planner";
/// The longest task.
const TASK_BYTES_MAX: usize = 32 * 1024;
/// The longest name, branch or address.
const FIELD_BYTES_MAX: usize = 1024;
/// Runs that are not over at a time.
const RUNS_OPEN_MAX: usize = 1000;

/// Accepts a task, or says why not.
pub(crate) async fn submit(shared: &Arc<Shared>, body: v1::SubmitTask, by: &str) -> Result<v1::TaskAccepted, Refusal> {
    if let Some(key) = &body.submission_key
        && let Some(run_id) = earlier(shared, key).await?
    {
        return Ok(v1::TaskAccepted { run_id, created: false });
    }
    if shared.live_runs().len() >= RUNS_OPEN_MAX {
        return Err(Refusal::busy(format!("{RUNS_OPEN_MAX} runs are open already"), "wait, or cancel some"));
    }
    let run_id = ids::ulid();
    let policy = shared.policy.current();
    let mut config = config(shared, &policy, &run_id, &body)?;
    let bundle = match &body.repo {
        None => None,
        Some(repo) => match shared.blobs.find(&repo.bundle_sha256).await {
            Some(path) => Some((path, repo.commit.as_str())),
            None => {
                return Err(Refusal::invalid("the repository's bundle is not there", "upload it with PUT /v1/blobs"));
            }
        },
    };
    let bundle = bundle.as_ref().map(|(path, commit)| (path.as_path(), *commit));
    let start = shared.repos.create(&run_id, bundle).await.map_err(|error| refused_repo(&error))?;
    if let Err(refusal) = project::hear(shared, &policy, &mut config, &start).await {
        shared.repos.remove(&run_id).await;
        return Err(refusal);
    }
    record(shared, config, &body, by).await
}

/// The run that an earlier submission with the same key started.
async fn earlier(shared: &Shared, key: &str) -> Result<Option<String>, Refusal> {
    let record = shared.journal.record(records::SUBMISSION, key).await?;
    Ok(record.and_then(|record| record.body["run_id"].as_str().map(str::to_owned)))
}

/// Makes the run durable and starts it.
async fn record(
    shared: &Arc<Shared>,
    config: RunConfig,
    body: &v1::SubmitTask,
    by: &str,
) -> Result<v1::TaskAccepted, Refusal> {
    let at_ms = shared.clock.now_unix_ms();
    let run_id = config.run_id.clone();
    let (state, _) = step::start(config.clone(), at_ms);
    let submitted = Logged { at_ms, data: Event::Submitted { config: Box::new(config) } };
    let run = RunRecord { owner: shared.instance.clone(), closed: false, summary: view::summary(&state) };
    let mut puts = vec![put(records::RUN, &run_id, &run, RecordExpect::Absent)];
    if let Some(key) = &body.submission_key {
        puts.push(put(records::SUBMISSION, key, &json!({"run_id": run_id}), RecordExpect::Absent));
    }
    let actor = format!("person/{by}");
    let acted = Acted { at_ms, run_id: &run_id, actor: &actor };
    let detail = json!({"root_agent": state.config.root_agent, "policy_hash": state.config.policy_hash});
    let batch = AppendBatch {
        run_id: run_id.clone(),
        entries: vec![submitted.entry(1)],
        audit: vec![acted.entry("run/submit", "accepted", detail)],
        records: puts,
        ..AppendBatch::default()
    };
    match shared.journal.append(batch).await {
        Ok(()) => {
            shared.drive(state, 1);
            Ok(v1::TaskAccepted { run_id, created: true })
        }
        // Somebody was quicker with the same key; the repository just made goes at the next start.
        Err(JournalError::RecordConflict { .. }) => {
            let key = body.submission_key.as_deref().unwrap_or_default();
            match earlier(shared, key).await? {
                Some(run_id) => Ok(v1::TaskAccepted { run_id, created: false }),
                None => Err(Refusal::conflict("the submission was taken twice at once", "submit it again")),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn config(shared: &Shared, policy: &Policy, run_id: &str, body: &v1::SubmitTask) -> Result<RunConfig, Refusal> {
    if body.task.trim().is_empty() {
        return Err(Refusal::invalid("the task is empty", "say what is wanted"));
    }
    if body.task.len() > TASK_BYTES_MAX {
        let message = format!("the task has {} bytes, at most {TASK_BYTES_MAX} are taken", body.task.len());
        return Err(Refusal::invalid(&message, "put long material into the repository"));
    }
    let root_agent = body.agent.clone().unwrap_or_else(|| DEFAULT_AGENT.to_owned());
    if policy.agent(&root_agent).is_none() && body.repo.is_none() {
        let known: Vec<&str> = policy.agents().map(|(name, _)| name).collect();
        let hint = format!("the policy has: {}", known.join(", "));
        return Err(Refusal::invalid(&format!("there is no agent `{root_agent}`"), &hint));
    }
    let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > FIELD_BYTES_MAX);
    if long(&body.model) || long(&body.submission_key) {
        return Err(Refusal::invalid("a field is too long", &format!("at most {FIELD_BYTES_MAX} bytes are taken")));
    }
    Ok(RunConfig {
        run_id: run_id.to_owned(),
        task: body.task.clone(),
        root_agent,
        model: body.model.clone(),
        repo: body.repo.as_ref().map(repo).transpose()?,
        agents: profiles(policy),
        limits: limits(shared.limits.clone(), policy),
        prices: prices(policy),
        servers: policy.mcp().servers.iter().map(|(name, server)| tool_server(name, server)).collect(),
        project_notes: None,
        policy_hash: policy.hash().to_owned(),
    })
}

fn repo(source: &v1::RepoSource) -> Result<RepoInfo, Refusal> {
    let is_commit = [40, 64].contains(&source.commit.len()) && source.commit.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_commit {
        return Err(Refusal::invalid("the commit is not a full hash", "give what `git rev-parse HEAD` says"));
    }
    let fields = [&source.branch, &source.remote_url, &source.name];
    if fields.into_iter().flatten().any(|text| text.len() > FIELD_BYTES_MAX || text.chars().any(char::is_control)) {
        let hint = format!("at most {FIELD_BYTES_MAX} bytes without control characters are taken");
        return Err(Refusal::invalid("a field of the repository can not be used", &hint));
    }
    // A branch name ends up in commands of the sandbox; one that git itself would refuse is left out.
    let plain = |name: &&String| !name.starts_with('-') && !name.contains("..") && !name.ends_with(".lock");
    Ok(RepoInfo {
        bundle_sha256: source.bundle_sha256.clone(),
        commit: source.commit.to_ascii_lowercase(),
        branch: source.branch.as_ref().filter(plain).cloned(),
        remote_url: source.remote_url.as_ref().filter(|remote| is_pushable(remote)).cloned(),
        name: source.name.clone(),
    })
}

fn profiles(policy: &Policy) -> Vec<AgentProfile> {
    policy.agents().map(|(name, agent)| profile(name, agent)).collect()
}

fn profile(name: &str, agent: &AgentPolicy) -> AgentProfile {
    AgentProfile {
        name: name.to_owned(),
        description: agent.description.clone(),
        tools: agent
            .tools
            .iter()
            .filter(|tool| tools::ALL.contains(&tool.as_str()) || tools::is_external(tool))
            .cloned()
            .collect(),
        sandboxed: agent.sandboxed,
        read_only: agent.read_only,
        max_execution_ms: agent.max_execution_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        max_delegations: agent.max_delegations,
        instructions: None,
        model: agent.model.clone(),
        base: None,
        budget: Budget { steps: agent.budget.steps, tokens: agent.budget.tokens, microusd: agent.budget.microusd },
        wall_ms_max: agent.budget.time.map(millis),
    }
}

fn tool_server(name: &str, server: &McpServer) -> ToolServer {
    let transport = match server.transport.clone() {
        McpTransport::Stdio { argv, env } => ServerTransport::Stdio { argv, env },
        McpTransport::Http { url, token_env, private_network } => {
            ServerTransport::Http { url, token_env, private_network }
        }
    };
    ToolServer { name: name.to_owned(), transport, timeout_ms: server.timeout.map_or(TIMEOUT_MS_DEFAULT, millis) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The plane's limits, narrowed by the policy's.
fn limits(mut limits: Limits, policy: &Policy) -> Limits {
    let budgets = &policy.governance().budgets;
    let least = |limit: u64, own: Option<u64>| own.map_or(limit, |own| own.min(limit));
    limits.run_steps_max = least(limits.run_steps_max, budgets.run.steps);
    limits.run_tokens_max = least(limits.run_tokens_max, budgets.run.tokens);
    limits.run_wall_ms_max = least(limits.run_wall_ms_max, budgets.run.time.map(millis));
    limits.run_microusd_max = limits.run_microusd_max.into_iter().chain(budgets.run.microusd).min();
    limits.agents_at_once_max = budgets.agents_at_once.unwrap_or(limits.agents_at_once_max);
    limits.soft_percent = budgets.soft_percent.unwrap_or(limits.soft_percent);
    limits
}

fn prices(policy: &Policy) -> Vec<ModelPrice> {
    let price = |price: &atoll_policy::Price| ModelPrice {
        model: price.model.clone(),
        input_microusd: price.input_microusd,
        output_microusd: price.output_microusd,
    };
    policy.governance().budgets.prices.iter().map(price).collect()
}

/// Where money is limited, a model without a price could not be counted: that is refused.
fn check_prices(config: &RunConfig) -> Result<(), Refusal> {
    let limited = config.limits.run_microusd_max.is_some()
        || config.agents.iter().any(|profile| profile.budget.microusd.is_some());
    let unpriced = |profile: &&AgentProfile| {
        ModelPrice::find(&config.prices, config.model_of(profile).unwrap_or("default")).is_none()
    };
    match config.agents.iter().find(unpriced) {
        Some(profile) if limited => {
            let model = config.model_of(profile).unwrap_or("default");
            let message = format!("money is limited, and the model `{model}` of `{}` has no price", profile.name);
            Err(Refusal::invalid(&message, "add it to `governance.budgets.prices` of the policy; `*` fits every model"))
        }
        _ => Ok(()),
    }
}

fn refused_repo(error: &RepoError) -> Refusal {
    let hint = error.hint().unwrap_or_default();
    match error {
        RepoError::Rejected { .. } => Refusal::invalid(&chain(error), &hint),
        RepoError::Git(_) | RepoError::Io(_) => Refusal::unavailable(&chain(error), &hint),
    }
}
