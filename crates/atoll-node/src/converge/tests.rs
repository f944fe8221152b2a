//! Whole lives of Pods, played against the pure core.

use std::net::Ipv4Addr;

use atoll_sandbox::{ExitReason, ExitRecord, SandboxRecord, SandboxState, Tier};
use k8s_openapi::api::core::v1::ContainerState;
use serde_json::{Value, json};

use super::*;
use crate::pod::PodIdentity;
use crate::probe::Probes;
use crate::runtime::{CheckOutcome, RuntimeError, RuntimeErrorKind};

const START_MS: u64 = 1_000_000;
const ANNOUNCE_AFTER_MS: u64 = 500;

/// One Pod, one slot and a clock.
struct Life {
    pod: Option<Pod>,
    slot: Slot,
    now_ms: u64,
    incarnation: u64,
    status: PodStatus,
    writes: usize,
}

fn pod(change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u-1"},
        "spec": {"containers": [{"name": "main", "image": "atoll.local/host"}], "terminationGracePeriodSeconds": 5},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    });
    change(&mut pod);
    serde_json::from_value(pod).expect("a Pod")
}

fn node() -> NodeFacts {
    NodeFacts { host_address: Ipv4Addr::new(10, 201, 0, 1), announce_after_ms: ANNOUNCE_AFTER_MS }
}

impl Life {
    fn of(pod: Pod) -> Self {
        let identity = PodIdentity::of(&pod).expect("it has a UID");
        let status = pod.status.clone().unwrap_or_default();
        Self {
            slot: Slot::new(identity, START_MS),
            pod: Some(pod),
            now_ms: START_MS,
            incarnation: 0,
            status,
            writes: 0,
        }
    }

    fn plan(&self) -> Plan {
        converge(self.pod.as_ref(), &self.slot, &node(), self.now_ms)
    }

    /// Carries out what the node itself can, and tells what else is to be done.
    fn settle(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..8 {
            let plan = self.plan();
            if plan.actions.is_empty() {
                return told;
            }
            for action in plan.actions {
                told.push(match action {
                    Action::Start => {
                        self.slot.address = Some(Ipv4Addr::new(10, 201, 0, 9));
                        self.slot.on_start_begun(0, self.now_ms);
                        "start".to_owned()
                    }
                    Action::Destroy { purpose, grace_ms, cause } => {
                        self.slot.on_destroy_begun(purpose, grace_ms, self.now_ms);
                        let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
                        format!("destroy for {purpose:?} in {grace_ms}{cause}")
                    }
                    Action::StopInit { grace_ms } => {
                        self.slot.stop_init.send_replace(Some(grace_ms));
                        format!("give the start up in {grace_ms}")
                    }
                    Action::Kill => {
                        self.slot.on_kill_begun();
                        "kill".to_owned()
                    }
                    Action::Finish { failure } => {
                        self.slot.on_finished(failure);
                        "finish".to_owned()
                    }
                    Action::BackOff => {
                        self.slot.on_back_off();
                        "back off".to_owned()
                    }
                    Action::Probe(kind) => {
                        self.slot.on_probe_begun(kind);
                        format!("probe {}", kind.name())
                    }
                    Action::WriteStatus(next) => {
                        self.writes += 1;
                        let told = summary(&next);
                        self.status = (*next).clone();
                        self.slot.report.written = Some(next);
                        told
                    }
                    Action::DeleteObject => {
                        self.slot.report.is_delete_requested = true;
                        "delete object".to_owned()
                    }
                    Action::Forget => {
                        told.push("forget".to_owned());
                        return told;
                    }
                });
            }
        }
        panic!("it does not settle: {told:?}");
    }

    fn started(&mut self) -> Vec<String> {
        self.incarnation += 1;
        let container = pod::container(self.pod.as_ref().expect("a Pod")).expect("a container");
        let probes = Probes::of(container, self.now_ms).expect("probes");
        let live = Live { incarnation: self.incarnation, tier: Tier::Native, started_at_ms: self.now_ms, probes };
        self.slot.on_started(live);
        self.settle()
    }

    fn exited(&mut self, code: i32, reason: ExitReason) -> Vec<String> {
        self.slot.on_exited(self.incarnation, &exit(code, reason, self.now_ms));
        self.settle()
    }

    fn destroyed(&mut self) -> Vec<String> {
        self.slot.on_destroyed(self.now_ms);
        self.settle()
    }

    fn probed(&mut self, kind: ProbeKind, passed: bool) -> Vec<String> {
        let outcome = if passed { CheckOutcome::Passed } else { CheckOutcome::Failed("refused".to_owned()) };
        self.slot.on_probed(self.incarnation, kind, &outcome, self.now_ms);
        self.settle()
    }

