//! The one task that owns all slots: takes news of Pods and sandboxes, and carries out what convergence asks for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::clock::now_unix_ms;
use atoll_sandbox::{ExitRecord, SandboxRecord};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{mpsc, oneshot};

use crate::addresses::AddressPool;
use crate::claims;
use crate::converge::{Action, converge};
use crate::environment::Unprepared;
use crate::hooks::{self, Hook};
use crate::images::PodImages;
use crate::init::{self, InitState};
use crate::node::Shared;
use crate::pod::{self, PodIdentity, RestartPolicy};
use crate::probe::ProbeKind;
use crate::runtime::{CheckOutcome, GuestEndpoint, RuntimeError, RuntimeErrorKind};
use crate::slot::{Purpose, Slot, Stage};
use crate::start::{self, Beginning, StartError, Started};
use crate::{events, status, translate};

/// News that wait for the worker.
const NEWS_MAX: usize = 4096;
/// Rounds of convergence for one Pod without anything new; more would be a mistake of ours.
const ROUNDS_MAX: usize = 8;
/// Pause after a write that the API server did not take, in milliseconds.
const WRITE_PAUSE_MS: u64 = 1_000;
const WAIT_PAUSE: Duration = Duration::from_secs(1);
/// A container may take this long to stop, however long its hook took.
const GRACE_AFTER_HOOK_MS: u64 = 2_000;
const SIGKILL: i32 = 9;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// Something that happened.
enum News {
    Started { uid: String, outcome: Result<Box<Started>, StartError> },
    Init { uid: String, index: usize, state: InitState },
    Exited { uid: String, incarnation: u64, exit: ExitRecord },
    Destroyed { uid: String, outcome: Result<(), RuntimeError> },
    Probed { uid: String, incarnation: u64, kind: ProbeKind, outcome: CheckOutcome },
    Written { uid: String, status: Box<PodStatus>, outcome: Outcome },
    ObjectDeleted { uid: String, outcome: Outcome },
}

/// What the API server said to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The object is not there any more.
    Gone,
    Failed,
}

/// All Pods of this node.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pods: HashMap<String, Arc<Pod>>,
    slots: HashMap<String, Slot>,
    pool: AddressPool,
    /// When to look at a Pod again.
    wakes: BTreeSet<(u64, String)>,
    wake_of: HashMap<String, u64>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// What was there before the first list of Pods.
    inventory: Option<Inventory>,
    listed: Option<HashSet<String>>,
}

