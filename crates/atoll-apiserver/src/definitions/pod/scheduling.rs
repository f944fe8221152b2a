//! Checks of what a pod says about where and how it runs.

use super::super::metadata::check_labels;
use super::super::names;
use super::super::view::View;
use crate::schema::Cause;

/// Checks everything of the spec but containers and volumes.
pub(crate) fn validate(spec: &View<'_>, causes: &mut Vec<Cause>) {
    spec.field("restartPolicy").one_of(&["Always", "OnFailure", "Never"], causes);
    spec.field("dnsPolicy").one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    let selector = spec.field("nodeSelector");
    check_labels(selector.value, &selector.path, causes);
    check_dns(spec, causes);
    for (name, check) in [
        ("serviceAccountName", names::subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ] {
        let field = spec.field(name);
        let given = if name == "runtimeClassName" { field.is_set() } else { !field.is_empty() };
        if given {
            field.report(&check(field.text()), causes);
        }
    }
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.number().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        deadline.report(&["must be between 1 and 2147483647, inclusive".to_owned()], causes);
    }
    validate_tolerations(&spec.field("tolerations"), causes);
    check_security(&spec.field("securityContext"), causes);
    check_gates(&spec.field("schedulingGates"), causes);
    check_spread(&spec.field("topologySpreadConstraints"), causes);
    check_host_aliases(&spec.field("hostAliases"), causes);
    spec.field("preemptionPolicy").one_of_if_set(&["PreemptLowerPriority", "Never"], causes);
}

fn check_dns(spec: &View<'_>, causes: &mut Vec<Cause>) {
    let config = spec.field("dnsConfig");
    let servers = config.field("nameservers");
    if spec.field("dnsPolicy").text() == "None" && servers.is_empty() {
        if config.is_set() {
            let problem = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            causes.push(Cause::required(&servers.path, problem));
        } else {
            let problem = "must provide `dnsConfig` when `dnsPolicy` is None";
            causes.push(Cause::required(&config.path, problem));
        }
    }
    for server in servers.items() {
        if server.text().parse::<std::net::IpAddr>().is_err() {
            server.report(&["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()], causes);
        }
    }
    for option in config.field("options").items() {
        if option.field("name").is_empty() {
            causes.push(Cause::required(&option.path, "must not be empty"));
        }
    }
}

/// Checks tolerations.
pub(crate) fn validate_tolerations(tolerations: &View<'_>, causes: &mut Vec<Cause>) {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    for toleration in tolerations.items() {
        let (key, operator) = (toleration.field("key"), toleration.field("operator"));
        let (value, effect) = (toleration.field("value"), toleration.field("effect"));
        if key.is_empty() {
            if operator.text() != "Exists" {
                let problem =
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
                causes.push(Cause::invalid(&operator.path, operator.text(), problem));
            }
        } else {
            key.report(&names::qualified_name(key.text()), causes);
        }
        if toleration.field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let problem = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.push(Cause::invalid(&effect.path, effect.text(), problem));
        }
        match operator.text() {
            "Equal" | "" => {
                let problems = names::label_value(value.text());
                if !problems.is_empty() {
                    causes.push(Cause::invalid(&operator.path, value.text(), &problems.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let problem = "value must be empty when `operator` is 'Exists'";
                    causes.push(Cause::invalid(&operator.path, value.text(), problem));
                }
            }
            other => causes.push(Cause::not_supported(&operator.path, other, &["Equal", "Exists"])),
        }
        effect.one_of_if_set(&EFFECTS, causes);
    }
}

fn check_security(security: &View<'_>, causes: &mut Vec<Cause>) {
    const RANGE: &str = "must be between 0 and 2147483647, inclusive";
    let out_of_range = |number: i64| !(0..=i64::from(i32::MAX)).contains(&number);
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        let identifier = security.field(name);
        if identifier.number().is_some_and(out_of_range) {
            identifier.report(&[RANGE.to_owned()], causes);
        }
    }
    for group in security.field("supplementalGroups").items() {
        if group.number().is_some_and(out_of_range) {
            group.report(&[RANGE.to_owned()], causes);
        }
    }
    security.field("fsGroupChangePolicy").one_of_if_set(&["Always", "OnRootMismatch"], causes);
    security.field("supplementalGroupsPolicy").one_of_if_set(&["Merge", "Strict"], causes);
    let profile = security.field("seccompProfile");
    if profile.is_set() {
        profile.field("type").one_of(&["Localhost", "RuntimeDefault", "Unconfined"], causes);
    }
}

fn check_gates(gates: &View<'_>, causes: &mut Vec<Cause>) {
    let mut known = std::collections::HashSet::new();
    for gate in gates.items() {
        let name = gate.field("name");
        if !name.require(causes) {
            name.report(&names::qualified_name(name.text()), causes);
        }
        if !known.insert(name.text()) {
            causes.push(Cause::duplicate(&gate.path, name.text()));
        }
    }
}

fn check_spread(constraints: &View<'_>, causes: &mut Vec<Cause>) {
    let mut known = std::collections::HashSet::new();
    for constraint in constraints.items() {
        let skew = constraint.field("maxSkew");
        let number = skew.number().unwrap_or_default();
        if number <= 0 {
            causes.push(Cause::invalid(&skew.path, number, "must be greater than zero"));
        }
        let (key, action) = (constraint.field("topologyKey"), constraint.field("whenUnsatisfiable"));
        if key.is_empty() {
            causes.push(Cause::required(&key.path, "can not be empty"));
        } else {
            key.report(&names::qualified_name(key.text()), causes);
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action.text()) {
            causes.push(Cause::not_supported(&action.path, action.text(), &["DoNotSchedule", "ScheduleAnyway"]));
        }
        if !known.insert((key.text(), action.text())) {
            let pair = format!("{{{}, {}}}", key.text(), action.text());
            causes.push(Cause::duplicate(constraint.path.field("{topologyKey, whenUnsatisfiable}"), pair));
        }
    }
}

fn check_host_aliases(aliases: &View<'_>, causes: &mut Vec<Cause>) {
    for alias in aliases.items() {
        let address = alias.field("ip");
        if address.text().parse::<std::net::IpAddr>().is_err() {
            let problem = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(&address.path, address.text(), problem));
        }
        for hostname in alias.field("hostnames").items() {
            hostname.report(&names::subdomain(hostname.text()), causes);
        }
    }
}
