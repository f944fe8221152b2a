//! One effect being carried out. It hands its events to the run's driver and goes on only when they are durable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_api::v1::{self, RunEvent, RunEventKind};
use atoll_engine::{CallRef, Effect, Event, Outcome, OutcomeName, RunState, SandboxIdentity, Workspace, context};
use atoll_rt::CancellationToken;
use atoll_stdx::{Hint, chain};
use tokio::sync::oneshot;

use crate::gate;
use crate::mcp;
use crate::model::Caller;
use crate::orchestrator::Shared;
use crate::repos::{RESULT_BYTES_MAX, RepoError};
use crate::run::{Batch, Input, RunHandle};
use crate::spans;
use crate::view;
use crate::workbench::{Bench, BenchError, BenchOrder, OutputStream};
use crate::workspace::{self, AgentFacts, WorkspaceError};

/// How long a command of an ended agent is given to be killed.
const KILL_TIMEOUT_MS: u64 = 5_000;
/// Tries to make or leave a workspace through a broken connection.
const WORKSPACE_TRIES_MAX: u32 = 5;
const WORKSPACE_PAUSE_MS: u64 = 200;
/// Tries to give a run's sandboxes back; the next start tries again.
const CLOSE_TRIES_MAX: u32 = 8;
const CLOSE_PAUSE_MS: u64 = 250;

/// Why an effect was not carried out to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The run no longer wants it, or the plane stops.
    Superseded,
    /// The journal can not be read.
    Journal(atoll_store::JournalError),
}

/// One effect on its way.
pub(crate) struct Flight {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: RunHandle,
    pub(crate) id: u64,
    /// Cancelled when the run no longer wants the effect.
    pub(crate) token: CancellationToken,
    /// Key and place of the command that runs.
    running: Mutex<Option<String>>,
}

impl Flight {
    pub(crate) fn new(shared: Arc<Shared>, run: RunHandle, id: u64, token: CancellationToken) -> Self {
        Self { shared, run, id, token, running: Mutex::new(None) }
    }

