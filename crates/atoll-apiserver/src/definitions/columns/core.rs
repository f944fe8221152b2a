//! Columns of the kinds of the core group, pods aside, and of EndpointSlices.

use serde_json::{Value, json};

use super::super::PrinterColumn;
use super::{NONE, age, computed, counted, items, labels_text, name, since, text, text_or_none, wide};

/// How many entries of a list are shown before `+ 2 more...`.
const SHOWN_MAX: usize = 3;

pub(super) fn services() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("Type", "How it is reached.", |service, _| service["spec"]["type"].clone()),
        computed("Cluster-IP", "Address inside the cluster.", |service, _| {
            json!(text_or_none(&service["spec"]["clusterIP"]))
        }),
        computed("External-IP", "Addresses outside the cluster.", |service, _| json!(external_addresses(service))),
        computed("Port(s)", "Ports.", |service, _| json!(service_ports(service))),
        age(),
        wide(computed("Selector", "Labels of its pods.", |service, _| {
            json!(labels_text(&service["spec"]["selector"]))
        })),
    ]
}

fn external_addresses(service: &Value) -> String {
    let spec = &service["spec"];
    let given: Vec<&str> = items(&spec["externalIPs"]).iter().map(text).collect();
    let balanced = items(&service["status"]["loadBalancer"]["ingress"])
        .iter()
        .map(|ingress| if text(&ingress["ip"]).is_empty() { text(&ingress["hostname"]) } else { text(&ingress["ip"]) });
    match text(&spec["type"]) {
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        "LoadBalancer" => {
            let all: Vec<&str> = balanced.chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if given.is_empty() => NONE.to_owned(),
        _ => given.join(","),
    }
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<String> = items(&service["spec"]["ports"])
        .iter()
        .map(|port| {
            let node = port["nodePort"].as_i64().filter(|number| *number > 0).map(|number| format!(":{number}"));
            format!("{}{}/{}", port["port"], node.unwrap_or_default(), text(&port["protocol"]))
        })
        .collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

pub(super) fn nodes() -> Vec<PrinterColumn> {
    let info = |name: &str, description: &str, source| wide(computed(name, description, source));
    vec![
        name(),
        computed("Status", "Whether it takes pods.", |node, _| json!(node_status(node))),
        computed("Roles", "What it is for.", |node, _| json!(node_roles(node))),
        age(),
        computed("Version", "Version of what runs its pods.", |node, _| {
            node["status"]["nodeInfo"]["kubeletVersion"].clone()
        }),
        wide(computed("Internal-IP", "Address inside.", |node, _| json!(node_address(node, "InternalIP")))),
        wide(computed("External-IP", "Address outside.", |node, _| json!(node_address(node, "ExternalIP")))),
        info("OS-Image", "Operating system.", |node, _| json!(known(&node["status"]["nodeInfo"]["osImage"]))),
        info("Kernel-Version", "Kernel.", |node, _| json!(known(&node["status"]["nodeInfo"]["kernelVersion"]))),
        info("Container-Runtime", "What runs its containers.", |node, _| {
            json!(known(&node["status"]["nodeInfo"]["containerRuntimeVersion"]))
        }),
    ]
}

fn known(value: &Value) -> &str {
    match text(value) {
        "" => "<unknown>",
        text => text,
    }
}

fn node_status(node: &Value) -> String {
    let ready = items(&node["status"]["conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let mut words = vec![match ready {
        None => "Unknown",
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
    }];
    if node["spec"]["unschedulable"] == Value::Bool(true) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn node_roles(node: &Value) -> String {
    let mut roles: Vec<&str> = node["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.as_str() {
            "kubernetes.io/role" => Some(text(value)),
            key => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let address = items(&node["status"]["addresses"]).iter().find(|address| address["type"] == kind);
    address.map_or(NONE, |address| text(&address["address"]))
}

pub(super) fn events() -> Vec<PrinterColumn> {
    vec![
        computed("Last Seen", "Time since it happened last.", |event, now| {
            json!(since(first_time(event, &[&["lastTimestamp"], &["deprecatedLastTimestamp"]]), now))
        }),
        computed("Type", "Normal or Warning.", |event, _| event["type"].clone()),
        computed("Reason", "Why, in one word.", |event, _| event["reason"].clone()),
        computed("Object", "What it is about.", |event, _| json!(event_object(event))),
        wide(computed("Subobject", "Which part of the object.", |event, _| about(event)["fieldPath"].clone())),
        wide(computed("Source", "Who says so.", |event, _| json!(event_source(event)))),
        computed("Message", "What happened.", |event, _| json!(either(event, "message", "note").trim())),
        wide(computed("First Seen", "Time since it happened first.", |event, now| {
            json!(since(first_time(event, &[&["firstTimestamp"], &["deprecatedFirstTimestamp"]]), now))
        })),
        wide(counted(computed("Count", "How often it happened.", |event, _| json!(event_count(event))))),
        wide(PrinterColumn { ..name() }),
    ]
}

fn either<'a>(event: &'a Value, core: &str, new: &str) -> &'a str {
    match text(&event[core]) {
        "" => text(&event[new]),
        text => text,
    }
}

fn about(event: &Value) -> &Value {
    if event["involvedObject"].is_object() { &event["involvedObject"] } else { &event["regarding"] }
}

fn event_object(event: &Value) -> String {
    let object = about(event);
    format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["name"]))
}