struct Inventory {
    records: Vec<SandboxRecord>,
    volumes: Vec<String>,
    synced: oneshot::Sender<()>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        records: Vec<SandboxRecord>,
        volumes: Vec<String>,
        synced: oneshot::Sender<()>,
    ) -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let pool = AddressPool::new(shared.config.pod_network);
        Self {
            shared,
            pods: HashMap::new(),
            slots: HashMap::new(),
            pool,
            wakes: BTreeSet::new(),
            wake_of: HashMap::new(),
            sender,
            news,
            inventory: Some(Inventory { records, volumes, synced }),
            listed: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.shared.config.name));
        let mut pods = std::pin::pin!(watcher(api, config).default_backoff());
        loop {
            let pause = self.next_wake();
            tokio::select! {
                event = pods.next() => match event {
                    Some(Ok(event)) => self.take_event(event),
                    Some(Err(error)) => {
                        tracing::warn!(cause = %atoll_stdx::chain(&error), "the watch on Pods failed; it is retried");
                    }
                    None => return,
                },
                Some(news) = self.news.recv() => self.take_news(news),
                () = tokio::time::sleep(pause) => self.wake_due(),
            }
        }
    }

    fn next_wake(&self) -> Duration {
        let first = self.wakes.first().map(|(at, _)| at.saturating_sub(now_unix_ms()));
        first.map_or(Duration::from_secs(3600), Duration::from_millis)
    }

    fn wake_due(&mut self) {
        let now_ms = now_unix_ms();
        while let Some((at, uid)) = self.wakes.first().cloned().filter(|(at, _)| *at <= now_ms) {
            self.wakes.remove(&(at, uid.clone()));
            self.wake_of.remove(&uid);
            self.settle(&uid);
        }
    }

    fn take_event(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(pod) => {
                if let Some(identity) = self.remember(pod) {
                    self.listed.get_or_insert_default().insert(identity.uid);
                }
            }
            Event::InitDone => self.finish_list(),
            Event::Apply(pod) => {
                if let Some(identity) = self.remember(pod) {
                    let uid = identity.uid.clone();
                    self.slots.entry(uid.clone()).or_insert_with(|| Slot::new(identity, now_unix_ms()));
                    self.settle(&uid);
                }
            }
            Event::Delete(pod) => {
                if let Some(identity) = PodIdentity::of(&pod) {
                    self.pods.remove(&identity.uid);
                    self.settle(&identity.uid);
                }
            }
        }
    }

    fn remember(&mut self, mut pod: Pod) -> Option<PodIdentity> {
        let identity = PodIdentity::of(&pod)?;
        if pod::spec(&pod).node_name.as_deref() != Some(self.shared.config.name.as_str()) {
            return None;
        }
        if self.shared.config.parts.iter().any(|part| part.is_of(&pod)) {
            return None;
        }
        pod.metadata.managed_fields = None;
        self.pods.insert(identity.uid.clone(), Arc::new(pod));
        Some(identity)
    }

    /// The list is complete: what is not in it is gone.
    fn finish_list(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        self.pods.retain(|uid, _| listed.contains(uid));
        if let Some(inventory) = self.inventory.take() {
            self.take_over(inventory);
        }
        let now_ms = now_unix_ms();
        for (uid, pod) in &self.pods {
            if let (false, Some(identity)) = (self.slots.contains_key(uid), PodIdentity::of(pod)) {
                self.slots.insert(uid.clone(), Slot::new(identity, now_ms));
            }
        }
        let all: Vec<String> = self.slots.keys().cloned().collect();
        for uid in all {
            self.settle(&uid);
        }
    }

    /// Compares what an earlier plane left with what is wanted now.
    fn take_over(&mut self, inventory: Inventory) {
        let now_ms = now_unix_ms();
        let mut interrupted: HashMap<String, Ipv4Addr> = HashMap::new();
        for record in &inventory.records {
            self.pool.reserve(record.address);
            let pod_uid = init::pod_uid(&record.id);
            if pod_uid != record.id && self.pods.contains_key(pod_uid) {
                // An init container, in the middle of its Pod's start: that begins anew and removes it.
                interrupted.insert(pod_uid.to_owned(), record.address);
                continue;
            }
            let pod = self.pods.get(&record.id);
            let identity = pod.and_then(|pod| PodIdentity::of(pod)).unwrap_or_else(|| PodIdentity {
                uid: record.id.clone(),
                namespace: String::new(),
                name: String::new(),
            });
            let slot = Slot::found(identity, pod.map(Arc::as_ref), Some(record), now_ms);
            if let Stage::Running(live) = &slot.stage {
                let endpoint = GuestEndpoint::new(&record.guest_socket, record.address);
                self.endpoints(|endpoints| drop(endpoints.insert(record.id.clone(), endpoint)));
                self.watch_exit(&record.id, live.incarnation);
            }
            self.slots.insert(record.id.clone(), slot);
        }
        for (uid, pod) in &self.pods {
            if let (false, Some(identity)) = (self.slots.contains_key(uid), PodIdentity::of(pod)) {
                let mut slot = Slot::found(identity, Some(pod), None, now_ms);
                // A Pod whose sandbox was lost gets its address again, if nobody else has it.
                let recorded = pod::recorded_address(pod).filter(|_| !pod::is_terminal(pod));
                slot.address = recorded.filter(|address| self.pool.reserve(*address));
                if let Some(address) = interrupted.remove(uid) {
                    slot.on_interrupted_start(init::containers(pod).len(), address);
                }
                self.slots.insert(uid.clone(), slot);
            }
        }
        for volume in inventory.volumes {
            let Some(pod_uid) = start::directory_owner(&volume) else { continue };
            match self.slots.get_mut(pod_uid).filter(|_| self.pods.contains_key(pod_uid)) {
                Some(slot) => slot.directories.push(volume),
                None => claims::remove(&self.shared, volume),
            }
        }
        self.forget_logs_of_others();
        let found = inventory.records.len();
        tracing::info!(sandboxes = found, pods = self.pods.len(), "the node has taken stock");
        let _nobody_waits = inventory.synced.send(());
    }

    /// Removes logs that were kept for Pods which are gone.
    fn forget_logs_of_others(&self) {
        let shared = Arc::clone(&self.shared);
        let known: HashSet<String> = self.pods.keys().cloned().collect();
        self.shared.group.spawn("node-kept-logs", async move {
            for id in shared.runtime.kept_logs().await {
                if !known.contains(init::pod_uid(&id)) {
                    shared.runtime.forget_log(&id).await;
                }
            }
        });
    }

    fn take_news(&mut self, news: News) {
        let now_ms = now_unix_ms();
        let uid = match news {
            News::Started { uid, outcome } => {
                self.take_start(&uid, outcome, now_ms);
                uid
            }
            News::Init { uid, index, state } => {
                if let Some(slot) = self.slots.get_mut(&uid) {
                    slot.on_init(index, state);
                }
                uid
            }
            News::Exited { uid, incarnation, exit } => {
                if let Some(slot) = self.slots.get_mut(&uid) {
                    slot.on_exited(incarnation, &exit);
                    if matches!(slot.stage, Stage::Ended(_)) {
                        self.endpoints(|endpoints| drop(endpoints.remove(&uid)));
                    }
                }
                uid
            }
            News::Destroyed { uid, outcome } => {
                self.take_destroy(&uid, outcome, now_ms);
                uid
            }
            News::Probed { uid, incarnation, kind, outcome } => {
                if let Some(slot) = self.slots.get_mut(&uid) {
                    slot.on_probed(incarnation, kind, &outcome, now_ms);
                }
                uid
            }
            News::Written { uid, status, outcome } => {
                if let Some(slot) = self.slots.get_mut(&uid) {
                    slot.report.is_writing = false;
                    match outcome {
                        Outcome::Done | Outcome::Gone => slot.report.written = Some(status),
                        Outcome::Failed => slot.report.retry_at_ms = now_ms + WRITE_PAUSE_MS,
                    }
                }
                uid
            }
            News::ObjectDeleted { uid, outcome } => {
                if let Some(slot) = self.slots.get_mut(&uid).filter(|_| outcome == Outcome::Failed) {
                    slot.report.is_delete_requested = false;
                    slot.report.retry_at_ms = now_ms + WRITE_PAUSE_MS;
                }
                uid
            }
        };
        self.settle(&uid);
    }

    fn take_start(&mut self, uid: &str, outcome: Result<Box<Started>, StartError>, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        match outcome {
            Ok(started) => {
                let Started { sandbox, live } = *started;
                let incarnation = live.incarnation;
                slot.on_started(live);
                let endpoint = GuestEndpoint::new(&sandbox.guest_socket, sandbox.address);
                self.endpoints(|endpoints| drop(endpoints.insert(uid.to_owned(), endpoint)));
                self.watch_exit(uid, incarnation);
            }
            Err(StartError::Unprepared(Unprepared::Missing(message))) => {
                slot.on_unprepared("CreateContainerConfigError", message, true, now_ms);
            }
            Err(StartError::Unprepared(Unprepared::Refused(message))) => {
                slot.on_unprepared("CreateContainerConfigError", message, false, now_ms);
            }
            Err(StartError::Runtime(error)) if error.kind == RuntimeErrorKind::AddressInUse => {
                if let Some(address) = slot.on_foreign_address(&error, now_ms) {
                    self.pool.release(address, now_ms);
                }
            }
            Err(StartError::Runtime(error)) => {
                tracing::info!(pod = %slot.identity.name, cause = %error, "a sandbox could not be started");
                slot.on_start_failed(&error, now_ms);
            }
            Err(StartError::Init { name, .. }) => {
                let policy = self.pods.get(uid).map_or(RestartPolicy::Never, |pod| pod::restart_policy(pod));
                slot.on_init_failed(&name, policy != RestartPolicy::Never, now_ms);
            }
            Err(error @ StartError::Stopped) => {
                slot.on_unprepared("PodInitializing", error.to_string(), false, now_ms);
            }
            Err(error @ StartError::PostStart(_)) => {
                slot.on_unprepared("PostStartHookError", error.to_string(), true, now_ms);
            }
            Err(error @ StartError::Fetch { .. }) => {
                slot.on_unprepared("CreateContainerConfigError", atoll_stdx::chain(&error), true, now_ms);
            }
        }
    }

    fn take_destroy(&mut self, uid: &str, outcome: Result<(), RuntimeError>, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        match outcome {
            Ok(()) => {
                if let Some(address) = slot.on_destroyed(now_ms) {
                    self.pool.release(address, now_ms);
                }
            }
            Err(error) => {
                tracing::warn!(pod = %slot.identity.name, uid, cause = %error, "a sandbox could not be removed; it is retried");
                slot.on_destroy_failed(now_ms);
            }
        }
    }

    /// Carries out what one Pod needs, until nothing more can be done now.
    fn settle(&mut self, uid: &str) {
        for _ in 0..ROUNDS_MAX {
            let Some(slot) = self.slots.get(uid) else { return };
            let pod = self.pods.get(uid).cloned();
            let plan = converge(pod.as_deref(), slot, &self.shared.facts, now_unix_ms());
            self.schedule(uid, plan.wake_at_ms);
            if plan.actions.is_empty() {
                return;
            }
            for action in plan.actions {
                self.carry_out(uid, pod.as_ref(), action);
            }
        }
        tracing::error!(uid, "a Pod did not settle");
        self.schedule(uid, Some(now_unix_ms() + WRITE_PAUSE_MS));
    }

    fn schedule(&mut self, uid: &str, wake_at_ms: Option<u64>) {
        if let Some(before) = self.wake_of.remove(uid) {
            self.wakes.remove(&(before, uid.to_owned()));
        }
        if let Some(at) = wake_at_ms {
            self.wakes.insert((at, uid.to_owned()));
            self.wake_of.insert(uid.to_owned(), at);
        }
    }

    fn carry_out(&mut self, uid: &str, pod: Option<&Arc<Pod>>, action: Action) {
        match (action, pod) {
            (Action::Start, Some(pod)) => self.start(uid, pod),
            (Action::Destroy { purpose, grace_ms, cause }, _) => self.destroy(uid, purpose, grace_ms, cause),
            (Action::StopInit { grace_ms }, _) => {
                if let Some(slot) = self.slots.get(uid) {
                    slot.stop_init.send_replace(Some(grace_ms));
                }
            }
            (Action::Kill, _) => self.kill(uid),
            (Action::Finish { failure }, _) => {
                if let Some(slot) = self.slots.get_mut(uid) {
                    slot.on_finished(failure);
                }
            }
            (Action::BackOff, _) => {
                if let Some(slot) = self.slots.get_mut(uid) {
                    slot.on_back_off();
                }
            }
            (Action::Probe(kind), _) => self.probe(uid, kind),
            (Action::WriteStatus(status), Some(pod)) => self.write_status(uid, pod, status),
            (Action::DeleteObject, _) => self.delete_object(uid),
            (Action::Forget, _) => {
                self.slots.remove(uid);
            }
            (Action::Start | Action::WriteStatus(_), None) => {}
        }
    }

    fn start(&mut self, uid: &str, pod: &Arc<Pod>) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let now_ms = now_unix_ms();
        let images = match PodImages::of(pod, self.shared.config.images.as_ref()) {
            Ok(images) => images,
            // It may be imported later.
            Err((reason, message)) => {
                return slot.on_unprepared(reason, message, reason != "InvalidImageName", now_ms);
            }
        };
        if let Err(error) = translate::check(pod) {
            return slot.on_unprepared("CreateContainerConfigError", error.to_string(), false, now_ms);
        }
        let Some(address) = slot.address.or_else(|| self.pool.allocate(now_ms)) else {
            let message = format!("no address of {}/16 is free", self.shared.config.pod_network);
            return slot.on_unprepared("CreateContainerError", message, true, now_ms);
        };
        slot.address = Some(address);
        slot.image_digests = images.digests();
        slot.directories = start::directory_names(pod).into_values().collect();
        slot.on_start_begun(init::containers(pod).len(), now_ms);
        let (init_done, stop) = (slot.init_done(), slot.stop_init.subscribe());
        let beginning = Beginning { pod: Arc::clone(pod), images, address, init_done, stop };
        let (shared, sender, uid) = (Arc::clone(&self.shared), self.sender.clone(), uid.to_owned());
        self.shared.group.spawn("node-start", async move {
            let report = |index, state| {
                // The queue is long, and what is lost here is told by the next state.
                let _ = sender.try_send(News::Init { uid: uid.clone(), index, state });
            };
            let outcome = start::start(&shared, beginning, &report).await.map(Box::new);
            tell(&sender, News::Started { uid, outcome }).await;
        });
    }

    fn destroy(&mut self, uid: &str, purpose: Purpose, grace_ms: u64, cause: Option<String>) {
        let hook = self.stop_hook(uid).filter(|_| grace_ms > 0);
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let init_containers = slot.init.len();
        slot.on_destroy_begun(purpose, grace_ms, now_unix_ms());
        if let Some(cause) = cause {
            events::warn(&self.shared, &slot.identity, "Unhealthy", &cause);
        }
        let directories = if purpose == Purpose::Delete { slot.directories.clone() } else { Vec::new() };
        self.endpoints(|endpoints| drop(endpoints.remove(uid)));
        let (shared, sender, uid) = (Arc::clone(&self.shared), self.sender.clone(), uid.to_owned());
        self.shared.group.spawn("node-destroy", async move {
            let grace_ms = match hook {
                Some((hook, guest)) => before_stop(&shared, &uid, &hook, &guest, grace_ms).await,
                None => grace_ms,
            };
            let outcome = match purpose {
                Purpose::Restart | Purpose::Clear => shared.runtime.destroy_keeping_log(&uid, grace_ms).await,
                Purpose::Delete | Purpose::Deadline => {
                    destroy(&shared, &uid, init_containers, grace_ms, &directories).await
                }
            };
            if purpose == Purpose::Delete {
                for id in init::sandbox_ids(&uid, init_containers) {
                    shared.runtime.forget_log(&id).await;
                }
            }
            tell(&sender, News::Destroyed { uid, outcome }).await;
        });
    }

    /// What is to be done in a running container before it is told to stop.
    fn stop_hook(&self, uid: &str) -> Option<(Hook, GuestEndpoint)> {
        let slot = self.slots.get(uid)?;
        let container = pod::container(self.pods.get(uid)?).filter(|_| matches!(slot.stage, Stage::Running(_)))?;
        let hook = hooks::pre_stop(container).ok().flatten()?;
        let endpoints = self.shared.endpoints.read().expect("no holder of this lock panics");
        Some((hook, endpoints.get(uid)?.clone()))
    }

    fn kill(&mut self, uid: &str) {
        if let Some(slot) = self.slots.get_mut(uid) {
            slot.on_kill_begun();
        }
        let (shared, uid) = (Arc::clone(&self.shared), uid.to_owned());
        self.shared.group.spawn("node-kill", async move {
            if let Err(error) = shared.runtime.signal(&uid, SIGKILL).await {
                tracing::debug!(uid, cause = %error, "a sandbox could not be killed");
            }
        });
    }

    fn probe(&mut self, uid: &str, kind: ProbeKind) {
        let endpoint = self.shared.endpoints.read().expect("no holder of this lock panics").get(uid).cloned();
        let Some(slot) = self.slots.get_mut(uid) else { return };
        slot.on_probe_begun(kind);
        let (Some(endpoint), Stage::Running(live)) = (endpoint, &mut slot.stage) else { return };
        let incarnation = live.incarnation;
        let Some(plan) = live.probes.get_mut(kind).map(|probe| probe.plan.clone()) else { return };
        let (shared, sender, uid) = (Arc::clone(&self.shared), self.sender.clone(), uid.to_owned());
        self.shared.group.spawn("node-probe", async move {
            let limit = Duration::from_millis(plan.timeout_ms);
            let outcome = shared.runtime.check(&endpoint, &plan.question, limit).await;
            tell(&sender, News::Probed { uid, incarnation, kind, outcome }).await;
        });
    }

    fn write_status(&mut self, uid: &str, pod: &Arc<Pod>, next: Box<PodStatus>) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let base = slot.report.written.as_deref().unwrap_or_else(|| pod::status(pod));
        if let Some((reason, message)) =
            status::complaint(&next).filter(|new| Some(new) != status::complaint(base).as_ref())
        {
            let reason = if reason == "CrashLoopBackOff" { "BackOff" } else { "Failed" };
            events::warn(&self.shared, &slot.identity, reason, &message);
        }
        let Some(patch) = status::merge_patch(uid, base, &next) else {
            slot.report.written = Some(next);
            return;
        };
        slot.report.is_writing = true;
        let identity = slot.identity.clone();
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &identity.namespace);
        let sender = self.sender.clone();
        self.shared.group.spawn("node-status", async move {
            let written = api.patch_status(&identity.name, &PatchParams::default(), &Patch::Merge(patch)).await;
            let outcome = outcome(&identity, "a Pod's status could not be written", written);
            tell(&sender, News::Written { uid: identity.uid, status: next, outcome }).await;
        });
    }

    fn delete_object(&mut self, uid: &str) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        slot.report.is_delete_requested = true;
        let identity = slot.identity.clone();
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &identity.namespace);
        let sender = self.sender.clone();
        self.shared.group.spawn("node-delete", async move {
            let preconditions = Preconditions { uid: Some(identity.uid.clone()), resource_version: None };
            let parameters = DeleteParams::default().grace_period(0).preconditions(preconditions);
            let deleted = api.delete(&identity.name, &parameters).await;
            let outcome = outcome(&identity, "a Pod could not be removed from the API server", deleted);
            tell(&sender, News::ObjectDeleted { uid: identity.uid, outcome }).await;
        });
    }

    /// Reports the end of a sandbox when it comes.
    fn watch_exit(&self, uid: &str, incarnation: u64) {
        let (shared, sender, uid) = (Arc::clone(&self.shared), self.sender.clone(), uid.to_owned());
        let token = shared.group.token();
        self.shared.group.spawn("node-wait", async move {
            let wait = async {
                loop {
                    match shared.runtime.wait(&uid).await {
                        Ok(exit) => return tell(&sender, News::Exited { uid, incarnation, exit }).await,
                        Err(error) if error.kind == RuntimeErrorKind::NotFound => return,
                        Err(error) => {
                            tracing::debug!(uid, cause = %error, "a sandbox could not be waited for");
                            tokio::time::sleep(WAIT_PAUSE).await;
                        }
                    }
                }
            };
            let _stopped = token.run_until_cancelled(wait).await;
        });
    }

    fn endpoints(&self, change: impl FnOnce(&mut HashMap<String, GuestEndpoint>)) {
        change(&mut self.shared.endpoints.write().expect("no holder of this lock panics"));
    }
}

