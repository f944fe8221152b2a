//! What may change in a pod after its creation.

use serde_json::Value;

use super::super::Facet;
use super::super::view::View;
use super::scheduling::validate_tolerations;
use super::validate_spec;
use crate::schema::Cause;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const COUNT_CHANGED: &str = "pod updates may not add or remove containers";

/// What is wrong with a changed pod.
pub(crate) fn validate(pod: &Value, old: &Value, facet: Facet, causes: &mut Vec<Cause>) {
    match facet {
        Facet::Status => check_status(pod, old, causes),
        Facet::Binding => check_binding(pod, old, causes),
        Facet::Main | Facet::Scale => check_spec_change(pod, old, causes),
    }
}

fn check_status(pod: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (status, before) = (View::root(pod, "status"), View::root(old, "status"));
    let (host, first) = (status.field("hostIP"), status.field("hostIPs").items().next());
    if let Some(first) = first.map(|entry| entry.field("ip"))
        && first.text() != host.text()
    {
        causes.push(Cause::invalid(&first.path, first.text(), "must be equal to `hostIP`"));
    }
    let nominated = status.field("nominatedNodeName");
    if !nominated.is_empty() {
        nominated.report(&super::super::names::subdomain(nominated.text()), causes);
    }
    let quality = status.field("qosClass");
    if before.field("qosClass").is_set() && quality.value != before.field("qosClass").value {
        causes.push(Cause::invalid(&quality.path, quality.value.clone(), "field is immutable"));
    }
}

/// A binding sets the node of a pod that has none.
fn check_binding(pod: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let bound = old["spec"]["nodeName"].as_str().unwrap_or_default();
    if !bound.is_empty() && pod["spec"]["nodeName"] != bound {
        causes.push(Cause::forbidden("spec.nodeName", &format!("pod is already assigned to node {bound:?}")));
    }
}

fn check_spec_change(pod: &Value, old: &Value, causes: &mut Vec<Cause>) {
    validate_spec(pod, causes);
    let (spec, before) = (View::root(pod, "spec"), View::root(old, "spec"));
    for list in ["containers", "initContainers"] {
        let (containers, earlier) = (spec.field(list), before.field(list));
        if containers.items().count() != earlier.items().count() {
            causes.push(Cause::forbidden(&containers.path, COUNT_CHANGED));
            return;
        }
    }
    check_deadline(&spec.field("activeDeadlineSeconds"), &before.field("activeDeadlineSeconds"), causes);
    check_tolerations(&spec.field("tolerations"), &before.field("tolerations"), causes);
    check_gates(&spec.field("schedulingGates"), &before.field("schedulingGates"), causes);
    let munged = with_changeable_fields_of(spec.value, before.value);
    if &munged != before.value {
        let changed = changed_fields(&munged, before.value).join(", ");
        causes.push(Cause::forbidden("spec", &format!("{UPDATABLE}\nchanged: {changed}")));
    }
}

fn check_deadline(deadline: &View<'_>, before: &View<'_>, causes: &mut Vec<Cause>) {
    match (deadline.number(), before.number()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            deadline.report(&["must be between 0 and 2147483647, inclusive".to_owned()], causes);
        }
        (Some(seconds), Some(earlier)) if earlier < seconds => {
            deadline.report(&["must be less than or equal to previous value".to_owned()], causes);
        }
        (None, Some(_)) => {
            causes.push(Cause::invalid(
                &deadline.path,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn check_tolerations(tolerations: &View<'_>, before: &View<'_>, causes: &mut Vec<Cause>) {
    let without_seconds = |toleration: &Value| {
        let mut rest = toleration.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        rest
    };
    let kept = |earlier: &View<'_>| {
        tolerations.items().any(|toleration| without_seconds(toleration.value) == without_seconds(earlier.value))
    };
    if !before.items().all(|earlier| kept(&earlier)) {
        let problem = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden(&tolerations.path, problem));
        return;
    }
    validate_tolerations(tolerations, causes);
}

fn check_gates(gates: &View<'_>, before: &View<'_>, causes: &mut Vec<Cause>) {
    for gate in gates.items() {
        if !before.items().any(|earlier| earlier.value == gate.value) {
            let problem = "only deletion is allowed, but found new scheduling gate '".to_owned()
                + gate.field("name").text()
                + "'";
            causes.push(Cause::forbidden(gate.path.field("name"), &problem));
        }
    }
}

/// The new spec with what may change put back to what it was: what differs then may not.
fn with_changeable_fields_of(spec: &Value, before: &Value) -> Value {
    let mut munged = spec.clone();
    for list in ["containers", "initContainers"] {
        let earlier = before[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let containers = munged.get_mut(list).and_then(Value::as_array_mut);
        for (container, earlier) in containers.into_iter().flatten().zip(earlier) {
            put_back(container, earlier, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        put_back(&mut munged, before, name);
    }
    let seconds = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if seconds(before).is_some_and(|seconds| seconds < 0) && seconds(spec) == Some(1) {
        put_back(&mut munged, before, "terminationGracePeriodSeconds");
    }
    if !before["schedulingGates"].as_array().map(Vec::as_slice).unwrap_or_default().is_empty() {
        put_back(&mut munged, before, "nodeSelector");
    }
    munged
}

fn put_back(target: &mut Value, before: &Value, name: &str) {
    let Some(fields) = target.as_object_mut() else { return };
    match before.get(name) {
        Some(value) => {
            fields.insert(name.to_owned(), value.clone());
        }
        None => {
            fields.remove(name);
        }
    }
}

fn changed_fields(new: &Value, old: &Value) -> Vec<String> {
    let names =
        |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut changed: Vec<String> =
        names(new).into_iter().chain(names(old)).filter(|name| new.get(name) != old.get(name)).collect();
    changed.sort();
    changed.dedup();
    changed.iter().map(|name| format!("spec.{name}")).collect()
}