    fn after(&mut self, ms: u64) -> Vec<String> {
        self.now_ms += ms;
        self.settle()
    }

    fn delete(&mut self, grace_seconds: i64) -> Vec<String> {
        let metadata = &mut self.pod.as_mut().expect("a Pod").metadata;
        metadata.deletion_timestamp = Some(status::time(self.now_ms));
        metadata.deletion_grace_period_seconds = Some(grace_seconds);
        self.settle()
    }

    fn gone(&mut self) -> Vec<String> {
        self.pod = None;
        self.settle()
    }
}

fn exit(code: i32, reason: ExitReason, now_ms: u64) -> ExitRecord {
    ExitRecord { code, signal: None, oom_killed: reason == ExitReason::OomKilled, finished_at_ms: now_ms, reason }
}

fn summary(status: &PodStatus) -> String {
    let container = &status.container_statuses.as_ref().expect("there is one")[0];
    let state = match container.state.as_ref().expect("it has a state") {
        ContainerState { waiting: Some(waiting), .. } => waiting.reason.clone().unwrap_or_default(),
        ContainerState { terminated: Some(ended), .. } => {
            format!("{} {}", ended.reason.clone().unwrap_or_default(), ended.exit_code)
        }
        _ => "running".to_owned(),
    };
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let restarts = container.restart_count;
    let phase = status.phase.as_deref().unwrap_or_default();
    format!("write {phase}, {state}, ready {ready}, restarts {restarts}")
}

#[test]
fn a_quick_start_is_one_write() {
    let mut life = Life::of(pod(|_| ()));
    assert_eq!(life.settle(), ["start"]);
    assert_eq!(life.after(3), [""; 0]);
    assert_eq!(life.started(), ["write Running, running, ready true, restarts 0"]);
    assert_eq!(life.after(60_000), [""; 0], "nothing changed");
    assert_eq!(life.plan().wake_at_ms, None);
    assert_eq!(life.status.pod_ip.as_deref(), Some("10.201.0.9"));
    assert_eq!(life.status.host_ip.as_deref(), Some("10.201.0.1"));
    let types: Vec<&str> = life.status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    let expected = ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];
    assert_eq!(types[..5], expected);
    assert_eq!(types[5], status::ISOLATION_CONDITION);
}

#[test]
fn the_digest_of_an_image_is_told_and_outlives_the_plane() {
    let digest = |life: &Life| life.status.container_statuses.as_ref().expect("one")[0].image_id.clone();
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.slot.image_digests = [("main".to_owned(), "sha256:abcd".to_owned())].into();
    life.started();
    assert_eq!(digest(&life), "sha256:abcd");

    // A later plane did not start it, and finds what the Pod says.
    let mut pod = life.pod.take().expect("a Pod");
    pod.status = Some(life.status.clone());
    let mut later = Life::of(pod);
    later.settle();
    later.started();
    assert_eq!(digest(&later), "sha256:abcd");
    let mut host = Life::of(self::pod(|_| ()));
    host.settle();
    host.started();
    assert_eq!(digest(&host), "");
}

#[test]
fn a_slow_start_is_announced() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    assert_eq!(life.plan().wake_at_ms, Some(START_MS + ANNOUNCE_AFTER_MS));
    assert_eq!(life.after(ANNOUNCE_AFTER_MS), ["write Pending, ContainerCreating, ready false, restarts 0"]);
    assert_eq!(life.status.pod_ip, None, "it has no sandbox yet");
    assert_eq!(life.started(), ["write Running, running, ready true, restarts 0"]);
}

#[test]
fn readiness_that_comes_soon_is_part_of_the_one_write() {
    let probe = |pod: &mut Value| {
        pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1}, "periodSeconds": 1})
    };
    let mut life = Life::of(pod(probe));
    life.settle();
    assert_eq!(life.started(), ["probe Readiness"]);
    assert_eq!(life.probed(ProbeKind::Readiness, false), [""; 0]);
    assert_eq!(life.after(20), ["probe Readiness"]);
    assert_eq!(life.probed(ProbeKind::Readiness, true), ["write Running, running, ready true, restarts 0"]);

    let mut life = Life::of(pod(probe));
    life.settle();
    life.started();
    life.probed(ProbeKind::Readiness, false);
    let told = life.after(ANNOUNCE_AFTER_MS);
    assert_eq!(told, ["probe Readiness", "write Running, running, ready false, restarts 0"]);
    assert_eq!(life.probed(ProbeKind::Readiness, true), ["write Running, running, ready true, restarts 0"]);
    for _ in 0..2 {
        life.after(1_000);
        assert_eq!(life.probed(ProbeKind::Readiness, false), [""; 0]);
    }
    life.after(1_000);
    let told = life.probed(ProbeKind::Readiness, false);
    assert_eq!(told, ["write Running, running, ready false, restarts 0"]);
}

