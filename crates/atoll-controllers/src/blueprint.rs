//! From a template to a Sandbox: safe defaults, hashes, and whether a member is still what its template says.

use atoll_api::{Blueprint, Sandbox, SandboxTemplate, labels};
use atoll_stdx::name_hash;
use k8s_openapi::api::core::v1::PodDNSConfig;

use crate::caches::name_of;
use crate::owner::label;

/// Resolvers outside the cluster, so that names inside it can not be listed.
const PUBLIC_RESOLVERS: [&str; 2] = ["8.8.8.8", "1.1.1.1"];

/// The blueprint of a template's Sandboxes.
pub(crate) fn secured(template: &SandboxTemplate) -> Blueprint {
    let mut blueprint = template.spec.blueprint();
    let pod = &mut blueprint.pod_template.spec;
    pod.automount_service_account_token.get_or_insert(false);
    let default_rules = template.spec.manages_network_policy() && template.spec.network_policy.is_none();
    if default_rules && pod.dns_policy.as_deref().unwrap_or_default().is_empty() {
        pod.dns_policy = Some("None".to_owned());
        pod.dns_config = Some(PodDNSConfig {
            nameservers: Some(PUBLIC_RESOLVERS.map(str::to_owned).into()),
            ..PodDNSConfig::default()
        });
    }
    blueprint
}

/// The hashes that a template's members carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// Of the template's name.
    pub(crate) reference: String,
    /// Of the whole blueprint.
    pub(crate) blueprint: String,
    /// Of the pod template.
    pub(crate) pod_template: String,
}

impl Hashes {
    pub(crate) fn of(template: &SandboxTemplate) -> Self {
        let blueprint = template.spec.blueprint();
        let json = |value: serde_json::Result<String>| name_hash(&value.expect("a blueprint is always JSON"));
        Self {
            reference: name_hash(name_of(template)),
            blueprint: json(serde_json::to_string(&blueprint)),
            pod_template: json(serde_json::to_string(&blueprint.pod_template)),
        }
    }
}

/// Whether a member is not what its template says now. Metadata alone never makes it so.
pub(crate) fn is_stale(sandbox: &Sandbox, template: &SandboxTemplate, hashes: &Hashes) -> bool {
    if label(&sandbox.metadata, labels::TEMPLATE_REF_HASH) != Some(hashes.reference.as_str()) {
        return true;
    }
    if label(&sandbox.metadata, labels::TEMPLATE_HASH) == Some(hashes.blueprint.as_str()) {
        return false;
    }
    let wanted = secured(template);
    let same_volumes = wanted.volume_claim_templates.len() == sandbox.spec.volume_claim_templates.len()
        && wanted
            .volume_claim_templates
            .iter()
            .zip(&sandbox.spec.volume_claim_templates)
            .all(|(wanted, present)| wanted.metadata.name == present.metadata.name && wanted.spec == present.spec);
    wanted.pod_template.spec != sandbox.spec.pod_template.spec
        || !same_volumes
        || wanted.service != sandbox.spec.service
}
