//! A Pod's status as the node sees it. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use crate::init::{self, InitContainer, InitState};
use crate::pod;
use crate::slot::{Ended, Slot, Stage};

/// Says which isolation is really in force.
pub const ISOLATION_CONDITION: &str = "atoll.local/Isolation";

const OWN_CONDITIONS: [&str; 6] =
    ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready", "PodScheduled", ISOLATION_CONDITION];

/// Facts about the node that its Pods tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeFacts {
    pub(crate) host_address: Ipv4Addr,
    pub(crate) announce_after_ms: u64,
}

/// The status that the Pod should have, made from the one it has.
pub(crate) fn next_status(pod: &Pod, base: &PodStatus, slot: &Slot, node: &NodeFacts, now_ms: u64) -> PodStatus {
    let (phase, failure) = phase(slot);
    let is_ready = matches!(&slot.stage, Stage::Running(live) if live.probes.is_ready());
    let mut next = base.clone();
    next.phase = Some(phase.to_owned());
    next.reason = failure.map(|(reason, _)| reason.to_owned());
    next.message = failure.map(|(_, message)| message.to_owned());
    next.start_time = next.start_time.or_else(|| Some(time(slot.accepted_at_ms)));
    next.host_ip = Some(node.host_address.to_string());
    next.host_ips = Some(vec![HostIP { ip: node.host_address.to_string() }]);
    let is_unstarted = matches!(slot.stage, Stage::Idle | Stage::Waiting { .. } | Stage::Starting { .. });
    if let Some(address) = slot.address.filter(|_| !is_unstarted || slot.ran_before()) {
        next.pod_ip = Some(address.to_string());
        next.pod_ips = Some(vec![PodIP { ip: address.to_string() }]);
    }
    next.qos_class = next.qos_class.or_else(|| Some(qos_class(pod).to_owned()));
    let containers = &pod::spec(pod).containers;
    let statuses = containers.iter().enumerate().map(|(index, container)| {
        if index == 0 { container_status(container, slot, base) } else { unstarted(container, slot) }
    });
    next.container_statuses = Some(statuses.collect());
    if !init::containers(pod).is_empty() {
        next.init_container_statuses = Some(init_statuses(pod, slot, base));
    }
    next.conditions = Some(conditions(pod, base, slot, is_ready, phase, now_ms));
    next
}

/// The parts of the status that differ, as a JSON merge patch of the Pod. `None` when nothing does.
pub(crate) fn merge_patch(uid: &str, base: &PodStatus, next: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    let (base, next) = (object(base), object(next));
    let mut changed = Map::new();
    for name in base.keys().filter(|name| !next.contains_key(*name)) {
        changed.insert(name.clone(), Value::Null);
    }
    changed.extend(next.into_iter().filter(|(name, value)| base.get(name) != Some(value)));
    (!changed.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changed}))
}

/// Reason and message of the first container that waits for more than its creation.
pub(crate) fn complaint(status: &PodStatus) -> Option<(String, String)> {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut waiting = all.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let is_told = |reason: &str| !matches!(reason, "ContainerCreating" | "PodInitializing");
    let waiting = waiting.find(|waiting| waiting.reason.as_deref().is_some_and(is_told))?;
    let reason = waiting.reason.clone()?;
    Some((reason, waiting.message.clone().unwrap_or_default()))
}

fn phase(slot: &Slot) -> (&'static str, Option<(&'static str, &'static str)>) {
    match &slot.stage {
        Stage::Finished { failure: Some(failure), .. } => ("Failed", Some(*failure)),
        Stage::Finished { ended: None, .. } if slot.has_failed_init() => ("Failed", None),
        Stage::Finished { ended, .. } | Stage::Cleared { ended } => match ended {
            Some(ended) if ended.exit_code != 0 => ("Failed", None),
            _ => ("Succeeded", None),
        },
        Stage::Running(_) | Stage::Ended(_) | Stage::Stopping { .. } | Stage::StopFailed { .. } => ("Running", None),
        Stage::Idle | Stage::Waiting { .. } | Stage::Starting { .. } => {
            (if slot.ran_before() { "Running" } else { "Pending" }, None)
        }
    }
}

