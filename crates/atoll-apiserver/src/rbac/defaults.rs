//! The roles and bindings that every server has from its start: those of Kubernetes, for the kinds that are served here,
//! and one for each component, with exactly its verbs.

use serde_json::{Value, json};

use super::{API_VERSION, GROUP};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] = &["get", "list", "watch", "create", "delete", "deletecollection", "patch", "update"];
const REPORT: &[&str] = &["create", "update", "patch"];
const KEEP_STATUS: &[&str] = &["get", "update", "patch"];
const OWN: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
const LEASE: &[&str] = &["get", "create", "update", "patch"];
const GET: &[&str] = &["get"];
const ASK: &[&str] = &["create"];

const CORE: &str = "";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";
const SANDBOXES: &str = "agents.x-k8s.io";
const EXTENSIONS: &str = "extensions.agents.x-k8s.io";

const USER: &str = "User";
const PEOPLE: &str = "Group";
const AUTHENTICATED: (&str, &str) = (PEOPLE, "system:authenticated");
const UNAUTHENTICATED: (&str, &str) = (PEOPLE, "system:unauthenticated");

/// Some verbs on some resources of a group, or (where the group is a `/`) on some paths.
#[derive(Clone, Copy)]
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const PATHS: &str = "/";

struct Role {
    name: &'static str,
    /// `admin`: it is a part of that role.
    part_of: Option<&'static str>,
    /// It is put together from the parts of this role.
    whole: Option<&'static str>,
    rules: &'static [Rule],
}

const fn rule(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group, resources, verbs }
}

const fn role(name: &'static str, rules: &'static [Rule]) -> Role {
    Role { name, part_of: None, whole: None, rules }
}

