//! The kinds that the table is about.

use serde_json::{Value, json};

/// All of them, by the plural of their names.
pub(crate) const NAMES: &[&str] =
    &["configmaps", "sandboxes", "sandboxtemplates", "sandboxclaims", "sandboxwarmpools", "widgets"];

/// The one that is defined by users.
pub(crate) const CUSTOM: &str = "widgets";

/// Definitions of the sandbox kinds, as they are given to clusters.
const SANDBOX_DEFINITIONS: &[&str] = &[
    include_str!("../../../../../schemas/crds/agents.x-k8s.io_sandboxes.yaml"),
    include_str!("../../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxclaims.yaml"),
    include_str!("../../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxtemplates.yaml"),
    include_str!("../../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxwarmpools.yaml"),
];

/// A kind, and what can be said about its objects without knowing it.
pub(crate) struct Subject {
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// What a correct object has beside its metadata.
    content: Value,
    /// A merge patch that changes the content, and its own undoing.
    pub(crate) change: Value,
    /// Another change of the same field.
    pub(crate) other_change: Value,
    /// A field that is changed, as a JSON pointer.
    pub(crate) pointer: &'static str,
    pub(crate) status: Option<Value>,
    pub(crate) scale: bool,
    /// Merge patches over a correct object that make it an incorrect one.
    pub(crate) wrong: Vec<Value>,
}

