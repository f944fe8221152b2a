//! Reserving for a model call, settling it, and ending what has nothing left.

use super::{attention, ending};
use crate::budget::{self, Amounts, Ledger, ModelPrice, Resource};
use crate::context;
use crate::event::{Answer, Outcome, OutcomeName};
use crate::state::RunState;

/// Whose budget has no room for another call, and of what.
pub(super) struct Exhausted {
    agent: u32,
    resource: Resource,
}

/// The agent and all above it, the root last.
fn chain(state: &RunState, id: u32) -> Vec<u32> {
    let parent = |id: &u32| state.agent(*id).and_then(|agent| agent.parent).map(|call| call.agent);
    std::iter::successors(Some(id), parent).collect()
}

/// Reserves for an agent's next model call in its ledger and all above it.
pub(super) fn reserve(state: &mut RunState, id: u32) -> Result<(), Exhausted> {
    let chain = chain(state, id);
    let ledgers: Vec<&Ledger> = chain.iter().map(|id| &state.agents[*id as usize].ledger).collect();
    let agent = &state.agents[id as usize];
    let bytes = context::size(&agent.history) as u64;
    let model = state.config.model_of(state.profile(agent)).unwrap_or("default");
    let price = ModelPrice::find(&state.config.prices, model);
    let reservation = budget::plan(&ledgers, bytes, state.config.limits.output_tokens_max, price)
        .map_err(|(position, resource)| Exhausted { agent: chain[position], resource })?;
    for id in chain {
        state.agents[id as usize].ledger.reserve(reservation.amounts);
    }
    state.agents[id as usize].reservation = Some(reservation);
    Ok(())
}

/// Gives back what was reserved for a call that is not made, or not to its end.
pub(super) fn release(state: &mut RunState, id: u32) {
    let Some(reservation) = state.agents.get_mut(id as usize).and_then(|agent| agent.reservation.take()) else {
        return;
    };
    for id in chain(state, id) {
        state.agents[id as usize].ledger.release(reservation.amounts);
    }
}

/// Puts what a call really took in the place of what was reserved for it; tells agents that come near their end.
pub(super) fn settle(state: &mut RunState, id: u32, answer: &Answer) {
    release(state, id);
    let agent = &state.agents[id as usize];
    let asked = state.config.model_of(state.profile(agent)).unwrap_or("default");
    let prices = &state.config.prices;
    let price = ModelPrice::find(prices, &answer.model).or_else(|| ModelPrice::find(prices, asked));
    let microusd = price.map_or(0, |price| price.cost(answer.usage.input_tokens, answer.usage.output_tokens));
    let spent = Amounts { steps: 1, tokens: answer.usage.total(), microusd };
    let percent = state.config.limits.soft_percent;
    state.agents[id as usize].microusd = state.agents[id as usize].microusd.saturating_add(microusd);
    for id in chain(state, id) {
        let agent = &mut state.agents[id as usize];
        agent.ledger.spend(spent);
        let Some(resource) = agent.ledger.passed(percent).filter(|_| !agent.ledger.warned) else { continue };
        agent.ledger.warned = true;
        let used = resource.show(agent.ledger.spent.of(resource));
        let cap = resource.show(agent.ledger.cap.of(resource).unwrap_or_default());
        attention::note(agent, format!("[Budget: {used} of {cap} are used. Come to an end soon.]"));
    }
}

/// Ends the agent whose budget is used up, or the run when it is the run's.
pub(super) fn end_exhausted(state: &mut RunState, exhausted: Exhausted, now_ms: u64) {
    let Exhausted { agent, resource } = exhausted;
    let ledger = state.agents[agent as usize].ledger;
    let whose = if agent == 0 { "run" } else { "agent" };
    let (used, cap) = (ledger.spent.of(resource), ledger.cap.of(resource).unwrap_or_default());
    let text = if used >= cap {
        format!("the {whose} used its {}", resource.show(cap))
    } else {
        format!(
            "the {whose} has no room for another model call: {} of {} are used",
            resource.show(used),
            resource.show(cap)
        )
    };
    let name = match resource {
        Resource::Steps => OutcomeName::StepLimit,
        Resource::Tokens => OutcomeName::TokenLimit,
        Resource::Money => OutcomeName::CostLimit,
    };
    let outcome = Outcome::new(name, text).hint("a larger budget is set under `governance.budgets` of the policy");
    if agent == 0 {
        ending::finish_run(state, outcome, now_ms);
    } else {
        ending::end_agent(state, agent, outcome, String::new(), now_ms);
    }
}
