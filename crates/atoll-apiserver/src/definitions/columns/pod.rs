//! Columns of pods. The status is the most telling word for what a pod does, which is not its phase.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::PrinterColumn;
use super::{NONE, age, computed, items, name, since, text, text_or_none, wide};

pub(super) fn columns() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("Ready", "Containers that are ready, of all.", |pod, now| json!(Summary::of(pod, now).ready)),
        computed("Status", "What the pod does.", |pod, now| json!(Summary::of(pod, now).status)),
        computed("Restarts", "Restarts of its containers.", |pod, now| json!(Summary::of(pod, now).restarts)),
        age(),
        wide(computed("IP", "Address.", |pod, _| json!(address(pod)))),
        wide(computed("Node", "The node that it is on.", |pod, _| json!(text_or_none(&pod["spec"]["nodeName"])))),
        wide(computed("Nominated Node", "The node that room is being made on.", |pod, _| {
            json!(text_or_none(&pod["status"]["nominatedNodeName"]))
        })),
        wide(computed("Readiness Gates", "Conditions beyond its containers that make it ready.", |pod, _| {
            json!(gates(pod))
        })),
    ]
}

fn address(pod: &Value) -> &str {
    match text(&pod["status"]["podIPs"][0]["ip"]) {
        "" => text_or_none(&pod["status"]["podIP"]),
        address => address,
    }
}

fn gates(pod: &Value) -> String {
    let gates = items(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = |gate: &&Value| condition(pod, text(&gate["conditionType"]))["status"] == "True";
    format!("{}/{}", gates.iter().filter(open).count(), gates.len())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    static ABSENT: Value = Value::Null;
    items(&pod["status"]["conditions"]).iter().find(|condition| condition["type"] == kind).unwrap_or(&ABSENT)
}

#[derive(Debug, PartialEq, Eq)]
struct Summary {
    ready: String,
    status: String,
    restarts: String,
}

/// Counts that grow as containers are looked at.
struct Tally<'a> {
    ready: usize,
    restarts: i64,
    last_restart: Option<&'a str>,
    status: String,
}

impl<'a> Tally<'a> {
    fn note_restarts(&mut self, container: &'a Value) {
        self.restarts += container["restartCount"].as_i64().unwrap_or_default();
        let finished = container["lastState"]["terminated"]["finishedAt"].as_str();
        self.last_restart = self.last_restart.max(finished);
    }
}

impl Summary {
    fn of(pod: &Value, now: Timestamp) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars: Vec<&str> = items(&spec["initContainers"])
            .iter()
            .filter(|container| container["restartPolicy"] == "Always")
            .map(|container| text(&container["name"]))
            .collect();
        let total = items(&spec["containers"]).len() + sidecars.len();
        let phase = text(&status["phase"]);
        let gated = condition(pod, "PodScheduled")["reason"] == "SchedulingGated";
        let word = match text(&status["reason"]) {
            _ if gated => "SchedulingGated",
            "" => phase,
            reason => reason,
        };
        let mut tally = Tally { ready: 0, restarts: 0, last_restart: None, status: word.to_owned() };
        let mut sidecar_tally = Tally { ready: 0, restarts: 0, last_restart: None, status: String::new() };
        let initialising = count_init_containers(pod, &sidecars, &mut tally, &mut sidecar_tally);
        if !initialising || condition(pod, "Initialized")["status"] == "True" {
            tally.restarts = sidecar_tally.restarts;
            tally.last_restart = sidecar_tally.last_restart;
            count_containers(pod, &mut tally);
        }
        let deleted = !pod["metadata"]["deletionTimestamp"].is_null();
        if deleted && status["reason"] == "NodeLost" {
            tally.status = "Unknown".to_owned();
        } else if deleted && !matches!(phase, "Succeeded" | "Failed") {
            tally.status = "Terminating".to_owned();
        }
        let restarts = match tally.last_restart {
            Some(time) if tally.restarts != 0 => format!("{} ({} ago)", tally.restarts, since(&json!(time), now)),
            _ => tally.restarts.to_string(),
        };
        Self { ready: format!("{}/{total}", tally.ready), status: tally.status, restarts }
    }
}

