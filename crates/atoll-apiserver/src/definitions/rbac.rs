//! Roles and bindings.

use serde_json::Value;

use super::view::View;
use super::{Facet, Hooks, names};
use crate::schema::Cause;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What distinguishes roles of a namespace from other kinds.
pub(crate) const ROLE: Hooks = Hooks {
    check: |role, causes| check_rules(role, true, causes),
    check_change: |role, _, _, causes| check_rules(role, true, causes),
    ..Hooks::NONE
};

/// What distinguishes cluster roles from other kinds.
pub(crate) const CLUSTER_ROLE: Hooks = Hooks {
    check: check_cluster_role,
    check_change: |role, _, _, causes| check_cluster_role(role, causes),
    ..Hooks::NONE
};

/// What distinguishes bindings in a namespace from other kinds.
pub(crate) const ROLE_BINDING: Hooks = Hooks {
    default: default_groups,
    check: |binding, causes| check_binding(binding, true, causes),
    check_change: |binding, old, facet, causes| check_binding_change(binding, old, facet, true, causes),
    ..Hooks::NONE
};

/// What distinguishes bindings in the whole cluster from other kinds.
pub(crate) const CLUSTER_ROLE_BINDING: Hooks = Hooks {
    default: default_groups,
    check: |binding, causes| check_binding(binding, false, causes),
    check_change: |binding, old, facet, causes| check_binding_change(binding, old, facet, false, causes),
    ..Hooks::NONE
};

fn check_rules(role: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    for rule in View::root(role, "rules").items() {
        let require = |name: &str, sentence: &str, causes: &mut Vec<Cause>| {
            let field = rule.field(name);
            if field.is_empty() {
                causes.push(Cause::required(&field.path, sentence));
            }
        };
        require("verbs", "verbs must contain at least one value", causes);
        let urls = rule.field("nonResourceURLs");
        if urls.is_empty() {
            require("apiGroups", "resource rules must supply at least one api group", causes);
            require("resources", "resource rules must supply at least one resource", causes);
            continue;
        }
        if namespaced {
            let problem = "namespaced rules cannot apply to non-resource URLs";
            causes.push(Cause::invalid(&urls.path, urls.value.clone(), problem));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|name| !rule.field(name).is_empty()) {
            let problem = "rules cannot apply to both regular resources and non-resource URLs";
            causes.push(Cause::invalid(&urls.path, urls.value.clone(), problem));
        }
    }
}

fn check_cluster_role(role: &Value, causes: &mut Vec<Cause>) {
    check_rules(role, false, causes);
    let aggregation = View::root(role, "aggregationRule");
    let selectors = aggregation.field("clusterRoleSelectors");
    if aggregation.is_set() && selectors.is_empty() {
        let sentence = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.push(Cause::required(&selectors.path, sentence));
    }
}

/// Users and groups are this group's own; service accounts are not.
fn default_groups(binding: &mut Value) {
    let subjects = binding["subjects"].as_array_mut().into_iter().flatten();
    for subject in subjects.filter(|subject| matches!(subject["kind"].as_str(), Some("User" | "Group"))) {
        fill_group(subject);
    }
    if binding["roleRef"].is_object() {
        fill_group(&mut binding["roleRef"]);
    }
}

fn fill_group(reference: &mut Value) {
    if reference["apiGroup"].as_str().unwrap_or_default().is_empty() {
        reference["apiGroup"] = GROUP.into();
    }
}

fn check_binding(binding: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    let role = View::root(binding, "roleRef");
    let (group, kind, name) = (role.field("apiGroup"), role.field("kind"), role.field("name"));
    if group.text() != GROUP {
        causes.push(Cause::not_supported(&group.path, group.text(), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind.text()) {
        causes.push(Cause::not_supported(&kind.path, kind.text(), kinds));
    }
    if !name.require(causes) {
        name.report(&names::path_segment(name.text()), causes);
    }
    for subject in View::root(binding, "subjects").items() {
        check_subject(&subject, namespaced, causes);
    }
}

fn check_subject(subject: &View<'_>, namespaced: bool, causes: &mut Vec<Cause>) {
    let (kind, name, group) = (subject.field("kind"), subject.field("name"), subject.field("apiGroup"));
    let nameless = name.require(causes);
    match kind.text() {
        "ServiceAccount" => {
            if !nameless {
                name.report(&names::subdomain(name.text()), causes);
            }
            if !group.is_empty() {
                causes.push(Cause::not_supported(&group.path, group.text(), &[""]));
            }
            if !namespaced {
                subject.field("namespace").require(causes);
            }
        }
        "User" | "Group" if group.text() == GROUP => {}
        "User" | "Group" => causes.push(Cause::not_supported(&group.path, group.text(), &[GROUP])),
        other => causes.push(Cause::not_supported(&kind.path, other, &["ServiceAccount", "User", "Group"])),
    }
}

fn check_binding_change(binding: &Value, old: &Value, _facet: Facet, namespaced: bool, causes: &mut Vec<Cause>) {
    check_binding(binding, namespaced, causes);
    if binding["roleRef"] != old["roleRef"] {
        causes.push(Cause::invalid("roleRef", binding["roleRef"].clone(), "cannot change roleRef"));
    }
}
