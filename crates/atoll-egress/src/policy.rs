//! NetworkPolicies compiled to rules of one sandbox's link. Pure.
//!
//! The meaning is that of `networking.k8s.io/v1`, with three differences, all towards less:
//! a Pod that no policy selects may nothing (Kubernetes lets it do everything); an `ipBlock` means addresses outside,
//! never other sandboxes; and what leaves the node is cut down to what the administrator's floor permits. The router on
//! the machine reaches every sandbox, as a kubelet does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_sandbox::network::rules::{NetworkRule, NetworkRules, PortRange, Protocol, ProxyPorts};
use atoll_sandbox::spec::{POD_NETWORK, ROUTER_ADDRESS};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::ranges::RangeSet;
use crate::selector::{Labels, selects};

const POD_NETWORK_BITS: u32 = 16;
const DNS_PORT: u16 = 53;
/// What rules call the cluster's resolver; on a node that is the node's own.
const RESOLVER_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// A Pod as far as policies are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its UID: the sandbox's id.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its address, once it has one.
    pub address: Option<Ipv4Addr>,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
}

/// A container's port that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// Everything that decides what Pods may.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Every Pod with an address of this node.
    pub pods: Vec<PodFacts>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// Every policy.
    pub policies: Vec<std::sync::Arc<NetworkPolicy>>,
    /// What the administrator's floor permits outside of the node.
    pub permitted: RangeSet,
}

/// What comes of the policies for one Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// For the packet filter, without a proxy.
    pub rules: NetworkRules,
    /// Whether the node's resolver may be asked.
    pub resolver: bool,
    /// Whether policies allow more than the floor permits.
    pub cut_by_floor: bool,
}

impl Compiled {
    /// The rules, with connections to the outside turned to a proxy, those to `more` addresses too.
    #[must_use]
    pub fn through(&self, proxy: Option<ProxyPorts>, more: Vec<NetworkRule>) -> NetworkRules {
        let mut rules = NetworkRules { proxy, ..self.rules.clone() };
        if proxy.is_some() {
            let to_outside = self.rules.egress.iter().filter(|rule| is_tcp(rule) && reaches_outside(rule));
            rules.turned = to_outside.cloned().chain(more).collect();
        }
        rules
    }

    /// Whether a TCP connection to an address outside is allowed.
    #[must_use]
    pub fn allows_outside(&self, address: Ipv4Addr, port: u16) -> bool {
        allows(&self.rules.egress, address, port)
    }
}

/// Whether a rule is about TCP, among others.
#[must_use]
pub fn is_tcp(rule: &NetworkRule) -> bool {
    rule.protocol.is_none_or(|protocol| protocol == Protocol::Tcp)
}

/// Whether a rule is about addresses that are no sandboxes'.
#[must_use]
pub fn reaches_outside(rule: &NetworkRule) -> bool {
    let pods = RangeSet::network(POD_NETWORK, POD_NETWORK_BITS);
    rule.addresses.iter().any(|range| !pods.contains(range.first) || !pods.contains(range.last))
}

/// Whether rules allow a TCP connection to an address.
#[must_use]
pub fn allows(rules: &[NetworkRule], address: Ipv4Addr, port: u16) -> bool {
    rules.iter().any(|rule| {
        is_tcp(rule)
            && (rule.ports.is_empty() || rule.ports.iter().any(|range| (range.first..=range.last).contains(&port)))
            && rule.addresses.iter().any(|range| (range.first..=range.last).contains(&address))
    })
}

/// What one Pod may send and receive.
#[must_use]
pub fn compile(cluster: &Cluster, pod: &PodFacts) -> Compiled {
    let mut compiled = Compiled::default();
    let specs = cluster.policies.iter().filter_map(|policy| {
        let spec = policy.spec.as_ref()?;
        let here = policy.metadata.namespace.as_deref() == Some(pod.namespace.as_str());
        let selected = spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels));
        (here && selected).then_some(spec)
    });
    for spec in specs {
        if has_type(spec, "Ingress") {
            for rule in spec.ingress.iter().flatten() {
                let from = rule.from.as_deref().unwrap_or_default();
                let ports = rule.ports.as_deref().unwrap_or_default();
                compiled.rules.ingress.extend(ingress(cluster, pod, from, ports));
            }
        }
        if has_type(spec, "Egress") {
            for rule in spec.egress.iter().flatten() {
                let to = rule.to.as_deref().unwrap_or_default();
                let ports = rule.ports.as_deref().unwrap_or_default();
                compiled.resolver |= reaches_resolver(to, ports);
                egress(cluster, pod, to, ports, &mut compiled);
            }
        }
    }
    compiled
}