/// Returns whether an init container is still to finish.
fn count_init_containers<'a>(
    pod: &'a Value,
    sidecars: &[&str],
    tally: &mut Tally<'a>,
    sidecar_tally: &mut Tally<'a>,
) -> bool {
    let total = items(&pod["spec"]["initContainers"]).len();
    for (index, container) in items(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        tally.note_restarts(container);
        let is_sidecar = sidecars.contains(&text(&container["name"]));
        if is_sidecar {
            sidecar_tally.note_restarts(container);
        }
        let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
        if terminated["exitCode"] == 0 {
            continue;
        }
        if is_sidecar && container["started"] == Value::Bool(true) {
            tally.ready += usize::from(container["ready"] == Value::Bool(true));
            continue;
        }
        tally.status = if terminated.is_object() {
            format!("Init:{}", end_of(terminated))
        } else {
            match text(&waiting["reason"]) {
                "" | "PodInitializing" => format!("Init:{index}/{total}"),
                reason => format!("Init:{reason}"),
            }
        };
        return true;
    }
    false
}

fn count_containers<'a>(pod: &'a Value, tally: &mut Tally<'a>) {
    let mut running = false;
    for container in items(&pod["status"]["containerStatuses"]).iter().rev() {
        tally.note_restarts(container);
        let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
        let is_ready = container["ready"] == Value::Bool(true);
        if !text(&waiting["reason"]).is_empty() {
            tally.status = text(&waiting["reason"]).to_owned();
        } else if terminated.is_object() {
            tally.status = end_of(terminated);
        } else if is_ready && container["state"]["running"].is_object() {
            running = true;
            tally.ready += 1;
        }
    }
    if tally.status == "Completed" && running {
        let ready = condition(pod, "Ready")["status"] == "True";
        tally.status = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How a container ended, in a word.
fn end_of(terminated: &Value) -> String {
    let signal = terminated["signal"].as_i64().unwrap_or_default();
    match text(&terminated["reason"]) {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or_default()),
        reason => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: Value, ready: &str, status: &str, restarts: &str) {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let expected = Summary { ready: ready.to_owned(), status: status.to_owned(), restarts: restarts.to_owned() };
        assert_eq!(Summary::of(&pod, now), expected, "{pod}");
    }

    #[test]
    fn the_status_tells_what_a_pod_does() {
        let one = json!({"containers": [{"name": "a"}]});
        let with = |status: Value| json!({"metadata": {}, "spec": one, "status": status});
        check(with(json!({"phase": "Pending"})), "0/1", "Pending", "0");
        let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        check(with(json!({"phase": "Running", "containerStatuses": [running]})), "1/1", "Running", "0");
        let waiting = json!({"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}});
        check(with(json!({"phase": "Pending", "containerStatuses": [waiting]})), "0/1", "ContainerCreating", "0");
        let looping = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:30Z"}}});
        check(
            with(json!({"phase": "Running", "containerStatuses": [looping]})),
            "0/1",
            "CrashLoopBackOff",
            "3 (90s ago)",
        );
        for (end, word) in [
            (json!({"exitCode": 0, "reason": "Completed"}), "Completed"),
            (json!({"exitCode": 2, "reason": "Error"}), "Error"),
            (json!({"exitCode": 2}), "ExitCode:2"),
            (json!({"exitCode": 137, "signal": 9}), "Signal:9"),
            (json!({"exitCode": 137, "reason": "OOMKilled"}), "OOMKilled"),
        ] {
            let status = json!({"restartCount": 0, "state": {"terminated": end}});
            check(with(json!({"phase": "Failed", "containerStatuses": [status]})), "0/1", word, "0");
        }
        check(with(json!({"phase": "Failed", "reason": "Evicted"})), "0/1", "Evicted", "0");
        let mut deleted = with(json!({"phase": "Running", "containerStatuses": [running]}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        check(deleted, "1/1", "Terminating", "0");
    }

    #[test]
    fn init_containers_come_first() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let with =
            |statuses: Value| json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": statuses}});
        check(
            with(json!([{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}])),
            "0/2",
            "Init:0/2",
            "0",
        );
        check(
            with(json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}])),
            "0/2",
            "Init:Error",
            "0",
        );
        let started = json!([
            {"name": "i", "state": {"terminated": {"exitCode": 0}}},
            {"name": "s", "started": true, "ready": true, "state": {"running": {}}},
        ]);
        check(with(started), "1/2", "Pending", "0");
    }
}
