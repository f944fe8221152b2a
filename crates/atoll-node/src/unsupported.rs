//! Names everything in a Pod that this node would have to ignore. Pure.
//!
//! The Pod's specification is walked as JSON, and every field in it must be in a table: done by the node, without
//! meaning for it, or allowed with certain values. What is in no table is refused by its name, fields of later
//! Kubernetes versions included.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use crate::volumes::{SHARE_ATTRIBUTE, SHARE_DRIVER};

/// What a field may be.
enum Rule {
    /// Done, or meant for somebody else (the scheduler, the admission chain).
    Accepted,
    /// Refused unless false (or null).
    OnlyFalse,
    /// Refused unless one of these texts.
    OneOf(&'static [&'static str]),
    /// Refused unless empty.
    Empty,
    /// An object with fields of its own.
    Object(&'static [(&'static str, Rule)]),
    /// A list of such objects.
    List(&'static [(&'static str, Rule)]),
}

use Rule::{Accepted, Empty, List, Object, OneOf, OnlyFalse};

const POD: &[(&str, Rule)] = &[
    ("activeDeadlineSeconds", Accepted),
    ("affinity", Accepted),
    ("automountServiceAccountToken", OnlyFalse),
    ("containers", List(CONTAINER)),
    // The resolver is the node's own: it tells of the names that may be reached.
    ("dnsConfig", Accepted),
    ("dnsPolicy", Accepted),
    ("enableServiceLinks", Accepted),
    ("ephemeralContainers", Empty),
    ("hostAliases", Empty),
    ("hostIPC", OnlyFalse),
    ("hostNetwork", OnlyFalse),
    ("hostPID", OnlyFalse),
    ("hostUsers", OnlyFalse),
    ("hostname", Accepted),
    ("imagePullSecrets", Accepted),
    ("initContainers", List(CONTAINER)),
    ("nodeName", Accepted),
    ("nodeSelector", Accepted),
    ("os", Object(&[("name", OneOf(&["linux"]))])),
    ("overhead", Accepted),
    ("preemptionPolicy", Accepted),
    ("priority", Accepted),
    ("priorityClassName", Accepted),
    ("readinessGates", Empty),
    ("resourceClaims", Empty),
    ("restartPolicy", Accepted),
    ("runtimeClassName", Accepted),
    ("schedulerName", Accepted),
    ("schedulingGates", Accepted),
    ("securityContext", Object(POD_SECURITY)),
    ("serviceAccount", Accepted),
    ("serviceAccountName", Accepted),
    ("setHostnameAsFQDN", OnlyFalse),
    ("shareProcessNamespace", OnlyFalse),
    ("terminationGracePeriodSeconds", Accepted),
    ("tolerations", Accepted),
    ("topologySpreadConstraints", Accepted),
    ("volumes", List(VOLUME)),
];

const SECCOMP: &[(&str, Rule)] = &[("type", OneOf(&["RuntimeDefault"]))];

const POD_SECURITY: &[(&str, Rule)] = &[
    ("appArmorProfile", Object(&[("type", OneOf(&["Unconfined"]))])),
    ("fsGroup", Accepted),
    ("fsGroupChangePolicy", Accepted),
    ("runAsGroup", Accepted),
    ("runAsNonRoot", Accepted),
    ("runAsUser", Accepted),
    ("seccompProfile", Object(SECCOMP)),
    ("supplementalGroups", Accepted),
    ("supplementalGroupsPolicy", Accepted),
    ("sysctls", Empty),
];

const CONTAINER: &[(&str, Rule)] = &[
    ("args", Accepted),
    ("command", Accepted),
    ("env", List(ENV)),
    ("envFrom", List(ENV_FROM)),
    ("image", Accepted),
    ("imagePullPolicy", Accepted),
    ("lifecycle", Object(LIFECYCLE)),
    ("livenessProbe", Object(PROBE)),
    ("name", Accepted),
    ("ports", List(PORT)),
    ("readinessProbe", Object(PROBE)),
    ("resizePolicy", Accepted),
    ("resources", Object(RESOURCES)),
    ("securityContext", Object(CONTAINER_SECURITY)),
    ("startupProbe", Object(PROBE)),
    ("stdin", OnlyFalse),
    ("stdinOnce", OnlyFalse),
    ("terminationMessagePath", OneOf(&["/dev/termination-log"])),
    ("terminationMessagePolicy", OneOf(&["File"])),
    ("tty", OnlyFalse),
    ("volumeDevices", Empty),
    ("volumeMounts", List(VOLUME_MOUNT)),
    ("workingDir", Accepted),
];