fn has_type(spec: &NetworkPolicySpec, kind: &str) -> bool {
    match spec.policy_types.as_deref() {
        Some(types) if !types.is_empty() => types.iter().any(|listed| listed == kind),
        // As the API server fills it in.
        _ => kind == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

fn ingress(
    cluster: &Cluster,
    pod: &PodFacts,
    from: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
) -> Vec<NetworkRule> {
    let mut addresses = if from.is_empty() { RangeSet::all() } else { RangeSet::EMPTY };
    for peer in from {
        let found = match &peer.ip_block {
            Some(block) => outside(block),
            None => RangeSet::of(peers(cluster, pod, peer).filter_map(|other| other.address)),
        };
        addresses = addresses.union(&found);
    }
    by_protocol(&addresses, &resolve_ports(ports, pod), ports.is_empty())
}

fn egress(
    cluster: &Cluster,
    pod: &PodFacts,
    to: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
    into: &mut Compiled,
) {
    let nobody = PodFacts::default();
    let mut asked = if to.is_empty() { RangeSet::all().difference(&pod_network()) } else { RangeSet::EMPTY };
    for block in to.iter().filter_map(|peer| peer.ip_block.as_ref()) {
        asked = asked.union(&outside(block));
    }
    let permitted = asked.intersection(&cluster.permitted);
    into.cut_by_floor |= permitted != asked;
    into.rules.egress.extend(by_protocol(&permitted, &resolve_ports(ports, &nobody), ports.is_empty()));

    let selected: Vec<&PodFacts> = if to.is_empty() {
        cluster.pods.iter().collect()
    } else {
        to.iter().filter(|peer| peer.ip_block.is_none()).flat_map(|peer| peers(cluster, pod, peer)).collect()
    };
    // A named port is another number on each Pod; with numbers alone, all of them are one rule.
    let mut by_ports: BTreeMap<Vec<(Protocol, PortRange)>, Vec<Ipv4Addr>> = BTreeMap::new();
    for other in selected {
        by_ports.entry(resolve_ports(ports, other)).or_default().extend(other.address);
    }
    for (numbers, addresses) in by_ports {
        let addresses = RangeSet::of(addresses).intersection(&pod_network());
        into.rules.egress.extend(by_protocol(&addresses, &numbers, ports.is_empty()));
    }
}

/// One rule for each transport.
fn by_protocol(addresses: &RangeSet, ports: &[(Protocol, PortRange)], any: bool) -> Vec<NetworkRule> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let addresses = addresses.to_rules();
    if any {
        return vec![NetworkRule { addresses, protocol: None, ports: Vec::new() }];
    }
    let mut grouped: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    for (protocol, range) in ports {
        grouped.entry(*protocol).or_default().push(*range);
    }
    let rule = |(protocol, ports): (Protocol, Vec<PortRange>)| {
        let every = ports.contains(&PortRange { first: 0, last: u16::MAX });
        NetworkRule {
            addresses: addresses.clone(),
            protocol: Some(protocol),
            ports: if every { Vec::new() } else { ports },
        }
    };
    grouped.into_iter().map(rule).collect()
}

/// Numbers of a rule's ports; named ones as `pod` names them.
fn resolve_ports(ports: &[NetworkPolicyPort], pod: &PodFacts) -> Vec<(Protocol, PortRange)> {
    let mut found = Vec::new();
    for port in ports {
        let Some(protocol) = protocol(port) else { continue };
        match &port.port {
            None => found.push((protocol, PortRange { first: 0, last: u16::MAX })),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    found.push((protocol, PortRange { first, last }));
                }
            }
            Some(IntOrString::String(name)) => {
                let named = pod.ports.iter().filter(|known| known.name == *name && known.protocol == protocol);
                found.extend(named.map(|known| (protocol, PortRange { first: known.number, last: known.number })));
            }
        }
    }
    found
}

fn protocol(port: &NetworkPolicyPort) -> Option<Protocol> {
    match port.protocol.as_deref() {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// Pods that a peer selects.
fn peers<'a>(
    cluster: &'a Cluster,
    pod: &'a PodFacts,
    peer: &'a NetworkPolicyPeer,
) -> impl Iterator<Item = &'a PodFacts> {
    let nothing = Labels::new();
    cluster.pods.iter().filter(move |other| {
        let in_namespace = match &peer.namespace_selector {
            None => other.namespace == pod.namespace,
            Some(selector) => selects(selector, cluster.namespaces.get(&other.namespace).unwrap_or(&nothing)),
        };
        let selected = peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &other.labels));
        let any = peer.namespace_selector.is_some() || peer.pod_selector.is_some();
        any && in_namespace && selected
    })
}

/// Whether a rule means the cluster's resolver: names it by its label, or everybody, on its port.
fn reaches_resolver(to: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]) -> bool {
    let port = PortRange { first: DNS_PORT, last: DNS_PORT };
    let numbers = resolve_ports(ports, &PodFacts::default());
    let by_port = ports.is_empty()
        || numbers.iter().any(|(protocol, range)| {
            *protocol == Protocol::Udp && range.first <= port.first && port.last <= range.last
        });
    let labels: Labels = [(RESOLVER_LABEL.0.to_owned(), RESOLVER_LABEL.1.to_owned())].into();
    let named = |peer: &NetworkPolicyPeer| match (&peer.ip_block, &peer.pod_selector) {
        (None, Some(selector)) => selects(selector, &labels),
        (None, None) => peer.namespace_selector.is_some(),
        (Some(_), _) => false,
    };
    by_port && (to.is_empty() || to.iter().any(named))
}

/// What a block means. Blocks of IPv6 mean nothing here: sandboxes have no such address.
fn outside(block: &IPBlock) -> RangeSet {
    let Ok(whole) = RangeSet::parse(&block.cidr) else { return RangeSet::EMPTY };
    let mut rest = whole.difference(&pod_network());
    for except in block.except.iter().flatten() {
        match RangeSet::parse(except) {
            Ok(except) => rest = rest.difference(&except),
            // An exception that cannot be understood excepts everything.
            Err(_) => return RangeSet::EMPTY,
        }
    }
    rest
}

/// Sandboxes, without the machine's end of their links.
fn pod_network() -> RangeSet {
    RangeSet::network(POD_NETWORK, POD_NETWORK_BITS).difference(&RangeSet::of([ROUTER_ADDRESS]))
}

#[cfg(test)]
mod tests;