fn event_source(event: &Value) -> String {
    let source = if event["source"].is_object() { &event["source"] } else { &event["deprecatedSource"] };
    let component = match text(&source["component"]) {
        "" => either(event, "reportingComponent", "reportingController"),
        component => component,
    };
    let host = match text(&source["host"]) {
        "" => text(&event["reportingInstance"]),
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

/// The time in the first of the fields that has one; else that of the series or of the event.
fn first_time<'a>(event: &'a Value, fields: &[&[&str; 1]]) -> &'a Value {
    let given = fields.iter().map(|[name]| &event[*name]).find(|time| time.is_string());
    let series = &event["series"]["lastObservedTime"];
    match given {
        Some(time) => time,
        None if series.is_string() => series,
        None => &event["eventTime"],
    }
}

fn event_count(event: &Value) -> i64 {
    let counts = [&event["series"]["count"], &event["count"], &event["deprecatedCount"]];
    counts.iter().find_map(|count| count.as_i64()).unwrap_or(1).max(1)
}

pub(super) fn claims() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("Status", "Phase.", |claim, _| {
            let deleted = !claim["metadata"]["deletionTimestamp"].is_null();
            if deleted { json!("Terminating") } else { claim["status"]["phase"].clone() }
        }),
        computed("Volume", "The volume that was found.", |claim, _| json!(text(&claim["spec"]["volumeName"]))),
        computed("Capacity", "Size of the volume.", |claim, _| {
            let bound = !text(&claim["spec"]["volumeName"]).is_empty();
            json!(if bound { text(&claim["status"]["capacity"]["storage"]) } else { "" })
        }),
        computed("Access Modes", "How the volume can be used.", |claim, _| json!(access_modes(claim))),
        computed("StorageClass", "Sort of the volume.", |claim, _| json!(text(&claim["spec"]["storageClassName"]))),
        computed("VolumeAttributesClass", "Tuning of the volume.", |claim, _| {
            json!(match text(&claim["spec"]["volumeAttributesClassName"]) {
                "" => "<unset>",
                class => class,
            })
        }),
        age(),
        wide(computed("VolumeMode", "File system or block device.", |claim, _| {
            json!(known(&claim["spec"]["volumeMode"]))
        })),
    ]
}

fn access_modes(claim: &Value) -> String {
    if text(&claim["spec"]["volumeName"]).is_empty() {
        return String::new();
    }
    let short = |mode: &Value| match text(mode) {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    items(&claim["status"]["accessModes"]).iter().map(short).collect::<Vec<_>>().join(",")
}

pub(super) fn endpoint_slices() -> Vec<PrinterColumn> {
    vec![
        name(),
        computed("AddressType", "Sort of its addresses.", |slice, _| slice["addressType"].clone()),
        computed("Ports", "Ports.", |slice, _| {
            let ports: Vec<String> = items(&slice["ports"]).iter().map(|port| port["port"].to_string()).collect();
            json!(if ports.is_empty() { "<unset>".to_owned() } else { shortened(&ports) })
        }),
        computed("Endpoints", "Addresses.", |slice, _| {
            let endpoints = items(&slice["endpoints"]).iter();
            let addresses: Vec<String> = endpoints
                .flat_map(|endpoint| items(&endpoint["addresses"]))
                .map(|address| text(address).to_owned())
                .collect();
            json!(if addresses.is_empty() { "<unset>".to_owned() } else { shortened(&addresses) })
        }),
        age(),
    ]
}

fn shortened(entries: &[String]) -> String {
    match entries.len() {
        count if count > SHOWN_MAX => format!("{} + {} more...", entries[..SHOWN_MAX].join(","), count - SHOWN_MAX),
        _ => entries.join(","),
    }
}
