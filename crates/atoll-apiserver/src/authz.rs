//! Who may do what: administrators everything, each component exactly its work, everyone else to ask what is served and
//! who they are.

use crate::authn::{AUTHENTICATED, Identity, MASTERS};
use crate::request::{ResourcePath, Verb};
use crate::status::{About, ApiError};

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

const READ: &[&str] = &["get", "list", "watch"];
const REPORT: &[&str] = &["create", "update", "patch"];
const KEEP_STATUS: &[&str] = &["get", "update", "patch"];
const OWN: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
const ASK: &[&str] = &["create"];

/// Some verbs on some resources (with their subresource) of a group.
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// Who the rules hold for: a user by name, or a group.
struct Role {
    subject: &'static str,
    rules: &'static [Rule],
}

const SANDBOXES: &str = "agents.x-k8s.io";
const EXTENSIONS: &str = "extensions.agents.x-k8s.io";

const fn rule(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group, resources, verbs }
}

const ROLES: &[Role] = &[
    Role {
        subject: AUTHENTICATED,
        rules: &[
            rule("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ASK),
            rule("authentication.k8s.io", &["selfsubjectreviews"], ASK),
        ],
    },
    Role {
        subject: NODES,
        rules: &[
            rule("", &["nodes"], &["get", "list", "watch", "create", "update", "patch"]),
            rule("", &["nodes/status", "pods/status", "persistentvolumeclaims/status"], KEEP_STATUS),
            rule("", &["pods"], &["get", "list", "watch", "delete"]),
            rule("", &["configmaps", "secrets", "services", "persistentvolumeclaims", "namespaces"], READ),
            rule("", &["events"], REPORT),
            rule("events.k8s.io", &["events"], REPORT),
            rule("node.k8s.io", &["runtimeclasses"], READ),
            rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"]),
            rule("authentication.k8s.io", &["tokenreviews"], ASK),
            rule("authorization.k8s.io", &["subjectaccessreviews"], ASK),
        ],
    },
    Role {
        subject: "system:atoll:controllers",
        rules: &[
            rule(SANDBOXES, &["sandboxes"], OWN),
            rule(SANDBOXES, &["sandboxes/status"], KEEP_STATUS),
            rule(EXTENSIONS, &["sandboxclaims", "sandboxtemplates", "sandboxwarmpools"], OWN),
            rule(EXTENSIONS, &["sandboxclaims/status", "sandboxwarmpools/status"], KEEP_STATUS),
            rule("", &["pods", "services", "persistentvolumeclaims"], OWN),
            rule("networking.k8s.io", &["networkpolicies"], OWN),
            rule("", &["nodes", "namespaces"], READ),
            rule("node.k8s.io", &["runtimeclasses"], READ),
            rule("", &["events"], REPORT),
            rule("events.k8s.io", &["events"], REPORT),
            rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"]),
        ],
    },
    Role {
        subject: "system:atoll:scheduler",
        rules: &[
            rule("", &["pods", "nodes", "namespaces"], READ),
            rule("", &["pods/binding"], ASK),
            rule("", &["pods/status"], KEEP_STATUS),
            rule("", &["events"], REPORT),
            rule("events.k8s.io", &["events"], REPORT),
        ],
    },
    Role {
        subject: "system:atoll:router",
        rules: &[
            rule("", &["pods"], READ),
            rule(SANDBOXES, &["sandboxes"], READ),
            rule(EXTENSIONS, &["sandboxclaims"], READ),
            rule("authentication.k8s.io", &["tokenreviews"], ASK),
            rule("authorization.k8s.io", &["subjectaccessreviews"], ASK),
        ],
    },
    Role {
        subject: "system:atoll:orchestrator",
        rules: &[
            rule(SANDBOXES, &["sandboxes"], OWN),
            rule(EXTENSIONS, &["sandboxclaims"], OWN),
            rule(EXTENSIONS, &["sandboxtemplates", "sandboxwarmpools"], READ),
            rule("", &["pods", "namespaces"], READ),
            rule("", &["events"], REPORT),
            rule("events.k8s.io", &["events"], REPORT),
        ],
    },
];

/// Paths that everyone may read, known or not.
const OPEN_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];
/// Paths, with everything below them, that everyone who is known may read.
const KNOWN_PATHS: &[&str] = &["/api", "/apis", "/openapi"];

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
pub(crate) fn authorize(identity: &Identity, access: &Access<'_>) -> Result<(), ApiError> {
    if allows(identity, access) {
        return Ok(());
    }
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
    let about = About { group: access.group, kind: access.resource, name: access.name };
    Err(ApiError::forbidden(&about, &problem))
}

