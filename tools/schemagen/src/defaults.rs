//! Values that the API fills in where a field is absent, and which fields are required.

use serde_json::{Value, json};

use crate::generator::{Definitions, full_name, property};

/// Definition, property, value as JSON. Filled in when a built-in object is written.
const BUILTIN: &[(&str, &str, &str)] = &[
    ("core.AzureDiskVolumeSource", "cachingMode", "\"ReadWrite\""),
    ("core.AzureDiskVolumeSource", "fsType", "\"ext4\""),
    ("core.AzureDiskVolumeSource", "kind", "\"Shared\""),
    ("core.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.ConfigMapVolumeSource", "defaultMode", "420"),
    ("core.Container", "terminationMessagePath", "\"/dev/termination-log\""),
    ("core.Container", "terminationMessagePolicy", "\"File\""),
    ("core.ContainerPort", "protocol", "\"TCP\""),
    ("core.DownwardAPIVolumeSource", "defaultMode", "420"),
    ("core.EphemeralContainer", "terminationMessagePath", "\"/dev/termination-log\""),
    ("core.EphemeralContainer", "terminationMessagePolicy", "\"File\""),
    ("core.FileKeySelector", "optional", "false"),
    ("core.GRPCAction", "service", "\"\""),
    ("core.HTTPGetAction", "path", "\"/\""),
    ("core.HTTPGetAction", "scheme", "\"HTTP\""),
    ("core.HostPathVolumeSource", "type", "\"\""),
    ("core.ISCSIVolumeSource", "iscsiInterface", "\"default\""),
    ("core.ObjectFieldSelector", "apiVersion", "\"v1\""),
    ("core.PersistentVolumeClaimSpec", "volumeMode", "\"Filesystem\""),
    ("core.PersistentVolumeClaimStatus", "phase", "\"Pending\""),
    ("core.PodCertificateProjection", "maxExpirationSeconds", "86400"),
    ("core.PodSpec", "dnsPolicy", "\"ClusterFirst\""),
    ("core.PodSpec", "enableServiceLinks", "true"),
    ("core.PodSpec", "restartPolicy", "\"Always\""),
    ("core.PodSpec", "schedulerName", "\"default-scheduler\""),
    ("core.PodSpec", "securityContext", "{}"),
    ("core.PodSpec", "terminationGracePeriodSeconds", "30"),
    ("core.Probe", "failureThreshold", "3"),
    ("core.Probe", "periodSeconds", "10"),
    ("core.Probe", "successThreshold", "1"),
    ("core.Probe", "timeoutSeconds", "1"),
    ("core.ProjectedVolumeSource", "defaultMode", "420"),
    ("core.RBDVolumeSource", "keyring", "\"/etc/ceph/keyring\""),
    ("core.RBDVolumeSource", "pool", "\"rbd\""),
    ("core.RBDVolumeSource", "user", "\"admin\""),
    ("core.ResourceFieldSelector", "divisor", "\"0\""),
    ("core.ScaleIOVolumeSource", "fsType", "\"xfs\""),
    ("core.ScaleIOVolumeSource", "storageMode", "\"ThinProvisioned\""),
    ("core.Secret", "type", "\"Opaque\""),
    ("core.SecretVolumeSource", "defaultMode", "420"),
    ("core.ServiceAccountTokenProjection", "expirationSeconds", "3600"),
    ("core.ServicePort", "protocol", "\"TCP\""),
    ("core.ServiceSpec", "sessionAffinity", "\"None\""),
    ("core.ServiceSpec", "type", "\"ClusterIP\""),
    ("discovery.EndpointPort", "name", "\"\""),
    ("discovery.EndpointPort", "protocol", "\"TCP\""),
    ("networking.NetworkPolicyPort", "protocol", "\"TCP\""),
];

