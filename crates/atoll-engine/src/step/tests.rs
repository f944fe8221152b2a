use serde_json::{Value, json};

use super::*;
use crate::budget::{ModelPrice, Resource};
use crate::config::{AgentProfile, Limits};
use crate::event::{Answer, Claim, OutcomeName, RawCall, SandboxIdentity, Usage, Work};

fn profile(name: &str, tools: &[&str], sandboxed: bool, read_only: bool) -> AgentProfile {
    AgentProfile {
        name: name.to_owned(),
        description: format!("The {name}."),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        sandboxed,
        read_only,
        max_execution_ms: None,
        max_delegations: (name == "planner").then_some(3),
        instructions: None,
        model: None,
        base: None,
        budget: Budget::default(),
        wall_ms_max: None,
    }
}

fn config() -> RunConfig {
    RunConfig {
        run_id: "r1".to_owned(),
        task: "make the tests pass".to_owned(),
        root_agent: "planner".to_owned(),
        model: None,
        repo: None,
        agents: vec![
            profile("code-reviewer", &[tools::FILE_READ, tools::GIT_DIFF], true, true),
            profile("code-writer", &[tools::FILE_WRITE, tools::TERMINAL_EXECUTE], true, false),
            profile("planner", &tools::INTERNAL, false, false),
        ],
        limits: Limits { agent_steps_max: 12, run_steps_max: 40, agents_max: 6, ..Limits::default() },
        prices: Vec::new(),
        servers: Vec::new(),
        project_notes: None,
        policy_hash: "p".to_owned(),
    }
}

mod caps;
mod simulation;

/// A run driven by hand, with everything that happened on record.
struct Run {
    state: RunState,
    journal: Vec<(Event, u64)>,
    now_ms: u64,
    /// What each answer uses.
    uses: Usage,
}

impl Run {
    fn new(config: RunConfig) -> Self {
        let now_ms = 1000;
        let journal = vec![(Event::Submitted { config: Box::new(config.clone()) }, now_ms)];
        Self { state: start(config, now_ms).0, journal, now_ms, uses: Usage { input_tokens: 10, output_tokens: 2 } }
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        self.now_ms += 10;
        let (state, effects) = step(self.state.clone(), &event, self.now_ms);
        self.state = state;
        self.journal.push((event, self.now_ms));
        effects
    }

    fn prepare(&mut self, agent: u32) -> Vec<Effect> {
        let sandboxed = self.state.profile(&self.state.agents[agent as usize]).sandboxed;
        self.feed(Event::Prepared { agent, workspace: workspace(agent, sandboxed) })
    }

    fn answer(&mut self, agent: u32, text: &str, calls: &[(&str, Value)]) -> Vec<Effect> {
        let calls: Vec<RawCall> = calls.iter().zip(0..).map(|((tool, input), n)| raw(n, tool, input)).collect();
        let step = self.state.agents[agent as usize].steps + 1;
        let answer = Answer { usage: self.uses, ..answer(text, calls) };
        self.feed(Event::ModelAnswered { agent, step, answer })
    }

    fn call(&self, agent: u32, index: u32) -> CallRef {
        CallRef { agent, step: self.state.agents[agent as usize].steps, index }
    }

    fn decide(&mut self, call: CallRef, verdict: Verdict) -> Vec<Effect> {
        self.feed(Event::Decided { call, decision: decision(verdict) })
    }

    fn complete(&mut self, call: CallRef, text: &str) -> Vec<Effect> {
        self.feed(Event::Claimed { call, claim: claim(call) });
        self.feed(Event::Completed { call, result: result(text) })
    }

    /// The newest message of an agent's history.
    fn last_message(&self, agent: u32) -> String {
        match self.state.agents[agent as usize].history.messages.last().expect("there is one") {
            Message::User { text } | Message::Assistant { text, .. } | Message::Tool { text, .. } => text.clone(),
        }
    }

