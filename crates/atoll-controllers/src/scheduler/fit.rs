//! Which node has room for a Pod: a pure function of the Pod, the nodes and what is given away on them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

use crate::caches::name_of;
use crate::scheduler::requests::Amounts;

const NOT_READY: &str = "node(s) were not ready";
const UNSCHEDULABLE: &str = "node(s) were unschedulable";
const SELECTOR: &str = "node(s) didn't match Pod's node affinity/selector";
const TAINT: &str = "node(s) had untolerated taint(s)";
const PODS: &str = "Too many pods";
const CPU: &str = "Insufficient cpu";
const MEMORY: &str = "Insufficient memory";

/// The node for the Pod, the emptiest one; or why there is none, in the words of Kubernetes.
pub(crate) fn choose<N: AsRef<Node>>(
    pod: &PodSpec,
    nodes: &[N],
    used: impl Fn(&str) -> Amounts,
) -> Result<String, String> {
    let wanted = Amounts::of_pod(pod);
    let mut best: Option<(i64, &str)> = None;
    let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    for node in nodes.iter().map(AsRef::as_ref) {
        let used = used(name_of(node));
        let obstacles = obstacles(pod, node, wanted, used);
        if obstacles.is_empty() {
            let free = Amounts::of_node(&allocatable(node)).memory_bytes - used.memory_bytes;
            if best.is_none_or(|(most, name)| (free, name) > (most, name_of(node))) {
                best = Some((free, name_of(node)));
            }
        }
        for obstacle in obstacles {
            *reasons.entry(obstacle).or_default() += 1;
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or_else(|| {
        if nodes.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
    })
}

fn obstacles(pod: &PodSpec, node: &Node, wanted: Amounts, used: Amounts) -> Vec<&'static str> {
    let spec = node.spec.as_ref();
    if spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
        return vec![UNSCHEDULABLE];
    }
    if !is_ready(node) {
        return vec![NOT_READY];
    }
    if !matches_selector(pod, node) {
        return vec![SELECTOR];
    }
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    if taints.iter().any(|taint| taint.effect != "PreferNoSchedule" && !is_tolerated(taint, pod)) {
        return vec![TAINT];
    }
    let room = Amounts::of_node(&allocatable(node));
    let mut obstacles = Vec::new();
    if used.pods + wanted.pods > room.pods {
        obstacles.push(PODS);
    }
    if wanted.cpu_milli > 0 && used.cpu_milli + wanted.cpu_milli > room.cpu_milli {
        obstacles.push(CPU);
    }
    if wanted.memory_bytes > 0 && used.memory_bytes + wanted.memory_bytes > room.memory_bytes {
        obstacles.push(MEMORY);
    }
    obstacles
}

fn allocatable(node: &Node) -> BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let status = node.status.as_ref();
    status.and_then(|status| status.allocatable.clone().or_else(|| status.capacity.clone())).unwrap_or_default()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn matches_selector(pod: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = pod.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| matches_term(term, labels, name_of(node)))
        })
}

fn matches_term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let by_labels = term.match_expressions.as_deref().unwrap_or_default();
    let by_fields = term.match_fields.as_deref().unwrap_or_default();
    (!by_labels.is_empty() || !by_fields.is_empty())
        && by_labels.iter().all(|wanted| matches_requirement(wanted, labels.get(&wanted.key).map(String::as_str)))
        && by_fields.iter().all(|wanted| wanted.key == "metadata.name" && matches_requirement(wanted, Some(name)))
}

fn matches_requirement(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let within = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match wanted.operator.as_str() {
        "In" => within,
        "NotIn" => !within,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn is_tolerated(taint: &Taint, pod: &PodSpec) -> bool {
    let tolerates = |toleration: &Toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        let same_value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || same_value)
    };
    pod.tolerations.iter().flatten().any(tolerates)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, memory: &str, more: &serde_json::Value) -> Box<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"zone": "a", "size": "3"}},
            "spec": {},
            "status": {
                "allocatable": {"cpu": "2", "memory": memory, "pods": "3"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        json_merge(&mut node, more);
        Box::new(serde_json::from_value(node).expect("it is a node"))
    }

    fn json_merge(into: &mut serde_json::Value, from: &serde_json::Value) {
        match from {
            serde_json::Value::Object(from) => {
                for (key, value) in from {
                    json_merge(&mut into[key], value);
                }
            }
            other => *into = other.clone(),
        }
    }

    fn pod(more: &serde_json::Value) -> PodSpec {
        let mut pod = json!({"containers": [{
            "name": "c",
            "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "100Mi"}},
        }]});
        json_merge(&mut pod, more);
        serde_json::from_value(pod).expect("it is a pod")
    }

    fn nothing(_: &str) -> Amounts {
        Amounts::default()
    }

    #[test]
    fn the_emptiest_node_with_room_is_chosen() {
        let nodes = [node("small", "150Mi", &json!({})), node("large", "1Gi", &json!({}))];
        assert_eq!(choose(&pod(&json!({})), &nodes, nothing), Ok("large".to_owned()));
        let used =
            |name: &str| Amounts { memory_bytes: if name == "large" { 1 << 30 } else { 0 }, ..Amounts::default() };
        assert_eq!(choose(&pod(&json!({})), &nodes, used), Ok("small".to_owned()));
    }

    #[test]
    fn it_is_said_why_nothing_fits() {
        let taint = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
        let required = |operator: &str, key: &str, values: &[&str]| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": operator, "values": values}]},
            ]}}}})
        };
        let tolerating = json!({"tolerations": [{"key": "k", "operator": "Exists"}]});
        for (node_more, pod_more, obstacle) in [
            (json!({}), json!({}), None),
            (json!({"spec": {"unschedulable": true}}), json!({}), Some("1 node(s) were unschedulable")),
            (json!({"status": {"conditions": []}}), json!({}), Some("1 node(s) were not ready")),
            (json!({}), json!({"nodeSelector": {"zone": "a"}}), None),
            (
                json!({}),
                json!({"nodeSelector": {"zone": "b"}}),
                Some("1 node(s) didn't match Pod's node affinity/selector"),
            ),
            (json!({}), required("In", "zone", &["a", "b"]), None),
            (json!({}), required("NotIn", "zone", &["a"]), Some("1 node(s) didn't match Pod's node affinity/selector")),
            (json!({}), required("Gt", "size", &["2"]), None),
            (json!({}), required("Lt", "size", &["2"]), Some("1 node(s) didn't match Pod's node affinity/selector")),
            (json!({}), required("Exists", "absent", &[]), Some("1 node(s) didn't match Pod's node affinity/selector")),
            (taint.clone(), json!({}), Some("1 node(s) had untolerated taint(s)")),
            (taint, tolerating, None),
            (
                json!({"status": {"allocatable": {"cpu": "100m", "memory": "1Mi", "pods": "0"}}}),
                json!({}),
                Some("1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods"),
            ),
        ] {
            let outcome = choose(&pod(&pod_more), &[node("n", "1Gi", &node_more)], nothing);
            let expected = match obstacle {
                None => Ok("n".to_owned()),
                Some(obstacle) => Err(format!("0/1 nodes are available: {obstacle}.")),
            };
            assert_eq!(outcome, expected, "{node_more} {pod_more}");
        }
        let none: [Box<Node>; 0] = [];
        assert_eq!(choose(&pod(&json!({})), &none, nothing), Err("no nodes available to schedule pods".to_owned()));
    }
}