/// Objects that a built-in kind always writes, `{}` when nothing is in them.
const ALWAYS_OBJECTS: &[(&str, &str)] = &[
    ("authentication.SelfSubjectReview", "metadata"),
    ("authentication.SelfSubjectReview", "status"),
    ("authentication.SelfSubjectReviewStatus", "userInfo"),
    ("authentication.TokenRequest", "metadata"),
    ("authentication.TokenRequest", "spec"),
    ("authentication.TokenRequest", "status"),
    ("authentication.TokenReview", "metadata"),
    ("authentication.TokenReview", "spec"),
    ("authentication.TokenReview", "status"),
    ("authentication.TokenReviewStatus", "user"),
    ("authorization.SelfSubjectAccessReview", "metadata"),
    ("authorization.SelfSubjectAccessReview", "spec"),
    ("authorization.SelfSubjectAccessReview", "status"),
    ("autoscaling.Scale", "metadata"),
    ("autoscaling.Scale", "spec"),
    ("autoscaling.Scale", "status"),
    ("coordination.Lease", "metadata"),
    ("coordination.Lease", "spec"),
    ("core.Binding", "metadata"),
    ("core.Binding", "target"),
    ("core.ConfigMap", "metadata"),
    ("core.Container", "resources"),
    ("core.ContainerStatus", "lastState"),
    ("core.ContainerStatus", "state"),
    ("core.EphemeralContainer", "resources"),
    ("core.Event", "involvedObject"),
    ("core.Event", "metadata"),
    ("core.Event", "source"),
    ("core.LimitRange", "metadata"),
    ("core.LimitRange", "spec"),
    ("core.Namespace", "metadata"),
    ("core.Namespace", "spec"),
    ("core.Namespace", "status"),
    ("core.Node", "metadata"),
    ("core.Node", "spec"),
    ("core.Node", "status"),
    ("core.NodeDaemonEndpoints", "kubeletEndpoint"),
    ("core.NodeStatus", "daemonEndpoints"),
    ("core.NodeStatus", "nodeInfo"),
    ("core.PersistentVolumeClaim", "metadata"),
    ("core.PersistentVolumeClaim", "spec"),
    ("core.PersistentVolumeClaim", "status"),
    ("core.PersistentVolumeClaimSpec", "resources"),
    ("core.Pod", "metadata"),
    ("core.Pod", "spec"),
    ("core.Pod", "status"),
    ("core.ResourceQuota", "metadata"),
    ("core.ResourceQuota", "spec"),
    ("core.ResourceQuota", "status"),
    ("core.Secret", "metadata"),
    ("core.Service", "metadata"),
    ("core.Service", "spec"),
    ("core.Service", "status"),
    ("core.ServiceAccount", "metadata"),
    ("core.ServiceStatus", "loadBalancer"),
    ("discovery.Endpoint", "conditions"),
    ("discovery.EndpointSlice", "metadata"),
    ("events.Event", "deprecatedSource"),
    ("events.Event", "metadata"),
    ("events.Event", "regarding"),
    ("networking.NetworkPolicy", "metadata"),
    ("networking.NetworkPolicy", "spec"),
    ("networking.NetworkPolicySpec", "podSelector"),
    ("node.RuntimeClass", "metadata"),
    ("policy.Eviction", "metadata"),
    ("rbac.ClusterRole", "metadata"),
    ("rbac.ClusterRoleBinding", "metadata"),
    ("rbac.Role", "metadata"),
    ("rbac.RoleBinding", "metadata"),
];

/// Texts that a built-in kind always writes although its schema does not require them.
const ALWAYS_TEXTS: &[(&str, &str)] = &[("core.Event", "reportingComponent"), ("core.Event", "reportingInstance")];

/// Lists that a built-in kind always writes, null when nothing is in them.
const ALWAYS_LISTS: &[(&str, &str)] =
    &[("core.LimitRangeSpec", "limits"), ("rbac.ClusterRole", "rules"), ("rbac.Role", "rules")];

/// Times that a built-in kind always writes, null when unknown.
const ALWAYS_TIMES: &[(&str, &str)] = &[
    ("core.ContainerStateRunning", "startedAt"),
    ("core.ContainerStateTerminated", "startedAt"),
    ("core.ContainerStateTerminated", "finishedAt"),
    ("core.Event", "firstTimestamp"),
    ("core.Event", "lastTimestamp"),
    ("core.Event", "eventTime"),
    ("core.EventSeries", "lastObservedTime"),
    ("core.NamespaceCondition", "lastTransitionTime"),
    ("core.NodeCondition", "lastHeartbeatTime"),
    ("core.NodeCondition", "lastTransitionTime"),
    ("core.PersistentVolumeClaimCondition", "lastProbeTime"),
    ("core.PersistentVolumeClaimCondition", "lastTransitionTime"),
    ("core.PodCondition", "lastProbeTime"),
    ("core.PodCondition", "lastTransitionTime"),
    ("events.Event", "deprecatedFirstTimestamp"),
    ("events.Event", "deprecatedLastTimestamp"),
    ("events.Event", "eventTime"),
];

