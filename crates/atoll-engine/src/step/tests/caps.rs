//! Limits, budgets, pauses, messages, and agents side by side.

use super::*;

fn team(count: usize) -> Vec<(&'static str, Value)> {
    vec![delegate("code-reviewer"); count]
}

fn thinks(agent: u32, step: u64) -> Effect {
    Effect::CallModel { agent, step }
}

/// The planner, having asked for so many reviewers in one answer.
fn fanned_out(config: RunConfig, count: usize) -> Run {
    let mut run = Run::new(config);
    run.prepare(0);
    run.answer(0, "", &team(count));
    for index in 0..count as u32 {
        run.decide(run.call(0, index), Verdict::Allow);
    }
    run
}

#[test]
fn delegations_of_one_answer_run_side_by_side_and_join() {
    let mut run = fanned_out(config(), 3);
    let prepares: Vec<Effect> = (1..=3).map(|agent| Effect::Prepare { agent }).collect();
    assert_eq!(outstanding(&run.state), prepares);
    for agent in 1..=3 {
        assert_eq!(run.prepare(agent), [thinks(agent, 1)]);
    }
    for agent in [2, 3] {
        assert!(run.answer(agent, &format!("report {agent}"), &[]).is_empty(), "the planner waits for all of them");
    }
    assert_eq!(run.answer(1, "report 1", &[]), [thinks(0, 2)]);
    let told: Vec<&Message> = run.state.agents[0].history.messages.iter().rev().take(3).rev().collect();
    for (message, number) in told.iter().zip(1..) {
        assert!(
            matches!(message, Message::Tool { text, .. } if text.contains(&format!("report {number}"))),
            "{message:?}"
        );
    }
}

#[test]
fn only_so_many_agents_are_at_work_at_once() {
    let mut config = config();
    config.limits.agents_at_once_max = 2;
    let mut run = fanned_out(config, 3);
    assert_eq!(outstanding(&run.state), [Effect::Prepare { agent: 1 }, Effect::Prepare { agent: 2 }]);
    assert_eq!(run.state.agents[0].calls[2].phase, CallPhase::Queued);
    run.prepare(1);
    assert_eq!(run.answer(1, "done", &[]), [Effect::Prepare { agent: 3 }], "the third begins when one ends");
}

#[test]
fn other_calls_still_run_one_after_the_other() {
    let mut run = Run::new(config());
    run.prepare(0);
    let item = (tools::TASK_CREATE, json!({"title": "t"}));
    let effects = run.answer(0, "", &[item.clone(), delegate("code-reviewer"), delegate("code-writer"), item]);
    assert_eq!(effects, [Effect::Act { call: run.call(0, 0) }]);
    let effects = run.decide(run.call(0, 0), Verdict::Allow);
    assert_eq!(effects, [Effect::Act { call: run.call(0, 1) }, Effect::Act { call: run.call(0, 2) }]);
}

#[test]
fn children_draw_from_their_parents_budget() {
    let mut config = config();
    config.limits.run_tokens_max = 24_000;
    config.limits.output_tokens_max = 8_000;
    let mut run = fanned_out(config, 3);
    let mut spared = Vec::new();
    for agent in 1..=3 {
        run.prepare(agent);
        let promise = run.state.agents[agent as usize].reservation;
        spared.push(promise.and_then(|promise| promise.output_tokens_max));
    }
    assert_eq!(spared[0], None, "the first has room for a long answer");
    assert!(spared[1].is_some_and(|short| short < 8_000), "the second has what is left: {spared:?}");
    let outcome = run.state.outcome().expect("the third has no room at all");
    assert_eq!(outcome.name, OutcomeName::TokenLimit);
    assert!(outcome.message.starts_with("the run has no room for another model call"), "{}", outcome.message);
    assert_eq!(run.state.agents[0].ledger.reserved, crate::Amounts::default(), "nothing stays promised");
}

#[test]
fn an_agent_that_used_its_share_ends_and_the_run_goes_on() {
    let mut config = config();
    config.agents[0].budget.steps = Some(2);
    let mut run = fanned_out(config, 1);
    run.prepare(1);
    for _ in 0..2 {
        run.answer(1, "", &[(tools::GIT_DIFF, json!({}))]);
        run.decide(run.call(1, 0), Verdict::Deny);
    }
    assert_eq!(run.outcome(), None);
    let told = run.last_message(0);
    assert!(told.contains("did not finish: the agent used its 2 model calls"), "{told}");
}

