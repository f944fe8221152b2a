//! What the node knows of one Pod's sandbox, and how each piece of news changes it. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use atoll_sandbox::{ExitReason, ExitRecord, SandboxRecord, SandboxState, Tier};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;

use crate::init::{InitContainer, InitState};
use crate::pod::{self, PodIdentity};
use crate::probe::{ProbeKind, Probes};
use crate::runtime::{CheckOutcome, RuntimeError, RuntimeErrorKind};

/// First wait before a container that ended twice is started again, in milliseconds.
const RESTART_PAUSE_MS: u64 = 10_000;
const RESTART_PAUSE_MS_MAX: u64 = 300_000;
/// A container that ran this long has a clean record again, in milliseconds.
const RESTART_FORGIVEN_AFTER_MS: u64 = 600_000;
/// First wait before a start that failed is tried again, in milliseconds.
const START_PAUSE_MS: u64 = 1_000;
const START_PAUSE_MS_MAX: u64 = 60_000;
/// Addresses in a row that may turn out to be somebody else's before the start counts as failed.
const FOREIGN_ADDRESSES_MAX: u32 = 256;
/// Wait before a removal that failed is tried again, in milliseconds.
const DESTROY_PAUSE_MS: u64 = 1_000;

/// One Pod on this node.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) identity: PodIdentity,
    pub(crate) stage: Stage,
    /// Held from the first start until the sandbox is gone to the last trace.
    pub(crate) address: Option<Ipv4Addr>,
    /// Names of its directories on disk.
    pub(crate) directories: Vec<String>,
    /// Something of the Pod may exist on the machine.
    pub(crate) is_touched: bool,
    /// In the Pod's order; empty until the first start.
    pub(crate) init: Vec<InitContainer>,
    /// Tells a start that runs init containers to give up, with the grace of the one that runs.
    pub(crate) stop_init: Arc<watch::Sender<Option<u64>>>,
    /// Digests of images by container, as of the last start; the host image has none.
    pub(crate) image_digests: BTreeMap<String, String>,
    pub(crate) restarts: u32,
    /// The next start is another one of a container that ran before.
    pub(crate) is_restart: bool,
    /// How the container ended the time before.
    pub(crate) previous: Option<Ended>,
    /// When the node first saw the Pod, in milliseconds since the Unix epoch.
    pub(crate) accepted_at_ms: u64,
    /// The next pause between restarts; 0 for none.
    restart_pause_ms: u64,
    failed_starts: u32,
    foreign_addresses: u32,
    pub(crate) report: Report,
}

/// What was told to the API server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// The status last written; `None` until the node wrote one.
    pub(crate) written: Option<Box<PodStatus>>,
    pub(crate) is_writing: bool,
    /// Not before this time, after a failure.
    pub(crate) retry_at_ms: u64,
    /// The object's removal was asked for.
    pub(crate) is_delete_requested: bool,
}

/// Where the Pod's sandbox stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// Nothing runs, and nothing hinders a start.
    Idle,
    /// Nothing runs, and something hinders a start.
    Waiting {
        reason: &'static str,
        message: String,
        /// When to try again; `None` for never.
        until_ms: Option<u64>,
        /// The sandbox that ended is still there, for its log.
        has_remains: bool,
    },
    Starting {
        since_ms: u64,
    },
    Running(Box<Live>),
    /// It ended by itself; its remains are still there.
    Ended(Ended),
    Stopping {
        purpose: Purpose,
        grace_ms: u64,
        is_killed: bool,
        ended: Option<Ended>,
        live_since_ms: Option<u64>,
    },
    /// Something could not be removed.
    StopFailed {
        purpose: Purpose,
        ended: Option<Ended>,
        retry_at_ms: u64,
    },
    /// It ended for good.
    Finished {
        ended: Option<Ended>,
        /// Reason and message of a failure that is not the container's own.
        failure: Option<(&'static str, &'static str)>,
    },
    /// Nothing is left of it.
    Cleared {
        ended: Option<Ended>,
    },
}

/// A sandbox that runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Live {
    pub(crate) incarnation: u64,
    pub(crate) tier: Tier,
    pub(crate) started_at_ms: u64,
    pub(crate) probes: Probes,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) incarnation: u64,
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) started_at_ms: u64,
    pub(crate) finished_at_ms: u64,
}

/// Why a sandbox is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its Pod goes.
    Delete,
    /// Its container has to be started again.
    Restart,
    /// It ended a while ago, and the next one needs its place.
    Clear,
    /// Its Pod's time is up.
    Deadline,
}

