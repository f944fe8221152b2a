//! What the repository itself says about who works on it and how.

use atoll_engine::bounded::bounded;
use atoll_engine::{AgentProfile, RunConfig};
use atoll_policy::{AgentFile, McpFile, Policy, PolicyError};

use super::{check_prices, profile, refused_repo, tool_server};
use crate::http::refusal::Refusal;
use crate::orchestrator::Shared;
use crate::repos::AgentSource;

/// What agents are told of `AGENTS.md`.
const NOTES_BYTES_MAX: usize = 16 * 1024;

/// Adds the repository's notes and agents to a run, then checks that the run can begin.
pub(super) async fn hear(
    shared: &Shared,
    policy: &Policy,
    config: &mut RunConfig,
    commit: &str,
) -> Result<(), Refusal> {
    let repo = shared.repos.of_run(&config.run_id);
    let files = repo.project_files(commit).await.map_err(|error| refused_repo(&error))?;
    config.project_notes = files.notes.map(|text| bounded(&text, NOTES_BYTES_MAX, "all of it is in AGENTS.md").text);
    for source in &files.agents {
        let agent = from_file(source, policy)?;
        match config.agents.iter_mut().find(|known| known.name == agent.name) {
            Some(known) => *known = agent,
            None => config.agents.push(agent),
        }
    }
    if let Some(source) = &files.servers {
        let file = McpFile::parse(&source.text, &source.path, policy).map_err(|error| refused_file(&error))?;
        config.servers.extend(file.servers.iter().map(|(name, server)| tool_server(name, server)));
    }
    config.agents.sort_by(|a, b| a.name.cmp(&b.name));
    if config.profile(&config.root_agent).is_none() {
        let known: Vec<&str> = config.agents.iter().map(|agent| agent.name.as_str()).collect();
        let hint = format!("the policy and the repository have: {}", known.join(", "));
        return Err(Refusal::invalid(&format!("there is no agent `{}`", config.root_agent), &hint));
    }
    check_prices(config)
}

fn from_file(source: &AgentSource, policy: &Policy) -> Result<AgentProfile, Refusal> {
    let file = AgentFile::parse(&source.text, &source.path, policy).map_err(|error| refused_file(&error))?;
    let base = policy.agent(&file.base).expect("the file was checked against this policy");
    Ok(AgentProfile {
        description: file.description,
        tools: file.tools,
        read_only: file.read_only,
        instructions: file.instructions,
        model: file.model.or_else(|| base.model.clone()),
        base: Some(file.base),
        ..profile(&file.name, base)
    })
}

fn refused_file(error: &PolicyError) -> Refusal {
    Refusal::invalid(&error.to_string(), error.hint.as_deref().unwrap_or("repair the file and commit it"))
}