    /// Carries the effect out; returns early when the run no longer wants it or the plane stops.
    pub(crate) async fn carry_out(self, effect: Effect) -> Result<(), Stop> {
        let stopping = self.shared.group.token();
        let work = async {
            let _permit = match effect {
                Effect::Close {} => None,
                _ => self.shared.concurrency.acquire().await.ok(),
            };
            match &effect {
                Effect::Prepare { agent } => self.prepare(*agent).await,
                Effect::CallModel { agent, step } => self.call_model(*agent, *step).await,
                Effect::Act { call } => gate::pass(&self, *call).await,
                Effect::Collect { agent } => self.collect(*agent).await,
                Effect::Close {} => self.close().await,
            }
        };
        tokio::select! {
            // Stopping leaves commands running: they are taken up again at the next start.
            () = stopping.cancelled() => Err(Stop::Superseded),
            () = self.token.cancelled() => {
                self.kill_running(&effect).await;
                Err(Stop::Superseded)
            }
            done = work => done,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.now_unix_ms()
    }

    /// Looks at the run's state.
    pub(crate) fn state<T>(&self, look: impl FnOnce(&RunState) -> T) -> T {
        look(&self.run.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes events durable and applies them.
    pub(crate) async fn append(&self, batch: Batch) -> Result<(), Stop> {
        let (reply, answer) = oneshot::channel();
        let input = Input::Append { flight: self.id, batch: Box::new(batch), reply };
        self.run.inbox.send(input).await.map_err(|_| Stop::Superseded)?;
        if answer.await.unwrap_or(false) { Ok(()) } else { Err(Stop::Superseded) }
    }

    async fn event(&self, event: Event) -> Result<(), Stop> {
        self.append(Batch { events: vec![event], ..Batch::default() }).await
    }

    /// A blob of the journal.
    pub(crate) async fn blob(&self, sha256: &str) -> Result<Option<Vec<u8>>, Stop> {
        self.shared.journal.blob(sha256).await.map_err(Stop::Journal)
    }

    /// Notes the key of a command that is about to run, to be killed if the run stops wanting it.
    pub(crate) fn now_running(&self, key: &str) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.to_owned());
    }

    /// The command has ended; what it left behind in the sandbox stays.
    pub(crate) fn not_running(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn kill_running(&self, effect: &Effect) {
        let key = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(key), Effect::Act { call }) = (key, effect) else { return };
        let Some(bench) = self.run.bench(call.agent) else { return };
        let killed = tokio::time::timeout(Duration::from_millis(KILL_TIMEOUT_MS), bench.kill(&key)).await;
        if !matches!(killed, Ok(Ok(()))) {
            tracing::warn!(run = %self.run.run_id, key, "a command could not be killed; its sandbox goes with the run");
        }
    }

    /// Tells of something that is not kept.
    fn tell(&self, event: RunEventKind) {
        self.run.tell(RunEvent { seq: None, at_ms: self.now_ms(), event });
    }

    /// Tells of a running command's output.
    pub(crate) fn tool_output(&self, call: CallRef, stream: OutputStream, text: String) {
        let stream = match stream {
            OutputStream::Stdout => v1::OutputStream::Stdout,
            OutputStream::Stderr => v1::OutputStream::Stderr,
        };
        if let Some(agent) = self.state(|state| state.agent(call.agent).map(view::agent_ref)) {
            self.tell(RunEventKind::ToolOutput { agent, call_id: call.to_string(), stream, text });
        }
    }

    fn facts(&self, agent: u32) -> Result<AgentFacts, Stop> {
        self.state(|state| AgentFacts::of(state, agent)).ok_or(Stop::Superseded)
    }

    async fn call_model(&self, agent: u32, step: u64) -> Result<(), Stop> {
        let asked = self.state(|state| {
            let request = context::assemble(state, agent)?;
            Some((request, view::agent_ref(state.agent(agent)?)))
        });
        let Some((request, reference)) = asked else { return Err(Stop::Superseded) };
        let run_id = &self.run.run_id;
        let caller = Caller { run_id, agent: &reference.name, traceparent: spans::traceparent(run_id, agent, step) };
        let began_ms = self.now_ms();
        let text = |text: &str| self.tell(RunEventKind::TextDelta { agent: reference.clone(), text: text.to_owned() });
        let event = match self.shared.model.ask(&request, &caller, text).await {
            Ok(mut answer) => {
                answer.duration_ms = self.now_ms().saturating_sub(began_ms);
                Event::ModelAnswered { agent, step, answer }
            }
            Err(outcome) => Event::ModelFailed { agent, step, outcome },
        };
        self.event(event).await
    }

    async fn prepare(&self, agent: u32) -> Result<(), Stop> {
        let facts = self.facts(agent)?;
        if !facts.profile.sandboxed {
            return self.event(Event::Prepared { agent, workspace: Workspace::default() }).await;
        }
        let event = match self.make_workspace(&facts).await {
            Ok(workspace) => Event::Prepared { agent, workspace },
            Err(outcome) => Event::PrepareFailed { agent, outcome },
        };
        self.event(event).await
    }

    /// Opens the agent's bench and puts its workspace there. Done again in the same incarnation, it changes nothing.
    async fn make_workspace(&self, facts: &AgentFacts) -> Result<Workspace, Outcome> {
        let order = self.order(facts);
        let bench = self.shared.workbench.open(&order).await.map_err(|error| no_sandbox(&error))?;
        self.run.keep_bench(facts.id, Arc::clone(&bench));
        let start = self.run.repo.head().await.map_err(|error| bad_repo(&error))?;
        let bundle = self.run.repo.bundle_for_agent(facts.id, &start).await.map_err(|error| bad_repo(&error))?;
        let mut tries = 1;
        loop {
            let made = async {
                let sandbox = bench.identity().await?;
                let key = format!("{}/a{}/setup/{}", facts.run_id, facts.id, sandbox.incarnation);
                workspace::set_up(&*bench, facts, &bundle, key.clone()).await?;
                let servers = mcp::discover(&self.shared.mcp, &*bench, facts, &key).await;
                Ok::<_, WorkspaceError>(Workspace { servers, ..facts.placed(sandbox, start.clone()) })
            };
            match made.await {
                Ok(workspace) => return Ok(workspace),
                Err(WorkspaceError::Bench(BenchError::Broken { .. })) if tries < WORKSPACE_TRIES_MAX => {
                    tokio::time::sleep(Duration::from_millis(WORKSPACE_PAUSE_MS * u64::from(tries))).await;
                    tries += 1;
                }
                Err(error) => {
                    let outcome = Outcome::new(OutcomeName::SandboxUnavailable, chain(&error));
                    return Err(outcome.hint("the sandbox needs git, sh and a writable /workspace"));
                }
            }
        }
    }

    fn order(&self, facts: &AgentFacts) -> BenchOrder {
        let policy = self.shared.policy.current();
        let limits = policy.agent(facts.profile.policy_agent()).map(|agent| &agent.resource_limits);
        BenchOrder {
            run_id: facts.run_id.clone(),
            agent: facts.id,
            agent_name: facts.profile.name.clone(),
            cpu: limits.and_then(|limits| limits.cpu.clone()),
            memory: limits.and_then(|limits| limits.memory.clone()),
        }
    }

    /// The bench of an agent that works, and who answers there. Where that is another sandbox than the agent knows, its
    /// workspace is made anew first and the agent is told.
    pub(crate) async fn bench_of(
        &self,
        agent: u32,
    ) -> Result<Result<(Arc<dyn Bench>, SandboxIdentity), BenchError>, Stop> {
        let facts = self.facts(agent)?;
        let (bench, sandbox) = match self.reach(&facts).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        if facts.workspace.sandbox.as_ref() == Some(&sandbox) {
            return Ok(Ok((bench, sandbox)));
        }
        let workspace = match self.make_workspace(&facts).await {
            Ok(workspace) => workspace,
            Err(outcome) => {
                return Ok(Err(BenchError::Unavailable { message: outcome.message, hint: outcome.hint }));
            }
        };
        let commit = workspace.commit.clone().unwrap_or_default();
        let note = format!(
            "[Your sandbox started anew. The working directory was made again from commit {commit}; everything that was \
             not in it is gone.]"
        );
        self.event(Event::WorkspaceRenewed { agent, workspace, note }).await?;
        Ok(Ok((bench, sandbox)))
    }

    async fn reach(&self, facts: &AgentFacts) -> Result<(Arc<dyn Bench>, SandboxIdentity), BenchError> {
        if let Some(bench) = self.run.bench(facts.id) {
            match bench.identity().await {
                Ok(sandbox) => return Ok((bench, sandbox)),
                Err(BenchError::Broken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let bench = self.shared.workbench.open(&self.order(facts)).await?;
        self.run.keep_bench(facts.id, Arc::clone(&bench));
        let sandbox = bench.identity().await?;
        Ok((bench, sandbox))
    }

    async fn collect(&self, agent: u32) -> Result<(), Stop> {
        let facts = self.facts(agent)?;
        let event = match self.fetch_work(&facts).await {
            Ok(work) => Event::Collected { agent, work },
            Err(outcome) => Event::CollectFailed { agent, outcome },
        };
        self.event(event).await
    }

    async fn fetch_work(&self, facts: &AgentFacts) -> Result<Option<atoll_engine::Work>, Outcome> {
        let mut tries = 1;
        let bundle = loop {
            let fetched = async {
                let (bench, sandbox) = self.reach(facts).await?;
                if facts.workspace.sandbox.as_ref() != Some(&sandbox) {
                    let message = "it started anew before the agent's work was fetched".to_owned();
                    return Err(WorkspaceError::Bench(BenchError::Unavailable { message, hint: None }));
                }
                let key = format!("{}/a{}/collect", facts.run_id, facts.id);
                workspace::collect(&*bench, facts, key, RESULT_BYTES_MAX).await
            };
            match fetched.await {
                Ok(None) => return Ok(None),
                Ok(Some(bundle)) => break bundle,
                Err(WorkspaceError::Bench(BenchError::Broken { .. })) if tries < WORKSPACE_TRIES_MAX => {
                    tokio::time::sleep(Duration::from_millis(WORKSPACE_PAUSE_MS * u64::from(tries))).await;
                    tries += 1;
                }
                Err(error) => return Err(no_work(&error)),
            }
        };
        let start = facts.workspace.commit.as_deref().unwrap_or_default();
        self.run.repo.take_in(&bundle, start, facts.id).await.map(Some).map_err(|error| bad_repo(&error))
    }

    /// Gives the run's sandboxes back.
    async fn close(&self) -> Result<(), Stop> {
        for tries in 0..CLOSE_TRIES_MAX {
            match self.shared.workbench.release(&self.run.run_id).await {
                Ok(()) => return self.event(Event::Closed {}).await,
                Err(error) => {
                    tracing::warn!(run = %self.run.run_id, cause = chain(&error), "sandboxes could not be given back");
                    tokio::time::sleep(Duration::from_millis(CLOSE_PAUSE_MS << tries)).await;
                }
            }
        }
        Err(Stop::Superseded)
    }
}

fn no_sandbox(error: &BenchError) -> Outcome {
    Outcome { hint: error.hint(), ..Outcome::new(OutcomeName::SandboxUnavailable, chain(error)) }
}

fn bad_repo(error: &RepoError) -> Outcome {
    let name = match error {
        RepoError::Rejected { .. } => OutcomeName::RepositoryRejected,
        RepoError::Git(_) | RepoError::Io(_) => OutcomeName::Internal,
    };
    Outcome { hint: error.hint(), ..Outcome::new(name, chain(error)) }
}

fn no_work(error: &WorkspaceError) -> Outcome {
    let name = match error {
        WorkspaceError::Bench(BenchError::Unavailable { .. } | BenchError::Broken { .. }) => {
            OutcomeName::SandboxUnavailable
        }
        WorkspaceError::Bench(_) | WorkspaceError::Script { .. } => OutcomeName::RepositoryRejected,
    };
    Outcome::new(name, chain(error))
}
