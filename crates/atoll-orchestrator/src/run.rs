//! The driver of one run: the only one that writes its journal. Events become durable, then they are applied, then what
//! they make wanted is started. Starting and stopping is by comparison with what is outstanding, so a run that was just
//! submitted and one that is taken up after a crash are the same thing.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use atoll_api::v1::{self, RunEvent, RunEventKind};
use atoll_engine::{
    AgentPhase, ApprovalAnswer, Effect, Event, Outcome, OutcomeName, RunState, due, next_due, outstanding, retrace,
};
use atoll_rt::CancellationToken;
use atoll_stdx::{Hint, chain};
use atoll_store::{AppendBatch, AuditEntry, JournalError, RecordExpect, RecordPut};
use futures::stream::FuturesUnordered;
use futures::{Future, StreamExt};
use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::flight::{Flight, Stop};
use crate::gate::approval_record;
use crate::orchestrator::Shared;
use crate::records::{self, Acted, RunRecord, put};
use crate::repos::Repo;
use crate::spans;
use crate::view::{self, Logged, Marks};
use crate::workbench::Bench;

/// Requests to a driver that wait.
pub(crate) const INBOX_MAX: usize = 64;
/// Events a slow follower may lag behind before it has to read the journal again.
pub(crate) const FOLLOW_EVENTS_MAX: usize = 1024;
/// A timer further away than this is set again when it ends.
const TIMER_MS_MAX: u64 = 60 * 60 * 1000;
/// Appends to a journal that is busy.
const APPEND_TRIES_MAX: u32 = 6;
const APPEND_PAUSE_MS: u64 = 20;

/// What becomes durable together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    pub(crate) audit: Vec<AuditEntry>,
    /// Each with the lower hex SHA-256 of its bytes.
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

/// What is asked of a driver.
pub(crate) enum Input {
    /// From a flight. Answered `true` once durable, `false` when the run no longer wants the flight's effect.
    Append {
        flight: u64,
        batch: Box<Batch>,
        reply: oneshot::Sender<bool>,
    },
    Cancel {
        reason: Option<String>,
        by: String,
        reply: oneshot::Sender<v1::RunSummary>,
    },
    /// Something a person wants of the run. Answered `None` when it is too late for it.
    Person {
        event: Event,
        by: String,
        reply: oneshot::Sender<Option<v1::RunSummary>>,
    },
    Answer {
        id: String,
        body: v1::DecideApproval,
        by: String,
        reply: oneshot::Sender<Option<v1::Approval>>,
    },
}

/// A run that is driven. Cloning shares it.
#[derive(Clone)]
pub(crate) struct RunHandle {
    pub(crate) run_id: Arc<str>,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) state: Arc<RwLock<RunState>>,
    pub(crate) repo: Repo,
    live: broadcast::Sender<RunEvent>,
    benches: Arc<Mutex<HashMap<u32, Arc<dyn Bench>>>>,
}

impl RunHandle {
    /// Follows what happens from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<RunEvent> {
        self.live.subscribe()
    }

    pub(crate) fn tell(&self, event: RunEvent) {
        // Nobody listening is fine.
        let _listeners = self.live.send(event).unwrap_or_default();
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&RunState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn bench(&self, agent: u32) -> Option<Arc<dyn Bench>> {
        self.benches.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }

    pub(crate) fn keep_bench(&self, agent: u32, bench: Arc<dyn Bench>) {
        self.benches.lock().unwrap_or_else(PoisonError::into_inner).insert(agent, bench);
    }
}

type Landing = Pin<Box<dyn Future<Output = (u64, Option<Stop>, bool)> + Send + Sync>>;

/// Drives one run to its end.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    handle: RunHandle,
    inbox: mpsc::Receiver<Input>,
    /// Number of the newest journal entry.
    seq: u64,
    flights: HashMap<u64, (Effect, CancellationToken)>,
    landings: FuturesUnordered<Landing>,
    next_flight: u64,
    /// Giving back what the run held failed too often; the next start tries again.
    left_open: bool,
}

/// Why a driver stops before its run is closed.
#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error("the journal cannot be written")]
    Journal(#[source] JournalError),
}

