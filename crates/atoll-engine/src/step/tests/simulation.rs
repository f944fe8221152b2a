//! Random histories: whatever models, tools, people and time do, caps hold, every run ends, and its journal tells the same
//! story. Counted in thousands ordinarily, in a million under `ATOLL_SOAK`.

use proptest::prelude::*;

use super::*;

/// What the world may do with one effect.
fn respond(run: &mut Run, effect: Effect, dice: u32) {
    let outcome = Outcome::new(OutcomeName::SandboxUnavailable, "none");
    match effect {
        Effect::Prepare { agent } if dice.is_multiple_of(31) => drop(run.feed(Event::PrepareFailed { agent, outcome })),
        Effect::Prepare { agent } => drop(run.prepare(agent)),
        Effect::CallModel { agent, .. } => drop(random_answer(run, agent, dice)),
        Effect::Collect { agent } => {
            drop(run.feed(Event::Collected { agent, work: dice.is_multiple_of(2).then(work) }))
        }
        Effect::Close {} => drop(run.feed(Event::Closed {})),
        Effect::Act { call } => match run.state.call(call).expect("it is there").phase.clone() {
            CallPhase::Gating => {
                let verdict = [Verdict::Allow, Verdict::Allow, Verdict::Deny, Verdict::RequireApproval];
                run.decide(call, verdict[dice as usize % verdict.len()]);
            }
            CallPhase::ApprovalWanted => {
                let expires_at_ms = run.now_ms + 1000;
                run.feed(Event::ApprovalRequested { call, approval_id: call.to_string(), expires_at_ms });
            }
            CallPhase::Allowed => drop(run.feed(Event::Claimed { call, claim: claim(call) })),
            _ => drop(run.feed(Event::Completed { call, result: result(&format!("result {}", dice % 5)) })),
        },
    }
}

fn random_answer(run: &mut Run, agent: u32, dice: u32) -> Vec<Effect> {
    let call = match dice % 9 {
        0 => delegate("code-writer"),
        1 => delegate("planner"),
        2 => (tools::TASK_CREATE, json!({"title": "t"})),
        3 => (tools::FILE_WRITE, json!({"path": "a", "content": dice.to_string()})),
        4 => (tools::TERMINAL_EXECUTE, json!({"command": "make"})),
        5 => ("nonsense", json!(null)),
        6 => return run.answer(agent, "", &[]),
        7 => return run.answer(agent, "done", &[]),
        _ => (tools::FILE_READ, json!({"path": "a"})),
    };
    run.answer(agent, "", &[call.clone(), call])
}

/// An event out of nowhere.
fn garbage(dice: u32) -> Event {
    let (agent, step) = (dice % 7, u64::from(dice % 11));
    let call = CallRef { agent, step, index: dice % 3 };
    let outcome = Outcome::new(OutcomeName::Internal, "x");
    match dice % 13 {
        0 => Event::Prepared { agent, workspace: workspace(agent, true) },
        1 => Event::ModelAnswered { agent, step, answer: answer("x", Vec::new()) },
        2 => Event::Decided { call, decision: decision(Verdict::Allow) },
        3 => Event::Claimed { call, claim: claim(call) },
        4 => Event::Completed { call, result: result("y") },
        5 => Event::Collected { agent, work: None },
        6 => Event::Closed {},
        7 => Event::Resumed {},
        8 => Event::ApprovalRequested { call, approval_id: call.to_string(), expires_at_ms: 1 },
        9 => Event::WorkspaceRenewed { agent, workspace: workspace(agent, true), note: "n".to_owned() },
        10 => Event::Submitted { config: Box::new(config()) },
        11 => Event::AgentTimedOut { agent },
        _ => Event::CollectFailed { agent, outcome },
    }
}

/// Checks what holds in every state.
fn check_invariants(run: &Run) {
    let state = &run.state;
    let limits = &state.config.limits;
    assert!(state.agents.len() <= limits.agents_max as usize);
    assert!(state.steps <= limits.run_steps_max);
    assert_eq!(state.steps, state.agents.iter().map(|agent| agent.steps).sum::<u64>());
    let waits = state.pending_approvals().next().is_some() || state.paused;
    assert!(state.is_closed() || waits || !outstanding(state).is_empty(), "stuck: {state:#?}");
    let at_work = state.agents.iter().filter(|agent| agent.is_at_work()).count();
    assert!(at_work <= limits.agents_at_once_max as usize, "{at_work} at work");
    check_ledgers(state);
    for agent in &state.agents {
        assert!(agent.steps <= limits.agent_steps_max && agent.depth <= limits.depth_max);
        assert!(agent.delegations <= state.profile(agent).max_delegations.unwrap_or(limits.delegations_max));
    }
}