const ROLES: &[Role] = &[
    role("cluster-admin", &[rule("*", &["*"], &["*"]), rule(PATHS, &["*"], &["*"])]),
    Role { name: "admin", part_of: None, whole: Some("admin"), rules: &[] },
    Role { name: "edit", part_of: Some("admin"), whole: Some("edit"), rules: &[] },
    Role { name: "view", part_of: Some("edit"), whole: Some("view"), rules: &[] },
    Role {
        name: "system:aggregate-to-admin",
        part_of: Some("admin"),
        whole: None,
        rules: &[
            rule(AUTHORIZATION, &["localsubjectaccessreviews"], ASK),
            rule(GROUP, &["roles", "rolebindings"], READ_WRITE),
        ],
    },
    Role {
        name: "system:aggregate-to-edit",
        part_of: Some("edit"),
        whole: None,
        rules: &[
            rule(CORE, &["pods/attach", "pods/exec", "pods/portforward", "secrets"], READ),
            rule(CORE, &["serviceaccounts"], &["impersonate"]),
            rule(CORE, &["pods", "pods/attach", "pods/exec", "pods/portforward"], WRITE),
            rule(CORE, &["pods/eviction", "serviceaccounts/token"], ASK),
            rule(
                CORE,
                &["serviceaccounts", "services", "persistentvolumeclaims", "configmaps", "secrets", "events"],
                WRITE,
            ),
            rule("networking.k8s.io", &["networkpolicies"], WRITE),
            rule(COORDINATION, &["leases"], READ_WRITE),
        ],
    },
    Role {
        name: "system:aggregate-to-view",
        part_of: Some("view"),
        whole: None,
        rules: &[
            rule(
                CORE,
                &[
                    "pods",
                    "serviceaccounts",
                    "services",
                    "services/status",
                    "persistentvolumeclaims",
                    "persistentvolumeclaims/status",
                    "configmaps",
                ],
                READ,
            ),
            rule(
                CORE,
                &[
                    "limitranges",
                    "resourcequotas",
                    "events",
                    "pods/status",
                    "resourcequotas/status",
                    "namespaces/status",
                    "pods/log",
                ],
                READ,
            ),
            rule(CORE, &["namespaces"], READ),
            rule("discovery.k8s.io", &["endpointslices"], READ),
            rule("networking.k8s.io", &["networkpolicies"], READ),
        ],
    },
    Role {
        name: "atoll:aggregate-to-edit",
        part_of: Some("edit"),
        whole: None,
        rules: &[
            rule(SANDBOXES, &["sandboxes"], WRITE),
            rule(SANDBOXES, &["sandboxes/proxy"], GET),
            rule(EXTENSIONS, &["sandboxclaims", "sandboxtemplates", "sandboxwarmpools"], WRITE),
            rule(EXTENSIONS, &["sandboxwarmpools/scale"], KEEP_STATUS),
        ],
    },
    Role {
        name: "atoll:aggregate-to-view",
        part_of: Some("view"),
        whole: None,
        rules: &[
            rule(SANDBOXES, &["sandboxes", "sandboxes/status"], READ),
            rule(EXTENSIONS, &["sandboxclaims", "sandboxtemplates", "sandboxwarmpools"], READ),
            rule(EXTENSIONS, &["sandboxclaims/status", "sandboxwarmpools/status", "sandboxwarmpools/scale"], READ),
        ],
    },
    role(
        "system:discovery",
        &[rule(
            PATHS,
            &[
                "/livez",
                "/readyz",
                "/healthz",
                "/version",
                "/version/",
                "/openapi",
                "/openapi/*",
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
            ],
            GET,
        )],
    ),
    role("system:public-info-viewer", &[rule(PATHS, &["/livez", "/readyz", "/healthz", "/version", "/version/"], GET)]),
    role(
        "system:monitoring",
        &[rule(PATHS, &["/metrics", "/livez", "/readyz", "/healthz", "/livez/*", "/readyz/*", "/healthz/*"], GET)],
    ),
    role(
        "system:basic-user",
        &[
            rule(AUTHORIZATION, &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ASK),
            rule(AUTHENTICATION, &["selfsubjectreviews"], ASK),
        ],
    ),
    role(
        "system:auth-delegator",
        &[rule(AUTHENTICATION, &["tokenreviews"], ASK), rule(AUTHORIZATION, &["subjectaccessreviews"], ASK)],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[rule(PATHS, &["/.well-known/openid-configuration", "/openid/v1/jwks"], GET)],
    ),
    role(
        "system:node",
        &[
            rule(CORE, &["nodes"], &["get", "list", "watch", "create", "update", "patch"]),
            rule(CORE, &["nodes/status", "pods/status", "persistentvolumeclaims/status"], KEEP_STATUS),
            rule(CORE, &["pods"], &["get", "list", "watch", "delete"]),
            rule(CORE, &["configmaps", "secrets", "services", "persistentvolumeclaims", "namespaces"], READ),
            rule(CORE, &["serviceaccounts/token"], ASK),
            rule(CORE, &["events"], REPORT),
            rule(EVENTS, &["events"], REPORT),
            rule("node.k8s.io", &["runtimeclasses"], READ),
            rule(COORDINATION, &["leases"], LEASE),
            rule(AUTHENTICATION, &["tokenreviews"], ASK),
            rule(AUTHORIZATION, &["subjectaccessreviews", "localsubjectaccessreviews"], ASK),
        ],
    ),
    role(
        "system:atoll:controllers",
        &[
            rule(SANDBOXES, &["sandboxes"], OWN),
            rule(SANDBOXES, &["sandboxes/status"], KEEP_STATUS),
            rule(EXTENSIONS, &["sandboxclaims", "sandboxtemplates", "sandboxwarmpools"], OWN),
            rule(EXTENSIONS, &["sandboxclaims/status", "sandboxwarmpools/status"], KEEP_STATUS),
            rule(CORE, &["pods", "services", "persistentvolumeclaims"], OWN),
            rule("networking.k8s.io", &["networkpolicies"], OWN),
            rule(CORE, &["nodes", "namespaces"], READ),
            rule("node.k8s.io", &["runtimeclasses"], READ),
            rule(CORE, &["events"], REPORT),
            rule(EVENTS, &["events"], REPORT),
            rule(COORDINATION, &["leases"], LEASE),
        ],
    ),
    role(
        "system:atoll:scheduler",
        &[
            rule(CORE, &["pods", "nodes", "namespaces"], READ),
            rule(CORE, &["pods/binding"], ASK),
            rule(CORE, &["pods/status"], KEEP_STATUS),
            rule(CORE, &["events"], REPORT),
            rule(EVENTS, &["events"], REPORT),
        ],
    ),
    role(
        "system:atoll:router",
        &[
            rule(CORE, &["pods"], READ),
            rule(SANDBOXES, &["sandboxes"], READ),
            rule(EXTENSIONS, &["sandboxclaims"], READ),
            rule(AUTHENTICATION, &["tokenreviews"], ASK),
            rule(AUTHORIZATION, &["subjectaccessreviews"], ASK),
        ],
    ),
    role(
        "system:atoll:egress",
        &[
            rule(CORE, &["pods", "namespaces", "services", "configmaps", "secrets"], READ),
            rule(CORE, &["nodes/status"], KEEP_STATUS),
            rule("networking.k8s.io", &["networkpolicies"], READ),
            rule(EXTENSIONS, &["sandboxtemplates"], READ),
        ],
    ),
    role(
        "system:atoll:orchestrator",
        &[
            rule(SANDBOXES, &["sandboxes"], OWN),
            rule(SANDBOXES, &["sandboxes/proxy"], GET),
            rule(EXTENSIONS, &["sandboxclaims"], OWN),
            rule(EXTENSIONS, &["sandboxtemplates", "sandboxwarmpools"], READ),
            rule(CORE, &["pods", "namespaces"], READ),
            rule(CORE, &["events"], REPORT),
            rule(EVENTS, &["events"], REPORT),
        ],
    ),
];