pub(crate) const DEADLINE_EXCEEDED: (&str, &str) =
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

impl Slot {
    /// A Pod that is new to this machine.
    pub(crate) fn new(identity: PodIdentity, now_ms: u64) -> Self {
        Self {
            identity,
            stage: Stage::Idle,
            address: None,
            directories: Vec::new(),
            is_touched: false,
            init: Vec::new(),
            stop_init: Arc::new(watch::Sender::new(None)),
            image_digests: BTreeMap::new(),
            restarts: 0,
            is_restart: false,
            previous: None,
            accepted_at_ms: now_ms,
            restart_pause_ms: 0,
            failed_starts: 0,
            foreign_addresses: 0,
            report: Report::default(),
        }
    }

    /// A Pod as it is found when the node starts: by the sandbox that is there, if one is, and by its own account.
    pub(crate) fn found(identity: PodIdentity, pod: Option<&Pod>, record: Option<&SandboxRecord>, now_ms: u64) -> Self {
        let mut slot = Self::new(identity, now_ms);
        slot.is_touched = record.is_some();
        if let Some(pod) = pod {
            slot.restarts = pod::recorded_restarts(pod);
            slot.is_restart = record.is_none() && pod::is_recorded_ended_before(pod);
            if let Some(started) = &pod::status(pod).start_time {
                slot.is_touched = true;
                slot.accepted_at_ms = u64::try_from(started.0.as_millisecond()).unwrap_or(now_ms);
            }
        }
        slot.address = record.map(|record| record.address);
        if let (Some(pod), Some(_)) = (pod, record) {
            // The Pod's own container has run: so they had ended well.
            let told = InitContainer { state: InitState::Told, ..InitContainer::default() };
            slot.init = vec![told; crate::init::containers(pod).len()];
        }
        slot.stage = match (pod, record) {
            (Some(pod), _) if pod::is_terminal(pod) => Stage::Finished { ended: None, failure: None },
            (_, Some(record)) => match &record.state {
                SandboxState::Running => Stage::Running(Box::new(Live::resumed(pod, record))),
                SandboxState::Exited(exit) => Stage::Ended(Ended::of(exit, record.incarnation, record.started_at_ms)),
            },
            (Some(pod), None) if pod::is_recorded_running(pod) => Stage::Ended(Ended::lost(now_ms)),
            _ => Stage::Idle,
        };
        slot
    }

    /// A start begins, of a Pod with so many init containers.
    pub(crate) fn on_start_begun(&mut self, init_containers: usize, now_ms: u64) {
        self.is_touched = true;
        self.init.resize(init_containers, InitContainer::default());
        self.stop_init.send_replace(None);
        self.stage = Stage::Starting { since_ms: now_ms };
    }

    pub(crate) fn on_started(&mut self, live: Live) {
        if matches!(self.stage, Stage::Starting { .. }) {
            self.failed_starts = 0;
            self.foreign_addresses = 0;
            self.restarts += u32::from(std::mem::take(&mut self.is_restart));
            self.stage = Stage::Running(Box::new(live));
        }
    }

    /// An earlier plane ended in the middle of this Pod's start, and left an init container with this address.
    pub(crate) fn on_interrupted_start(&mut self, init_containers: usize, address: Ipv4Addr) {
        self.is_touched = true;
        self.init.resize(init_containers, InitContainer::default());
        self.address = Some(address);
    }

    /// An init container begins or ends.
    pub(crate) fn on_init(&mut self, index: usize, state: InitState) {
        if let Some(container) = self.init.get_mut(index) {
            container.enter(state);
        }
    }

    /// Whether an init container ended as it should not.
    pub(crate) fn has_failed_init(&self) -> bool {
        self.init.iter().any(InitContainer::has_failed)
    }

    /// How many init containers have ended well, one after the other.
    pub(crate) fn init_done(&self) -> usize {
        self.init.iter().take_while(|container| container.is_done()).count()
    }

    /// Whether a start runs an init container and was not told to give up.
    pub(crate) fn has_stoppable_init(&self) -> bool {
        let runs = self.init.iter().any(|container| matches!(container.state, InitState::Running { .. }));
        runs && matches!(self.stage, Stage::Starting { .. }) && self.stop_init.borrow().is_none()
    }

    /// An init container failed: it runs again later, or the Pod has failed.
    pub(crate) fn on_init_failed(&mut self, name: &str, again: bool, now_ms: u64) {
        if !again {
            self.stage = Stage::Finished { ended: None, failure: None };
            return;
        }
        let PodIdentity { name: pod, namespace, uid } = &self.identity;
        let message = format!("back-off restarting failed container={name} pod={pod}_{namespace}({uid})");
        self.on_unprepared("CrashLoopBackOff", message, true, now_ms);
    }

