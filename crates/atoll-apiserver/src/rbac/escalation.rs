//! Nobody gives more than they hold: who writes a role must hold its rules, who writes a binding those of the bound role,
//! unless they were given the verbs `escalate` and `bind` on it.

use serde_json::Value;

use crate::authn::{Identity, MASTERS};
use crate::authz::{self, Access};
use crate::objects::metadata_text;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;

use super::rule::{PolicyRule, missing, quoted_list};
use super::{GROUP, Policy};

/// Refuses a new or changed role or binding (`old`: what it was) that would give more than its writer holds.
pub(crate) fn check(
    server: &ApiServer,
    identity: &Identity,
    resource: &Resource,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if resource.definition.group != GROUP || identity.is_in(MASTERS) || only_collection_changes(old, new) {
        return Ok(());
    }
    let (namespace, name) = (metadata_text(new, "namespace"), metadata_text(new, "name"));
    let policy = server.rbac().policy(server.store());
    let plural = resource.definition.plural.as_str();
    let access = |verb, resource, name| Access { verb, group: GROUP, resource, subresource: "", namespace, name };
    let refuse = |problem: String| Err(ApiError::forbidden(&resource.about(name), &problem));
    match plural {
        "roles" | "clusterroles" => {
            if authz::allows(server, identity, &access("escalate", plural, name)) {
                return Ok(());
            }
            let rules: Vec<PolicyRule> = new["rules"].as_array().into_iter().flatten().map(PolicyRule::read).collect();
            if let Some(problem) = beyond(&policy, identity, namespace, &rules) {
                return refuse(problem);
            }
            let aggregates = [old, Some(new)].into_iter().flatten().any(aggregates);
            if aggregates && beyond(&policy, identity, namespace, &everything()).is_some() {
                return refuse("must have cluster-admin privileges to use the aggregationRule".to_owned());
            }
            Ok(())
        }
        "rolebindings" | "clusterrolebindings" => {
            let reference = &new["roleRef"];
            let bound = reference["name"].as_str().unwrap_or_default();
            let local = reference["kind"] == "Role";
            let kind = if local { "roles" } else { "clusterroles" };
            if authz::allows(server, identity, &access("bind", kind, bound)) {
                return Ok(());
            }
            let Some(rules) = policy.role(if local { namespace } else { "" }, bound) else {
                let about = crate::status::About { group: GROUP, kind, name: bound };
                return Err(ApiError::not_found(&about));
            };
            beyond(&policy, identity, namespace, rules).map_or(Ok(()), refuse)
        }
        _ => Ok(()),
    }
}

/// What somebody does not hold of the wanted rules, in words; `None` if nothing.
fn beyond(policy: &Policy, identity: &Identity, namespace: &str, wanted: &[PolicyRule]) -> Option<String> {
    let missing = missing(&policy.rules_of(identity, namespace), wanted);
    if missing.is_empty() {
        return None;
    }
    let mut words: Vec<String> = missing.iter().map(ToString::to_string).collect();
    words.sort();
    Some(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        identity.name,
        quoted_list(&identity.groups),
        words.join("\n")
    ))
}

fn aggregates(role: &Value) -> bool {
    role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|selectors| !selectors.is_empty())
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), urls: all(), ..PolicyRule::default() },
    ]
}

/// Whether a change only concerns what the garbage collector works with: that must be possible for whoever may delete.
fn only_collection_changes(old: Option<&Value>, new: &Value) -> bool {
    let Some(old) = old else { return false };
    let stripped = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for name in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.remove(name);
            }
        }
        object
    };
    stripped(old) == stripped(new)
}
