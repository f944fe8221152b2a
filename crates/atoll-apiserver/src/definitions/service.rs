//! Services.

use serde_json::{Value, json};

use super::view::View;
use super::{Facet, Hooks, names, pod_port};
use crate::schema::Cause;

/// What distinguishes services from other kinds.
pub(crate) const HOOKS: Hooks = Hooks {
    default: fill_defaults,
    create: prepare,
    update: prepare_change,
    check: validate,
    check_change: validate_change,
    required_texts: false,
};

const HEADLESS: &str = "None";
const AFFINITY_TIMEOUT_S: i64 = 10_800;
const AFFINITY_TIMEOUT_MAX_S: i64 = 86_400;

fn fill_defaults(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    if spec.get("sessionAffinity") == Some(&json!("None")) {
        spec.remove("sessionAffinityConfig");
    } else if spec.get("sessionAffinity") == Some(&json!("ClientIP")) {
        let config = spec.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        if config["clientIP"]["timeoutSeconds"].is_null() {
            config["clientIP"]["timeoutSeconds"] = json!(AFFINITY_TIMEOUT_S);
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        let target = port.get("targetPort");
        if target.is_none() || target == Some(&json!(0)) || target == Some(&json!("")) {
            port["targetPort"] = number;
        }
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        spec.entry("externalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        spec.entry("internalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts").or_insert_with(|| json!(true));
    }
}

fn prepare(service: &mut Value) {
    service["status"] = json!({"loadBalancer": {}});
    complete_addresses(service);
}

fn prepare_change(service: &mut Value, old: &Value, facet: Facet) {
    if facet != Facet::Main {
        return;
    }
    let moved = service["spec"].get("clusterIP").is_some() && service["spec"]["clusterIP"] != old["spec"]["clusterIP"];
    if moved && service["spec"].get("clusterIPs") == old["spec"].get("clusterIPs") {
        service["spec"]["clusterIPs"] = json!([service["spec"]["clusterIP"]]);
    }
    // What the server allocated stays unless something else is asked for.
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        let absent = service["spec"].get(name).is_none();
        let same_kind = service["spec"]["type"] == old["spec"]["type"];
        if let (true, true, Some(value)) = (absent, same_kind, old["spec"].get(name)) {
            service["spec"][name] = value.clone();
        }
    }
    complete_addresses(service);
}

/// Fills in what follows from `clusterIP`. The server has no addresses of its own to give.
fn complete_addresses(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("type") == Some(&json!("ExternalName")) {
        return;
    }
    if let (Some(address), false) = (spec.get("clusterIP").cloned(), spec.contains_key("clusterIPs")) {
        spec.insert("clusterIPs".to_owned(), json!([address]));
    }
    let headless = spec.get("clusterIP") == Some(&json!(HEADLESS));
    let selects = spec.get("selector").is_some();
    let (families, policy) = if headless && !selects {
        (json!(["IPv4", "IPv6"]), json!("RequireDualStack"))
    } else {
        (json!(["IPv4"]), json!("SingleStack"))
    };
    if !spec.contains_key("ipFamilyPolicy") {
        spec.entry("ipFamilies").or_insert(families);
    } else {
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    }
    spec.entry("ipFamilyPolicy").or_insert(policy);
}

fn validate(service: &Value, causes: &mut Vec<Cause>) {
    let spec = View::root(service, "spec");
    let kind = spec.field("type");
    let headless = spec.field("clusterIP").text() == HEADLESS;
    let ports = spec.field("ports");
    if ports.is_empty() && !headless && kind.text() != "ExternalName" {
        causes.push(Cause::required(&ports.path, ""));
    }
    check_kind(&spec, causes);
    check_ports(&ports, causes);
    let selector = spec.field("selector");
    super::metadata::check_labels(selector.value, &selector.path, causes);
    spec.field("sessionAffinity").one_of(&["ClientIP", "None"], causes);
    let timeout = spec.field("sessionAffinityConfig").field("clientIP").field("timeoutSeconds");
    if timeout.number().is_some_and(|seconds| !(1..=AFFINITY_TIMEOUT_MAX_S).contains(&seconds)) {
        timeout.report(&["must be greater than 0 and less than 86400".to_owned()], causes);
    }
    spec.field("internalTrafficPolicy").one_of_if_set(&["Cluster", "Local"], causes);
    spec.field("externalTrafficPolicy").one_of_if_set(&["Cluster", "Local"], causes);
    check_addresses(&spec, causes);
}

fn check_kind(spec: &View<'_>, causes: &mut Vec<Cause>) {
    let kind = spec.field("type");
    kind.one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], causes);
    let headless = spec.field("clusterIP").text() == HEADLESS;
    match kind.text() {
        "LoadBalancer" if headless => {
            let problem = "may not be set to 'None' for LoadBalancer services";
            causes.push(Cause::invalid("spec.clusterIPs[0]", HEADLESS, problem));
        }
        "NodePort" if headless => {
            causes.push(Cause::invalid(
                "spec.clusterIPs[0]",
                HEADLESS,
                "may not be set to 'None' for NodePort services",
            ));
        }
        "ExternalName" => {
            let name = spec.field("externalName");
            let trimmed = name.text().trim_end_matches('.');
            if trimmed.is_empty() {
                causes.push(Cause::required(&name.path, ""));
            } else {
                name.report(&names::subdomain(trimmed), causes);
            }
        }
        _ => {}
    }
}