/// Whether somebody may do something.
pub(crate) fn allows(identity: &Identity, access: &Access<'_>) -> bool {
    if identity.is_in(MASTERS) {
        return true;
    }
    let full = access.full_resource();
    let holds = |rule: &Rule| {
        rule.group == access.group && rule.resources.contains(&full.as_str()) && rule.verbs.contains(&access.verb)
    };
    let mine = |role: &&Role| role.subject == identity.name || identity.is_in(role.subject);
    ROLES.iter().filter(mine).any(|role| role.rules.iter().any(holds)) && node_keeps_to_itself(identity, access)
}

/// A node writes to no other node.
fn node_keeps_to_itself(identity: &Identity, access: &Access<'_>) -> bool {
    let Some(own) = identity.name.strip_prefix(NODE_PREFIX) else { return true };
    let writes = !READ.contains(&access.verb);
    !(writes && access.group.is_empty() && access.resource == "nodes" && !access.name.is_empty() && access.name != own)
}

/// Whether somebody (`None`: somebody unknown) may read a path that is no resource.
pub(crate) fn allows_path(identity: Option<&Identity>, verb: &str, path: &str) -> bool {
    let below = |roots: &[&str]| {
        roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let reads = matches!(verb, "get" | "head");
    match identity {
        None => reads && below(OPEN_PATHS),
        Some(identity) => identity.is_in(MASTERS) || (reads && (below(OPEN_PATHS) || below(KNOWN_PATHS))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Access<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Access { verb, group, resource, subresource, namespace: "ns", name }
    }

    #[test]
    fn everyone_has_exactly_their_rights() {
        let jo = Identity::new("jo", &["devs"]);
        let admin = Identity::administrator("root");
        let node = Identity::new("system:node:one", &["system:nodes"]);
        let scheduler = Identity::new("system:atoll:scheduler", &[]);
        let router = Identity::new("system:atoll:router", &[]);
        let cases = [
            (&jo, access("get", "", "pods", "p"), false),
            (&jo, access("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), true),
            (&admin, access("delete", "any", "thing/sub", "x"), true),
            (&node, access("patch", "", "pods/status", "p"), true),
            (&node, access("create", "", "pods", ""), false),
            (&node, access("patch", "", "nodes/status", "one"), true),
            (&node, access("patch", "", "nodes/status", "two"), false),
            (&node, access("get", "", "nodes", "two"), true),
            (&node, access("delete", "", "nodes", "one"), false),
            (&scheduler, access("create", "", "pods/binding", "p"), true),
            (&scheduler, access("delete", "", "pods", "p"), false),
            (&router, access("get", "", "secrets", "s"), false),
            (&router, access("watch", "agents.x-k8s.io", "sandboxes", ""), true),
            (&router, access("watch", "", "sandboxes", ""), false),
        ];
        for (identity, access, expected) in cases {
            assert_eq!(allows(identity, &access), expected, "{} {access:?}", identity.name);
        }
    }

    #[test]
    fn a_refusal_has_the_words_of_a_real_server() {
        let refused = authorize(&Identity::new("jo", &[]), &access("list", "agents.x-k8s.io", "sandboxes", ""));
        assert_eq!(
            refused.expect_err("jo may not").message,
            "sandboxes.agents.x-k8s.io is forbidden: User \"jo\" cannot list resource \"sandboxes\" in API group \
             \"agents.x-k8s.io\" in the namespace \"ns\""
        );
    }

    #[test]
    fn paths_are_open_to_those_who_need_them() {
        let jo = Identity::new("jo", &[]);
        let cases = [
            (None, "/healthz", true),
            (None, "/readyz/ping", true),
            (None, "/healthzz", false),
            (None, "/apis", false),
            (Some(&jo), "/apis/agents.x-k8s.io", true),
            (Some(&jo), "/metrics", false),
        ];
        for (identity, path, expected) in cases {
            assert_eq!(allows_path(identity, "get", path), expected, "{path}");
        }
    }
}
