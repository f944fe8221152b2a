//! What a sandbox is doing, in one word.

use serde_json::Value;

const POOL_LABEL: &str = "agents.x-k8s.io/warm-pool-sandbox";
const POOL_KIND: &str = "SandboxWarmPool";

/// The state of a Sandbox: what is asked for, against what its conditions say.
pub(super) fn of(sandbox: &Value) -> &'static str {
    let suspended = condition(sandbox, "Suspended");
    if sandbox["spec"]["operatingMode"] == "Suspended" {
        return if suspended["status"] == "True" { "Suspended" } else { "Suspending" };
    }
    let ready = condition(sandbox, "Ready");
    if ready["status"] == "True" {
        return if is_pooled(sandbox) { "PreProvisioned" } else { "Running" };
    }
    // A sandbox that never slept has its conditions since it is there; one that wakes has been told so later.
    let slept =
        suspended["status"] == "True" || ready["reason"] == "SandboxSuspended" || woke_later(sandbox, suspended);
    if slept { "Resuming" } else { "Provisioning" }
}

/// A member of a pool that nobody has claimed.
fn is_pooled(sandbox: &Value) -> bool {
    let owners = sandbox["metadata"]["ownerReferences"].as_array();
    sandbox["metadata"]["labels"].get(POOL_LABEL).is_some()
        && owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == POOL_KIND))
}

/// Whether the condition changed after the object's first moments: it is first set right after the object is made.
fn woke_later(sandbox: &Value, suspended: &Value) -> bool {
    const FIRST_MOMENTS_S: i64 = 10;
    let seconds = |value: &Value| {
        value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second)
    };
    match (seconds(&sandbox["metadata"]["creationTimestamp"]), seconds(&suspended["lastTransitionTime"])) {
        (Some(made), Some(changed)) => changed - made > FIRST_MOMENTS_S,
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

    #[test]
    fn each_state_has_its_name() {
        let sandbox = |mode: &str, ready: (&str, &str), suspended: (&str, &str), owner: &str| {
            json!({
                "metadata": {
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": { POOL_LABEL: "1" }, "ownerReferences": [{ "kind": owner }],
                },
                "spec": { "operatingMode": mode },
                "status": { "conditions": [
                    { "type": "Ready", "status": ready.0, "reason": ready.1 },
                    { "type": "Suspended", "status": suspended.0, "lastTransitionTime": suspended.1 },
                ] },
            })
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        let cases = [
            ("Running", ("False", "DependenciesNotReady"), ("False", early), "SandboxClaim", "Provisioning"),
            ("Running", ("True", "DependenciesReady"), ("False", early), "SandboxClaim", "Running"),
            ("Running", ("True", "DependenciesReady"), ("False", early), "SandboxWarmPool", "PreProvisioned"),
            ("Suspended", ("False", "SandboxSuspended"), ("False", early), "SandboxClaim", "Suspending"),
            ("Suspended", ("False", "SandboxSuspended"), ("True", late), "SandboxClaim", "Suspended"),
            ("Running", ("False", "SandboxSuspended"), ("True", late), "SandboxClaim", "Resuming"),
            ("Running", ("False", "DependenciesNotReady"), ("False", late), "SandboxClaim", "Resuming"),
            ("Running", ("True", "DependenciesReady"), ("False", late), "SandboxClaim", "Running"),
        ];
        for (mode, ready, suspended, owner, expected) in cases {
            assert_eq!(of(&sandbox(mode, ready, suspended, owner)), expected, "{mode} {ready:?} {suspended:?}");
        }
        assert_eq!(of(&json!({})), "Provisioning");
    }
}
