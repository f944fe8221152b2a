//! What a container may know of its own Pod (the downward API). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::environment::{Addresses, Unprepared};
use crate::{pod, quantity};

/// What the node has for a container that is not limited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocatable {
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
}

/// A field of the Pod; an address only where one is known.
pub(crate) fn field(
    pod: &Pod,
    selector: &ObjectFieldSelector,
    addresses: Option<&Addresses>,
) -> Result<String, Unprepared> {
    let path = &selector.field_path;
    let metadata = &pod.metadata;
    let found = match path.as_str() {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => pod::spec(pod).node_name.clone(),
        "spec.serviceAccountName" => Some(pod::spec(pod).service_account_name.clone().unwrap_or_default()),
        "status.podIP" | "status.podIPs" => addresses.map(|addresses| addresses.pod.to_string()),
        "status.hostIP" | "status.hostIPs" => addresses.map(|addresses| addresses.host.to_string()),
        _ => one_of(path, "metadata.labels", metadata.labels.as_ref())
            .or_else(|| one_of(path, "metadata.annotations", metadata.annotations.as_ref())),
    };
    found.ok_or_else(|| Unprepared::Refused(format!("fieldRef {path} is not supported")))
}

fn one_of(path: &str, prefix: &str, all: Option<&BTreeMap<String, String>>) -> Option<String> {
    let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
    Some(all.and_then(|all| all.get(key)).cloned().unwrap_or_default())
}

/// A limit or request of a container, in units of the selector's divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    node: Allocatable,
) -> Result<String, Unprepared> {
    let refused = |why: &str| Unprepared::Refused(format!("resourceFieldRef {} {why}", selector.resource));
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own,
        Some(name) => {
            let spec = pod::spec(pod);
            let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.find(|container| container.name == name).ok_or_else(|| refused("names no container of the Pod"))?
        }
    };
    let resources = container.resources.as_ref();
    let (kind, name) = selector.resource.split_once('.').ok_or_else(|| refused("is not supported"))?;
    let (given, instead) = match kind {
        "limits" => (resources.and_then(|resources| resources.limits.as_ref()), true),
        "requests" => (resources.and_then(|resources| resources.requests.as_ref()), false),
        _ => return Err(refused("is not supported")),
    };
    let value_milli = match (given.and_then(|given| given.get(name)), name) {
        (Some(quantity), "cpu" | "memory") => quantity::milli(quantity).ok_or_else(|| refused("is no quantity"))?,
        (None, "cpu") => {
            if instead {
                node.cpu_milli
            } else {
                0
            }
        }
        (None, "memory") => {
            if instead {
                node.memory_bytes.saturating_mul(1000)
            } else {
                0
            }
        }
        _ => return Err(refused("is not supported")),
    };
    let one = Quantity("1".to_owned());
    // The API writes a divisor that was left out as 0.
    let divisor = selector.divisor.as_ref().filter(|divisor| quantity::milli(divisor) != Some(0)).unwrap_or(&one);
    let divisor_milli = quantity::milli(divisor).ok_or_else(|| refused("has a divisor that is no quantity"))?;
    Ok(value_milli.div_ceil(divisor_milli).to_string())
}

/// What a file of a `downwardAPI` volume holds.
pub(crate) fn file(
    pod: &Pod,
    own: &Container,
    item: &DownwardAPIVolumeFile,
    node: Allocatable,
) -> Result<String, Unprepared> {
    match (&item.field_ref, &item.resource_field_ref) {
        (Some(selector), _) => match selector.field_path.as_str() {
            "metadata.labels" => Ok(lines(pod.metadata.labels.as_ref())),
            "metadata.annotations" => Ok(lines(pod.metadata.annotations.as_ref())),
            _ => field(pod, selector, None),
        },
        (None, Some(selector)) => resource(pod, own, selector, node),
        (None, None) => Err(Unprepared::Refused(format!("the downwardAPI file {:?} has no source", item.path))),
    }
}

/// `key="value"`, one a line, as a kubelet writes labels and annotations.
fn lines(all: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = all.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NODE: Allocatable = Allocatable { cpu_milli: 4000, memory_bytes: 8 << 30 };

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"a": "1", "b": "say \"x\""}},
            "spec": {"containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "10m"}}},
                {"name": "free"},
            ]},
        }))
        .expect("a Pod")
    }

    #[test]
    fn resources_are_told_in_units_of_the_divisor() {
        let pod = pod();
        let containers = &pod::spec(&pod).containers;
        let told = |selector: Value| {
            let selector = serde_json::from_value(selector).expect("a selector");
            resource(&pod, &containers[0], &selector, NODE).map_err(|error| error.to_string())
        };
        let cases = [
            (json!({"resource": "limits.cpu"}), "2"),
            (json!({"resource": "limits.cpu", "divisor": "1m"}), "1500"),
            (json!({"resource": "limits.memory", "divisor": "1Mi"}), "64"),
            (json!({"resource": "limits.memory", "divisor": "0"}), "67108864"),
            (json!({"resource": "requests.cpu", "divisor": "1m"}), "10"),
            (json!({"resource": "requests.memory"}), "0"),
            (json!({"resource": "limits.cpu", "containerName": "free"}), "4"),
        ];
        for (selector, expected) in cases {
            assert_eq!(told(selector.clone()).as_deref(), Ok(expected), "{selector}");
        }
        for selector in [
            json!({"resource": "limits.nvidia.com/gpu"}),
            json!({"resource": "limits.cpu", "containerName": "none"}),
            json!({"resource": "cpu"}),
        ] {
            assert!(told(selector.clone()).is_err(), "{selector}");
        }
    }

    #[test]
    fn labels_are_written_as_a_kubelet_does() {
        let pod = pod();
        let own = &pod::spec(&pod).containers[0];
        let read = |item: Value| file(&pod, own, &serde_json::from_value(item).expect("an item"), NODE);
        let all = read(json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}));
        assert_eq!(all.as_deref(), Ok("a=\"1\"\nb=\"say \\\"x\\\"\""));
        let one = read(json!({"path": "x", "fieldRef": {"fieldPath": "metadata.labels['a']"}}));
        assert_eq!(one.as_deref(), Ok("1"));
        assert!(read(json!({"path": "x", "fieldRef": {"fieldPath": "status.podIP"}})).is_err(), "only as a variable");
        assert!(read(json!({"path": "x"})).is_err());
    }
}