    fn outcome(&self) -> Option<OutcomeName> {
        self.state.outcome().map(|outcome| outcome.name)
    }
}

fn workspace(agent: u32, sandboxed: bool) -> Workspace {
    let sandbox = SandboxIdentity { name: format!("s{agent}"), uid: "u".to_owned(), incarnation: 1 };
    Workspace { sandbox: sandboxed.then_some(sandbox), ..Workspace::default() }
}

fn raw(index: u32, tool: &str, input: &Value) -> RawCall {
    RawCall { id: format!("call-{index}"), tool: tool.to_owned(), arguments: input.to_string() }
}

fn answer(text: &str, calls: Vec<RawCall>) -> Answer {
    Answer {
        text: text.to_owned(),
        finish_reason: if calls.is_empty() { "stop" } else { "tool_calls" }.to_owned(),
        calls,
        model: "m".to_owned(),
        usage: Usage { input_tokens: 10, output_tokens: 2 },
        duration_ms: 5,
    }
}

fn decision(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        rule_ids: vec!["rule".to_owned()],
        reason: "because".to_owned(),
        hint: None,
        effects: Vec::new(),
        policy_hash: "p".to_owned(),
        input_digest: "d".to_owned(),
    }
}

fn claim(call: CallRef) -> Claim {
    Claim { key: call.to_string(), sandbox: None, plan: Value::Null }
}

fn result(text: &str) -> ToolResult {
    ToolResult { status: ToolStatus::Ok, text: text.to_owned(), exit_code: None, full_sha256: None, duration_ms: 1 }
}

fn work() -> Work {
    Work {
        branch: "atoll/r1".to_owned(),
        commit: "c".repeat(40),
        base_commit: "b".repeat(40),
        commits: 1,
        files_changed: 1,
        insertions: 2,
        deletions: 1,
        conflicts: Vec::new(),
        side_branch: None,
    }
}

fn delegate(agent: &str) -> (&'static str, Value) {
    (tools::AGENT_DELEGATE, json!({"agent": agent, "task": "do it"}))
}

/// A writer at work below the planner.
fn writing() -> Run {
    let mut run = Run::new(config());
    run.prepare(0);
    run.answer(0, "", &[delegate("code-writer")]);
    let effects = run.decide(run.call(0, 0), Verdict::Allow);
    assert_eq!(effects, [Effect::Prepare { agent: 1 }]);
    assert_eq!(run.prepare(1), [Effect::CallModel { agent: 1, step: 1 }]);
    run
}

#[test]
fn a_task_goes_down_to_an_agent_and_its_work_comes_back() {
    let mut run = writing();
    let effects = run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "make test"}))]);
    let call = run.call(1, 0);
    assert_eq!(effects, [Effect::Act { call }]);
    assert!(run.decide(call, Verdict::Allow).is_empty(), "the same effect goes on");
    assert_eq!(run.complete(call, "ok"), [Effect::CallModel { agent: 1, step: 2 }]);
    assert_eq!(run.answer(1, "All tests pass.", &[]), [Effect::Collect { agent: 1 }]);
    let effects = run.feed(Event::Collected { agent: 1, work: Some(work()) });
    assert_eq!(effects, [Effect::CallModel { agent: 0, step: 2 }]);
    let CallPhase::Done { result } = &run.state.agents[0].calls[0].phase else { panic!("the delegation is over") };
    assert_eq!(result.duration_ms, run.now_ms - run.state.agents[1].started_at_ms);
    let told = run.last_message(0);
    assert!(told.starts_with("All tests pass.") && told.contains("branch atoll/r1 at cccccccccccc"), "{told}");
    assert_eq!(run.answer(0, "Done.", &[]), [Effect::Close {}]);
    assert_eq!(run.outcome(), Some(OutcomeName::Completed));
    assert_eq!(run.state.head, Some(work()));
    assert_eq!(run.state.usage.total(), 4 * 12);
    run.feed(Event::Closed {});
    assert!(run.state.is_closed() && outstanding(&run.state).is_empty());
}