    /// The Pod cannot be started as it is; `again` for trying again later.
    pub(crate) fn on_unprepared(&mut self, reason: &'static str, message: String, again: bool, now_ms: u64) {
        let until_ms = again.then(|| now_ms.saturating_add(self.next_start_pause_ms()));
        self.stage = Stage::Waiting { reason, message, until_ms, has_remains: false };
    }

    pub(crate) fn on_start_failed(&mut self, error: &RuntimeError, now_ms: u64) {
        let again = !matches!(error.kind, RuntimeErrorKind::Unsupported | RuntimeErrorKind::Invalid);
        let reason = if again { "CreateContainerError" } else { "CreateContainerConfigError" };
        self.on_unprepared(reason, error.told(), again, now_ms);
    }

    /// The address belongs to something else on this machine: the next one is tried at once. Returns the address that
    /// is of no use.
    pub(crate) fn on_foreign_address(&mut self, error: &RuntimeError, now_ms: u64) -> Option<Ipv4Addr> {
        self.foreign_addresses += 1;
        if self.foreign_addresses < FOREIGN_ADDRESSES_MAX {
            self.stage = Stage::Idle;
        } else {
            self.foreign_addresses = 0;
            self.on_start_failed(error, now_ms);
        }
        self.address.take()
    }

    pub(crate) fn on_exited(&mut self, incarnation: u64, exit: &ExitRecord) {
        match &mut self.stage {
            Stage::Running(live) if live.incarnation == incarnation => {
                self.stage = Stage::Ended(Ended::of(exit, incarnation, live.started_at_ms));
            }
            Stage::Stopping { ended: ended @ None, live_since_ms: Some(since), .. } => {
                *ended = Some(Ended::of(exit, incarnation, *since));
            }
            _ => {}
        }
    }

    pub(crate) fn on_destroy_begun(&mut self, purpose: Purpose, grace_ms: u64, now_ms: u64) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let (ended, live_since_ms) = match stage {
            Stage::Ended(ended) => (Some(ended), None),
            Stage::StopFailed { ended, .. } | Stage::Finished { ended, .. } => (ended, None),
            // Until the sandbox's own account arrives: whoever is stopped is killed in the end.
            Stage::Running(live) if purpose == Purpose::Restart => {
                (Some(Ended::killed(&live, now_ms)), Some(live.started_at_ms))
            }
            Stage::Running(live) => (None, Some(live.started_at_ms)),
            _ => (None, None),
        };
        self.stage = Stage::Stopping { purpose, grace_ms, is_killed: grace_ms == 0, ended, live_since_ms };
    }

    pub(crate) fn on_kill_begun(&mut self) {
        if let Stage::Stopping { is_killed, .. } = &mut self.stage {
            *is_killed = true;
        }
    }

    /// The sandbox is gone to the last trace. Returns the address that nobody has any more.
    pub(crate) fn on_destroyed(&mut self, now_ms: u64) -> Option<Ipv4Addr> {
        let Stage::Stopping { purpose, ended, .. } = &mut self.stage else { return None };
        let (purpose, ended) = (*purpose, ended.take());
        match purpose {
            Purpose::Delete => {
                self.is_touched = false;
                self.stage = Stage::Cleared { ended };
                self.address.take()
            }
            Purpose::Deadline => {
                self.stage = Stage::Finished { ended, failure: Some(DEADLINE_EXCEEDED) };
                None
            }
            Purpose::Restart => {
                self.restart_after(ended.unwrap_or_else(|| Ended::lost(now_ms)), false);
                None
            }
            Purpose::Clear => {
                self.stage = Stage::Idle;
                None
            }
        }
    }

    pub(crate) fn on_destroy_failed(&mut self, now_ms: u64) {
        if let Stage::Stopping { purpose, ended, .. } = &mut self.stage {
            let (purpose, ended) = (*purpose, ended.take());
            self.stage = Stage::StopFailed { purpose, ended, retry_at_ms: now_ms.saturating_add(DESTROY_PAUSE_MS) };
        }
    }

    /// The container ended once too often: the next start waits, and what is left of this one waits with it.
    pub(crate) fn on_back_off(&mut self) {
        if let Stage::Ended(ended) = &self.stage {
            let ended = ended.clone();
            self.restart_after(ended, true);
        }
    }

    /// Whether the next restart has to wait.
    pub(crate) fn backs_off(&self, ended: &Ended) -> bool {
        self.restart_pause_ms > 0 && !ended.ran_long()
    }

    /// Whether the container ran before.
    pub(crate) fn ran_before(&self) -> bool {
        self.is_restart || self.restarts > 0
    }

    /// The Pod ends here, with whatever its container ended with.
    pub(crate) fn on_finished(&mut self, failure: Option<(&'static str, &'static str)>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let ended = match stage {
            Stage::Ended(ended) => Some(ended),
            _ => None,
        };
        self.stage = Stage::Finished { ended, failure };
    }

    pub(crate) fn on_probe_begun(&mut self, kind: ProbeKind) {
        if let Stage::Running(live) = &mut self.stage
            && let Some(probe) = live.probes.get_mut(kind)
        {
            probe.begin();
        }
    }

    pub(crate) fn on_probed(&mut self, incarnation: u64, kind: ProbeKind, outcome: &CheckOutcome, now_ms: u64) {
        if let Stage::Running(live) = &mut self.stage
            && live.incarnation == incarnation
            && let Some(probe) = live.probes.get_mut(kind)
        {
            probe.finish(outcome, now_ms);
        }
    }

    fn restart_after(&mut self, ended: Ended, has_remains: bool) {
        self.is_restart = true;
        if ended.ran_long() {
            self.restart_pause_ms = 0;
        }
        self.stage = if self.restart_pause_ms == 0 {
            self.restart_pause_ms = RESTART_PAUSE_MS;
            Stage::Idle
        } else {
            let pause_ms = self.restart_pause_ms;
            self.restart_pause_ms = (pause_ms * 2).min(RESTART_PAUSE_MS_MAX);
            let PodIdentity { name, namespace, uid } = &self.identity;
            Stage::Waiting {
                reason: "CrashLoopBackOff",
                message: format!(
                    "back-off {}s restarting failed container of pod {name}_{namespace}({uid})",
                    pause_ms / 1000
                ),
                until_ms: Some(ended.finished_at_ms.saturating_add(pause_ms)),
                has_remains,
            }
        };
        self.previous = Some(ended);
    }

    fn next_start_pause_ms(&mut self) -> u64 {
        let doublings = self.failed_starts.min(16);
        self.failed_starts += 1;
        (START_PAUSE_MS << doublings).min(START_PAUSE_MS_MAX)
    }
}

