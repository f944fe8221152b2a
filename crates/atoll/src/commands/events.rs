//! Following a run: server-sent events, resumed where they broke off, printed as they come.

use std::time::Duration;

use atoll_api::v1::{self, RunEventKind};
use futures::StreamExt;

use super::trace::duration;
use crate::failure::{Exit, Failure};
use crate::plane::{Plane, accept};
use crate::printer::Printer;

/// One event may be this large; larger ones mean that this is not our plane.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a broken stream is taken up again without any event in between.
const RECONNECTS_MAX: u32 = 40;
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// The end of a run, as its last event tells it.
#[derive(Debug, Clone)]
pub(crate) struct RunEnd {
    pub(crate) outcome: v1::Outcome,
    pub(crate) final_text: Option<String>,
    pub(crate) result: Option<v1::RunResult>,
    pub(crate) usage: v1::Usage,
}

/// Follows a run to its end, handing every event to `show`. Survives a restart of the plane on the same state
/// directory. Cancel-safe: dropping it loses nothing that the plane does not keep.
pub(crate) async fn follow(
    plane: &Plane,
    run_id: &str,
    mut show: impl FnMut(&v1::RunEvent),
) -> Result<RunEnd, Failure> {
    let mut plane = plane.clone();
    let mut after = 0;
    let mut failures = 0;
    loop {
        match follow_once(&plane, run_id, &mut after, &mut failures, &mut show).await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {}
            Err(failure) if failures >= RECONNECTS_MAX => return Err(failure),
            Err(_) => {}
        }
        failures += 1;
        tokio::time::sleep(RECONNECT_PAUSE).await;
        if let Ok(Some(info)) = plane.state.running() {
            plane = Plane::connect(plane.state.clone(), info)?;
        }
        if failures > RECONNECTS_MAX {
            return Err(Failure::new(Exit::Unreachable, "the run's events ended early")
                .hint(format!("the run goes on without this command: `atoll runs show {run_id} --follow`")));
        }
    }
}

async fn follow_once(
    plane: &Plane,
    run_id: &str,
    after: &mut u64,
    failures: &mut u32,
    show: &mut impl FnMut(&v1::RunEvent),
) -> Result<Option<RunEnd>, Failure> {
    let path = format!("/v1/runs/{run_id}/events?after={after}");
    let response = accept(plane.request(reqwest::Method::GET, &path).send().await).await?;
    let mut body = response.bytes_stream();
    let mut pending = Vec::new();
    while let Some(Ok(chunk)) = body.next().await {
        pending.extend_from_slice(&chunk);
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = pending.drain(..end + 2).collect();
            let Some(event) = parse(&frame) else { continue };
            *failures = 0;
            *after = event.seq.unwrap_or(*after).max(*after);
            show(&event);
            if let RunEventKind::RunFinished { outcome, usage, final_text, result } = event.event {
                return Ok(Some(RunEnd { outcome, final_text, result, usage }));
            }
        }
        if pending.len() > EVENT_BYTES_MAX {
            return Err(Failure::new(Exit::Failure, "the plane sent an event that is too large"));
        }
    }
    Ok(None)
}

/// The event in one frame of an event stream; `None` for comments and pings.
fn parse(frame: &[u8]) -> Option<v1::RunEvent> {
    let text = std::str::from_utf8(frame).ok()?;
    let data: String = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    serde_json::from_str(&data).ok()
}

/// Prints events for people, or one JSON object a line.
pub(crate) struct EventPrinter<'a> {
    printer: &'a Printer,
    /// Whether the cursor stands behind streamed text.
    in_text: bool,
}

impl<'a> EventPrinter<'a> {
    pub(crate) const fn new(printer: &'a Printer) -> Self {
        Self { printer, in_text: false }
    }

    pub(crate) fn show(&mut self, event: &v1::RunEvent) {
        if self.printer.is_json() {
            self.printer.data(serde_json::to_string(event).expect("our own values serialize"));
            return;
        }
        if let RunEventKind::TextDelta { text, .. } = &event.event {
            self.printer.raw(text.as_bytes());
            self.in_text = !text.ends_with('\n');
            return;
        }
        if let Some(line) = self.line(&event.event) {
            if std::mem::take(&mut self.in_text) {
                self.printer.data("");
            }
            self.printer.data(line);
        }
    }