/// The defaults that the published sandbox kinds carry inside their pod templates.
const CUSTOM: &[(&str, &str, &str)] = &[
    ("core.AzureDiskVolumeSource", "fsType", "\"ext4\""),
    ("core.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.ConfigMapEnvSource", "name", "\"\""),
    ("core.ConfigMapKeySelector", "name", "\"\""),
    ("core.ConfigMapProjection", "name", "\"\""),
    ("core.ConfigMapVolumeSource", "name", "\"\""),
    ("core.ContainerPort", "protocol", "\"TCP\""),
    ("core.FileKeySelector", "optional", "false"),
    ("core.GRPCAction", "service", "\"\""),
    ("core.ISCSIVolumeSource", "iscsiInterface", "\"default\""),
    ("core.LocalObjectReference", "name", "\"\""),
    ("core.RBDVolumeSource", "keyring", "\"/etc/ceph/keyring\""),
    ("core.RBDVolumeSource", "pool", "\"rbd\""),
    ("core.RBDVolumeSource", "user", "\"admin\""),
    ("core.ScaleIOVolumeSource", "fsType", "\"xfs\""),
    ("core.ScaleIOVolumeSource", "storageMode", "\"ThinProvisioned\""),
    ("core.SecretEnvSource", "name", "\"\""),
    ("core.SecretKeySelector", "name", "\"\""),
    ("core.SecretProjection", "name", "\"\""),
];

/// Properties that the Rust types can not be without and the API can.
const NOT_REQUIRED: &[(&str, &str)] = &[
    ("core.ConfigMapEnvSource", "name"),
    ("core.ConfigMapKeySelector", "name"),
    ("core.ConfigMapProjection", "name"),
    ("core.ConfigMapVolumeSource", "name"),
    ("core.LocalObjectReference", "name"),
    ("core.SecretEnvSource", "name"),
    ("core.SecretKeySelector", "name"),
    ("core.SecretProjection", "name"),
];

/// Sets the defaults of built-in kinds, and what they always write.
pub fn builtin(definitions: &mut Definitions) {
    set(definitions, BUILTIN);
    for (definition, name) in ALWAYS_OBJECTS {
        property(definitions, &full_name(definition), name).insert("x-atoll-zero".into(), json!({}));
    }
    for (definition, name) in ALWAYS_TIMES.iter().chain(ALWAYS_LISTS) {
        property(definitions, &full_name(definition), name).insert("x-atoll-zero".into(), Value::Null);
    }
    for (definition, name) in ALWAYS_TEXTS {
        property(definitions, &full_name(definition), name).insert("x-atoll-zero".into(), json!(""));
    }
}

/// Sets the defaults inside custom kinds.
pub fn custom(definitions: &mut Definitions) {
    set(definitions, CUSTOM);
}

fn set(definitions: &mut Definitions, table: &[(&str, &str, &str)]) {
    for (definition, name, value) in table {
        let value: Value = serde_json::from_str(value).expect("the table holds JSON");
        property(definitions, &full_name(definition), name).insert("default".into(), value);
    }
}

/// Corrects `required`: object metadata never is.
pub fn correct_required(definitions: &mut Definitions) {
    let metadata = json!("metadata");
    for (name, schema) in definitions.iter_mut() {
        let Some(Value::Array(required)) = schema.get_mut("required") else { continue };
        required.retain(|property| {
            let loose = |(definition, loose): &(&str, &str)| full_name(definition) == *name && property == loose;
            *property != metadata && !NOT_REQUIRED.iter().any(loose)
        });
        if required.is_empty() {
            schema.as_object_mut().expect("a definition is an object").remove("required");
        }
    }
}
