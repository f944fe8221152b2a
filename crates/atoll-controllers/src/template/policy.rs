//! The NetworkPolicy of a template.

use std::collections::BTreeMap;

use atoll_api::{SandboxTemplate, labels};
use atoll_stdx::name_hash;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::caches::{name_of, namespace_of};
use crate::owner::controller_reference;

/// The label that every namespace carries with its own name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
const ROUTER_NAMESPACE: &str = "agent-sandbox-system";
const ROUTER_LABEL: (&str, &str) = ("app", "sandbox-router");
/// Everywhere, and what of it is not public: for each IP version.
const PUBLIC_ADDRESSES: [(&str, &[&str]); 2] = [
    ("0.0.0.0/0", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]),
    ("::/0", &["fc00::/7", "fe80::/10"]),
];

/// The name of a template's policy.
pub(crate) fn policy_name(template: &str) -> String {
    format!("{template}-network-policy")
}

/// The policy as it shall be.
pub(crate) fn policy(template: &SandboxTemplate) -> NetworkPolicy {
    let (ingress, egress) = match &template.spec.network_policy {
        Some(rules) => (rules.ingress.clone(), rules.egress.clone()),
        None => (vec![from_router()], vec![to_public_addresses()]),
    };
    NetworkPolicy {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(template).to_owned()),
            name: Some(policy_name(name_of(template))),
            owner_references: Some(vec![controller_reference(template)]),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(labels::TEMPLATE_REF_HASH, &name_hash(name_of(template)))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: (!egress.is_empty()).then_some(egress),
        }),
    }
}

fn from_router() -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(selector(NAMESPACE_NAME_LABEL, ROUTER_NAMESPACE)),
            pod_selector: Some(selector(ROUTER_LABEL.0, ROUTER_LABEL.1)),
            ..NetworkPolicyPeer::default()
        }]),
        ..NetworkPolicyIngressRule::default()
    }
}

fn to_public_addresses() -> NetworkPolicyEgressRule {
    let peers = PUBLIC_ADDRESSES.map(|(everywhere, private)| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: everywhere.to_owned(),
            except: Some(private.iter().map(|block| (*block).to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    });
    NetworkPolicyEgressRule { to: Some(peers.into()), ..NetworkPolicyEgressRule::default() }
}

fn selector(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}
