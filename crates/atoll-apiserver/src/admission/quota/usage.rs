//! What one object uses of what quotas count, and which quotas are about it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::admission::amounts::{self, Amounts};
use crate::definitions::ResourceDefinition;
use crate::definitions::quantity::Quantity;

/// Quotas of these demand that every container says how much it wants.
const EXPLICIT: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const STORAGE_CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// Kinds of the core group that have a name of their own among quotas.
const NAMED: &[&str] =
    &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];
const SUPPORTED: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// What one object uses, and what scopes of quotas go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) amounts: Amounts,
    pod: Option<PodFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PodFacts {
    terminating: bool,
    best_effort: bool,
    priority_class: String,
}

impl Use {
    pub(super) fn of(definition: &ResourceDefinition, object: &Value) -> Self {
        let mut amounts = Amounts::from([(format!("count/{}", definition.qualified_plural()), Quantity::whole(1))]);
        let plural = definition.plural.as_str();
        if definition.group.is_empty() && NAMED.contains(&plural) {
            amounts.insert(plural.to_owned(), Quantity::whole(1));
        }
        let pod = match (definition.group.as_str(), plural) {
            ("", "pods") => {
                pod_amounts(object, &mut amounts);
                Some(PodFacts::of(object))
            }
            ("", "services") => {
                service_amounts(object, &mut amounts);
                None
            }
            ("", "persistentvolumeclaims") => {
                claim_amounts(object, &mut amounts);
                None
            }
            _ => None,
        };
        Self { amounts, pod }
    }
}

impl PodFacts {
    fn of(pod: &Value) -> Self {
        let spec = &pod["spec"];
        let containers = ["containers", "initContainers"].into_iter();
        let mut containers = containers.flat_map(|list| spec[list].as_array().into_iter().flatten());
        let computes = |resources: &Value| {
            ["requests", "limits"].iter().any(|member| {
                let amounts = amounts::read(&resources[*member]);
                ["cpu", "memory"].iter().any(|name| amounts.get(*name).is_some_and(|amount| !amount.is_zero()))
            })
        };
        Self {
            terminating: spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0),
            best_effort: !computes(&spec["resources"]) && !containers.any(|it| computes(&it["resources"])),
            priority_class: spec["priorityClassName"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn pod_amounts(pod: &Value, amounts: &mut Amounts) {
    // Only Pods that can still run count as Pods; `count/pods` counts all.
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return;
    }
    amounts.insert("pods".to_owned(), Quantity::whole(1));
    for (name, amount) in amounts::of_pod_with_overhead(pod, "requests") {
        let plain = SUPPORTED.contains(&name.as_str()) || name.starts_with("hugepages-");
        amounts.insert(format!("requests.{name}"), amount);
        if plain {
            amounts.insert(name, amount);
        }
    }
    for (name, amount) in amounts::of_pod_with_overhead(pod, "limits") {
        if SUPPORTED.contains(&name.as_str()) {
            amounts.insert(format!("limits.{name}"), amount);
        }
    }
}

fn service_amounts(service: &Value, amounts: &mut Amounts) {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |number: usize| Quantity::whole(u32::try_from(number).unwrap_or(u32::MAX));
    let explicit = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0).count();
    let (balancers, node_ports) = match spec["type"].as_str() {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (1, explicit),
        Some("LoadBalancer") => (1, ports.len()),
        _ => (0, 0),
    };
    amounts.insert("services.loadbalancers".to_owned(), count(balancers));
    amounts.insert("services.nodeports".to_owned(), count(node_ports));
}

fn claim_amounts(claim: &Value, amounts: &mut Amounts) {
    let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
    let mut put = |name: &str, amount: Quantity| {
        amounts.insert(name.to_owned(), amount);
        if !class.is_empty() {
            amounts.insert(format!("{class}{STORAGE_CLASS_SUFFIX}{name}"), amount);
        }
    };
    put("persistentvolumeclaims", Quantity::whole(1));
    if let Some(storage) = amounts::read(&claim["spec"]["resources"]["requests"]).get("storage") {
        put("requests.storage", *storage);
    }
}

/// A quota as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) name: String,
    pub(super) hard: Amounts,
    scopes: Vec<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Quota {
    pub(super) fn read(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &object["spec"];
        let scopes = spec["scopes"].as_array().into_iter().flatten();
        let scopes = scopes.map(|name| Scope { name: text(name), operator: "Exists".to_owned(), values: Vec::new() });
        let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
        let selected = selected.map(|expression| Scope {
            name: text(&expression["scopeName"]),
            operator: text(&expression["operator"]),
            values: expression["values"].as_array().into_iter().flatten().map(text).collect(),
        });
        Self {
            name: text(&object["metadata"]["name"]),
            hard: amounts::read(&spec["hard"]),
            scopes: scopes.chain(selected).collect(),
        }
    }

    /// Whether the quota counts an object that uses this.
    pub(super) fn is_about(&self, used: &Use) -> bool {
        let counts = used.amounts.keys().any(|name| self.hard.contains_key(name));
        counts && self.scopes.iter().all(|scope| used.pod.as_ref().is_some_and(|pod| scope.holds(pod)))
    }

    /// What the quota counts of it.
    pub(super) fn share(&self, used: &Use) -> Amounts {
        if !self.is_about(used) {
            return Amounts::new();
        }
        let counted = used.amounts.iter().filter(|(name, _)| self.hard.contains_key(*name));
        counted.map(|(name, amount)| (name.clone(), *amount)).collect()
    }

    /// What the containers of a Pod must say and do not, in words.
    pub(super) fn unsaid(&self, pod: &Value) -> Option<String> {
        let whole = &pod["spec"]["resources"];
        if ["requests", "limits"].iter().any(|member| whole[*member].as_object().is_some_and(|it| !it.is_empty())) {
            return None;
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let lists = ["containers", "initContainers"].into_iter();
        for container in lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten()) {
            for name in EXPLICIT.iter().filter(|name| self.hard.contains_key(**name)) {
                let (member, resource) = name.split_once('.').unwrap_or(("requests", name));
                if container["resources"][member][resource].is_null() {
                    missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
                }
            }
        }
        let words = missing
            .into_iter()
            .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")));
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| format!("must specify {}", words.join("; ")))
    }

