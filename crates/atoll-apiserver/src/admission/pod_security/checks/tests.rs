//! What each level says of Pods, word for word as a Kubernetes API server says it.

use super::*;
use serde_json::json;

const BASELINE: Demand = Demand { level: Level::Baseline, minor: None };
const RESTRICTED: Demand = Demand { level: Level::Restricted, minor: None };

/// A Pod that the restricted level lets in, changed by a merge.
fn pod(change: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": "p" },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "a", "image": "x",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    json_patch::merge(&mut pod, &change);
    pod
}

/// The Pod with this security context in its container.
fn with_context(context: Value) -> Value {
    let mut pod = pod(json!({}));
    json_patch::merge(&mut pod["spec"]["containers"][0]["securityContext"], &context);
    pod
}

fn words(demand: Demand, pod: &Value) -> String {
    let found = run(demand, pod);
    found.iter().map(|it| format!("{} ({})", it.reason, it.detail)).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_pod_without_any_care_is_told_everything_at_once() {
    let careless = json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b" }] } });
    assert_eq!(words(BASELINE, &careless), "");
    assert_eq!(
        words(RESTRICTED, &careless),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(words(RESTRICTED, &pod(json!({}))), "");
}

#[test]
fn the_baseline_forbids_what_reaches_the_host() {
    let spec = |spec: Value| pod(json!({ "spec": spec }));
    let cases = [
        (spec(json!({ "hostNetwork": true, "hostPID": true })), "host namespaces (hostNetwork=true, hostPID=true)"),
        (spec(json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] })), "hostPath volumes (volume \"v\")"),
        (
            with_context(json!({ "privileged": true })),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            with_context(json!({ "capabilities": { "add": ["SYS_ADMIN", "CHOWN", "NET_RAW"] } })),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            with_context(json!({ "procMount": "Unmasked" })),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            with_context(json!({ "seccompProfile": { "type": "Unconfined" } })),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            with_context(json!({ "appArmorProfile": { "type": "Unconfined" } })),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            with_context(json!({ "seLinuxOptions": { "type": "spc_t", "user": "u" } })),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not \
             be set)",
        ),
        (
            spec(
                json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax" }, { "name": "net.ipv4.tcp_rmem" }] } }),
            ),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            spec(json!({ "securityContext": { "windowsOptions": { "hostProcess": true } } })),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (pod, expected) in cases {
        assert_eq!(words(BASELINE, &pod), expected);
    }
    let mut ports = pod(json!({}));
    ports["spec"]["containers"][0]["ports"] = json!([{ "hostPort": 80 }, { "hostPort": 443 }]);
    assert_eq!(words(BASELINE, &ports), "hostPort (container \"a\" uses hostPorts 443, 80)");
    let mut probe = pod(json!({}));
    probe["spec"]["containers"][0]["livenessProbe"] = json!({ "httpGet": { "host": "10.0.0.1" } });
    let expected = "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")";
    assert_eq!(words(BASELINE, &probe), expected);
    assert_eq!(words(Demand { minor: Some(33), ..BASELINE }, &probe), "");
}

#[test]
fn the_restricted_level_forbids_more() {
    let cases = [
        (
            with_context(json!({ "capabilities": { "add": ["CHOWN"] } })),
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            with_context(json!({ "runAsNonRoot": false })),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (with_context(json!({ "runAsUser": 0 })), "runAsUser=0 (container \"a\" must not set runAsUser=0)"),
        (
            pod(json!({ "spec": { "securityContext": { "runAsUser": 0 } } })),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            pod(
                json!({ "spec": { "volumes": [{ "name": "v", "hostPath": {} }, { "name": "w", "nfs": {} }, { "name": "x", "emptyDir": {} }] } }),
            ),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
    ];
    for (pod, expected) in cases {
        assert_eq!(words(RESTRICTED, &pod), expected);
        assert_eq!(words(Demand::default(), &pod), "");
    }
}

#[test]
fn an_older_version_demands_less() {
    let careless = json!({ "spec": { "containers": [{ "name": "a", "securityContext": { "runAsUser": 0 } }] } });
    let reasons = |minor| run(Demand { minor: Some(minor), ..RESTRICTED }, &careless).len();
    assert_eq!([reasons(7), reasons(8), reasons(19), reasons(22), reasons(23)], [1, 2, 3, 4, 5]);
    let windows = json!({ "spec": { "os": { "name": "windows" }, "containers": [{ "name": "a" }] } });
    assert_eq!(run(Demand { minor: Some(24), ..RESTRICTED }, &windows).len(), 4);
    assert_eq!(run(RESTRICTED, &windows).len(), 1);
}