#[test]
fn a_container_that_ends_is_started_again_with_growing_pauses() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.started();
    assert_eq!(life.exited(1, ExitReason::Error), ["destroy for Restart in 0"]);
    assert_eq!(life.destroyed(), ["start"], "the first time at once");
    assert_eq!(life.started(), ["write Running, running, ready true, restarts 1"]);
    for (restarts, pause_ms) in
        [(1, 10_000), (2, 20_000), (3, 40_000), (4, 80_000), (5, 160_000), (6, 300_000), (7, 300_000)]
    {
        let told = life.exited(137, ExitReason::OomKilled);
        let write = format!("write Running, CrashLoopBackOff, ready false, restarts {restarts}");
        assert_eq!(told, ["back off".to_owned(), write], "its log stays");
        let last = life.status.container_statuses.as_ref().expect("one")[0].last_state.clone();
        let last = last.and_then(|state| state.terminated).expect("it ended");
        assert_eq!((last.reason.as_deref(), last.exit_code), (Some("OOMKilled"), 137));
        assert_eq!(life.plan().wake_at_ms, Some(life.now_ms + pause_ms));
        assert_eq!(life.after(pause_ms), ["destroy for Clear in 0"]);
        assert_eq!(life.destroyed(), ["start"]);
        assert_eq!(life.started(), [format!("write Running, running, ready true, restarts {}", restarts + 1)]);
    }
    life.now_ms += 600_000;
    assert_eq!(life.exited(1, ExitReason::Error), ["destroy for Restart in 0"], "a long life is a clean record");
    assert_eq!(life.destroyed(), ["start"]);
    life.started();
    life.exited(1, ExitReason::Error);
    assert_eq!(life.delete(5), ["destroy for Delete in 0"], "what is left goes with the Pod");
}

#[test]
fn the_restart_policy_decides() {
    for (policy, code, expected) in [
        ("Never", 0, "write Succeeded, Completed 0, ready false, restarts 0"),
        ("Never", 3, "write Failed, Error 3, ready false, restarts 0"),
        ("OnFailure", 0, "write Succeeded, Completed 0, ready false, restarts 0"),
    ] {
        let mut life = Life::of(pod(|pod| pod["spec"]["restartPolicy"] = json!(policy)));
        life.settle();
        life.started();
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        assert_eq!(life.exited(code, reason), ["finish", expected], "{policy} {code}");
        assert_eq!(life.after(1_000_000), [""; 0]);
        assert_eq!(life.delete(30), ["destroy for Delete in 0"], "its log was kept until now");
        assert_eq!(life.destroyed(), ["delete object"]);
    }
    let mut life = Life::of(pod(|pod| pod["spec"]["restartPolicy"] = json!("OnFailure")));
    life.settle();
    life.started();
    assert_eq!(life.exited(3, ExitReason::Error), ["destroy for Restart in 0"]);
}

#[test]
fn deletion_is_ordered() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.started();
    assert_eq!(life.delete(5), ["destroy for Delete in 5000"]);
    assert_eq!(life.slot.address, Some(Ipv4Addr::new(10, 201, 0, 9)), "held until all is gone");
    assert_eq!(life.exited(0, ExitReason::Completed), [""; 0]);
    let freed = life.slot.on_destroyed(life.now_ms);
    assert_eq!(freed, Some(Ipv4Addr::new(10, 201, 0, 9)));
    assert_eq!(life.settle(), ["delete object"]);
    assert_eq!(life.settle(), [""; 0], "asked for once");
    assert_eq!(life.gone(), ["forget"]);
    assert_eq!(life.writes, 1, "the write that made it Running");
}

#[test]
fn a_deletion_may_get_shorter() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.started();
    life.delete(30);
    assert_eq!(life.delete(0), ["kill"]);
    assert_eq!(life.delete(0), [""; 0]);
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.started();
    life.delete(30);
    assert_eq!(life.gone(), ["kill"], "removed by force");
    assert_eq!(life.destroyed(), ["forget"]);
}

