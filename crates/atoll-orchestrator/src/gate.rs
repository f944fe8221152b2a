//! The one function that every action of an agent passes, whoever asks:
//!
//! policy decides → a person approves where policy wants it (a durable question, bound to the digest of the input, that
//! expires) → the journal claims the call, in one transaction with its audit records → it runs → the journal completes
//! it. After a crash the same function takes the call up where the journal has it.

pub(crate) mod judge;

use atoll_engine::{
    CallPhase, CallRef, Claim, Decision, Event, SandboxIdentity, ToolResult, ToolStatus, Verdict, tools as names,
};
use atoll_rt::ids;
use atoll_store::{AuditEntry, RecordExpect};
use serde_json::json;

use crate::flight::{Flight, Stop};
use crate::records::{self, Acted, put};
use crate::run::Batch;
use crate::tools::{self, Done, NotDone, Plan, Planned, Site, told};
use crate::workbench::{Bench, OutputStream};
use crate::workspace::AgentFacts;

/// A call on its way through the gate.
struct Passage<'a> {
    flight: &'a Flight,
    reference: CallRef,
    agent: AgentFacts,
    call: atoll_engine::Call,
}

/// Takes a call through the gate from where it stands.
pub(crate) async fn pass(flight: &Flight, reference: CallRef) -> Result<(), Stop> {
    let found = flight.state(|state| {
        let call = state.call(reference)?.clone();
        Some((AgentFacts::of(state, reference.agent)?, call))
    });
    let Some((agent, call)) = found else { return Err(Stop::Superseded) };
    let passage = Passage { flight, reference, agent, call };
    match passage.call.phase.clone() {
        CallPhase::Gating => passage.decide().await,
        CallPhase::ApprovalWanted => passage.ask(Vec::new(), Vec::new()).await,
        CallPhase::Allowed => passage.use_approval().await,
        CallPhase::Claimed { claim, at_ms } => passage.recover(claim, at_ms).await,
        _ => Err(Stop::Superseded),
    }
}