impl Subject {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn root(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn collection(&self) -> String {
        format!("{}/namespaces/$ns$/{}", self.root(), self.plural)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    /// A correct object.
    pub(crate) fn object(&self, name: &str) -> Value {
        let mut object = json!({
            "apiVersion": self.api_version(), "kind": self.kind, "metadata": { "name": name },
        });
        merge(&mut object, &self.content);
        object
    }

    /// A correct object with something laid over it.
    pub(crate) fn object_with(&self, name: &str, more: &Value) -> Value {
        let mut object = self.object(name);
        merge(&mut object, more);
        object
    }
}

/// A JSON merge patch (RFC 7386).
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let map = into.as_object_mut().expect("it is an object now");
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The definitions that a server has to be taught.
pub(crate) fn definitions() -> Vec<Value> {
    let mut all: Vec<Value> = SANDBOX_DEFINITIONS
        .iter()
        .map(|text| serde_yaml_ng::from_str(text).expect("the definitions are YAML"))
        .collect();
    all.push(widget_definition());
    all
}

/// A kind with rules in CEL, list maps, sets, defaults, columns and both subresources.
pub(crate) fn widget_definition() -> Value {
    serde_yaml_ng::from_str(include_str!("widgets.yaml")).expect("the definition is YAML")
}

pub(crate) fn subject(name: &str) -> Subject {
    match name {
        "configmaps" => config_maps(),
        "sandboxes" => sandboxes(),
        "sandboxtemplates" => templates(),
        "sandboxclaims" => claims(),
        "sandboxwarmpools" => pools(),
        "widgets" => widgets(),
        other => panic!("no subject {other}"),
    }
}

fn config_maps() -> Subject {
    Subject {
        plural: "configmaps",
        kind: "ConfigMap",
        group: "",
        version: "v1",
        content: json!({"data": {"colour": "red", "size": "small"}}),
        change: json!({"data": {"colour": "blue"}}),
        other_change: json!({"data": {"colour": "green"}}),
        pointer: "/data/colour",
        status: None,
        scale: false,
        wrong: vec![
            json!({"data": {"no spaces": "x"}}),
            json!({"data": {"number": 1}}),
            json!({"data": "text"}),
            json!({"data": {"twice": "x"}, "binaryData": {"twice": "eA=="}}),
            json!({"binaryData": {"x": "not base64!"}}),
        ],
    }
}

fn pod_template() -> Value {
    json!({"spec": {"containers": [{"name": "main", "image": "example.com/image:1"}]}})
}

fn sandboxes() -> Subject {
    Subject {
        plural: "sandboxes",
        kind: "Sandbox",
        group: "agents.x-k8s.io",
        version: "v1beta1",
        content: json!({"spec": {"podTemplate": pod_template()}}),
        change: json!({"spec": {"operatingMode": "Suspended"}}),
        other_change: json!({"spec": {"operatingMode": "Running"}}),
        pointer: "/spec/operatingMode",
        status: Some(json!({"nodeName": "n", "podIPs": ["10.0.0.1"], "conditions": [{
            "type": "Ready", "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})),
        scale: false,
        wrong: vec![
            json!({"spec": null}),
            json!({"spec": {"operatingMode": "Asleep"}}),
            json!({"spec": {"shutdownPolicy": "Never", "shutdownTime": "tomorrow"}}),
            json!({"spec": {"podTemplate": {"spec": {"containers": null}}}}),
            json!({"spec": {"podTemplate": {"spec": {"containers": [{"image": "x"}]}}}}),
            json!({"spec": {"podTemplate": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}),
            json!({"spec": {"podTemplate": {"spec": {"containers": "none"}}}}),
            json!({"spec": {"service": "yes"}}),
            json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "x"}}]}}),
            json!({"spec": {"podTemplate": {"spec": {"containers": [{"name": "a", "resources":
                {"limits": {"memory": "lots"}}, "ports": [{"containerPort": "http"}]}]}}}}),
        ],
    }
}

fn templates() -> Subject {
    Subject {
        plural: "sandboxtemplates",
        kind: "SandboxTemplate",
        group: "extensions.agents.x-k8s.io",
        version: "v1beta1",
        content: json!({"spec": {"podTemplate": pod_template()}}),
        change: json!({"spec": {"envVarsInjectionPolicy": "Allowed"}}),
        other_change: json!({"spec": {"envVarsInjectionPolicy": "Overrides"}}),
        pointer: "/spec/envVarsInjectionPolicy",
        status: None,
        scale: false,
        wrong: vec![
            json!({"spec": {"networkPolicyManagement": "Sometimes"}}),
            json!({"spec": {"networkPolicy": {"ingress": [{"ports": [{"port": {"not": "one"}}]}]}}}),
            json!({"spec": {"volumeClaimTemplatesPolicy": ""}}),
            json!({"spec": {"podTemplate": null}}),
        ],
    }
}

fn claims() -> Subject {
    Subject {
        plural: "sandboxclaims",
        kind: "SandboxClaim",
        group: "extensions.agents.x-k8s.io",
        version: "v1beta1",
        content: json!({"spec": {"warmPoolRef": {"name": "pool"}}}),
        change: json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": 60}}}),
        other_change: json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": 90}}}),
        pointer: "/spec/lifecycle/ttlSecondsAfterFinished",
        status: Some(json!({"sandbox": {"name": "s", "podIPs": ["10.0.0.1"]}})),
        scale: false,
        wrong: vec![
            json!({"spec": {"warmPoolRef": null}}),
            json!({"spec": {"warmPoolRef": {"name": 7}}}),
            json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": -1}}}),
            json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": 1.5}}}),
            json!({"spec": {"lifecycle": {"shutdownPolicy": "Never"}}}),
            json!({"spec": {"env": [{"name": "A"}]}}),
            json!({"spec": {"additionalPodMetadata": {"labels": {"a": 1}}}}),
        ],
    }
}

fn pools() -> Subject {
    Subject {
        plural: "sandboxwarmpools",
        kind: "SandboxWarmPool",
        group: "extensions.agents.x-k8s.io",
        version: "v1beta1",
        content: json!({"spec": {"sandboxTemplateRef": {"name": "template"}}}),
        change: json!({"spec": {"replicas": 3}}),
        other_change: json!({"spec": {"replicas": 4}}),
        pointer: "/spec/replicas",
        status: Some(json!({"replicas": 2, "readyReplicas": 1, "selector": "a=b", "observedGeneration": 1})),
        scale: true,
        wrong: vec![
            json!({"spec": {"replicas": -1}}),
            json!({"spec": {"replicas": 2_147_483_648_u64}}),
            json!({"spec": {"replicas": "3"}}),
            json!({"spec": {"updateStrategy": {"type": "Rolling"}}}),
            json!({"spec": {"updateStrategy": {}}}),
            json!({"spec": {"sandboxTemplateRef": null}}),
        ],
    }
}

fn widgets() -> Subject {
    Subject {
        plural: "widgets",
        kind: "Widget",
        group: "example.com",
        version: "v1",
        content: json!({"spec": {"size": 3, "ports": [{"name": "a", "port": 80}], "tags": ["x"], "low": 1, "high": 5}}),
        change: json!({"spec": {"size": 4}}),
        other_change: json!({"spec": {"size": 5}}),
        pointer: "/spec/size",
        status: Some(json!({"ready": 1, "phase": "Running"})),
        scale: true,
        wrong: vec![
            json!({"spec": {"size": 0}}),
            json!({"spec": {"size": 11}}),
            json!({"spec": {"low": 6}}),
            json!({"spec": {"name": "Not Fine"}}),
            json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}}),
            json!({"spec": {"tags": ["x", "x"]}}),
            json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}}),
            json!({"spec": {"either": 1, "or": 2}}),
            json!({"spec": {"when": "noon"}}),
            json!({"spec": {"number": 7}}),
            json!({"spec": {"colours": {"a": "red", "b": "pink"}}}),
            json!({"spec": {"free": {"kept": {"deeply": [1, "2", null]}}, "dropped": 1}}),
            json!({"spec": {"amount": "1Gi"}}),
            json!({"spec": {"amount": "lots"}}),
            json!({"spec": {"port": "http"}}),
            json!({"spec": {"port": true}}),
            json!({"metadata": {"name": "forbidden"}}),
        ],
    }
}
