//! Which fields of built-in kinds tell "absent" from "zero".
//!
//! A Kubernetes API server keeps built-in objects in typed structures: an optional field that holds its zero value
//! (`""`, `0`, `false`) is not written back, unless it is one of these. Custom kinds keep whatever was sent.

use serde_json::json;

use crate::generator::{Definitions, full_name, property};

const FIELDS: &[(&str, &[&str])] = &[
    ("apiextensions.CustomResourceDefinitionVersion", &["deprecationWarning"]),
    ("apiextensions.CustomResourceSubresourceScale", &["labelSelectorPath"]),
    ("authentication.TokenRequestSpec", &["expirationSeconds"]),
    (
        "coordination.LeaseSpec",
        &["holderIdentity", "leaseDurationSeconds", "leaseTransitions", "preferredHolder", "strategy"],
    ),
    ("core.AppArmorProfile", &["localhostProfile"]),
    ("core.AzureDiskVolumeSource", &["cachingMode", "fsType", "kind", "readOnly"]),
    ("core.CSIVolumeSource", &["fsType", "readOnly"]),
    ("core.ClientIPConfig", &["timeoutSeconds"]),
    ("core.ClusterTrustBundleProjection", &["name", "optional", "signerName"]),
    ("core.ConfigMap", &["immutable"]),
    ("core.ConfigMapEnvSource", &["optional"]),
    ("core.ConfigMapKeySelector", &["optional"]),
    ("core.ConfigMapProjection", &["optional"]),
    ("core.ConfigMapVolumeSource", &["defaultMode", "optional"]),
    ("core.Container", &["restartPolicy"]),
    ("core.ContainerStatus", &["started", "stopSignal"]),
    ("core.DownwardAPIVolumeFile", &["mode"]),
    ("core.DownwardAPIVolumeSource", &["defaultMode"]),
    ("core.EphemeralContainer", &["restartPolicy"]),
    ("core.FCVolumeSource", &["lun"]),
    ("core.FileKeySelector", &["optional"]),
    ("core.GRPCAction", &["service"]),
    ("core.HostPathVolumeSource", &["type"]),
    ("core.ISCSIVolumeSource", &["initiatorName"]),
    ("core.KeyToPath", &["mode"]),
    ("core.Lifecycle", &["stopSignal"]),
    ("core.LoadBalancerIngress", &["ipMode"]),
    ("core.NodeFeatures", &["supplementalGroupsPolicy"]),
    ("core.NodeRuntimeHandlerFeatures", &["recursiveReadOnlyMounts", "userNamespaces"]),
    ("core.NodeSwapStatus", &["capacity"]),
    ("core.PersistentVolumeClaimSpec", &["storageClassName", "volumeAttributesClassName", "volumeMode"]),
    ("core.PersistentVolumeClaimStatus", &["currentVolumeAttributesClassName"]),
    ("core.PodCertificateProjection", &["maxExpirationSeconds"]),
    ("core.PodDNSConfigOption", &["value"]),
    ("core.PodResourceClaim", &["resourceClaimName", "resourceClaimTemplateName"]),
    ("core.PodResourceClaimStatus", &["resourceClaimName"]),
    (
        "core.PodSecurityContext",
        &[
            "fsGroup",
            "fsGroupChangePolicy",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seLinuxChangePolicy",
            "supplementalGroupsPolicy",
        ],
    ),
    (
        "core.PodSpec",
        &[
            "activeDeadlineSeconds",
            "automountServiceAccountToken",
            "enableServiceLinks",
            "hostUsers",
            "hostnameOverride",
            "preemptionPolicy",
            "priority",
            "runtimeClassName",
            "setHostnameAsFQDN",
            "shareProcessNamespace",
            "terminationGracePeriodSeconds",
        ],
    ),
    ("core.PortStatus", &["error"]),
    ("core.Probe", &["terminationGracePeriodSeconds"]),
    ("core.ProjectedVolumeSource", &["defaultMode"]),
    ("core.SeccompProfile", &["localhostProfile"]),
    ("core.Secret", &["immutable"]),
    ("core.SecretEnvSource", &["optional"]),
    ("core.SecretKeySelector", &["optional"]),
    ("core.SecretProjection", &["optional"]),
    ("core.SecretVolumeSource", &["defaultMode", "optional"]),
    (
        "core.SecurityContext",
        &[
            "allowPrivilegeEscalation",
            "privileged",
            "procMount",
            "readOnlyRootFilesystem",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
        ],
    ),
    ("core.ServiceAccount", &["automountServiceAccountToken"]),
    ("core.ServiceAccountTokenProjection", &["expirationSeconds"]),
    ("core.ServicePort", &["appProtocol"]),
    (
        "core.ServiceSpec",
        &[
            "allocateLoadBalancerNodePorts",
            "internalTrafficPolicy",
            "ipFamilyPolicy",
            "loadBalancerClass",
            "trafficDistribution",
        ],
    ),
    ("core.Toleration", &["tolerationSeconds"]),
    ("core.TopologySpreadConstraint", &["minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy"]),
    ("core.TypedLocalObjectReference", &["apiGroup"]),
    ("core.TypedObjectReference", &["apiGroup", "namespace"]),
    ("core.VolumeMount", &["mountPropagation", "recursiveReadOnly"]),
    ("core.VolumeMountStatus", &["recursiveReadOnly"]),
    (
        "core.WindowsSecurityContextOptions",
        &["gmsaCredentialSpec", "gmsaCredentialSpecName", "hostProcess", "runAsUserName"],
    ),
    ("discovery.Endpoint", &["hostname", "nodeName", "zone"]),
    ("discovery.EndpointConditions", &["ready", "serving", "terminating"]),
    ("discovery.EndpointPort", &["appProtocol", "name", "port", "protocol"]),
    (
        "meta.DeleteOptions",
        &[
            "gracePeriodSeconds",
            "ignoreStoreReadErrorWithClusterBreakingPotential",
            "orphanDependents",
            "propagationPolicy",
        ],
    ),
    ("meta.ListMeta", &["remainingItemCount"]),
    ("meta.ObjectMeta", &["deletionGracePeriodSeconds"]),
    ("meta.OwnerReference", &["blockOwnerDeletion", "controller"]),
    ("meta.Preconditions", &["resourceVersion", "uid"]),
    ("networking.NetworkPolicyPort", &["endPort", "protocol"]),
];

/// Marks the fields of the table with `x-atoll-presence`.
pub fn annotate(definitions: &mut Definitions) {
    for (definition, names) in FIELDS {
        for name in *names {
            property(definitions, &full_name(definition), name).insert("x-atoll-presence".into(), json!(true));
        }
    }
}
