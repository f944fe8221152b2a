//! NetworkPolicies, EndpointSlices and Leases.

use serde_json::{Value, json};

use super::view::View;
use super::{Facet, Hooks, names, pod_port};
use crate::schema::Cause;

/// What distinguishes NetworkPolicies from other kinds.
pub(crate) const NETWORK_POLICY: Hooks = Hooks {
    default: fill_policy_types,
    create: |_| {},
    update: |_, _, _| {},
    check: validate_policy,
    check_change: |policy, _, _: Facet, causes| validate_policy(policy, causes),
    required_texts: false,
};

/// What distinguishes EndpointSlices from other kinds.
pub(crate) const ENDPOINT_SLICE: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_slice,
    check_change: validate_slice_change,
    required_texts: false,
};

/// What distinguishes Leases from other kinds.
pub(crate) const LEASE: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_lease,
    check_change: |lease, _, _: Facet, causes| validate_lease(lease, causes),
    required_texts: false,
};

const ENDPOINTS_MAX: u64 = 1000;

fn fill_policy_types(policy: &mut Value) {
    let Some(spec) = policy.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let given = spec.get("policyTypes").and_then(Value::as_array).is_some_and(|types| !types.is_empty());
    if !given {
        let leaves = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        spec.insert("policyTypes".to_owned(), if leaves { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    }
}

fn validate_policy(policy: &Value, causes: &mut Vec<Cause>) {
    let spec = View::root(policy, "spec");
    check_selector(&spec.field("podSelector"), causes);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(list).items() {
            rule.field("ports").items().for_each(|port| check_policy_port(&port, causes));
            rule.field(peers).items().for_each(|peer| check_peer(&peer, causes));
        }
    }
    let types = spec.field("policyTypes");
    if types.items().count() > 2 {
        let problem = "may not specify more than two policyTypes";
        causes.push(Cause::invalid(&types.path, types.value.clone(), problem));
        return;
    }
    types.items().for_each(|kind| kind.one_of_if_set(&["Ingress", "Egress"], causes));
}

fn check_policy_port(port: &View<'_>, causes: &mut Vec<Cause>) {
    port.field("protocol").one_of_if_set(&["TCP", "UDP", "SCTP"], causes);
    let (start, end) = (port.field("port"), port.field("endPort"));
    if !start.is_set() {
        if end.is_set() {
            let problem = "may not be specified when `port` is not specified";
            causes.push(Cause::invalid(&end.path, end.value.clone(), problem));
        }
        return;
    }
    pod_port(&start, causes);
    if let Some(last) = end.number() {
        match start.number() {
            None => causes.push(Cause::invalid(&end.path, last, "may not be specified when `port` is non-numeric")),
            Some(first) if last < first => {
                causes.push(Cause::invalid(&end.path, first, "must be greater than or equal to `port`"));
            }
            Some(_) => end.report(&names::port_number(last), causes),
        }
    }
}

fn check_peer(peer: &View<'_>, causes: &mut Vec<Cause>) {
    let (pods, namespaces, block) = (peer.field("podSelector"), peer.field("namespaceSelector"), peer.field("ipBlock"));
    let selectors = usize::from(pods.is_set()) + usize::from(namespaces.is_set());
    check_selector(&pods, causes);
    check_selector(&namespaces, causes);
    if block.is_set() {
        check_block(&block, causes);
        if selectors > 0 {
            causes.push(Cause::forbidden(&peer.path, "may not specify both ipBlock and another peer"));
        }
    } else if selectors == 0 {
        causes.push(Cause::required(&peer.path, "must specify a peer"));
    }
}

fn check_block(block: &View<'_>, causes: &mut Vec<Cause>) {
    let range = block.field("cidr");
    if range.require(causes) {
        return;
    }
    for address in std::iter::once(range).chain(block.field("except").items()) {
        if !crate::schema::format::is_valid("cidr", address.text()) {
            let problem = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            causes.push(Cause::invalid(&address.path, address.text(), problem));
        }
    }
}

/// Checks a label selector.
pub(crate) fn check_selector(selector: &View<'_>, causes: &mut Vec<Cause>) {
    let labels = selector.field("matchLabels");
    super::metadata::check_labels(labels.value, &labels.path, causes);
    for requirement in selector.field("matchExpressions").items() {
        let (operator, values) = (requirement.field("operator"), requirement.field("values"));
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    causes.push(Cause::required(&values.path, "must be specified when `operator` is 'In' or 'NotIn'"));
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let problem = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    causes.push(Cause::forbidden(&values.path, problem));
                }
            }
            other => causes.push(Cause::invalid(&operator.path, other, "not a valid selector operator")),
        }
        let key = requirement.field("key");
        causes.extend(
            names::qualified_name(key.text()).iter().map(|problem| Cause::invalid(&key.path, key.text(), problem)),
        );
        values.items().for_each(|value| value.report(&names::label_value(value.text()), causes));
    }
}

fn validate_slice(slice: &Value, causes: &mut Vec<Cause>) {
    let kind = View::root(slice, "addressType");
    kind.one_of(&["FQDN", "IPv4", "IPv6"], causes);
    let endpoints = View::root(slice, "endpoints");
    let count = endpoints.items().count() as u64;
    if count > ENDPOINTS_MAX {
        causes.push(Cause::too_many(&endpoints.path, count, ENDPOINTS_MAX));
        return;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.field("addresses");
        if addresses.is_empty() {
            causes.push(Cause::required(&addresses.path, "must contain at least 1 address"));
        }
        for address in addresses.items() {
            check_address(&address, kind.text(), causes);
        }
    }
    for port in View::root(slice, "ports").items() {
        port.field("protocol").one_of_if_set(&["SCTP", "TCP", "UDP"], causes);
        let name = port.field("name");
        if !name.is_empty() {
            name.report(&names::label(name.text()), causes);
        }
    }
}

fn check_address(address: &View<'_>, kind: &str, causes: &mut Vec<Cause>) {
    let text = address.text();
    let problem = match kind {
        "IPv4" if text.parse::<std::net::Ipv4Addr>().is_err() => "must be an IPv4 address",
        "IPv6" if text.parse::<std::net::Ipv6Addr>().is_err() => "must be an IPv6 address",
        "FQDN" if !names::subdomain(text).is_empty() => "must be a fully qualified domain name",
        _ => return,
    };
    causes.push(Cause::invalid(&address.path, text, problem));
}

fn validate_slice_change(slice: &Value, old: &Value, _facet: Facet, causes: &mut Vec<Cause>) {
    if slice["endpoints"] != old["endpoints"] || slice["ports"] != old["ports"] {
        validate_slice(slice, causes);
    }
    if slice["addressType"] != old["addressType"] {
        causes.push(Cause::invalid("addressType", slice["addressType"].clone(), "field is immutable"));
    }
}

fn validate_lease(lease: &Value, causes: &mut Vec<Cause>) {
    let spec = View::root(lease, "spec");
    let duration = spec.field("leaseDurationSeconds");
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        duration.report(&["must be greater than 0".to_owned()], causes);
    }
    let transitions = spec.field("leaseTransitions");
    if transitions.number().is_some_and(|count| count < 0) {
        transitions.report(&["must be greater than or equal to 0".to_owned()], causes);
    }
}
