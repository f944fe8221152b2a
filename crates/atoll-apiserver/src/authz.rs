//! Who may do what: administrators everything, everyone else what roles give them.

use std::fmt;

use crate::authn::{Identity, MASTERS};
use crate::rbac::Grant;
use crate::request::{ResourcePath, Verb};
use crate::server::ApiServer;
use crate::status::{About, ApiError};

const NODE_PREFIX: &str = "system:node:";

const READ: &[&str] = &["get", "list", "watch"];

/// Paths, with everything below them, that everyone may read, known or not.
const OPEN_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

/// What somebody wants to do to a resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Access<'a> {
    pub(crate) fn of(verb: Verb, path: &'a ResourcePath) -> Self {
        Self {
            verb: verb.as_str(),
            group: &path.group,
            resource: &path.plural,
            subresource: path.subresource.as_deref().unwrap_or_default(),
            namespace: path.namespace.as_deref().unwrap_or_default(),
            name: path.name.as_deref().unwrap_or_default(),
        }
    }

    /// `pods` or `pods/status`.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Refuses what the caller may not do.
pub(crate) fn authorize(server: &ApiServer, identity: &Identity, access: &Access<'_>) -> Result<(), ApiError> {
    if allows(server, identity, access) { Ok(()) } else { Err(refusal(identity, access)) }
}

fn refusal(identity: &Identity, access: &Access<'_>) -> ApiError {
    let scope = if access.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", access.namespace)
    };
    let problem = format!(
        "User {:?} cannot {} resource {:?} in API group {:?} {scope}",
        identity.name,
        access.verb,
        access.full_resource(),
        access.group
    );
    ApiError::forbidden(&About { group: access.group, kind: access.resource, name: access.name }, &problem)
}

/// Whether somebody may do something.
pub(crate) fn allows(server: &ApiServer, identity: &Identity, access: &Access<'_>) -> bool {
    reason(server, identity, access).is_some()
}

/// Why somebody may do something; `None` if they may not.
pub(crate) fn reason(server: &ApiServer, identity: &Identity, access: &Access<'_>) -> Option<Reason> {
    if identity.is_in(MASTERS) {
        return Some(Reason::Master);
    }
    let policy = server.rbac().policy(server.store());
    let grant = policy.find(identity, access.namespace, |rule| rule.allows(access))?;
    node_keeps_to_itself(identity, access).then(|| Reason::Granted(grant.clone()))
}

/// Why somebody may do something.
pub(crate) enum Reason {
    /// They belong to those who may do everything.
    Master,
    /// A binding gives it to them.
    Granted(Grant),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => Ok(()),
            Self::Granted(grant) => write!(formatter, "RBAC: allowed by {grant}"),
        }
    }
}

/// A node writes to no other node.
fn node_keeps_to_itself(identity: &Identity, access: &Access<'_>) -> bool {
    let Some(own) = identity.name.strip_prefix(NODE_PREFIX) else { return true };
    let writes = !READ.contains(&access.verb);
    !(writes && access.group.is_empty() && access.resource == "nodes" && !access.name.is_empty() && access.name != own)
}

/// Whether somebody may do something to a path that is no resource.
pub(crate) fn allows_path(server: &ApiServer, identity: &Identity, verb: &str, path: &str) -> bool {
    let verb = if verb == "head" { "get" } else { verb };
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if identity.is_in(MASTERS) || (verb == "get" && OPEN_PATHS.iter().any(|root| below(root))) {
        return true;
    }
    let policy = server.rbac().policy(server.store());
    policy.find(identity, "", |rule| rule.allows_path(verb, path)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_words_of_a_real_server() {
        let access = Access {
            verb: "list",
            group: "agents.x-k8s.io",
            resource: "sandboxes",
            subresource: "",
            namespace: "ns",
            name: "",
        };
        assert_eq!(
            refusal(&Identity::new("jo", &[]), &access).message,
            "sandboxes.agents.x-k8s.io is forbidden: User \"jo\" cannot list resource \"sandboxes\" in API group \
             \"agents.x-k8s.io\" in the namespace \"ns\""
        );
    }

    #[test]
    fn a_node_writes_to_no_other_node() {
        let node = Identity::new("system:node:one", &["system:nodes"]);
        for (verb, name, expected) in [("patch", "one", true), ("patch", "two", false), ("get", "two", true)] {
            let access = Access { verb, group: "", resource: "nodes", subresource: "status", namespace: "", name };
            assert_eq!(node_keeps_to_itself(&node, &access), expected, "{verb} {name}");
        }
    }
}