/// Budgets are never exceeded, promises included, and every account says what was really used.
fn check_ledgers(state: &RunState) {
    for agent in &state.agents {
        let ledger = &agent.ledger;
        for resource in Resource::ALL {
            let taken = ledger.spent.of(resource) + ledger.reserved.of(resource);
            assert!(ledger.cap.of(resource).is_none_or(|cap| taken <= cap), "{resource:?} of {}: {ledger:?}", agent.id);
        }
        let below = || state.agents.iter().filter(|other| is_below(state, other, agent.id));
        assert_eq!(ledger.spent.steps, below().map(|other| other.steps).sum::<u64>());
        assert_eq!(ledger.spent.tokens, below().map(|other| other.usage.total()).sum::<u64>());
        assert_eq!(ledger.spent.microusd, below().map(|other| other.microusd).sum::<u64>());
        let promised = below().filter_map(|other| other.reservation).map(|promise| promise.amounts.tokens);
        assert_eq!(ledger.reserved.tokens, promised.sum::<u64>());
        let thinks = agent.phase == AgentPhase::Thinking && state.outcome().is_none();
        assert_eq!(agent.reservation.is_some(), thinks, "exactly a call that is made is reserved for");
    }
}

fn is_below(state: &RunState, agent: &AgentState, top: u32) -> bool {
    let parent = |id: &u32| state.agent(*id).and_then(|agent| agent.parent).map(|call| call.agent);
    std::iter::successors(Some(agent.id), parent).any(|id| id == top)
}

/// A team that may fan out, under budgets of every kind.
fn tight() -> RunConfig {
    let mut config = config();
    config.limits.agents_at_once_max = 2;
    config.limits.run_tokens_max = 120_000;
    config.limits.run_microusd_max = Some(520_000);
    config.limits.output_tokens_max = 3_000;
    config.prices = vec![ModelPrice { model: "*".to_owned(), input_microusd: 2_000_000, output_microusd: 9_000_000 }];
    config.agents[1].budget = Budget { steps: Some(5), tokens: Some(40_000), microusd: Some(60_000) };
    config
}

/// How many random histories: a few by default, the full count when `ATOLL_SOAK` is set.
fn histories() -> u32 {
    if std::env::var_os("ATOLL_SOAK").is_some() { 1_000_000 } else { 1_500 }
}

/// A small generator of repeatable numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
}

#[test]
fn caps_hold_and_every_run_ends_in_a_great_many_histories() {
    let mut ends = std::collections::BTreeMap::new();
    for seed in 1..=histories() {
        let mut dice = Dice(u64::from(seed));
        let mut run = Run::new(tight());
        let mut events = 0;
        while !run.state.is_closed() {
            events += 1;
            assert!(events < 2_000, "seed {seed}: the run does not end");
            something_happens(&mut run, &mut dice);
            if events % 11 == 0 || seed.is_multiple_of(16) {
                check_invariants(&run);
            }
        }
        check_invariants(&run);
        let outcome = run.outcome().expect("it is over");
        *ends.entry(format!("{outcome:?}")).or_insert(0) += 1;
        if seed.is_multiple_of(64) {
            let replayed = replay(run.journal.iter().map(|(event, at_ms)| (event, *at_ms))).expect("a run");
            assert_eq!(replayed, run.state, "seed {seed}: a replay leads elsewhere");
        }
    }
    for expected in ["Completed", "StepLimit", "TokenLimit", "CostLimit", "TimeLimit", "Cancelled"] {
        assert!(ends.contains_key(expected), "no history ended by {expected}: {ends:?}");
    }
}

/// Any usage that keeps to what was reserved, as a provider does that is told how long the answer may be.
fn within_promise(run: &Run, agent: u32, dice: &mut Dice) -> Usage {
    let Some(promise) = run.state.agents[agent as usize].reservation else { return run.uses };
    let output = promise.output_tokens_max.unwrap_or(run.state.config.limits.output_tokens_max);
    let input = promise.amounts.tokens - output;
    let up_to = |most: u64, roll: u32| u64::from(roll) % (most + 1);
    Usage { input_tokens: up_to(input, dice.roll()), output_tokens: up_to(output, dice.roll()) }
}

