//! Namespaces, Nodes and RuntimeClasses: the kinds that live in no namespace.

use serde_json::{Value, json};

use super::view::View;
use super::{Facet, Hooks, names};
use crate::schema::Cause;

/// What distinguishes namespaces from other kinds.
pub(crate) const NAMESPACE: Hooks = Hooks {
    default: label_with_name,
    create: prepare_namespace,
    update: keep_finalizers,
    check: |_, _| {},
    check_change: |_, _, _, _| {},
    required_texts: false,
};

/// What distinguishes nodes from other kinds.
pub(crate) const NODE: Hooks = Hooks {
    default: copy_capacity,
    create: |_| {},
    update: |_, _, _| {},
    check: validate_node,
    check_change: validate_node_change,
    required_texts: false,
};

/// What distinguishes RuntimeClasses from other kinds.
pub(crate) const RUNTIME_CLASS: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_runtime_class,
    check_change: validate_runtime_class_change,
    required_texts: false,
};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn label_with_name(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !name.is_empty() {
        namespace["metadata"]["labels"][NAME_LABEL] = Value::String(name);
    }
}

fn prepare_namespace(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let finalizers = &mut namespace["spec"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(names) if names.iter().any(|name| name == "kubernetes") => {}
        Some(names) => names.push(json!("kubernetes")),
        None => *finalizers = json!(["kubernetes"]),
    }
}

/// Only the `finalize` subresource takes finalizers of the spec away.
fn keep_finalizers(namespace: &mut Value, old: &Value, facet: Facet) {
    if facet != Facet::Main {
        return;
    }
    if let Some(finalizers) = old["spec"].get("finalizers") {
        namespace["spec"]["finalizers"] = finalizers.clone();
    }
}

fn copy_capacity(node: &mut Value) {
    let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) else { return };
    if let (Some(capacity), false) = (status.get("capacity").cloned(), status.contains_key("allocatable")) {
        status.insert("allocatable".to_owned(), capacity);
    }
}

fn validate_node(node: &Value, causes: &mut Vec<Cause>) {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let taints = View::root(node, "spec").field("taints");
    let mut known = std::collections::HashSet::new();
    for (index, taint) in taints.items().enumerate() {
        // The path is what Kubernetes says, if not where the taints are.
        let path = crate::schema::FieldPath::new("metadata.taints").index(index);
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        let report = |problems: Vec<String>, name: &str, value: &str, causes: &mut Vec<Cause>| {
            causes.extend(problems.iter().map(|problem| Cause::invalid(path.field(name), value, problem)));
        };
        report(names::qualified_name(key.text()), "key", key.text(), causes);
        report(names::label_value(value.text()), "value", value.text(), causes);
        if effect.is_empty() {
            causes.push(Cause::required(path.field("effect"), ""));
        } else if !EFFECTS.contains(&effect.text()) {
            causes.push(Cause::not_supported(path.field("effect"), effect.text(), &EFFECTS));
        }
        if !known.insert((key.text(), effect.text())) {
            causes.push(Cause::duplicate(&path, taint.value.clone()));
        }
    }
}

fn validate_node_change(node: &Value, old: &Value, _facet: Facet, causes: &mut Vec<Cause>) {
    let (spec, before) = (View::root(node, "spec"), View::root(old, "spec"));
    let addresses = before.field("podCIDRs");
    if !addresses.is_empty() && addresses.value != spec.field("podCIDRs").value {
        causes.push(Cause::forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid"));
    }
    let provider = before.field("providerID");
    if !provider.is_empty() && provider.value != spec.field("providerID").value {
        causes.push(Cause::forbidden(
            "spec.providerID",
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    validate_node(node, causes);
}

fn validate_runtime_class(class: &Value, causes: &mut Vec<Cause>) {
    let handler = View::root(class, "handler");
    causes
        .extend(names::label(handler.text()).iter().map(|problem| Cause::invalid("handler", handler.text(), problem)));
}

fn validate_runtime_class_change(class: &Value, old: &Value, _facet: Facet, causes: &mut Vec<Cause>) {
    if class["handler"] != old["handler"] {
        causes.push(Cause::invalid("handler", class["handler"].clone(), "field is immutable"));
    }
}