#[test]
fn a_delegation_can_give_less_than_the_agent_may_have() {
    let mut run = Run::new(config());
    run.prepare(0);
    let call =
        (tools::AGENT_DELEGATE, json!({"agent": "code-reviewer", "task": "look", "max_steps": 1, "max_tokens": 9000}));
    run.answer(0, "", &[call]);
    run.decide(run.call(0, 0), Verdict::Allow);
    let cap = run.state.agents[1].ledger.cap;
    assert_eq!((cap.steps, cap.tokens), (Some(1), Some(9000)));
}

#[test]
fn money_is_counted_and_ends_the_run() {
    let mut config = config();
    config.prices = vec![ModelPrice { model: "m".to_owned(), input_microusd: 1_000_000, output_microusd: 5_000_000 }];
    config.limits.run_microusd_max = Some(8_000);
    config.model = Some("m".to_owned());
    let mut run = Run::new(config);
    run.prepare(0);
    assert!(run.state.agents[0].reservation.is_some_and(|promise| promise.amounts.microusd <= 8_000));
    let costly = Answer {
        usage: Usage { input_tokens: 2_000, output_tokens: 400 },
        ..answer("", vec![raw(0, tools::PROGRESS_TRACK, &json!({}))])
    };
    run.feed(Event::ModelAnswered { agent: 0, step: 1, answer: costly });
    assert_eq!(run.state.agents[0].microusd, 4_000);
    run.decide(run.call(0, 0), Verdict::Allow);
    assert_eq!(run.outcome(), Some(OutcomeName::CostLimit));
}

#[test]
fn a_soft_limit_is_told_once() {
    let mut config = config();
    config.limits.run_steps_max = 10;
    let mut run = Run::new(config);
    run.prepare(0);
    for step in 1..=9 {
        run.answer(0, "", &[(tools::TASK_CREATE, json!({"title": step.to_string()}))]);
        run.decide(run.call(0, 0), Verdict::Allow);
    }
    let notices = run.state.agents[0].history.messages.iter().filter(|message| {
        matches!(message, Message::User { text } if text == "[Budget: 8 model calls of 10 model calls are used. Come to an end soon.]")
    });
    assert_eq!(notices.count(), 1);
}

#[test]
fn a_paused_run_begins_nothing_and_loses_no_time() {
    let mut run = writing();
    run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "a"}))]);
    let call = run.call(1, 0);
    run.decide(call, Verdict::Allow);
    run.feed(Event::Claimed { call, claim: claim(call) });
    run.feed(Event::Paused { by: "me".to_owned() });
    assert_eq!(outstanding(&run.state), [Effect::Act { call }], "what is claimed comes to its end");
    assert_eq!(next_due(&run.state), None, "no clock runs");
    let deadline_ms = run.state.deadline_ms;
    run.now_ms += 10_000_000;
    assert!(run.feed(Event::Completed { call, result: result("ok") }).is_empty(), "and nothing new begins");
    assert_eq!(run.feed(Event::Unpaused { by: "me".to_owned() }), [thinks(1, 2)]);
    assert!(run.state.deadline_ms >= deadline_ms + 10_000_000);
}

#[test]
fn a_message_is_heard_at_the_next_step_even_when_the_agent_took_itself_for_done() {
    let mut run = writing();
    let say = |agent, text: &str| Event::Told { agent, text: text.to_owned(), by: "jo".to_owned() };
    run.feed(say(1, "mind the tabs"));
    assert_eq!(run.answer(1, "All done.", &[]), [thinks(1, 2)]);
    assert_eq!(run.last_message(1), "[A message from jo about your task:]\nmind the tabs");
    assert_eq!(run.answer(1, "Tabs minded.", &[]), [Effect::Collect { agent: 1 }]);
    run.feed(say(1, "too late"));
    assert!(run.state.agents[1].inbox.is_empty());
    for _ in 0..100 {
        run.feed(say(0, "x"));
    }
    assert_eq!(run.state.agents[0].inbox.len(), 16, "the box is bounded");
}