#[test]
fn calls_of_one_answer_run_one_after_the_other() {
    let mut run = writing();
    let shell = |command: &str| (tools::TERMINAL_EXECUTE, json!({"command": command}));
    let effects = run.answer(1, "", &[shell("a"), shell("b")]);
    assert_eq!(effects, [Effect::Act { call: run.call(1, 0) }]);
    run.decide(run.call(1, 0), Verdict::Allow);
    assert_eq!(run.complete(run.call(1, 0), "x"), [Effect::Act { call: run.call(1, 1) }]);
    assert_eq!(run.decide(run.call(1, 1), Verdict::Deny), [Effect::CallModel { agent: 1, step: 2 }]);
    assert_eq!(run.last_message(1), "Denied by policy: because [rule]");
}

#[test]
fn approvals_end_in_three_named_ways() {
    for (answer, expected) in [
        (ApprovalAnswer::Granted { remember: false }, None),
        (ApprovalAnswer::Denied { reason: Some("not today".to_owned()) }, Some("said no: not today")),
        (ApprovalAnswer::Expired, Some("nobody answered in time")),
    ] {
        let mut run = writing();
        run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "git push"}))]);
        let call = run.call(1, 0);
        run.decide(call, Verdict::RequireApproval);
        let approval_id = "ap1".to_owned();
        run.feed(Event::ApprovalRequested { call, approval_id: approval_id.clone(), expires_at_ms: 5000 });
        assert!(outstanding(&run.state).is_empty(), "a person is waited for");
        assert_eq!(run.state.pending_approvals().collect::<Vec<_>>(), [(call, "ap1")]);
        assert_eq!(next_due(&run.state), Some(5000), "no other clock runs");
        let by = "me".to_owned();
        let other = Event::ApprovalAnswered { call, approval_id: "other".to_owned(), answer: answer.clone(), by };
        assert!(run.feed(other).is_empty(), "the answer to another question is none");
        let deadline_ms = run.state.deadline_ms;
        let by = "me".to_owned();
        let effects = run.feed(Event::ApprovalAnswered { call, approval_id, answer, by });
        assert!(run.state.deadline_ms > deadline_ms, "waiting does not count");
        match expected {
            None => assert_eq!(effects, [Effect::Act { call }]),
            Some(text) => {
                assert_eq!(effects, [Effect::CallModel { agent: 1, step: 2 }]);
                assert!(run.last_message(1).contains(text), "{}", run.last_message(1));
            }
        }
    }
}

#[test]
fn an_unanswered_approval_becomes_due() {
    let mut run = writing();
    run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "git push"}))]);
    let call = run.call(1, 0);
    run.decide(call, Verdict::RequireApproval);
    run.feed(Event::ApprovalRequested { call, approval_id: "ap1".to_owned(), expires_at_ms: 5000 });
    assert!(due(&run.state, 4999).is_empty());
    let events = due(&run.state, 5000);
    assert!(matches!(&events[..], [Event::ApprovalAnswered { answer: ApprovalAnswer::Expired, .. }]));
    run.feed(events[0].clone());
    assert!(run.last_message(1).contains("nobody answered in time"));
}

#[test]
fn delegation_is_capped() {
    let mut run = Run::new(config());
    run.prepare(0);
    for child in 1..=4_u32 {
        run.answer(0, "", &[delegate("code-reviewer")]);
        run.decide(run.call(0, 0), Verdict::Allow);
        if child <= 3 {
            run.prepare(child);
            run.answer(child, "fine", &[]);
        }
    }
    assert_eq!(run.state.agents.len(), 4, "the planner and three");
    assert!(run.last_message(0).contains("all 3 delegations of this agent are used"), "{}", run.last_message(0));
    run.answer(0, "", &[delegate("painter")]);
    run.decide(run.call(0, 0), Verdict::Allow);
    assert!(run.last_message(0).contains("There is no agent `painter`"));
}