/// Passes news on; without a worker nobody wants them.
async fn tell(sender: &mpsc::Sender<News>, news: News) {
    let _worker_is_gone = sender.send(news).await;
}

/// Does what is to be done before a container stops. Returns what is left of its grace, in milliseconds.
async fn before_stop(shared: &Shared, id: &str, hook: &Hook, guest: &GuestEndpoint, grace_ms: u64) -> u64 {
    let began_ms = now_unix_ms();
    if let Err(why) = hook.run(shared.runtime.as_ref(), guest, Duration::from_millis(grace_ms)).await {
        tracing::info!(sandbox = id, why, "a preStop hook failed");
    }
    let taken_ms = now_unix_ms().saturating_sub(began_ms);
    grace_ms.saturating_sub(taken_ms).max(GRACE_AFTER_HOOK_MS.min(grace_ms))
}

/// Removes a Pod's sandboxes and, after them, its directories.
async fn destroy(
    shared: &Shared,
    id: &str,
    init_containers: usize,
    grace_ms: u64,
    directories: &[String],
) -> Result<(), RuntimeError> {
    shared.runtime.destroy(id, grace_ms).await?;
    for index in 0..init_containers {
        shared.runtime.destroy(&init::sandbox_id(id, index), 0).await?;
    }
    for directory in directories {
        shared.runtime.remove_volume(directory).await?;
    }
    Ok(())
}

fn outcome<T>(identity: &PodIdentity, problem: &str, answer: Result<T, kube::Error>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND || status.code == CONFLICT => Outcome::Gone,
        Err(error) => {
            let PodIdentity { namespace, name, .. } = identity;
            tracing::warn!(namespace, pod = name, cause = %atoll_stdx::chain(&error), "{problem}");
            Outcome::Failed
        }
    }
}