const ENV: &[(&str, Rule)] = &[
    ("name", Accepted),
    ("value", Accepted),
    (
        "valueFrom",
        Object(&[
            ("configMapKeyRef", Accepted),
            ("fieldRef", Accepted),
            ("resourceFieldRef", Accepted),
            ("secretKeyRef", Accepted),
        ]),
    ),
];

const ENV_FROM: &[(&str, Rule)] = &[("configMapRef", Accepted), ("prefix", Accepted), ("secretRef", Accepted)];

const PORT: &[(&str, Rule)] = &[("containerPort", Accepted), ("name", Accepted), ("protocol", Accepted)];

const QUANTITIES: &[(&str, Rule)] = &[("cpu", Accepted), ("memory", Accepted)];

const RESOURCES: &[(&str, Rule)] = &[
    ("limits", Object(QUANTITIES)),
    ("requests", Object(&[("cpu", Accepted), ("ephemeral-storage", Accepted), ("memory", Accepted)])),
];

const CONTAINER_SECURITY: &[(&str, Rule)] = &[
    ("allowPrivilegeEscalation", OnlyFalse),
    ("appArmorProfile", Object(&[("type", OneOf(&["Unconfined"]))])),
    ("capabilities", Object(&[("add", Empty), ("drop", Accepted)])),
    ("privileged", OnlyFalse),
    ("procMount", OneOf(&["Default"])),
    ("readOnlyRootFilesystem", Accepted),
    ("runAsGroup", Accepted),
    ("runAsNonRoot", Accepted),
    ("runAsUser", Accepted),
    ("seccompProfile", Object(SECCOMP)),
];

const HTTP_GET: &[(&str, Rule)] =
    &[("httpHeaders", Accepted), ("path", Accepted), ("port", Accepted), ("scheme", OneOf(&["HTTP"]))];

const HANDLER: &[(&str, Rule)] = &[
    ("exec", Object(&[("command", Accepted)])),
    ("httpGet", Object(HTTP_GET)),
    ("sleep", Object(&[("seconds", Accepted)])),
];

const LIFECYCLE: &[(&str, Rule)] = &[("postStart", Object(HANDLER)), ("preStop", Object(HANDLER))];

const PROBE: &[(&str, Rule)] = &[
    ("exec", Object(&[("command", Accepted)])),
    ("failureThreshold", Accepted),
    ("httpGet", Object(HTTP_GET)),
    ("initialDelaySeconds", Accepted),
    ("periodSeconds", Accepted),
    ("successThreshold", Accepted),
    ("tcpSocket", Object(&[("port", Accepted)])),
    ("terminationGracePeriodSeconds", Accepted),
    ("timeoutSeconds", Accepted),
];

const VOLUME_MOUNT: &[(&str, Rule)] = &[
    ("mountPath", Accepted),
    ("mountPropagation", OneOf(&["None"])),
    ("name", Accepted),
    ("readOnly", Accepted),
    ("recursiveReadOnly", OneOf(&["Disabled", "IfPossible"])),
    ("subPath", Accepted),
];

const KEY_ITEMS: &[(&str, Rule)] = &[("key", Accepted), ("path", Accepted)];

const DOWNWARD_ITEMS: &[(&str, Rule)] = &[("fieldRef", Accepted), ("path", Accepted), ("resourceFieldRef", Accepted)];

const PROJECTED: &[(&str, Rule)] = &[
    ("configMap", Object(&[("items", List(KEY_ITEMS)), ("name", Accepted), ("optional", Accepted)])),
    ("downwardAPI", Object(&[("items", List(DOWNWARD_ITEMS))])),
    ("secret", Object(&[("items", List(KEY_ITEMS)), ("name", Accepted), ("optional", Accepted)])),
];

