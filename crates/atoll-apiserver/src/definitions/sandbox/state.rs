//! What a sandbox is doing, in one word.

use jiff::Timestamp;
use serde_json::Value;

const POOL_KIND: &str = "SandboxWarmPool";
const LAUNCH_TYPE_LABEL: &str = "agents.x-k8s.io/launch-type";

/// The state of a Sandbox: what is asked for, against what its conditions say.
pub(super) fn of(sandbox: &Value) -> &'static str {
    let (ready, suspended) = (condition(sandbox, "Ready"), condition(sandbox, "Suspended"));
    if !sandbox["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    match ready["reason"].as_str() {
        Some("SandboxExpired") => return "Expired",
        Some("PodSucceeded") => return "Succeeded",
        Some("PodFailed") => return "Failed",
        _ => {}
    }
    let asleep = suspended["status"] == "True";
    if sandbox["spec"]["operatingMode"] == "Suspended" {
        return if asleep { "Suspended" } else { "Suspending" };
    }
    let (pooled, claimed) = (is_pooled(sandbox), was_pooled(sandbox));
    if ready["status"] == "True" {
        let behind = ready["observedGeneration"].as_i64() < sandbox["metadata"]["generation"].as_i64();
        return match pooled {
            true => "PreProvisioned",
            false if claimed && behind => "Claimed",
            false => "Running",
        };
    }
    if asleep || wakes(ready, suspended) {
        return "Resuming";
    }
    if !pooled && claimed { "Claimed" } else { "Provisioning" }
}

/// A member of a pool that nobody has claimed.
fn is_pooled(sandbox: &Value) -> bool {
    let owners = sandbox["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| owner["controller"] == true && owner["kind"] == POOL_KIND)
}

/// Made for a pool, whoever has it now.
fn was_pooled(sandbox: &Value) -> bool {
    sandbox["metadata"]["labels"][LAUNCH_TYPE_LABEL] == "warm"
}

/// It stopped being Ready before it stopped being suspended: it sleeps no more, and is not Ready since.
fn wakes(ready: &Value, suspended: &Value) -> bool {
    let since = |condition: &Value| condition["lastTransitionTime"].as_str()?.parse::<Timestamp>().ok();
    match (since(ready), since(suspended)) {
        (Some(unready), Some(awake)) => awake > unready,
        _ => false,
    }
}

fn condition<'a>(sandbox: &'a Value, name: &str) -> &'a Value {
    let conditions = sandbox["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|own| own["type"] == name)).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:05:00Z";

    fn sandbox(mode: &str, ready: (&str, &str, i64), suspended: (&str, &str), owner: &str) -> Value {
        json!({
            "metadata": {
                "generation": 2, "labels": { LAUNCH_TYPE_LABEL: "warm" },
                "ownerReferences": [{ "kind": owner, "controller": true }],
            },
            "spec": { "operatingMode": mode },
            "status": { "conditions": [
                { "type": "Ready", "status": ready.0, "reason": ready.1, "observedGeneration": ready.2,
                  "lastTransitionTime": "2026-01-01T00:01:00Z" },
                { "type": "Suspended", "status": suspended.0, "lastTransitionTime": suspended.1 },
            ] },
        })
    }

    #[test]
    fn each_state_has_its_name() {
        let starting = ("False", "DependenciesNotReady", 2);
        let ready = ("True", "DependenciesReady", 2);
        let taken = ("True", "DependenciesReady", 1);
        let asleep = ("False", "SandboxSuspended", 2);
        let (claim, pool) = ("SandboxClaim", "SandboxWarmPool");
        let cases = [
            ("Running", starting, ("False", EARLY), pool, "Provisioning"),
            ("Running", ready, ("False", EARLY), pool, "PreProvisioned"),
            ("Running", starting, ("False", EARLY), claim, "Claimed"),
            ("Running", taken, ("False", EARLY), claim, "Claimed"),
            ("Running", ready, ("False", EARLY), claim, "Running"),
            ("Suspended", asleep, ("False", EARLY), claim, "Suspending"),
            ("Suspended", asleep, ("True", LATE), claim, "Suspended"),
            ("Running", asleep, ("True", LATE), claim, "Resuming"),
            ("Running", starting, ("False", LATE), claim, "Resuming"),
            ("Running", ready, ("False", LATE), claim, "Running"),
            ("Running", ("False", "PodFailed", 2), ("False", EARLY), claim, "Failed"),
            ("Running", ("False", "PodSucceeded", 2), ("False", EARLY), claim, "Succeeded"),
            ("Running", ("False", "SandboxExpired", 2), ("False", EARLY), claim, "Expired"),
        ];
        for (mode, ready, suspended, owner, expected) in cases {
            let sandbox = sandbox(mode, ready, suspended, owner);
            assert_eq!(of(&sandbox), expected, "{mode} {ready:?} {suspended:?} {owner}");
        }
        assert_eq!(of(&json!({})), "Provisioning");
        assert_eq!(of(&json!({ "metadata": { "deletionTimestamp": EARLY } })), "Terminating");
    }
}