fn container_status(container: &Container, slot: &Slot, base: &PodStatus) -> ContainerStatus {
    let state = match &slot.stage {
        Stage::Running(live) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(time(live.started_at_ms)) }),
            ..ContainerState::default()
        },
        Stage::Starting { .. } | Stage::Waiting { .. } | Stage::Finished { ended: None, .. }
            if !is_initialized(slot) =>
        {
            waiting("PodInitializing", None)
        }
        Stage::Waiting { reason, message, .. } => waiting(reason, Some(message.clone())),
        Stage::Ended(ended) => terminated(slot, ended),
        Stage::Finished { ended: Some(ended), .. } | Stage::Cleared { ended: Some(ended) } => terminated(slot, ended),
        // How it ended was told before the node was started, if it was told at all.
        Stage::Finished { ended: None, .. } | Stage::Cleared { ended: None } => {
            let told = base.container_statuses.iter().flatten().next().and_then(|status| status.state.clone());
            told.filter(|state| state.terminated.is_some()).unwrap_or_else(|| waiting("ContainerCreating", None))
        }
        _ => waiting("ContainerCreating", None),
    };
    let live = match &slot.stage {
        Stage::Running(live) => Some(live),
        _ => None,
    };
    let ended = match &slot.stage {
        Stage::Ended(ended) | Stage::Finished { ended: Some(ended), .. } | Stage::Cleared { ended: Some(ended) } => {
            Some(ended)
        }
        _ => slot.previous.as_ref(),
    };
    let incarnation = live.map(|live| live.incarnation).or(ended.map(|ended| ended.incarnation));
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: image_id(container, slot, base),
        container_id: incarnation.map(|incarnation| container_id(slot, incarnation)),
        ready: live.is_some_and(|live| live.probes.is_ready()),
        started: Some(live.is_some_and(|live| live.probes.is_started())),
        restart_count: i32::try_from(slot.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: match &slot.previous {
            Some(ended) => Some(terminated(slot, ended)),
            None => base.container_statuses.iter().flatten().next().and_then(|status| status.last_state.clone()),
        },
        ..ContainerStatus::default()
    }
}

/// The digest of what the container was started on, here or by an earlier plane.
fn image_id(container: &Container, slot: &Slot, base: &PodStatus) -> String {
    let told = || {
        let all = base.container_statuses.iter().flatten();
        all.filter(|status| status.name == container.name).map(|status| status.image_id.clone()).next()
    };
    slot.image_digests.get(&container.name).cloned().or_else(told).unwrap_or_default()
}

/// Whether nothing stands before the Pod's own container.
fn is_initialized(slot: &Slot) -> bool {
    slot.init.iter().all(InitContainer::is_done)
}

fn init_statuses(pod: &Pod, slot: &Slot, base: &PodStatus) -> Vec<ContainerStatus> {
    let told = |name: &str| base.init_container_statuses.iter().flatten().find(|status| status.name == name);
    let containers = init::containers(pod).iter().enumerate();
    containers
        .map(|(index, container)| {
            let unknown = InitContainer::default();
            let known = slot.init.get(index).unwrap_or(&unknown);
            match (&known.state, told(&container.name)) {
                (InitState::Told, Some(told)) => told.clone(),
                _ => init_status(container, known, index, slot),
            }
        })
        .collect()
}

fn init_status(container: &Container, known: &InitContainer, index: usize, slot: &Slot) -> ContainerStatus {
    let id = |incarnation: u64| format!("atoll://{}/{incarnation}", init::sandbox_id(&slot.identity.uid, index));
    let end = |ended: &Ended| terminated_as(id(ended.incarnation), ended);
    let state = match (&known.state, &slot.stage) {
        (InitState::Running { started_at_ms, .. }, _) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(time(*started_at_ms)) }),
            ..ContainerState::default()
        },
        (InitState::Ended(ended), Stage::Waiting { reason, message, .. }) if ended.exit_code != 0 => {
            return ContainerStatus {
                last_state: Some(end(ended)),
                state: Some(waiting(reason, Some(message.clone()))),
                ..init_basics(container, known, Some(id(ended.incarnation)), slot)
            };
        }
        (InitState::Ended(ended), _) => end(ended),
        (InitState::Waiting | InitState::Told, _) => waiting("PodInitializing", None),
    };
    let incarnation = match &known.state {
        InitState::Running { incarnation, .. } => Some(*incarnation),
        InitState::Ended(ended) => Some(ended.incarnation),
        InitState::Waiting | InitState::Told => None,
    };
    ContainerStatus {
        state: Some(state),
        last_state: known.previous.as_ref().map(end),
        ..init_basics(container, known, incarnation.map(id), slot)
    }
}

fn init_basics(
    container: &Container,
    known: &InitContainer,
    container_id: Option<String>,
    slot: &Slot,
) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: slot.image_digests.get(&container.name).cloned().unwrap_or_default(),
        container_id,
        ready: known.is_done(),
        started: Some(matches!(known.state, InitState::Running { .. })),
        restart_count: i32::try_from(known.restarts).unwrap_or(i32::MAX),
        ..ContainerStatus::default()
    }
}