const VOLUME: &[(&str, Rule)] = &[
    (
        "configMap",
        Object(&[("defaultMode", Accepted), ("items", List(KEY_ITEMS)), ("name", Accepted), ("optional", Accepted)]),
    ),
    (
        "csi",
        Object(&[
            ("driver", OneOf(&[SHARE_DRIVER])),
            ("readOnly", Accepted),
            ("volumeAttributes", Object(&[(SHARE_ATTRIBUTE, Accepted)])),
        ]),
    ),
    ("downwardAPI", Object(&[("defaultMode", Accepted), ("items", List(DOWNWARD_ITEMS))])),
    ("emptyDir", Object(&[("medium", OneOf(&["", "Memory"])), ("sizeLimit", Accepted)])),
    ("image", Object(&[("pullPolicy", Accepted), ("reference", Accepted)])),
    ("name", Accepted),
    ("persistentVolumeClaim", Object(&[("claimName", Accepted), ("readOnly", Accepted)])),
    ("projected", Object(&[("defaultMode", Accepted), ("sources", List(PROJECTED))])),
    (
        "secret",
        Object(&[
            ("defaultMode", Accepted),
            ("items", List(KEY_ITEMS)),
            ("optional", Accepted),
            ("secretName", Accepted),
        ]),
    ),
];

/// The first thing in the specification that this node does not do, as a sentence that names it.
#[must_use]
pub(crate) fn first_unsupported(spec: &PodSpec) -> Option<String> {
    let value = serde_json::to_value(spec).expect("a PodSpec is JSON");
    if let Some(found) = check_object("spec", &value, POD) {
        return Some(found);
    }
    if let Some(second) = spec.containers.get(1) {
        return Some(format!(
            "spec.containers[1] (\"{}\") is not supported: this node runs one container per Pod",
            second.name
        ));
    }
    spec.volumes.iter().flatten().find_map(|volume| {
        let directory = volume.empty_dir.as_ref()?;
        let is_sized_disk = directory.medium.as_deref() != Some("Memory") && directory.size_limit.is_some();
        is_sized_disk.then(|| {
            format!(
                "emptyDir.sizeLimit of volume \"{}\" is not supported: this node cannot limit a directory on disk",
                volume.name
            )
        })
    })
}

fn check_object(path: &str, value: &Value, rules: &[(&str, Rule)]) -> Option<String> {
    value.as_object()?.iter().filter(|(_, field)| !field.is_null()).find_map(|(name, field)| {
        let path = format!("{path}.{name}");
        match rules.iter().find(|(known, _)| known == name) {
            Some((_, rule)) => check(&path, field, rule),
            None => Some(format!("{path} is not supported by this node")),
        }
    })
}