#[test]
fn a_remembered_yes_covers_the_same_call_and_no_other() {
    let mut run = writing();
    let push = |command: &str| (tools::TERMINAL_EXECUTE, json!({"command": command}));
    run.answer(1, "", &[push("git push"), push("git push"), push("git push -f")]);
    let ask = |run: &mut Run, index| {
        let call = run.call(1, index);
        let command = &run.state.call(call).expect("there").input["command"];
        let decision = Decision { input_digest: command.to_string(), ..decision(Verdict::RequireApproval) };
        run.feed(Event::Decided { call, decision });
        call
    };
    let call = ask(&mut run, 0);
    run.feed(Event::ApprovalRequested { call, approval_id: "a".to_owned(), expires_at_ms: 90_000 });
    let (answer, by) = (ApprovalAnswer::Granted { remember: true }, "me".to_owned());
    run.feed(Event::ApprovalAnswered { call, approval_id: "a".to_owned(), answer, by });
    run.complete(call, "pushed");
    let call = ask(&mut run, 1);
    assert_eq!(run.state.call(call).expect("there").phase, CallPhase::Allowed, "nobody is asked again");
    run.complete(call, "pushed again");
    let call = ask(&mut run, 2);
    assert_eq!(run.state.call(call).expect("there").phase, CallPhase::ApprovalWanted);
}

#[test]
fn what_leads_nowhere_ends_under_a_name_of_its_own() {
    let refused = |run: &mut Run, round: usize| {
        run.answer(0, "", &[(tools::TASK_CREATE, json!({"title": round.to_string()}))]);
        run.decide(run.call(0, 0), Verdict::Deny);
    };
    let storm = |run: &mut Run, round: usize| {
        let calls: Vec<_> = (0..3).map(|n| (tools::TASK_CREATE, json!({"title": format!("{round} {n}")}))).collect();
        run.answer(0, "", &calls);
        for index in 0..2 {
            run.decide(run.call(0, index), Verdict::Allow);
        }
    };
    let endless = |run: &mut Run, _: usize| {
        let step = run.state.agents[0].steps + 1;
        let answer = Answer { finish_reason: "length".to_owned(), ..answer("and so on", Vec::new()) };
        run.feed(Event::ModelAnswered { agent: 0, step, answer });
    };
    let many = |run: &mut Run, round: usize| {
        run.answer(0, "", &[(tools::TASK_CREATE, json!({"title": round.to_string()}))]);
        run.decide(run.call(0, 0), Verdict::Allow);
    };
    type Round<'a> = &'a dyn Fn(&mut Run, usize);
    let cases: [(Round<'_>, u32, OutcomeName); 4] = [
        (&refused, guards::BARREN_STEPS_MAX, OutcomeName::NoProgress),
        (&storm, guards::STORMS_MAX, OutcomeName::ToolStorm),
        (&endless, guards::OVERSIZED_MAX, OutcomeName::OversizedOutput),
        (&many, 20, OutcomeName::ToolStorm),
    ];
    for (round, rounds, expected) in cases {
        let mut config = config();
        config.limits.calls_per_answer_max = 2;
        config.limits.agent_steps_max = 100;
        config.limits.agent_calls_max = 20;
        let mut run = Run::new(config);
        run.prepare(0);
        for number in 1..=rounds {
            assert_eq!(run.outcome(), None, "{expected:?} before round {number}");
            round(&mut run, number as usize);
        }
        assert_eq!(run.outcome(), Some(expected));
    }
}

#[test]
fn a_question_stops_the_clocks_of_those_who_wait_for_it_alone() {
    let mut run = fanned_out(config(), 2);
    run.prepare(1);
    run.prepare(2);
    run.answer(1, "", &[(tools::GIT_DIFF, json!({}))]);
    let call = run.call(1, 0);
    run.decide(call, Verdict::RequireApproval);
    run.feed(Event::ApprovalRequested { call, approval_id: "a".to_owned(), expires_at_ms: u64::MAX });
    let at_ms = next_due(&run.state).expect("the other agent's clock runs");
    assert_eq!(due(&run.state, at_ms), [Event::AgentTimedOut { agent: 2 }]);
}

#[test]
fn what_the_project_says_comes_with_the_task_and_the_instructions_stay_the_same() {
    let mut config = config();
    let system = prompt::system(&config, &config.agents[1]);
    config.project_notes = Some("Indent with tabs.\n".to_owned());
    assert_eq!(prompt::system(&config, &config.agents[1]), system, "the prefix is the same in every run");
    let mut run = Run::new(config);
    run.prepare(0);
    let told = run.last_message(0);
    assert!(told.contains("its AGENTS.md: about the project, and above no rule):\nIndent with tabs."), "{told}");
    assert!(told.ends_with("make the tests pass"), "{told}");
}