impl Driver {
    /// A driver for a run whose journal ends with entry `seq`.
    pub(crate) fn new(shared: Arc<Shared>, state: RunState, seq: u64) -> (Self, RunHandle) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let run_id = state.config.run_id.clone();
        let handle = RunHandle {
            repo: shared.repos.of_run(&run_id),
            run_id: run_id.into(),
            inbox: sender,
            state: Arc::new(RwLock::new(state)),
            live: broadcast::Sender::new(FOLLOW_EVENTS_MAX),
            benches: Arc::default(),
        };
        let (flights, landings) = (HashMap::new(), FuturesUnordered::new());
        let driver =
            Self { shared, handle: handle.clone(), inbox, seq, flights, landings, next_flight: 0, left_open: false };
        (driver, handle)
    }

    /// Runs until the run is closed or the plane stops.
    pub(crate) async fn drive(mut self) {
        if let Err(error) = self.loop_until_closed().await {
            tracing::error!(run = %self.handle.run_id, cause = chain(&error), "the run stops until the next start");
            let DriveError::Journal(cause) = &error;
            let hint = cause.hint().unwrap_or_else(|| "the run goes on at the next start of the plane".to_owned());
            let outcome = Outcome::new(OutcomeName::Internal, chain(&error)).hint(hint);
            self.handle.tell(RunEvent {
                seq: None,
                at_ms: self.now_ms(),
                event: RunEventKind::RunFinished {
                    outcome: view::outcome(&outcome),
                    usage: self.handle.look(|state| view::usage(state.usage)),
                    final_text: None,
                    result: None,
                },
            });
        }
        for (_, token) in self.flights.values() {
            token.cancel();
        }
        self.shared.forget(&self.handle.run_id);
    }

    async fn loop_until_closed(&mut self) -> Result<(), DriveError> {
        let stopping = self.shared.group.token();
        loop {
            if self.left_open || self.handle.look(RunState::is_closed) {
                return Ok(());
            }
            self.reconcile();
            let timer = self.timer();
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(input) = self.inbox.recv() => self.take(input).await?,
                Some((id, stop, panicked)) = self.landings.next() => self.landed(id, stop, panicked).await?,
                () = timer => self.ring().await?,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now_unix_ms()
    }

    fn is_over(&self) -> bool {
        self.handle.look(|state| state.outcome().is_some())
    }

    /// Starts what is wanted and not on its way; stops what is on its way and not wanted.
    fn reconcile(&mut self) {
        let wanted = self.handle.look(outstanding);
        for (effect, token) in self.flights.values() {
            if !wanted.contains(effect) {
                token.cancel();
            }
        }
        for effect in wanted {
            // An agent's next effect waits until its last one has let go of the sandbox.
            let busy = self.flights.values().any(|(other, _)| *other == effect || agent_of(other) == agent_of(&effect));
            if !busy {
                self.launch(effect);
            }
        }
    }

    fn launch(&mut self, effect: Effect) {
        let id = self.next_flight;
        self.next_flight += 1;
        let token = CancellationToken::new();
        let flight = Flight::new(Arc::clone(&self.shared), self.handle.clone(), id, token.clone());
        let task = self.shared.group.spawn("effect", flight.carry_out(effect.clone()));
        self.flights.insert(id, (effect, token));
        self.landings.push(Box::pin(async move {
            match task.await {
                Ok(done) => (id, done.err(), false),
                Err(_panic) => (id, None, true),
            }
        }));
    }

    /// A flight has ended. One that leaves its effect wanted, without being told to, has a fault.
    async fn landed(&mut self, id: u64, stop: Option<Stop>, panicked: bool) -> Result<(), DriveError> {
        let Some((effect, token)) = self.flights.remove(&id) else { return Ok(()) };
        if let Some(Stop::Journal(error)) = stop {
            return Err(DriveError::Journal(error));
        }
        let still_wanted = self.handle.look(|state| outstanding(state).contains(&effect));
        if !still_wanted || token.is_cancelled() || self.shared.group.token().is_cancelled() {
            return Ok(());
        }
        if effect == (Effect::Close {}) {
            self.left_open = true;
            return Ok(());
        }
        tracing::error!(run = %self.handle.run_id, ?effect, panicked, "an effect ended without its event");
        let outcome = Outcome::new(OutcomeName::Internal, format!("carrying out {effect:?} failed"))
            .hint("the plane's log has the reason; please report it");
        self.append(Batch { events: vec![Event::Failed { outcome }], ..Batch::default() }).await
    }

    async fn take(&mut self, input: Input) -> Result<(), DriveError> {
        match input {
            Input::Append { flight, batch, reply } => {
                let wanted = self.flights.get(&flight).is_some_and(|(_, token)| !token.is_cancelled());
                if wanted {
                    self.append(*batch).await?;
                }
                let _flight_left = reply.send(wanted);
            }
            Input::Cancel { reason, by, reply } => {
                if !self.is_over() {
                    self.cancel(reason, by).await?;
                }
                let _caller_left = reply.send(self.handle.look(view::summary));
            }
            Input::Person { event, by, reply } => {
                let fits = self.handle.look(|state| fits(state, &event));
                if fits {
                    self.person(event, &by).await?;
                }
                let _caller_left = reply.send(fits.then(|| self.handle.look(view::summary)));
            }
            Input::Answer { id, body, by, reply } => {
                let answered = self.answer(&id, body, by).await?;
                let _caller_left = reply.send(answered);
            }
        }
        Ok(())
    }

    async fn person(&mut self, event: Event, by: &str) -> Result<(), DriveError> {
        let actor = format!("person/{by}");
        let acted = Acted { at_ms: self.now_ms(), run_id: &self.handle.run_id, actor: &actor };
        let audit = vec![acted.entry(&format!("run/{}", event.kind()), "done", json!({}))];
        self.append(Batch { events: vec![event], audit, ..Batch::default() }).await
    }

    async fn cancel(&mut self, reason: Option<String>, by: String) -> Result<(), DriveError> {
        let actor = format!("person/{by}");
        let acted = Acted { at_ms: self.now_ms(), run_id: &self.handle.run_id, actor: &actor };
        let audit = vec![acted.entry("run/cancel", "done", json!({"reason": reason}))];
        self.append(Batch { events: vec![Event::CancelRequested { reason, by }], audit, ..Batch::default() }).await
    }

    /// Answers a question; `None` when it is not open, or was about another input.
    async fn answer(
        &mut self,
        id: &str,
        body: v1::DecideApproval,
        by: String,
    ) -> Result<Option<v1::Approval>, DriveError> {
        let found = self.handle.look(|state| {
            let call = state.pending_approvals().find(|(_, known)| *known == id)?.0;
            Some((call, view::approval(state, call)?))
        });
        let Some((call, approval)) = found else { return Ok(None) };
        if body.input_digest.is_some_and(|digest| digest != approval.input_digest) {
            return Ok(None);
        }
        let answer = match body.decision {
            v1::ApprovalDecision::Grant => ApprovalAnswer::Granted { remember: body.remember },
            v1::ApprovalDecision::Deny => ApprovalAnswer::Denied { reason: body.reason },
        };
        let answered = view::answered(approval, &answer, &by, self.now_ms());
        let event = Event::ApprovalAnswered { call, approval_id: id.to_owned(), answer, by };
        self.append(Batch { events: vec![event], ..Batch::default() }).await?;
        Ok(Some(answered))
    }

    /// Ends at the latest when something becomes due.
    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let due_at = self.handle.look(next_due);
        let wait = due_at.map(|at_ms| at_ms.saturating_sub(self.now_ms()).min(TIMER_MS_MAX));
        async move {
            match wait {
                Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn ring(&mut self) -> Result<(), DriveError> {
        let now_ms = self.now_ms();
        let events = self.handle.look(|state| due(state, now_ms));
        if events.is_empty() {
            return Ok(());
        }
        self.append(Batch { events, ..Batch::default() }).await
    }

    /// The heart: applied, durable, told; and only then is anything done about it. The state is not copied, so when the
    /// journal can not be written the driver ends with it.
    async fn append(&mut self, batch: Batch) -> Result<(), DriveError> {
        let at_ms = self.now_ms();
        let log: Vec<Logged> = batch.events.into_iter().map(|data| Logged { at_ms, data }).collect();
        let mut told = Told::default();
        let records = {
            let mut state = self.handle.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut marks = view::marks(&state);
            let waiting: Vec<v1::Approval> = marks.waiting().cloned().collect();
            for (logged, seq) in log.iter().zip(self.seq + 1..) {
                retrace(&mut state, &logged.data, at_ms);
                told.add(&marks, logged, &state, seq);
                marks = view::marks(&state);
            }
            self.records(&told, &state, &waiting, at_ms)
        };
        let mut audit = batch.audit;
        audit.extend(told.approvals.iter().filter_map(|approval| self.audit_answer(approval, at_ms)));
        let entries = log.iter().zip(self.seq + 1..).map(|(logged, seq)| logged.entry(seq)).collect();
        let run_id = self.handle.run_id.to_string();
        self.write(AppendBatch { run_id, entries, audit, blobs: batch.blobs, records, forget_audit_through: None })
            .await?;
        self.seq += log.len() as u64;
        told.events.into_iter().for_each(|event| self.handle.tell(event));
        told.spans.into_iter().for_each(|span| self.shared.spans.send(span));
        Ok(())
    }

    async fn write(&self, batch: AppendBatch) -> Result<(), DriveError> {
        let mut tries = 0;
        loop {
            match self.shared.journal.append(batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(JournalError::Overloaded) if tries < APPEND_TRIES_MAX => {
                    tokio::time::sleep(Duration::from_millis(APPEND_PAUSE_MS << tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(DriveError::Journal(error)),
            }
        }
    }

    /// Records that change with the events.
    fn records(&self, told: &Told, next: &RunState, waiting: &[v1::Approval], at_ms: u64) -> Vec<RecordPut> {
        let mut changed: Vec<RecordPut> = told.approvals.iter().map(approval_record).collect();
        let over = next.outcome().is_some();
        if over {
            let answered = |open: &&v1::Approval| !told.approvals.iter().any(|approval| approval.id == open.id);
            changed.extend(waiting.iter().filter(answered).map(|open| {
                let mut open = open.clone();
                (open.state, open.decided_at_ms) = (v1::ApprovalState::Cancelled, Some(at_ms));
                approval_record(&open)
            }));
        }
        if over || told.resumed {
            let record = RunRecord {
                owner: self.shared.instance.clone(),
                closed: next.is_closed(),
                summary: view::summary(next),
            };
            changed.push(put(records::RUN, &self.handle.run_id, &record, RecordExpect::Any));
        }
        changed
    }

    fn audit_answer(&self, approval: &v1::Approval, at_ms: u64) -> Option<AuditEntry> {
        let outcome = match approval.state {
            v1::ApprovalState::Granted => "granted",
            v1::ApprovalState::Denied => "denied",
            v1::ApprovalState::Expired => "expired",
            v1::ApprovalState::Pending | v1::ApprovalState::Cancelled => return None,
        };
        let by = approval.decided_by.as_deref().unwrap_or_default();
        let actor = if outcome == "expired" { "atoll".to_owned() } else { format!("person/{by}") };
        let acted = Acted { at_ms, run_id: &self.handle.run_id, actor: &actor };
        let detail = json!({
            "approval_id": approval.id,
            "call_id": approval.call_id,
            "summary": approval.summary,
            "input_digest": approval.input_digest,
            "reason": approval.decision_reason,
        });
        Some(acted.entry(&format!("approval/{}", approval.tool), outcome, detail))
    }
}

/// What a batch of events leads to, beside the state.
#[derive(Default)]
struct Told {
    events: Vec<RunEvent>,
    spans: Vec<atoll_rt::telemetry::Span>,
    /// Questions put or answered.
    approvals: Vec<v1::Approval>,
    resumed: bool,
}

impl Told {
    fn add(&mut self, before: &Marks, logged: &Logged, state: &RunState, seq: u64) {
        let events = view::events(before, &logged.data, state, seq, logged.at_ms);
        for event in &events {
            match &event.event {
                RunEventKind::ApprovalRequested { approval } | RunEventKind::ApprovalAnswered { approval } => {
                    self.approvals.push(approval.clone());
                }
                RunEventKind::RunResumed {} => self.resumed = true,
                _ => {}
            }
        }
        self.events.extend(events);
        self.spans.extend(spans::ended(before, &logged.data, state, logged.at_ms));
    }
}

/// Whether what a person wants still makes sense.
fn fits(state: &RunState, event: &Event) -> bool {
    let listens = |agent: &u32| {
        let agent = state.agent(*agent);
        agent.is_some_and(|agent| !matches!(agent.phase, AgentPhase::Collecting { .. } | AgentPhase::Finished { .. }))
    };
    state.outcome().is_none()
        && match event {
            Event::Paused { .. } => !state.paused,
            Event::Unpaused { .. } => state.paused,
            Event::Told { agent, .. } => listens(agent),
            _ => false,
        }
}

/// The agent whose sandbox an effect uses; none for effects of the run as a whole.
fn agent_of(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::Prepare { agent } | Effect::CallModel { agent, .. } | Effect::Collect { agent } => Some(*agent),
        Effect::Act { call } => Some(call.agent),
        Effect::Close {} => None,
    }
}
