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
    ("core.Container", "resources", "{}"),
    ("core.Container", "terminationMessagePath", "\"/dev/termination-log\""),
    ("core.Container", "terminationMessagePolicy", "\"File\""),
    ("core.ContainerPort", "protocol", "\"TCP\""),
    ("core.ContainerStatus", "lastState", "{}"),
    ("core.ContainerStatus", "state", "{}"),
    ("core.DownwardAPIVolumeSource", "defaultMode", "420"),
    ("core.EphemeralContainer", "resources", "{}"),
    ("core.EphemeralContainer", "terminationMessagePath", "\"/dev/termination-log\""),
    ("core.EphemeralContainer", "terminationMessagePolicy", "\"File\""),
    ("core.Event", "source", "{}"),
    ("core.FileKeySelector", "optional", "false"),
    ("core.GRPCAction", "service", "\"\""),
    ("core.HTTPGetAction", "path", "\"/\""),
    ("core.HTTPGetAction", "scheme", "\"HTTP\""),
    ("core.HostPathVolumeSource", "type", "\"\""),
    ("core.ISCSIVolumeSource", "iscsiInterface", "\"default\""),
    ("core.Namespace", "spec", "{}"),
    ("core.Namespace", "status", "{}"),
    ("core.NamespaceStatus", "phase", "\"Active\""),
    ("core.Node", "spec", "{}"),
    ("core.Node", "status", "{}"),
    ("core.NodeDaemonEndpoints", "kubeletEndpoint", "{}"),
    ("core.NodeStatus", "daemonEndpoints", "{}"),
    ("core.NodeStatus", "nodeInfo", "{}"),
    ("core.ObjectFieldSelector", "apiVersion", "\"v1\""),
    ("core.PersistentVolumeClaim", "spec", "{}"),
    ("core.PersistentVolumeClaim", "status", "{}"),
    ("core.PersistentVolumeClaimSpec", "resources", "{}"),
    ("core.PersistentVolumeClaimSpec", "volumeMode", "\"Filesystem\""),
    ("core.PersistentVolumeClaimStatus", "phase", "\"Pending\""),
    ("core.Pod", "spec", "{}"),
    ("core.Pod", "status", "{}"),
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
    ("core.Service", "spec", "{}"),
    ("core.Service", "status", "{}"),
    ("core.ServiceAccountTokenProjection", "expirationSeconds", "3600"),
    ("core.ServicePort", "protocol", "\"TCP\""),
    ("core.ServiceSpec", "sessionAffinity", "\"None\""),
    ("core.ServiceSpec", "type", "\"ClusterIP\""),
    ("core.ServiceStatus", "loadBalancer", "{}"),
    ("authentication.TokenReview", "status", "{}"),
    ("authentication.TokenReviewStatus", "user", "{}"),
    ("coordination.Lease", "spec", "{}"),
    ("discovery.Endpoint", "conditions", "{}"),
    ("discovery.EndpointPort", "name", "\"\""),
    ("discovery.EndpointPort", "protocol", "\"TCP\""),
    ("events.Event", "regarding", "{}"),
    ("events.Event", "deprecatedSource", "{}"),
    ("networking.NetworkPolicy", "spec", "{}"),
    ("networking.NetworkPolicyPort", "protocol", "\"TCP\""),
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

/// Sets the defaults of built-in kinds.
pub fn builtin(definitions: &mut Definitions) {
    set(definitions, BUILTIN);
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