fn unstarted(container: &Container, slot: &Slot) -> ContainerStatus {
    let state = match &slot.stage {
        Stage::Waiting { reason, message, .. } => waiting(reason, Some(message.clone())),
        _ => waiting("ContainerCreating", None),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(slot: &Slot, ended: &Ended) -> ContainerState {
    terminated_as(container_id(slot, ended.incarnation), ended)
}

fn terminated_as(container_id: String, ended: &Ended) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id),
        exit_code: ended.exit_code,
        signal: ended.signal,
        reason: Some(ended.reason.to_owned()),
        message: ended.message.clone(),
        started_at: Some(time(ended.started_at_ms)),
        finished_at: Some(time(ended.finished_at_ms)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn container_id(slot: &Slot, incarnation: u64) -> String {
    format!("atoll://{}/{incarnation}", slot.identity.uid)
}

fn conditions(pod: &Pod, base: &PodStatus, slot: &Slot, is_ready: bool, phase: &str, now_ms: u64) -> Vec<PodCondition> {
    let known = |type_: &str| {
        let mut all = base.conditions.iter().flatten().chain(pod::status(pod).conditions.iter().flatten());
        all.find(|condition| condition.type_ == type_).cloned()
    };
    let condition = |type_: &str, holds: bool, reason: Option<&str>, message: Option<String>| {
        let status = if holds { "True" } else { "False" };
        let before = known(type_);
        let since = before.as_ref().filter(|before| before.status == status);
        let since = since.and_then(|before| before.last_transition_time.clone());
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(since.unwrap_or_else(|| time(now_ms))),
            observed_generation: before.and_then(|before| before.observed_generation),
            ..PodCondition::default()
        }
    };
    let has_sandbox = matches!(slot.stage, Stage::Running(_) | Stage::Ended(_));
    let name = pod::container(pod).map(|container| container.name.as_str()).unwrap_or_default();
    let unready = || Some(format!("containers with unready status: [{name}]"));
    let (reason, message) = match (is_ready, phase) {
        (true, _) => (None, None),
        (_, "Succeeded") => (Some("PodCompleted"), None),
        (_, "Failed") => (Some("PodFailed"), None),
        _ => (Some("ContainersNotReady"), unready()),
    };
    let mut all = vec![
        known("PodScheduled").unwrap_or_else(|| condition("PodScheduled", true, None, None)),
        condition("PodReadyToStartContainers", has_sandbox, None, None),
        match incomplete(pod, slot) {
            None => condition("Initialized", true, None, None),
            Some(names) => condition("Initialized", false, Some("ContainersNotInitialized"), Some(names)),
        },
        condition("ContainersReady", is_ready, reason, message.clone()),
        condition("Ready", is_ready, reason, message),
    ];
    if let Stage::Running(live) = &slot.stage {
        let tier = live.tier.name();
        all.push(condition(ISOLATION_CONDITION, true, Some(tier), Some(format!("tier {tier} is in force"))));
    }
    // Others may add conditions of their own; theirs are as the object has them now.
    let own: BTreeSet<&str> = OWN_CONDITIONS.into_iter().collect();
    let foreign =
        pod::status(pod).conditions.iter().flatten().filter(|condition| !own.contains(condition.type_.as_str()));
    all.extend(foreign.cloned());
    all
}

/// The init containers that have not ended well, in words.
fn incomplete(pod: &Pod, slot: &Slot) -> Option<String> {
    // Before the first start nothing is known, and afterwards all of them are.
    let is_done = |index: usize| slot.init.get(index).is_some_and(InitContainer::is_done);
    let all = init::containers(pod).iter().enumerate();
    let names: Vec<&str> =
        all.filter(|(index, _)| !is_done(*index)).map(|(_, container)| container.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("containers with incomplete status: [{}]", names.join(" ")))
}

fn qos_class(pod: &Pod) -> &'static str {
    let resources = pod::container(pod).and_then(|container| container.resources.as_ref());
    let (limits, requests) = match resources {
        Some(resources) => (resources.limits.as_ref(), resources.requests.as_ref()),
        None => (None, None),
    };
    let bounded = ["cpu", "memory"].iter().all(|name| {
        let limit = limits.and_then(|limits| limits.get(*name));
        limit.is_some()
            && requests.and_then(|requests| requests.get(*name)).is_none_or(|request| Some(request) == limit)
    });
    let asks = limits.is_some_and(|limits| !limits.is_empty()) || requests.is_some_and(|requests| !requests.is_empty());
    match (bounded, asks) {
        (true, _) => "Guaranteed",
        (false, true) => "Burstable",
        (false, false) => "BestEffort",
    }
}

/// Whole seconds, as Kubernetes keeps times.
pub(crate) fn time(unix_ms: u64) -> Time {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}
