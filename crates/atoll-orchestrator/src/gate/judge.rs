//! What a policy says of a call. Pure: the gate asks it for calls that are to be made, a simulation for calls of the past.

use atoll_engine::{Call, Decision, RunState, ServerTransport, ToolServer, Verdict, tools as names};
use atoll_policy::{ActionRequest, Policy};
use serde_json::Value;

use crate::mcp;
use crate::tools;
use crate::workspace::AgentFacts;

/// Judges a call of an agent as the run stands.
pub(crate) fn judge(policy: &Policy, state: &RunState, agent: &AgentFacts, call: &Call, approved: bool) -> Decision {
    let cwd = tools::directory_of(&call.tool, &call.input, agent.workspace.directory.as_deref());
    let judged = as_policy_knows_it(state, call);
    let mut request = ActionRequest::new(agent.profile.policy_agent(), &call.tool, &judged)
        .in_directory(&cwd)
        .after_delegations(agent.delegations);
    request.approved = approved;
    let decided = policy.decide(&request);
    let mut decision = Decision {
        verdict: match decided.verdict {
            atoll_policy::Verdict::Allow => Verdict::Allow,
            atoll_policy::Verdict::Deny => Verdict::Deny,
            atoll_policy::Verdict::RequireApproval => Verdict::RequireApproval,
        },
        rule_ids: decided.rule_ids,
        reason: decided.reason,
        hint: decided.hint,
        effects: decided.effects.iter().map(|effect| effect.as_str().to_owned()).collect(),
        policy_hash: decided.policy_hash,
        input_digest: atoll_policy::input_digest(&call.input),
    };
    narrow(&mut decision, agent, &call.tool);
    keep_to_addresses(&mut decision, policy, &state.config.servers, &call.tool);
    decision
}

/// The input with the name of the policy's agent in place of one that the repository brings.
fn as_policy_knows_it(state: &RunState, call: &Call) -> Value {
    let mut input = call.input.clone();
    if call.tool == names::AGENT_DELEGATE
        && let Some(profile) = input["agent"].as_str().and_then(|name| state.config.profile(name))
    {
        input["agent"] = profile.policy_agent().into();
    }
    input
}

/// An agent that the repository brings has no tools but those it lists, whatever the policy's agent has.
fn narrow(decision: &mut Decision, agent: &AgentFacts, tool: &str) {
    let profile = &agent.profile;
    if decision.verdict == Verdict::Deny || profile.base.is_none() || profile.tools.iter().any(|known| known == tool) {
        return;
    }
    decision.verdict = Verdict::Deny;
    decision.rule_ids = vec![format!("repository.agents.{}.tools", profile.name)];
    decision.reason = format!("`{tool}` is not among the tools of `{}`.", profile.name);
    decision.hint = None;
}

/// A run goes on with the MCP servers that it began with; their addresses are called only while the policy has them.
fn keep_to_addresses(decision: &mut Decision, policy: &Policy, servers: &[ToolServer], tool: &str) {
    let Some((server, _)) = mcp::find(servers, tool) else { return };
    let ServerTransport::Http { url, .. } = &server.transport else { return };
    if decision.verdict == Verdict::Deny || policy.mcp().allows_url(&server.name, url) {
        return;
    }
    decision.verdict = Verdict::Deny;
    decision.rule_ids = vec![format!("mcp.servers.{}", server.name)];
    decision.reason = format!("The policy does not allow the address of the MCP server `{}` any more.", server.name);
    decision.hint = None;
}