#[test]
fn agents_nest_only_so_deep() {
    let mut config = config();
    config.limits.depth_max = 1;
    let mut run = Run::new(config);
    run.prepare(0);
    run.answer(0, "", &[delegate("planner")]);
    run.decide(run.call(0, 0), Verdict::Allow);
    run.prepare(1);
    run.answer(1, "", &[delegate("planner")]);
    run.decide(run.call(1, 0), Verdict::Allow);
    assert!(run.last_message(1).contains("agents may be nested 1 deep"), "{}", run.last_message(1));
}

#[test]
fn repeating_a_call_is_pointed_out_and_then_ended() {
    let mut config = config();
    config.limits.agent_steps_max = 100;
    let mut run = Run::new(config);
    run.prepare(0);
    for round in 1..=guards::LOOP_STOP {
        run.answer(0, "", &[(tools::PROGRESS_TRACK, json!({}))]);
        run.decide(run.call(0, 0), Verdict::Allow);
        if round == guards::LOOP_WARN {
            assert!(run.last_message(0).contains("Repeating it leads nowhere"));
        }
    }
    assert_eq!(run.outcome(), Some(OutcomeName::LoopDetected));
}

#[test]
fn calls_that_make_no_sense_come_back_with_the_reason_and_end_at_last() {
    let mut run = Run::new(config());
    run.prepare(0);
    let calls = vec![
        RawCall { id: String::new(), tool: "file_delete".to_owned(), arguments: "{}".to_owned() },
        RawCall { id: "x".to_owned(), tool: tools::TASK_CREATE.to_owned(), arguments: "{broken".to_owned() },
        RawCall { id: "x".to_owned(), tool: tools::TASK_CREATE.to_owned(), arguments: "{}".to_owned() },
    ];
    let effects = run.feed(Event::ModelAnswered { agent: 0, step: 1, answer: answer("", calls.clone()) });
    assert_eq!(effects, [Effect::CallModel { agent: 0, step: 2 }]);
    let messages = &run.state.agents[0].history.messages;
    let Message::Assistant { calls: kept, .. } = &messages[1] else { panic!("an assistant message") };
    let ids: Vec<&str> = kept.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["a0s1c0", "x", "a0s1c2"], "every call has a name of its own");
    assert!(kept.iter().all(|call| serde_json::from_str::<Value>(&call.arguments).is_ok()));
    let texts = messages[2..].iter().map(|message| match message {
        Message::Tool { text, .. } => text.as_str(),
        other => panic!("a result, not {other:?}"),
    });
    for (text, expected) in texts.zip(["There is no tool", "not valid JSON", "`title` is missing"]) {
        assert!(text.contains(expected), "{text}");
    }
    for step in 2..=5 {
        run.feed(Event::ModelAnswered { agent: 0, step, answer: answer("", calls.clone()) });
    }
    assert_eq!(run.outcome(), Some(OutcomeName::ModelUnusable));
}

#[test]
fn empty_and_cut_answers_are_asked_again() {
    let mut run = Run::new(config());
    run.prepare(0);
    assert_eq!(run.answer(0, " ", &[]), [Effect::CallModel { agent: 0, step: 2 }]);
    assert!(run.last_message(0).contains("Your answer was empty"));
    let cut = Answer { finish_reason: "length".to_owned(), ..answer("half a sen", Vec::new()) };
    run.feed(Event::ModelAnswered { agent: 0, step: 2, answer: cut });
    assert!(run.last_message(0).contains("cut off at the output limit"));
    let refused = Answer { finish_reason: "content_filter".to_owned(), ..answer("", Vec::new()) };
    run.feed(Event::ModelAnswered { agent: 0, step: 3, answer: refused });
    assert_eq!(run.outcome(), Some(OutcomeName::ModelRefused));
}