#[test]
fn a_pod_that_vanishes_while_it_starts_is_stopped() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    assert_eq!(life.delete(5), [""; 0], "the start is not interrupted");
    life.slot.on_started(Live {
        incarnation: 1,
        tier: Tier::Native,
        started_at_ms: life.now_ms,
        probes: Probes::default(),
    });
    assert_eq!(life.settle(), ["destroy for Delete in 5000"]);

    let mut life = Life::of(pod(|_| ()));
    assert_eq!(life.delete(5), ["delete object"], "it never was here");
    let mut life = Life::of(pod(|_| ()));
    assert_eq!(life.gone(), ["forget"]);
}

#[test]
fn what_cannot_be_removed_keeps_its_address_and_is_tried_again() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.started();
    life.delete(0);
    life.slot.on_destroy_failed(life.now_ms);
    assert_eq!(life.settle(), [""; 0]);
    assert_eq!(life.slot.address, Some(Ipv4Addr::new(10, 201, 0, 9)));
    assert_eq!(life.after(1_000), ["destroy for Delete in 0"]);
    assert_eq!(life.destroyed(), ["delete object"]);
    assert_eq!(life.slot.address, None);
}

#[test]
fn failed_starts_are_tried_again_or_not_by_their_kind() {
    let mut life = Life::of(pod(|_| ()));
    for pause_ms in [1_000, 2_000, 4_000] {
        assert_eq!(life.settle(), ["start"]);
        let error = RuntimeError::new(RuntimeErrorKind::Exhausted, "no process ids are left");
        life.slot.on_start_failed(&error, life.now_ms);
        let told = life.settle();
        assert!(
            told.is_empty() || told == ["write Pending, CreateContainerError, ready false, restarts 0"],
            "{told:?}"
        );
        assert_eq!(life.plan().wake_at_ms, Some(life.now_ms + pause_ms));
        life.now_ms += pause_ms;
    }
    assert_eq!(life.writes, 1, "the same complaint is told once");

    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.slot.on_start_failed(&RuntimeError::new(RuntimeErrorKind::Unsupported, "no runsc"), life.now_ms);
    assert_eq!(life.settle(), ["write Pending, CreateContainerConfigError, ready false, restarts 0"]);
    assert_eq!(life.plan().wake_at_ms, None);
    assert_eq!(life.delete(30), ["destroy for Delete in 0"], "nothing half-made may stay");
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() {
    let mut life = Life::of(pod(|pod| {
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({"exec": {"command": ["x"]}, "failureThreshold": 2, "periodSeconds": 1});
    }));
    life.settle();
    assert_eq!(life.started(), ["probe Liveness", "write Running, running, ready true, restarts 0"]);
    assert_eq!(life.probed(ProbeKind::Liveness, false), [""; 0]);
    assert_eq!(life.after(1_000), ["probe Liveness"]);
    let told = life.probed(ProbeKind::Liveness, false);
    assert_eq!(told, ["destroy for Restart in 5000 (Liveness probe failed: refused)"]);
    assert_eq!(life.destroyed(), ["start"]);
    let told = life.started();
    assert_eq!(told, ["probe Liveness", "write Running, running, ready true, restarts 1"]);
}

#[test]
fn a_deadline_ends_the_pod() {
    let mut life = Life::of(pod(|pod| pod["spec"]["activeDeadlineSeconds"] = json!(10)));
    life.settle();
    life.started();
    assert_eq!(life.plan().wake_at_ms, Some(START_MS + 10_000));
    let told = life.after(10_000);
    assert_eq!(told, ["destroy for Deadline in 5000 (Pod was active on the node longer than the specified deadline)"]);
    life.exited(143, ExitReason::Error);
    assert_eq!(life.destroyed(), ["write Failed, Error 143, ready false, restarts 0"]);
    assert_eq!(life.status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_status_is_not_written_twice_at_a_time() {
    let mut life = Life::of(pod(|_| ()));
    life.settle();
    life.slot.report.is_writing = true;
    assert_eq!(life.started(), [""; 0]);
    life.slot.report.is_writing = false;
    life.slot.report.retry_at_ms = life.now_ms + 1_000;
    assert_eq!(life.settle(), [""; 0]);
    assert_eq!(life.plan().wake_at_ms, Some(life.now_ms + 1_000));
    assert_eq!(life.after(1_000), ["write Running, running, ready true, restarts 0"]);
}

#[test]
fn a_finalizer_gets_to_see_that_nothing_runs() {
    let mut life = Life::of(pod(|pod| pod["metadata"]["finalizers"] = json!(["example.com/keep"])));
    life.settle();
    life.started();
    life.delete(5);
    life.exited(0, ExitReason::Completed);
    let told = life.destroyed();
    assert_eq!(told, ["delete object", "write Succeeded, Completed 0, ready false, restarts 0"]);
}

fn record(state: SandboxState) -> SandboxRecord {
    SandboxRecord {
        id: "u-1".to_owned(),
        tier_in_force: Tier::Native,
        address: Ipv4Addr::new(10, 201, 0, 9),
        guest_socket: "/g".into(),
        incarnation: 1,
        started_at_ms: START_MS,
        supervisor_pid: 1,
        supervisor_started_ticks: 1,
        guest_pid: 2,
        state,
        cgroups: std::collections::BTreeMap::new(),
    }
}

fn found(life: &Life, record: Option<&SandboxRecord>) -> Life {
    let mut pod = life.pod.clone().expect("a Pod");
    pod.status = Some(life.status.clone());
    let slot = Slot::found(life.slot.identity.clone(), Some(&pod), record, life.now_ms + 50_000);
    let status = life.status.clone();
    Life { pod: Some(pod), slot, now_ms: life.now_ms + 50_000, incarnation: 1, status, writes: 0 }
}

fn ran() -> Life {
    let mut life = Life::of(pod(|pod| {
        pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
    }));
    life.settle();
    life.started();
    life.probed(ProbeKind::Readiness, true);
    life
}

#[test]
fn a_sandbox_that_still_runs_is_taken_over_without_a_write() {
    let mut life = found(&ran(), Some(&record(SandboxState::Running)));
    assert_eq!(life.settle(), ["probe Readiness"]);
    assert_eq!(life.probed(ProbeKind::Readiness, true), [""; 0]);
    assert_eq!(life.slot.address, Some(Ipv4Addr::new(10, 201, 0, 9)));
}

#[test]
fn a_sandbox_that_ended_meanwhile_is_restarted() {
    let state = SandboxState::Exited(exit(2, ExitReason::Error, START_MS + 7_000));
    let mut life = found(&ran(), Some(&record(state)));
    assert_eq!(life.settle(), ["destroy for Restart in 0"]);
    assert_eq!(life.destroyed(), ["start"]);
    life.started();
    assert_eq!(life.slot.restarts, 1);
}

#[test]
fn a_sandbox_that_was_lost_is_restarted_or_failed() {
    let mut life = found(&ran(), None);
    assert_eq!(life.settle(), ["destroy for Restart in 0"]);
    let mut finished = ran();
    finished.pod.as_mut().and_then(|pod| pod.spec.as_mut()).expect("a spec").restart_policy = Some("Never".to_owned());
    let mut life = found(&finished, None);
    let told = life.settle();
    assert_eq!(told, ["finish", "write Failed, ContainerStatusUnknown 137, ready false, restarts 0"]);
}

#[test]
fn a_sandbox_without_a_pod_is_removed() {
    let identity = ran().slot.identity;
    let slot = Slot::found(identity, None, Some(&record(SandboxState::Running)), START_MS);
    let plan = converge(None, &slot, &node(), START_MS);
    assert_eq!(plan.actions, [Action::Destroy { purpose: Purpose::Delete, grace_ms: 0, cause: None }]);
}

#[test]
fn a_pod_that_ended_before_stays_as_it_is() {
    let mut ended = Life::of(pod(|pod| pod["spec"]["restartPolicy"] = json!("Never")));
    ended.settle();
    ended.started();
    ended.exited(0, ExitReason::Completed);
    let state = SandboxState::Exited(exit(0, ExitReason::Completed, START_MS));
    let mut life = found(&ended, Some(&record(state)));
    assert_eq!(life.settle(), [""; 0]);
    assert_eq!(life.delete(30), ["destroy for Delete in 0"]);
}

#[test]
fn conditions_keep_their_time_and_those_of_others_stay() {
    let mut life = Life::of(pod(|pod| {
        pod["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "example.com/Gate", "status": "Unknown"},
        ]);
    }));
    life.settle();
    life.started();
    let conditions = life.status.conditions.clone().expect("conditions");
    let at = |type_: &str| {
        let condition = conditions.iter().find(|c| c.type_ == type_).expect("it is there");
        condition.last_transition_time.as_ref().map(|time| time.0.to_string())
    };
    assert_eq!(at("PodScheduled").as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(at("example.com/Gate"), None);
    let patch = status::merge_patch("u-1", &pod::status(life.pod.as_ref().expect("a Pod")).clone(), &life.status);
    let patch = patch.expect("something changed");
    assert_eq!(patch["metadata"]["uid"], "u-1");
    assert_eq!(status::merge_patch("u-1", &life.status, &life.status), None);
    let mut cleared = life.status.clone();
    cleared.pod_ip = None;
    let patch = status::merge_patch("u-1", &life.status, &cleared).expect("something changed");
    assert_eq!(patch["status"], json!({"podIP": null}));
}