fn something_happens(run: &mut Run, dice: &mut Dice) {
    let by = || "me".to_owned();
    match dice.roll() % 60 {
        0 => drop(run.feed(Event::Paused { by: by() })),
        1 => drop(run.feed(Event::Told { agent: dice.roll() % 3, text: "hurry".to_owned(), by: by() })),
        2 => drop(run.feed(garbage(dice.roll()))),
        3 if dice.roll().is_multiple_of(40) => drop(run.feed(Event::CancelRequested { reason: None, by: by() })),
        4 => {
            run.now_ms += u64::from(dice.roll() % 600_000);
            for event in due(&run.state, run.now_ms) {
                run.feed(event);
            }
        }
        _ => {}
    }
    let wanted = outstanding(&run.state);
    if let Some(effect) = wanted.get(dice.roll() as usize % wanted.len().max(1)) {
        if let Effect::CallModel { agent, .. } = effect {
            run.uses = within_promise(run, *agent, dice);
        }
        return respond(run, effect.clone(), dice.roll());
    }
    if run.state.paused {
        run.feed(Event::Unpaused { by: by() });
    }
    let waiting = run.state.pending_approvals().next().map(|(call, id)| (call, id.to_owned()));
    if let Some((call, approval_id)) = waiting {
        let answers = [ApprovalAnswer::Granted { remember: true }, ApprovalAnswer::Denied { reason: None }];
        let answer = answers[dice.roll() as usize % 2].clone();
        run.feed(Event::ApprovalAnswered { call, approval_id, answer, by: by() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_its_journal_tells_the_same_story(
        dice in proptest::collection::vec(any::<u32>(), 600),
        cancel_at in proptest::option::of(0_usize..200),
        noise in any::<bool>(),
    ) {
        let mut run = Run::new(config());
        for (position, dice) in dice.iter().enumerate() {
            if cancel_at == Some(position) {
                run.feed(Event::CancelRequested { reason: None, by: "me".to_owned() });
            }
            if noise && dice % 5 == 0 {
                run.feed(garbage(dice / 5));
            }
            match outstanding(&run.state).first() {
                Some(effect) => respond(&mut run, effect.clone(), dice / 3),
                None if run.state.is_closed() => break,
                None => {
                    let (call, id) = run.state.pending_approvals().next().expect("else it is stuck");
                    let approval_id = id.to_owned();
                    let answer = if dice % 2 == 0 { ApprovalAnswer::Granted { remember: dice.is_multiple_of(4) } } else { ApprovalAnswer::Expired };
                    run.feed(Event::ApprovalAnswered { call, approval_id, answer, by: "me".to_owned() });
                }
            }
            check_invariants(&run);
        }
        prop_assert!(run.state.is_closed(), "still going after 600 events");

        let written = serde_json::to_string(&run.journal).expect("events are JSON");
        let read: Vec<(Event, u64)> = serde_json::from_str(&written).expect("and come back");
        let replayed = replay(read.iter().map(|(event, at_ms)| (event, *at_ms))).expect("a run");
        prop_assert_eq!(&replayed, &run.state);
        let snapshot = serde_json::to_string(&run.state).expect("states are JSON");
        prop_assert_eq!(&serde_json::from_str::<RunState>(&snapshot).expect("and come back"), &run.state);
    }

    #[test]
    fn what_a_step_reports_is_the_difference_in_what_is_outstanding(
        dice in proptest::collection::vec(any::<u32>(), 120),
    ) {
        let mut run = Run::new(config());
        for dice in dice {
            let before: BTreeSet<Effect> = outstanding(&run.state).into_iter().collect();
            let mut probe = Run { state: run.state.clone(), journal: Vec::new(), now_ms: run.now_ms, uses: run.uses };
            let reported: BTreeSet<Effect> = probe.feed(garbage(dice)).into_iter().collect();
            let after: BTreeSet<Effect> = outstanding(&probe.state).into_iter().collect();
            prop_assert_eq!(&reported, &after.difference(&before).cloned().collect::<BTreeSet<_>>());
            if let Some(effect) = outstanding(&run.state).first() {
                respond(&mut run, effect.clone(), dice);
            }
        }
    }
}
