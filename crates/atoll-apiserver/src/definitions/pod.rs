//! Pods: what the server fills in, what it refuses, and what may change after creation.

use serde_json::{Map, Value, json};

use super::quantity::Quantity;
use super::view::View;
use super::{Facet, Hooks};
use crate::schema::Cause;

pub(crate) use self::handlers::check_port;

mod containers;
mod handlers;
mod scheduling;
mod update;
mod volumes;

/// What distinguishes pods from other kinds.
pub(crate) const HOOKS: Hooks = Hooks {
    default: fill_defaults,
    create: prepare,
    update: prepare_change,
    check: validate,
    check_change: update::validate,
    required_texts: true,
};

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Resources that decide the quality of service.
const QUALITY_RESOURCES: [&str; 2] = ["cpu", "memory"];

fn fill_defaults(pod: &mut Value) {
    align_addresses(pod);
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(volume) = volume.as_object_mut() else { continue };
        if volume.keys().all(|name| name == "name") {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
    }
    let on_host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in CONTAINER_LISTS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                fill_container_defaults(container, on_host_network);
            }
        }
    }
    if spec.get("serviceAccountName").is_none()
        && let Some(name) = spec.get("serviceAccount").cloned()
    {
        spec.insert("serviceAccountName".to_owned(), name);
    } else if let Some(name) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".to_owned(), name);
    }
}

/// The address and the list of addresses say the same; the single one decides.
fn align_addresses(pod: &mut Value) {
    let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) else { return };
    let listed = status.get("podIPs").and_then(|list| list[0]["ip"].as_str()).map(str::to_owned);
    match (status.get("podIP").and_then(Value::as_str).map(str::to_owned), listed) {
        (Some(address), listed) if listed.as_ref() != Some(&address) => {
            status.insert("podIPs".to_owned(), json!([{"ip": address}]));
        }
        (None, Some(listed)) => {
            status.insert("podIP".to_owned(), json!(listed));
        }
        _ => {}
    }
}

fn fill_container_defaults(container: &mut Map<String, Value>, on_host_network: bool) {
    if !container.contains_key("imagePullPolicy") {
        let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
        container.insert("imagePullPolicy".to_owned(), json!(pull_policy(image)));
    }
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
        fill_requests(resources);
    }
    if on_host_network {
        for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let number = port["containerPort"].clone();
            if let Some(port) = port.as_object_mut()
                && !port.contains_key("hostPort")
            {
                port.insert("hostPort".to_owned(), number);
            }
        }
    }
}

/// Images without a tag, or with the tag `latest`, change under their name.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains('@') {
        return "IfNotPresent";
    }
    match name.split_once(':') {
        None | Some((_, "latest" | "")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// What is limited is requested, unless said otherwise.
fn fill_requests(resources: &mut Map<String, Value>) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    let Some(requests) = requests.as_object_mut() else { return };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn prepare(pod: &mut Value) {
    let quality = quality_of_service(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": quality});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastTransitionTime": pod["metadata"]["creationTimestamp"],
        }]);
    }
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.entry("priority").or_insert_with(|| json!(0));
        spec.entry("preemptionPolicy").or_insert_with(|| json!("PreemptLowerPriority"));
        // Restart rules of single containers are not enabled; sidecars are init containers.
        for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("restartPolicy");
                container.remove("restartPolicyRules");
            }
        }
    }
}

fn prepare_change(pod: &mut Value, old: &Value, facet: Facet) {
    if facet == Facet::Status {
        match old["metadata"].get("ownerReferences") {
            Some(owners) => pod["metadata"]["ownerReferences"] = owners.clone(),
            None => {
                if let Some(metadata) = pod["metadata"].as_object_mut() {
                    metadata.remove("ownerReferences");
                }
            }
        }
        if pod["status"].get("qosClass").is_none()
            && let Some(quality) = old["status"].get("qosClass")
        {
            pod["status"]["qosClass"] = quality.clone();
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers =
        ["initContainers", "containers"].iter().flat_map(|list| spec[*list].as_array().into_iter().flatten());
    let (mut anything, mut guaranteed) = (false, true);
    for container in containers {
        for name in QUALITY_RESOURCES {
            let amount = |part: &str| container["resources"][part][name].as_str().and_then(Quantity::parse);
            let (request, limit) = (amount("requests"), amount("limits"));
            let positive = |amount: Option<Quantity>| amount.is_some_and(|amount| !amount.is_zero());
            anything |= positive(request) || positive(limit);
            guaranteed &= positive(limit) && request == limit;
        }
    }
    match (anything, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(pod: &Value, causes: &mut Vec<Cause>) {
    validate_spec(pod, causes);
    let spec = View::root(pod, "spec");
    if !spec.field("ephemeralContainers").is_empty() {
        causes.push(Cause::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !spec.field("nodeName").is_empty() && !spec.field("schedulingGates").is_empty() {
        causes.push(Cause::forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"));
    }
}

/// What is wrong with the spec, whether the pod is new or not.
fn validate_spec(pod: &Value, causes: &mut Vec<Cause>) {
    let spec = View::root(pod, "spec");
    let known_volumes = volumes::validate(&spec.field("volumes"), causes);
    containers::validate(&spec, &known_volumes, causes);
    scheduling::validate(&spec, causes);
    if spec.field("serviceAccountName").is_empty() {
        volumes::forbid_tokens(&spec.field("volumes"), causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_decide_their_pull_policy() {
        for (image, expected) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:1", "IfNotPresent"),
            ("host:5000/a", "Always"),
            ("host:5000/a:1", "IfNotPresent"),
            ("a@sha256:00", "IfNotPresent"),
            ("", "Always"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn resources_decide_the_quality_of_service() {
        let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both, "requests": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}), "Burstable"),
            (json!({"limits": {"cpu": "0"}, "requests": {"cpu": "0"}}), "BestEffort"),
        ] {
            assert_eq!(quality_of_service(&spec(resources)), expected);
        }
    }
}
