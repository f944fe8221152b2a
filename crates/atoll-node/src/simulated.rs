//! A [`PodRuntime`] without a machine: for tests and for benchmarks of everything around the sandboxes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use atoll_rt::clock::now_unix_ms;
use atoll_sandbox::{ExitReason, ExitRecord, RunningSandbox, SandboxRecord, SandboxSpec, SandboxState};
use tokio::sync::watch;

use crate::runtime::{CheckOutcome, GuestEndpoint, PodRuntime, Question, RuntimeError, RuntimeErrorKind};

const SIGKILL: i32 = 9;

/// How a simulation behaves.
#[derive(Debug, Clone, Default)]
pub struct SimulatedConfig {
    /// How long a start takes.
    pub start_delay: Duration,
    /// How long a sandbox takes to end after it was asked politely; for ever when `None`.
    pub stop_delay: Option<Duration>,
    /// The guest socket that every sandbox claims to have.
    pub guest_socket: PathBuf,
}

/// Sandboxes that only exist in memory.
#[derive(Debug)]
pub struct SimulatedRuntime {
    config: SimulatedConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: HashMap<String, Simulated>,
    volumes: BTreeSet<String>,
    kept_logs: BTreeSet<String>,
    incarnations: u64,
    refusals: VecDeque<RuntimeError>,
    destroy_failures: u32,
    unhealthy: Option<String>,
    created: Vec<SandboxSpec>,
    destroyed: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Simulated {
    spec: SandboxSpec,
    incarnation: u64,
    started_at_ms: u64,
    exit: watch::Sender<Option<ExitRecord>>,
}

impl SimulatedRuntime {
    /// An empty machine.
    #[must_use]
    pub fn new(config: SimulatedConfig) -> Self {
        Self { config, state: Mutex::default() }
    }

    /// Makes the next start fail. May be called several times.
    pub fn refuse_next(&self, error: RuntimeError) {
        self.state().refusals.push_back(error);
    }

    /// Makes the next `count` removals fail.
    pub fn fail_destroys(&self, count: u32) {
        self.state().destroy_failures = count;
    }

    /// Makes every probe fail with these words, or pass again.
    pub fn set_unhealthy(&self, why: Option<&str>) {
        self.state().unhealthy = why.map(str::to_owned);
    }

    /// Ends a sandbox's workload.
    ///
    /// # Panics
    /// If there is no such sandbox.
    pub fn exit(&self, id: &str, code: i32, reason: ExitReason) {
        let state = self.state();
        let sandbox = state.sandboxes.get(id).expect("the sandbox is there");
        sandbox.exit.send_replace(Some(ExitRecord {
            code,
            signal: None,
            oom_killed: reason == ExitReason::OomKilled,
            finished_at_ms: now_unix_ms(),
            reason,
        }));
    }

    /// Ids of the sandboxes that are there, with their addresses.
    #[must_use]
    pub fn present(&self) -> BTreeMap<String, Ipv4Addr> {
        self.state().sandboxes.iter().map(|(id, sandbox)| (id.clone(), sandbox.spec.network.address)).collect()
    }

    /// Every sandbox that was ever started, in order.
    #[must_use]
    pub fn created(&self) -> Vec<SandboxSpec> {
        self.state().created.clone()
    }

    /// Every removal that succeeded, with its grace in milliseconds, in order.
    #[must_use]
    pub fn destroyed(&self) -> Vec<(String, u64)> {
        self.state().destroyed.clone()
    }

    /// Takes a sandbox away as a restart of the machine does.
    pub fn lose(&self, id: &str) {
        self.state().sandboxes.remove(id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the simulation's lock panics")
    }

    fn subscribe(&self, id: &str) -> Option<watch::Receiver<Option<ExitRecord>>> {
        self.state().sandboxes.get(id).map(|sandbox| sandbox.exit.subscribe())
    }
}

fn not_found(id: &str) -> RuntimeError {
    RuntimeError::new(RuntimeErrorKind::NotFound, format!("there is no sandbox {id}"))
}

#[async_trait]
impl PodRuntime for SimulatedRuntime {
    async fn create(&self, spec: SandboxSpec) -> Result<RunningSandbox, RuntimeError> {
        if !self.config.start_delay.is_zero() {
            tokio::time::sleep(self.config.start_delay).await;
        }
        let mut state = self.state();
        if let Some(refusal) = state.refusals.pop_front() {
            return Err(refusal);
        }
        if state.sandboxes.contains_key(&spec.id) {
            return Err(RuntimeError::new(RuntimeErrorKind::AlreadyExists, format!("{} exists", spec.id)));
        }
        if state.sandboxes.values().any(|other| other.spec.network.address == spec.network.address) {
            return Err(RuntimeError::new(RuntimeErrorKind::AddressInUse, "the address is in use"));
        }
        state.incarnations += 1;
        let running = RunningSandbox {
            id: spec.id.clone(),
            address: spec.network.address,
            guest_socket: self.config.guest_socket.clone(),
            tier_in_force: spec.tier,
            started_at_ms: now_unix_ms(),
            supervisor_pid: 0,
            incarnation: state.incarnations,
        };
        let simulated = Simulated {
            spec: spec.clone(),
            incarnation: running.incarnation,
            started_at_ms: running.started_at_ms,
            exit: watch::Sender::new(None),
        };
        state.sandboxes.insert(spec.id.clone(), simulated);
        state.created.push(spec);
        Ok(running)
    }