/// Binding, role, and who gets it: kind and name.
type Binding = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const BINDINGS: &[Binding] = &[
    ("cluster-admin", "cluster-admin", &[(PEOPLE, "system:masters")]),
    ("system:monitoring", "system:monitoring", &[(PEOPLE, "system:monitoring")]),
    ("system:discovery", "system:discovery", &[AUTHENTICATED]),
    ("system:basic-user", "system:basic-user", &[AUTHENTICATED]),
    ("system:public-info-viewer", "system:public-info-viewer", &[AUTHENTICATED, UNAUTHENTICATED]),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &[(PEOPLE, "system:serviceaccounts")],
    ),
    ("system:node", "system:node", &[(PEOPLE, "system:nodes")]),
    ("system:atoll:controllers", "system:atoll:controllers", &[(USER, "system:atoll:controllers")]),
    ("system:atoll:scheduler", "system:atoll:scheduler", &[(USER, "system:atoll:scheduler")]),
    ("system:atoll:router", "system:atoll:router", &[(USER, "system:atoll:router")]),
    ("system:atoll:egress", "system:atoll:egress", &[(USER, "system:atoll:egress")]),
    ("system:atoll:orchestrator", "system:atoll:orchestrator", &[(USER, "system:atoll:orchestrator")]),
];

impl Rule {
    fn object(&self) -> Value {
        if self.group == PATHS {
            return json!({ "nonResourceURLs": self.resources, "verbs": self.verbs });
        }
        json!({ "apiGroups": [self.group], "resources": self.resources, "verbs": self.verbs })
    }
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind,
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
        },
    })
}

fn part_label(whole: &str) -> String {
    format!("{GROUP}/aggregate-to-{whole}")
}

/// The default cluster roles.
pub(super) fn roles() -> Vec<Value> {
    let role = |role: &Role| {
        let mut object = object("ClusterRole", role.name);
        if let Some(whole) = role.part_of {
            object["metadata"]["labels"][part_label(whole)] = "true".into();
        }
        if let Some(whole) = role.whole {
            let selector = json!({ "matchLabels": { part_label(whole): "true" } });
            object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        }
        object["rules"] = role.rules.iter().map(Rule::object).collect();
        object
    };
    ROLES.iter().map(role).collect()
}

/// The default cluster role bindings.
pub(super) fn bindings() -> Vec<Value> {
    let binding = |(name, role, subjects): &Binding| {
        let mut object = object("ClusterRoleBinding", name);
        object["roleRef"] = json!({ "apiGroup": GROUP, "kind": "ClusterRole", "name": role });
        let subject = |(kind, name): &(&str, &str)| json!({ "apiGroup": GROUP, "kind": kind, "name": name });
        object["subjects"] = subjects.iter().map(subject).collect();
        object
    };
    BINDINGS.iter().map(binding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_is_of_a_role_that_exists() {
        let names: Vec<&str> = ROLES.iter().map(|role| role.name).collect();
        for (name, role, subjects) in BINDINGS {
            assert!(names.contains(role), "{name}");
            assert!(!subjects.is_empty(), "{name}");
        }
    }
}
