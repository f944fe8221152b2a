//! ResourceQuotas and LimitRanges: how much a namespace may hold, and how much one thing in it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::quantity::{QUANTITY_RULE, Quantity};
use super::view::View;
use super::{Facet, Hooks, names};
use crate::schema::Cause;

/// What distinguishes quotas from other kinds.
pub(crate) const RESOURCE_QUOTA: Hooks = Hooks {
    create: |quota| {
        quota["status"] = Value::Object(Map::new());
    },
    check: check_quota,
    check_change: check_quota_change,
    ..Hooks::NONE
};

/// What distinguishes limit ranges from other kinds.
pub(crate) const LIMIT_RANGE: Hooks = Hooks {
    default: default_limits,
    check: check_limits,
    check_change: |range, _, _, causes| check_limits(range, causes),
    ..Hooks::NONE
};

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: &[&str] =
    &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"];
const LIMIT_TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

/// Whether a quota without a slash in its name is one that Kubernetes knows.
fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

fn check_amount(amount: &View<'_>, counted: bool, causes: &mut Vec<Cause>) -> Option<Quantity> {
    let Some(quantity) = Quantity::parse(amount.text()) else {
        causes.push(Cause::invalid(&amount.path, amount.value.clone(), QUANTITY_RULE));
        return None;
    };
    if quantity.is_negative() {
        causes.push(Cause::invalid(&amount.path, amount.text(), "must be greater than or equal to 0"));
    }
    if counted && !quantity.is_whole() {
        causes.push(Cause::invalid(&amount.path, amount.text(), "must be an integer"));
    }
    Some(quantity)
}

fn check_quota(quota: &Value, causes: &mut Vec<Cause>) {
    let spec = View::root(quota, "spec");
    for (name, amount) in spec.field("hard").entries() {
        let problems = names::qualified_name(name);
        causes.extend(problems.iter().map(|problem| Cause::invalid(&amount.path, name, problem)));
        if !name.contains('/') && !is_standard(name) {
            causes.push(Cause::invalid(&amount.path, name, "must be a standard resource for quota"));
        }
        check_amount(&amount, COUNTED.contains(&name) || name.starts_with("count/"), causes);
    }
    for scope in spec.field("scopes").items() {
        if !SCOPES.contains(&scope.text()) {
            causes.push(Cause::invalid(&scope.path, scope.text(), "unsupported scope"));
        }
    }
    for expression in spec.field("scopeSelector").field("matchExpressions").items() {
        let (scope, operator) = (expression.field("scopeName"), expression.field("operator"));
        if !SCOPES.contains(&scope.text()) {
            causes.push(Cause::invalid(&scope.path, scope.text(), "unsupported scope"));
        }
        let values = expression.field("values");
        match (operator.text(), values.is_empty()) {
            ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
            ("In" | "NotIn", true) => {
                let sentence = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                causes.push(Cause::required(&values.path, sentence));
            }
            ("Exists" | "DoesNotExist", false) => {
                let problem = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                causes.push(Cause::invalid(&values.path, values.value.clone(), problem));
            }
            _ => causes.push(Cause::invalid(&operator.path, operator.text(), "not a valid selector operator")),
        }
    }
}

fn check_quota_change(quota: &Value, old: &Value, facet: Facet, causes: &mut Vec<Cause>) {
    if facet != Facet::Main {
        return;
    }
    check_quota(quota, causes);
    let scopes = |quota: &Value| -> BTreeSet<String> {
        let scopes = quota["spec"]["scopes"].as_array().into_iter().flatten();
        scopes.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if scopes(quota) != scopes(old) {
        causes.push(Cause::invalid("spec.scopes", quota["spec"]["scopes"].clone(), "field is immutable"));
    }
}

/// What a container is given where it says nothing follows from what it may have.
fn default_limits(range: &mut Value) {
    let limits = range["spec"]["limits"].as_array_mut().into_iter().flatten();
    for limit in limits.filter(|limit| limit["type"] == "Container") {
        fill(limit, "default", "max");
        fill(limit, "defaultRequest", "default");
        fill(limit, "defaultRequest", "min");
    }
}

/// Puts the amounts of `from` into `to`, where it has none of its own.
fn fill(limit: &mut Value, to: &str, from: &str) {
    let Some(source) = limit[from].as_object().cloned() else { return };
    for (name, amount) in source {
        if limit[to][&name].is_null() {
            limit[to][name] = amount;
        }
    }
}

fn check_limits(range: &Value, causes: &mut Vec<Cause>) {
    let mut types = BTreeSet::new();
    for limit in View::root(range, "spec").field("limits").items() {
        let kind = limit.field("type");
        if !kind.text().contains('/') && !LIMIT_TYPES.contains(&kind.text()) {
            let problem = "must be a standard limit type or fully qualified";
            causes.push(Cause::invalid(&kind.path, kind.text(), problem));
        }
        if !types.insert(kind.text()) {
            causes.push(Cause::duplicate(&kind.path, kind.text()));
        }
        check_limit(&limit, kind.text(), causes);
    }
}

fn check_limit(limit: &View<'_>, kind: &str, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for member in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = limit.field(member);
        if kind == "Pod" && member.starts_with("default") && !amounts.is_empty() {
            causes.push(Cause::forbidden(&amounts.path, "may not be specified when `type` is 'Pod'"));
        }
        for (name, amount) in amounts.entries() {
            names.insert(name);
            check_amount(&amount, false, causes);
        }
    }
    let storage = |member: &str| limit.field(member).field("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let sentence = "either minimum or maximum storage value is required, but neither was provided";
        causes.push(Cause::required(limit.path.field("limits"), sentence));
    }
    for name in names {
        check_order(limit, name, causes);
    }
}

/// Least ≤ request ≤ limit ≤ most.
fn check_order(limit: &View<'_>, name: &str, causes: &mut Vec<Cause>) {
    let amount = |member: &str| Quantity::parse(limit.value[member][name].as_str().unwrap_or_default());
    let (min, max, request, default) = (amount("min"), amount("max"), amount("defaultRequest"), amount("default"));
    let pairs = [
        (min, "min value", max, "max value", "min"),
        (min, "min value", request, "default request value", "defaultRequest"),
        (request, "default request value", max, "max value", "defaultRequest"),
        (request, "default request value", default, "default limit value", "defaultRequest"),
        (min, "min value", default, "default value", "default"),
        (default, "default value", max, "max value", "default"),
    ];
    for (low, low_name, high, high_name, member) in pairs {
        let (Some(low), Some(high)) = (low, high) else { continue };
        if low > high {
            let (low, high) = (low.canonical(), high.canonical());
            let problem = format!("{low_name} {low} is greater than {high_name} {high}");
            let value = limit.value[member][name].clone();
            causes.push(Cause::invalid(limit.path.field(member).key(name), value, &problem));
        }
    }
    if let Some(ratio) = amount("maxLimitRequestRatio").filter(|ratio| *ratio < Quantity::whole(1)) {
        let problem = format!("ratio {} is less than 1", ratio.canonical());
        causes.push(Cause::invalid(limit.path.field("maxLimitRequestRatio").key(name), ratio.canonical(), &problem));
    }
}
