//! The brain of a run of agents: a pure state machine. No IO, no clock, no randomness.
//!
//! A *run* is a tree of agents working on one task. [`start`] makes a run, [`step`] applies what happened and names
//! what has to be done next, [`outstanding`] names everything that has to be done now. The two agree by construction:
//! `step` reports the difference that an event makes to `outstanding`. So taking a run up after a crash is nothing
//! special: replay its events, then do what is outstanding.
//!
//! ```text
//! Preparing ─▶ Thinking ⇄ Acting ─▶ Collecting ─▶ Finished          (one agent)
//! Waiting ─▶ Gating ─▶ [AwaitingApproval] ─▶ Allowed ─▶ Claimed ─▶ Done   (one tool call)
//! ```

pub mod bounded;
pub mod budget;
pub mod config;
pub mod context;
pub mod event;
pub mod prompt;
pub mod state;
pub mod step;
pub mod tools;

pub use budget::{Amounts, Budget, Ledger, ModelPrice, Reservation, Resource};
pub use config::{AgentProfile, Limits, RepoInfo, RunConfig, ServerTransport, ToolServer};
pub use event::{
    Answer, ApprovalAnswer, CallRef, Claim, Decision, Effect, Event, Outcome, OutcomeName, RawCall, SandboxIdentity,
    ToolResult, ToolStatus, Usage, Verdict, Work, Workspace,
};
pub use state::{AgentPhase, AgentState, Call, CallPhase, Message, PlanItem, PlanStatus, RunPhase, RunState};
pub use step::{due, next_due, outstanding, replay, retrace, start, step, step_in_place};