fn check_ports(ports: &View<'_>, causes: &mut Vec<Cause>) {
    let several = ports.items().count() > 1;
    let (mut known, mut pairs) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for port in ports.items() {
        let name = port.field("name");
        if name.is_empty() {
            if several {
                causes.push(Cause::required(&name.path, ""));
            }
        } else {
            name.report(&names::label(name.text()), causes);
            if !known.insert(name.text()) {
                causes.push(Cause::duplicate(&name.path, name.text()));
            }
        }
        let number = port.field("port");
        let problems = names::port_number(number.number().unwrap_or_default());
        causes.extend(
            problems.iter().map(|problem| Cause::invalid(&number.path, number.number().unwrap_or_default(), problem)),
        );
        port.field("protocol").one_of(&["SCTP", "TCP", "UDP"], causes);
        pod_port(&port.field("targetPort"), causes);
        let protocol = port.field("protocol");
        if !pairs.insert((number.number(), protocol.text())) {
            let pair = json!({"protocol": protocol.text(), "port": number.number()});
            causes.push(Cause::duplicate(&port.path, pair));
        }
    }
}

fn check_addresses(spec: &View<'_>, causes: &mut Vec<Cause>) {
    let first = spec.field("clusterIPs").items().next();
    if let Some(first) = &first
        && first.text() != spec.field("clusterIP").text()
    {
        let problem = "first value must match `clusterIP`";
        let list = spec.field("clusterIPs");
        causes.push(Cause::invalid(&list.path, list.value.clone(), problem));
    }
    for address in spec.field("clusterIPs").items() {
        if address.text() != HEADLESS && address.text().parse::<std::net::IpAddr>().is_err() {
            let problem = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(&address.path, address.text(), problem));
        }
    }
}

fn validate_change(service: &Value, old: &Value, facet: Facet, causes: &mut Vec<Cause>) {
    if facet != Facet::Main {
        return;
    }
    validate(service, causes);
    let (address, before) =
        (View::root(service, "spec").field("clusterIP"), View::root(old, "spec").field("clusterIP"));
    let was_given = !before.is_empty() && old["spec"]["type"] != "ExternalName";
    if was_given && service["spec"]["type"] != "ExternalName" && address.text() != before.text() {
        let list = service["spec"]["clusterIPs"].clone();
        causes.push(Cause::invalid("spec.clusterIPs[0]", list, "may not change once set"));
    }
}