impl Passage<'_> {
    async fn decide(&self) -> Result<(), Stop> {
        let decision = self.judge(false);
        let event = Event::Decided { call: self.reference, decision: decision.clone() };
        let audit = self.audit_decision(&decision);
        match decision.verdict {
            Verdict::Deny => self.append(vec![event], audit).await,
            Verdict::RequireApproval if self.is_remembered(&decision) => self.use_remembered(event, audit).await,
            Verdict::RequireApproval => self.ask(vec![event], audit).await,
            Verdict::Allow if names::INTERNAL.contains(&self.call.tool.as_str()) => {
                self.append(vec![event], audit).await
            }
            Verdict::Allow => self.claim_and_run(vec![event], audit).await,
        }
    }

    /// What policy says of the call.
    fn judge(&self, approved: bool) -> Decision {
        let policy = self.flight.shared.policy.current();
        self.flight.state(|state| judge::judge(&policy, state, &self.agent, &self.call, approved))
    }

    /// Whether a person allowed this very call for the rest of the run.
    fn is_remembered(&self, decision: &Decision) -> bool {
        let (agent, tool) = (&self.agent.profile.name, &self.call.tool);
        self.flight.state(|state| state.remembers(agent, tool, &decision.input_digest))
    }

    /// An earlier yes covers the call. Policy has the last word all the same.
    async fn use_remembered(&self, decided: Event, mut audit: Vec<AuditEntry>) -> Result<(), Stop> {
        let decision = self.judge(true);
        audit.extend(self.audit_decision(&decision));
        if decision.verdict == Verdict::Allow {
            return self.claim_and_run(vec![decided], audit).await;
        }
        self.append(vec![Event::Decided { call: self.reference, decision }], audit).await
    }

    /// Puts the question to people. It is durable before anyone sees it.
    async fn ask(&self, mut events: Vec<Event>, audit: Vec<AuditEntry>) -> Result<(), Stop> {
        let approval_id = ids::ulid();
        let expiry_ms = self.flight.shared.policy.current().governance().approval_expiry.as_millis();
        let now_ms = self.flight.now_ms();
        let expires_at_ms = now_ms.saturating_add(u64::try_from(expiry_ms).unwrap_or(u64::MAX));
        events.push(Event::ApprovalRequested { call: self.reference, approval_id, expires_at_ms });
        self.append(events, audit).await
    }

    /// A person said yes to exactly this input. Policy is asked once more: it may have become stricter.
    async fn use_approval(&self) -> Result<(), Stop> {
        let decision = self.judge(true);
        let same_input = self.call.decision.as_ref().is_none_or(|asked| asked.input_digest == decision.input_digest);
        let audit = self.audit_decision(&decision);
        if decision.verdict == Verdict::Allow && same_input {
            return self.claim_and_run(Vec::new(), audit).await;
        }
        let text = format!("Denied by policy after the approval: {}", decision.reason);
        let result = told(ToolStatus::Denied, text);
        self.append(vec![Event::Completed { call: self.reference, result }], audit).await
    }

    /// Plans, claims, runs, completes. `events` and `audit` become durable with the claim.
    async fn claim_and_run(&self, mut events: Vec<Event>, mut audit: Vec<AuditEntry>) -> Result<(), Stop> {
        let (bench, sandbox) = match self.bench().await? {
            Ok(found) => found,
            Err(result) => return self.complete(events, audit, result, None).await,
        };
        let site = self.site(&*bench);
        let planned = tools::plan(&self.call.tool, &self.call.input, &site).await;
        let Planned { plan, blobs } = match planned {
            Ok(planned) => planned,
            Err(NotDone(text)) => {
                let result = told(ToolStatus::Failed, text);
                return self.complete(events, audit, result, None).await;
            }
        };
        let content = blobs.first().map(|(_, bytes)| bytes.clone());
        let sandbox = (!matches!(plan, Plan::Push { .. } | Plan::McpHttp { .. })).then_some(sandbox);
        let recorded = serde_json::to_value(&plan).expect("plans are JSON");
        let claim = Claim { key: site.key.clone(), sandbox: sandbox.clone(), plan: recorded };
        audit.extend(self.audit("claimed", &json!({"key": claim.key})));
        events.push(Event::Claimed { call: self.reference, claim });
        self.flight.append(Batch { events, audit, blobs }).await?;
        self.run(&plan, sandbox.as_ref(), content, &site, self.flight.now_ms()).await
    }

    /// A claim is in the journal and no result: the process that made it is gone.
    async fn recover(&self, claim: Claim, claimed_at_ms: u64) -> Result<(), Stop> {
        let plan: Plan = match serde_json::from_value(claim.plan.clone()) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(run = self.agent.run_id, call = %self.reference, cause = %error, "an unreadable claim");
                return self.unknown("the record of what was to be done is not readable").await;
            }
        };
        if matches!(plan, Plan::McpHttp { .. }) {
            return self.unknown("the plane stopped while an MCP server was asked").await;
        }
        // Looking for the sandbox renews the workspace when it is another than that of the claim.
        let (bench, sandbox) = match self.bench().await? {
            Ok(found) => found,
            Err(result) => {
                return self.unknown(&format!("its sandbox is gone ({})", result.text)).await;
            }
        };
        if claim.sandbox.as_ref().is_some_and(|then| *then != sandbox) {
            return self.unknown("its sandbox started anew").await;
        }
        let content = match content_of(&plan) {
            Some(sha256) => self.flight.blob(sha256).await?,
            None => None,
        };
        let site = Site { key: claim.key, ..self.site(&*bench) };
        self.run(&plan, claim.sandbox.as_ref(), content, &site, claimed_at_ms).await
    }

    async fn run(
        &self,
        plan: &Plan,
        sandbox: Option<&SandboxIdentity>,
        content: Option<Vec<u8>>,
        site: &Site<'_>,
        began_ms: u64,
    ) -> Result<(), Stop> {
        if matches!(plan, Plan::Run { .. } | Plan::McpStdio { .. }) {
            self.flight.now_running(&site.key);
        }
        let done = tools::carry_out(plan, sandbox, content, site).await;
        self.flight.not_running();
        match done {
            Done::Result(mut result, full) => {
                result.duration_ms = self.flight.now_ms().saturating_sub(began_ms);
                self.complete(Vec::new(), Vec::new(), result, full).await
            }
            Done::SandboxChanged => self.unknown("its sandbox started anew while it ran").await,
        }
    }

    async fn complete(
        &self,
        mut events: Vec<Event>,
        mut audit: Vec<AuditEntry>,
        result: ToolResult,
        full: Option<Vec<u8>>,
    ) -> Result<(), Stop> {
        let outcome = serde_json::to_value(result.status).expect("statuses are JSON");
        audit.extend(self.audit(outcome.as_str().unwrap_or_default(), &json!({"exit_code": result.exit_code})));
        let blobs = result.full_sha256.clone().zip(full).into_iter().collect();
        // A call that was not claimed has to be allowed before it can be over.
        events.push(Event::Completed { call: self.reference, result });
        self.flight.append(Batch { events, audit, blobs }).await
    }

    /// Nobody can know whether the call had its effect. The agent is told so; nothing is repeated.
    async fn unknown(&self, why: &str) -> Result<(), Stop> {
        let text = format!(
            "Outcome unknown: {why}. The call may have happened, in part or in full, or not at all. Look before you do \
             it again."
        );
        self.complete(Vec::new(), Vec::new(), told(ToolStatus::OutcomeUnknown, text), None).await
    }

    /// The agent's sandbox and who answers there now.
    async fn bench(&self) -> Result<Result<(std::sync::Arc<dyn Bench>, SandboxIdentity), ToolResult>, Stop> {
        match self.flight.bench_of(self.reference.agent).await? {
            Ok(found) => Ok(Ok(found)),
            Err(error) => Ok(Err(told(ToolStatus::Failed, format!("Failed: {}.", atoll_stdx::chain(&error))))),
        }
    }

    fn site<'b>(&'b self, bench: &'b dyn Bench) -> Site<'b> {
        let limits = &self.flight.shared.limits;
        Site {
            bench,
            repo: &self.flight.run.repo,
            call: self.reference,
            key: format!("{}/{}", self.agent.run_id, self.reference),
            agent: &self.agent,
            timeout_ms: limits.tool_timeout_ms(&self.agent.profile),
            result_bytes_max: limits.tool_result_bytes_max,
            live: self,
            mcp: &self.flight.shared.mcp,
        }
    }

    async fn append(&self, events: Vec<Event>, audit: Vec<AuditEntry>) -> Result<(), Stop> {
        self.flight.append(Batch { events, audit, ..Batch::default() }).await
    }

    /// The audit record of the decision; none where policy wants only refusals and approvals on record.
    fn audit_decision(&self, decision: &Decision) -> Vec<AuditEntry> {
        if decision.verdict == Verdict::Allow && !self.flight.shared.policy.current().governance().audit_all_actions {
            return Vec::new();
        }
        let actor = self.actor();
        let acted = Acted { at_ms: self.flight.now_ms(), run_id: &self.agent.run_id, actor: &actor };
        let summary = names::summary(&self.call.tool, &self.call.input);
        vec![acted.decision(&self.reference.to_string(), &self.call.tool, &summary, decision)]
    }

    /// An audit record of what became of the call.
    fn audit(&self, outcome: &str, more: &serde_json::Value) -> Option<AuditEntry> {
        if !self.flight.shared.policy.current().governance().audit_all_actions {
            return None;
        }
        let actor = self.actor();
        let acted = Acted { at_ms: self.flight.now_ms(), run_id: &self.agent.run_id, actor: &actor };
        let mut detail = json!({"call_id": self.reference.to_string()});
        if let (Some(detail), Some(more)) = (detail.as_object_mut(), more.as_object()) {
            detail.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Some(acted.entry(&format!("tool/{}", self.call.tool), outcome, detail))
    }

    fn actor(&self) -> String {
        format!("agent/{}", self.agent.profile.name)
    }
}

impl tools::Live for Passage<'_> {
    fn output(&self, stream: OutputStream, text: String) {
        self.flight.tool_output(self.reference, stream, text);
    }
}

fn content_of(plan: &Plan) -> Option<&str> {
    match plan {
        Plan::Write { after_sha256, .. } => Some(after_sha256),
        Plan::Run { stdin_sha256, .. } => stdin_sha256.as_deref(),
        Plan::McpStdio { stdin_sha256, .. } => Some(stdin_sha256),
        Plan::Read { .. } | Plan::Push { .. } | Plan::McpHttp { .. } => None,
    }
}

/// The record of a question, as people see it.
pub(crate) fn approval_record(approval: &atoll_api::v1::Approval) -> atoll_store::RecordPut {
    put(records::APPROVAL, &approval.id, approval, RecordExpect::Any)
}
