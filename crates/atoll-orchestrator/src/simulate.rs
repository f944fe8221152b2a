//! Past runs against another policy: every decision of the journal made again, as the run stood then.

use atoll_api::v1;
use atoll_engine::{Decision, Event, step};
use atoll_policy::Policy;

use crate::gate::judge::judge;
use crate::view::{self, Logged};
use crate::workspace::AgentFacts;

/// What one run comes to.
pub(crate) struct Replayed {
    pub(crate) decisions: u64,
    pub(crate) changes: Vec<v1::PolicyChange>,
}

/// Goes through a run's journal; `None` when it does not begin with a submission.
pub(crate) fn replay(log: &[Logged], policy: &Policy) -> Option<Replayed> {
    let first = log.first()?;
    let Event::Submitted { config } = &first.data else { return None };
    config.profile(&config.root_agent)?;
    let mut state = step::start((**config).clone(), first.at_ms).0;
    let mut replayed = Replayed { decisions: 0, changes: Vec::new() };
    for logged in &log[1..] {
        if let Event::Decided { call: reference, decision: then } = &logged.data
            && let (Some(agent), Some(call)) = (AgentFacts::of(&state, reference.agent), state.call(*reference))
        {
            replayed.decisions += 1;
            let now = judge(policy, &state, &agent, call, false);
            if (now.verdict, &now.rule_ids) != (then.verdict, &then.rule_ids) {
                replayed.changes.push(v1::PolicyChange {
                    run_id: config.run_id.clone(),
                    call_id: reference.to_string(),
                    agent: agent.profile.name.clone(),
                    tool: call.tool.clone(),
                    summary: atoll_engine::tools::summary(&call.tool, &call.input),
                    then: side(then),
                    now: side(&now),
                });
            }
        }
        step::retrace(&mut state, &logged.data, logged.at_ms);
    }
    Some(replayed)
}

fn side(decision: &Decision) -> v1::PolicySide {
    v1::PolicySide {
        verdict: view::verdict(decision.verdict),
        rule_ids: decision.rule_ids.clone(),
        reason: decision.reason.clone(),
    }
}