fn check(path: &str, value: &Value, rule: &Rule) -> Option<String> {
    let refused = |why: String| Some(format!("{path} is not supported by this node: {why}"));
    match rule {
        Accepted => None,
        OnlyFalse if *value == Value::Bool(false) => None,
        OnlyFalse => refused("it must be false".to_owned()),
        OneOf(allowed) if value.as_str().is_some_and(|text| allowed.contains(&text)) => None,
        OneOf(allowed) => refused(format!("{value} must be {}", allowed.join(" or "))),
        Empty if is_empty(value) => None,
        Empty => refused("it must be empty".to_owned()),
        Object(fields) => check_object(path, value, fields),
        List(fields) => value
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .find_map(|(index, item)| check_object(&format!("{path}[{index}]"), item, fields)),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut spec = json!({"containers": [{"name": "main", "image": "atoll.local/host"}]});
        change(&mut spec);
        first_unsupported(&serde_json::from_value(spec).expect("a PodSpec"))
    }

    #[test]
    fn a_plain_pod_with_the_servers_defaults_is_accepted() {
        let found = verdict(|spec| {
            *spec = json!({
                "containers": [{
                    "name": "main", "image": "atoll.local/host", "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "1"], "workingDir": "/tmp",
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "ports": [{"containerPort": 8888, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"ephemeral-storage": "1Gi"}},
                    "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false,
                        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "automountServiceAccountToken": false, "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["8.8.8.8"]}, "enableServiceLinks": true, "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "serviceAccountName": "default",
                "serviceAccount": "default", "terminationGracePeriodSeconds": 30, "preemptionPolicy": "PreemptLowerPriority",
                "tolerations": [{"key": "x", "operator": "Exists"}], "nodeName": "here", "priority": 0,
                "volumes": [{"name": "data", "emptyDir": {}}],
            });
        });
        assert_eq!(found, None);
    }

    #[test]
    fn what_is_not_done_is_refused_by_its_name() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &str)] = &[
            (|s| s["hostNetwork"] = json!(true), "spec.hostNetwork"),
            (|s| s["hostPID"] = json!(true), "spec.hostPID"),
            (|s| s["hostIPC"] = json!(true), "spec.hostIPC"),
            (|s| s["hostUsers"] = json!(true), "spec.hostUsers"),
            (|s| s["shareProcessNamespace"] = json!(true), "spec.shareProcessNamespace"),
            (|s| s["automountServiceAccountToken"] = json!(true), "spec.automountServiceAccountToken"),
            (
                |s| s["initContainers"] = json!([{"name": "i", "restartPolicy": "Always"}]),
                "spec.initContainers[0].restartPolicy",
            ),
            (|s| s["hostAliases"] = json!([{"ip": "1.2.3.4"}]), "spec.hostAliases"),
            (|s| s["os"] = json!({"name": "windows"}), "spec.os.name"),
            (|s| s["subdomain"] = json!("x"), "spec.subdomain"),
            (
                |s| s["securityContext"] = json!({"sysctls": [{"name": "a", "value": "b"}]}),
                "spec.securityContext.sysctls",
            ),
            (
                |s| s["securityContext"] = json!({"seLinuxOptions": {"type": "t"}}),
                "spec.securityContext.seLinuxOptions",
            ),
            (
                |s| s["containers"][0]["securityContext"] = json!({"privileged": true}),
                "spec.containers[0].securityContext.privileged",
            ),
            (
                |s| s["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": true}),
                "spec.containers[0].securityContext.allowPrivilegeEscalation",
            ),
            (
                |s| s["containers"][0]["securityContext"] = json!({"capabilities": {"add": ["NET_ADMIN"]}}),
                "spec.containers[0].securityContext.capabilities.add",
            ),
            (
                |s| s["containers"][0]["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}}),
                "spec.containers[0].securityContext.seccompProfile.type",
            ),
            (
                |s| s["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"}),
                "spec.containers[0].securityContext.procMount",
            ),
            (
                |s| s["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": 80}]),
                "spec.containers[0].ports[0].hostPort",
            ),
            (
                |s| s["containers"][0]["lifecycle"] = json!({"preStop": {"tcpSocket": {"port": 1}}}),
                "spec.containers[0].lifecycle.preStop.tcpSocket",
            ),
            (|s| s["containers"][0]["stdin"] = json!(true), "spec.containers[0].stdin"),
            (
                |s| s["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}}),
                "spec.containers[0].resources.limits.nvidia.com/gpu",
            ),
            (
                |s| s["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "1Gi"}}),
                "spec.containers[0].resources.limits.ephemeral-storage",
            ),
            (
                |s| s["containers"][0]["livenessProbe"] = json!({"grpc": {"port": 1}}),
                "spec.containers[0].livenessProbe.grpc",
            ),
            (
                |s| s["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 1, "scheme": "HTTPS"}}),
                "spec.containers[0].readinessProbe.httpGet.scheme",
            ),
            (
                |s| s["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1, "host": "10.0.0.1"}}),
                "spec.containers[0].readinessProbe.tcpSocket.host",
            ),
            (
                |s| s["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/d", "subPathExpr": "x"}]),
                "spec.containers[0].volumeMounts[0].subPathExpr",
            ),
            (
                |s| {
                    s["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"fileKeyRef": {"path": "x", "key": "k", "volumeName": "v"}}}])
                },
                "spec.containers[0].env[0].valueFrom.fileKeyRef",
            ),
            (|s| s["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath"),
            (
                |s| {
                    s["volumes"] =
                        json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}])
                },
                "spec.volumes[0].projected.sources[0].serviceAccountToken",
            ),
            (
                |s| s["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]),
                "emptyDir.sizeLimit of volume \"v\"",
            ),
            (
                |s| {
                    s["volumes"] = json!([{"name": "v", "secret": {"items": [{"key": "k", "path": "p", "mode": 256}]}}])
                },
                "spec.volumes[0].secret.items[0].mode",
            ),
        ];
        for (change, name) in cases {
            let found = verdict(change).unwrap_or_else(|| panic!("{name} was accepted"));
            assert!(found.starts_with(&format!("{name} is not supported")), "{name}: {found}");
        }
        let found = verdict(|s| {
            s["containers"].as_array_mut().expect("a list").push(json!({"name": "side", "image": "atoll.local/host"}));
        });
        assert!(found.expect("refused").contains("\"side\""));
    }
}