    fn line(&self, event: &RunEventKind) -> Option<String> {
        let printer = self.printer;
        let agent = |agent: &v1::AgentRef| printer.dim(&format!("[{}]", agent.name));
        Some(match event {
            RunEventKind::RunStarted { run_id, model, .. } => {
                format!("run {run_id}{}", model.as_ref().map(|model| format!(" with {model}")).unwrap_or_default())
            }
            RunEventKind::RunResumed {} => printer.dim("the run was taken up again where it stood"),
            RunEventKind::AgentStarted { agent: who, task, .. } => {
                format!("{} {} {task}", agent(who), printer.bold("starts:"))
            }
            RunEventKind::SandboxReady { agent: who, sandbox, branch, .. } => {
                let branch = branch.as_ref().map(|branch| format!(", branch {branch}")).unwrap_or_default();
                format!("{} sandbox {sandbox} is ready{branch}", agent(who))
            }
            RunEventKind::ModelFailed { agent: who, message, .. } => {
                format!("{} {}", agent(who), printer.bad(&format!("model: {message}")))
            }
            RunEventKind::ToolDecided { agent: who, summary, verdict: v1::Verdict::Deny, reason, hint, .. } => {
                let hint = hint.as_ref().map(|hint| format!("\n    {}", printer.dim(hint))).unwrap_or_default();
                format!("{} {} {summary}\n    {reason}{hint}", agent(who), printer.bad("✗ refused:"))
            }
            RunEventKind::ToolFinished { agent: who, summary, status, exit_code, duration_ms, .. } => {
                finished(printer, &agent(who), summary, *status, *exit_code, *duration_ms)?
            }
            RunEventKind::ApprovalRequested { approval } => format!(
                "{} {} {} ({})\n    answer with `atoll approve {}` or `atoll approve {} --deny`",
                agent(&approval.agent),
                printer.bold("waits for approval:"),
                approval.summary,
                approval.reason,
                approval.id,
                approval.id
            ),
            RunEventKind::ApprovalAnswered { approval } => {
                format!("{} approval {:?}: {}", agent(&approval.agent), approval.state, approval.summary)
            }
            RunEventKind::WorkCollected { agent: who, result } => format!(
                "{} {} commit {} on {} ({} files, +{} -{})",
                agent(who),
                printer.good("✓"),
                result.commit.get(..12).unwrap_or(&result.commit),
                result.branch,
                result.files_changed,
                result.insertions,
                result.deletions
            ),
            RunEventKind::AgentFinished { agent: who, outcome, .. } => {
                format!("{} ends: {}", agent(who), outcome.message)
            }
            RunEventKind::RunPaused { by } => printer.dim(&format!("paused by {by}")),
            RunEventKind::RunUnpaused { by } => printer.dim(&format!("goes on, by {by}")),
            RunEventKind::MessageReceived { agent: who, text, by } => format!("{} {by} says: {text}", agent(who)),
            RunEventKind::BudgetLow { agent: who } => {
                format!("{} {}", agent(who), printer.bold("its budget comes to an end"))
            }
            RunEventKind::CancelRequested { .. } => "cancelling…".to_owned(),
            RunEventKind::TextDelta { .. }
            | RunEventKind::ModelAnswered { .. }
            | RunEventKind::ToolDecided { .. }
            | RunEventKind::ToolStarted { .. }
            | RunEventKind::ToolOutput { .. }
            | RunEventKind::PlanChanged { .. }
            | RunEventKind::RunFinished { .. } => return None,
        })
    }
}

fn finished(
    printer: &Printer,
    agent: &str,
    summary: &str,
    status: v1::ToolStatus,
    exit_code: Option<i32>,
    duration_ms: u64,
) -> Option<String> {
    let time = printer.dim(&duration(duration_ms));
    let code = exit_code.map(|code| format!(" exit code {code}")).unwrap_or_default();
    Some(match status {
        v1::ToolStatus::Ok => format!("{agent} {} {summary}  {time}", printer.good("✓")),
        // The refusal was told when it was decided.
        v1::ToolStatus::Denied => return None,
        v1::ToolStatus::Failed => format!("{agent} {} {summary} {code}  {time}", printer.bad("✗")),
        other => format!("{agent} {} {summary} ({other:?})  {time}", printer.bad("✗")),
    })
}