    async fn destroy(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError> {
        if let Some(mut exit) = self.subscribe(id)
            && exit.borrow().is_none()
            && grace_ms > 0
        {
            let stop = self.config.stop_delay.unwrap_or(Duration::MAX).min(Duration::from_millis(grace_ms));
            let _ended_or_killed = tokio::time::timeout(stop, exit.wait_for(Option::is_some)).await;
        }
        let mut state = self.state();
        if state.destroy_failures > 0 {
            state.destroy_failures -= 1;
            return Err(RuntimeError::new(RuntimeErrorKind::Internal, "a mount is busy"));
        }
        if state.sandboxes.remove(id).is_some() {
            state.destroyed.push((id.to_owned(), grace_ms));
        }
        Ok(())
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let state = self.state();
        let sandbox = state.sandboxes.get(id).ok_or_else(|| not_found(id))?;
        if signal == SIGKILL {
            let exit = ExitRecord {
                code: 128 + SIGKILL,
                signal: Some(SIGKILL),
                oom_killed: false,
                finished_at_ms: now_unix_ms(),
                reason: ExitReason::Error,
            };
            sandbox.exit.send_if_modified(|current| current.is_none() && current.replace(exit).is_none());
        }
        Ok(())
    }

    async fn wait(&self, id: &str) -> Result<ExitRecord, RuntimeError> {
        let mut exit = self.subscribe(id).ok_or_else(|| not_found(id))?;
        let ended = exit.wait_for(Option::is_some).await.map_err(|_destroyed| not_found(id))?;
        Ok(ended.clone().expect("it was waited for"))
    }

    async fn list(&self) -> Result<Vec<SandboxRecord>, RuntimeError> {
        let state = self.state();
        let record = |(id, sandbox): (&String, &Simulated)| SandboxRecord {
            id: id.clone(),
            tier_in_force: sandbox.spec.tier,
            address: sandbox.spec.network.address,
            guest_socket: self.config.guest_socket.clone(),
            incarnation: sandbox.incarnation,
            started_at_ms: sandbox.started_at_ms,
            supervisor_pid: 0,
            supervisor_started_ticks: 0,
            guest_pid: 0,
            state: match &*sandbox.exit.borrow() {
                Some(exit) => SandboxState::Exited(exit.clone()),
                None => SandboxState::Running,
            },
            cgroups: BTreeMap::new(),
        };
        Ok(state.sandboxes.iter().map(record).collect())
    }

    async fn make_volume(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        self.state().volumes.insert(name.to_owned());
        Ok(PathBuf::from("/simulated").join(name))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        self.state().volumes.remove(name);
        Ok(())
    }

    async fn list_volumes(&self) -> Result<Vec<String>, RuntimeError> {
        Ok(self.state().volumes.iter().cloned().collect())
    }

    fn log_path(&self, id: &str, previous: bool) -> PathBuf {
        PathBuf::from("/simulated/logs").join(id).join(if previous { "previous" } else { "log" })
    }

    async fn destroy_keeping_log(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError> {
        self.destroy(id, grace_ms).await?;
        self.state().kept_logs.insert(id.to_owned());
        Ok(())
    }

    async fn forget_log(&self, id: &str) {
        self.state().kept_logs.remove(id);
    }

    async fn kept_logs(&self) -> Vec<String> {
        self.state().kept_logs.iter().cloned().collect()
    }

    async fn check(&self, _guest: &GuestEndpoint, _question: &Question, _limit: Duration) -> CheckOutcome {
        match &self.state().unhealthy {
            Some(why) => CheckOutcome::Failed(why.clone()),
            None => CheckOutcome::Passed,
        }
    }
}