#[test]
fn an_answer_with_too_many_calls_is_taken_in_part() {
    let mut config = config();
    config.limits.calls_per_answer_max = 2;
    let mut run = Run::new(config);
    run.prepare(0);
    let item = |n: u32| (tools::TASK_CREATE, json!({"title": format!("t{n}")}));
    run.answer(0, "", &[item(1), item(2), item(3)]);
    run.decide(run.call(0, 0), Verdict::Allow);
    run.decide(run.call(0, 1), Verdict::Allow);
    assert_eq!(run.state.plan.len(), 2);
    assert!(run.last_message(0).contains("at most 2 calls are taken"));
}

#[test]
fn an_unreachable_model_ends_the_run_wherever_it_is_missed() {
    let mut run = writing();
    let outcome = Outcome::new(OutcomeName::ModelUnreachable, "no answer").hint("start it");
    let effects = run.feed(Event::ModelFailed { agent: 1, step: 1, outcome: outcome.clone() });
    assert_eq!(effects, [Effect::Close {}]);
    assert_eq!(run.state.outcome(), Some(&outcome));
}

#[test]
fn an_agent_out_of_time_hands_in_what_it_has() {
    let mut run = writing();
    run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "sleep 1000"}))]);
    let call = run.call(1, 0);
    run.decide(call, Verdict::Allow);
    run.feed(Event::Claimed { call, claim: claim(call) });
    let at_ms = next_due(&run.state).expect("a deadline");
    let events = due(&run.state, at_ms);
    assert_eq!(events.first(), Some(&Event::AgentTimedOut { agent: 0 }), "the planner started first");
    assert_eq!(run.feed(Event::AgentTimedOut { agent: 1 }), [Effect::Collect { agent: 1 }]);
    assert!(run.feed(Event::Completed { call, result: result("late") }).is_empty(), "too late to matter");
    run.feed(Event::Collected { agent: 1, work: None });
    let told = run.last_message(0);
    assert!(told.contains("code-writer did not finish") && told.contains("changed nothing"), "{told}");
}

#[test]
fn a_parent_out_of_time_takes_its_children_with_it() {
    let mut run = writing();
    run.feed(Event::AgentTimedOut { agent: 0 });
    assert_eq!(run.outcome(), Some(OutcomeName::TimeLimit));
    assert!(run.state.agents.iter().all(AgentState::is_finished));
}

#[test]
fn a_stop_of_the_plane_costs_no_time() {
    let mut run = writing();
    let deadline_ms = run.state.deadline_ms;
    run.now_ms += 1_000_000;
    run.feed(Event::Resumed {});
    assert_eq!(run.state.deadline_ms, deadline_ms + 1_000_010);
}

#[test]
fn an_agent_learns_that_its_sandbox_was_renewed() {
    let mut run = writing();
    run.answer(1, "", &[(tools::TERMINAL_EXECUTE, json!({"command": "x"}))]);
    let (workspace, note) = (workspace(9, true), "the sandbox started anew".to_owned());
    run.feed(Event::WorkspaceRenewed { agent: 1, workspace: workspace.clone(), note });
    run.decide(run.call(1, 0), Verdict::Deny);
    assert_eq!(run.last_message(1), "the sandbox started anew");
    assert_eq!(run.state.agents[1].workspace, workspace);
}

#[test]
fn work_that_is_not_acceptable_is_reported_and_not_kept() {
    let mut run = writing();
    run.answer(1, "done", &[]);
    let outcome = Outcome::new(OutcomeName::RepositoryRejected, "the pack is damaged");
    let effects = run.feed(Event::CollectFailed { agent: 1, outcome });
    assert_eq!(effects, [Effect::CallModel { agent: 0, step: 2 }]);
    assert!(run.last_message(0).contains("did not finish: the pack is damaged"), "{}", run.last_message(0));
    assert_eq!(run.state.head, None);
}