    /// The kinds of the core group, and by `plural.group` those of others, whose objects it counts.
    pub(super) fn counts(&self) -> BTreeSet<String> {
        let kind = |name: &String| {
            if let Some(kind) = name.strip_prefix("count/") {
                return kind.to_owned();
            }
            if name == "requests.storage" || name.contains(STORAGE_CLASS_SUFFIX) {
                return "persistentvolumeclaims".to_owned();
            }
            let first = name.split('.').next().unwrap_or_default();
            if NAMED.contains(&first) { first.to_owned() } else { "pods".to_owned() }
        };
        self.hard.keys().map(kind).collect()
    }
}

impl Scope {
    fn holds(&self, pod: &PodFacts) -> bool {
        match self.name.as_str() {
            "Terminating" => pod.terminating,
            "NotTerminating" => !pod.terminating,
            "BestEffort" => pod.best_effort,
            "NotBestEffort" => !pod.best_effort,
            "PriorityClass" => match self.operator.as_str() {
                "In" => self.values.contains(&pod.priority_class),
                "NotIn" => !self.values.contains(&pod.priority_class),
                "DoesNotExist" => pod.priority_class.is_empty(),
                _ => !pod.priority_class.is_empty(),
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(plural: &str) -> ResourceDefinition {
        let mut all = crate::definitions::builtin().into_iter();
        all.find(|definition| definition.plural == plural).expect("it is served")
    }

    fn quota(hard: Value, scopes: Value) -> Quota {
        Quota::read(&json!({ "metadata": { "name": "q" }, "spec": { "hard": hard, "scopes": scopes } }))
    }

    #[test]
    fn objects_use_what_quotas_count() {
        let resources = json!({ "requests": { "cpu": "500m", "example.com/gpu": "1" }, "limits": { "memory": "1Gi" } });
        let pod = json!({ "spec": { "containers": [{ "name": "a", "resources": resources }] } });
        let mut ended = pod.clone();
        ended["status"] = json!({ "phase": "Failed" });
        let claim =
            json!({ "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "1Gi" } } } });
        let service = json!({ "spec": { "type": "LoadBalancer", "ports": [{}, {}] } });
        let cases = [
            (
                "pods",
                pod,
                "count/pods=1,cpu=500m,limits.memory=1Gi,pods=1,requests.cpu=500m,requests.example.com/gpu=1",
            ),
            ("pods", ended, "count/pods=1"),
            ("sandboxes", json!({}), "count/sandboxes.agents.x-k8s.io=1"),
            ("configmaps", json!({}), "configmaps=1,count/configmaps=1"),
            ("services", service, "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"),
            (
                "persistentvolumeclaims",
                claim,
                "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
                 fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
            ),
        ];
        for (plural, object, expected) in cases {
            assert_eq!(amounts::words(&Use::of(&definition(plural), &object).amounts), expected, "{plural}");
        }
    }

    #[test]
    fn scopes_narrow_a_quota() {
        let pods = definition("pods");
        let idle = Use::of(&pods, &json!({ "spec": { "containers": [{ "name": "a" }] } }));
        let busy = json!({ "spec": { "activeDeadlineSeconds": 5,
            "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }] } });
        let busy = Use::of(&pods, &busy);
        for (scope, of_idle, of_busy) in [
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("Terminating", false, true),
            ("NotTerminating", true, false),
        ] {
            let quota = quota(json!({ "pods": "1" }), json!([scope]));
            assert_eq!((quota.is_about(&idle), quota.is_about(&busy)), (of_idle, of_busy), "{scope}");
        }
        assert!(!quota(json!({ "secrets": "1" }), json!([])).is_about(&idle));
    }

    #[test]
    fn containers_must_say_what_they_want() {
        let quota = quota(json!({ "limits.cpu": "1", "requests.memory": "1Gi", "pods": "3" }), json!([]));
        let container = |name: &str, resources: Value| json!({ "name": name, "resources": resources });
        let said = json!({ "requests": { "memory": "1" }, "limits": { "cpu": "1" } });
        let pod = json!({ "spec": { "containers": [container("b", json!({})), container("a", json!({ "limits": { "cpu": "1" } }))] } });
        assert_eq!(quota.unsaid(&pod).as_deref(), Some("must specify limits.cpu for: b; requests.memory for: a,b"));
        assert_eq!(quota.unsaid(&json!({ "spec": { "containers": [container("a", said)] } })), None);
    }

    #[test]
    fn a_quota_knows_what_it_counts() {
        let quota = quota(
            json!({ "cpu": "1", "count/sandboxes.agents.x-k8s.io": "5", "services.nodeports": "1", "requests.storage": "1Gi" }),
            json!([]),
        );
        let kinds: Vec<String> = quota.counts().into_iter().collect();
        assert_eq!(kinds, ["persistentvolumeclaims", "pods", "sandboxes.agents.x-k8s.io", "services"]);
    }
}