impl Live {
    fn resumed(pod: Option<&Pod>, record: &SandboxRecord) -> Self {
        let container = pod.and_then(pod::container);
        let mut probes =
            container.and_then(|container| Probes::of(container, record.started_at_ms).ok()).unwrap_or_default();
        probes.resume(pod.is_some_and(pod::is_recorded_ready));
        Self {
            incarnation: record.incarnation,
            tier: record.tier_in_force,
            started_at_ms: record.started_at_ms,
            probes,
        }
    }
}

impl Ended {
    pub(crate) fn of(exit: &ExitRecord, incarnation: u64, started_at_ms: u64) -> Self {
        let (reason, message) = match exit.reason {
            _ if exit.oom_killed => ("OOMKilled", None),
            ExitReason::Completed => ("Completed", None),
            ExitReason::Error => ("Error", None),
            ExitReason::OomKilled => ("OOMKilled", None),
            ExitReason::SupervisorLost => ("Error", Some("the sandbox's supervisor was lost".to_owned())),
            ExitReason::MachineRestarted => ("Error", Some("the machine was restarted".to_owned())),
        };
        Self {
            incarnation,
            exit_code: exit.code,
            signal: exit.signal,
            reason,
            message,
            started_at_ms,
            finished_at_ms: exit.finished_at_ms,
        }
    }

    fn ran_long(&self) -> bool {
        self.finished_at_ms.saturating_sub(self.started_at_ms) >= RESTART_FORGIVEN_AFTER_MS
    }

    /// What is said of a container that was there and is not any more.
    fn lost(now_ms: u64) -> Self {
        Self {
            incarnation: 0,
            exit_code: 137,
            signal: None,
            reason: "ContainerStatusUnknown",
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            started_at_ms: now_ms,
            finished_at_ms: now_ms,
        }
    }

    #[cfg(test)]
    pub(crate) fn lost_with(exit_code: i32) -> Self {
        Self { exit_code, ..Self::lost(0) }
    }

    fn killed(live: &Live, now_ms: u64) -> Self {
        Self {
            incarnation: live.incarnation,
            exit_code: 137,
            signal: Some(9),
            reason: "Error",
            message: None,
            started_at_ms: live.started_at_ms,
            finished_at_ms: now_ms,
        }
    }
}
