//! How much a Pod asks for. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::definitions::quantity::Quantity;

/// Amounts by resource: `cpu`, `memory`.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Resources that a Pod may be given as a whole.
const OF_WHOLE_PODS: &[&str] = &["cpu", "memory"];

/// The amounts in a map of quantities; what is no quantity is left out (the kind's own checks refuse it).
pub(super) fn read(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    let amounts = entries.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), Quantity::parse(&text))
    });
    amounts.filter_map(|(name, quantity)| Some((name, quantity?))).collect()
}

pub(super) fn add(sum: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let own = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *own = own.plus(*amount);
    }
}

pub(super) fn subtract(sum: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        if let Some(own) = sum.get_mut(name) {
            *own = own.minus(*amount);
        }
    }
}

fn raise(most: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let own = most.entry(name.clone()).or_insert(*amount);
        *own = (*own).max(*amount);
    }
}

/// `name=amount`, sorted, with commas.
pub(super) fn words(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={}", amount.canonical())).collect::<Vec<_>>().join(",")
}

/// What a Pod takes: `member` is `requests` or `limits`. Containers that run together are added up; those that run
/// before count where they need more; overhead comes on top.
pub(super) fn of_pod(pod: &Value, member: &str) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| read(&container["resources"][member]);
    let mut total = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut total, &of(container));
    }
    let (mut beside, mut before) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let own = of(container);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut beside, &own);
            raise(&mut before, &beside);
        } else {
            let mut together = beside.clone();
            add(&mut together, &own);
            raise(&mut before, &together);
        }
    }
    raise(&mut total, &before);
    for (name, amount) in read(&spec["resources"][member]) {
        if OF_WHOLE_PODS.contains(&name.as_str()) || name.starts_with("hugepages-") {
            total.insert(name, amount);
        }
    }
    total
}

/// What a Pod takes with what running it costs.
pub(super) fn of_pod_with_overhead(pod: &Value, member: &str) -> Amounts {
    let mut total = of_pod(pod, member);
    for (name, amount) in read(&pod["spec"]["overhead"]) {
        match total.get_mut(&name) {
            Some(own) => *own = own.plus(amount),
            None if member == "requests" => {
                total.insert(name, amount);
            }
            None => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_add_up_and_those_before_count_where_they_need_more() {
        let container =
            |cpu: &str, memory: &str| json!({ "resources": { "requests": { "cpu": cpu, "memory": memory } } });
        let mut sidecar = container("100m", "16Mi");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({ "spec": {
            "containers": [container("500m", "64Mi"), container("250m", "64Mi")],
            "initContainers": [sidecar, container("1", "32Mi")],
            "overhead": { "memory": "10Mi" },
        } });
        assert_eq!(words(&of_pod(&pod, "requests")), "cpu=1100m,memory=144Mi");
        assert_eq!(words(&of_pod_with_overhead(&pod, "requests")), "cpu=1100m,memory=154Mi");
        assert_eq!(words(&of_pod(&pod, "limits")), "");
        let mut whole = pod.clone();
        whole["spec"]["resources"] = json!({ "requests": { "cpu": "2", "example.com/gpu": "1" } });
        assert_eq!(words(&of_pod(&whole, "requests")), "cpu=2,memory=144Mi");
    }
}
