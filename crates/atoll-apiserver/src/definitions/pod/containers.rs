//! Checks of a pod's containers.

use std::collections::HashSet;

use super::super::names;
use super::super::quantity::Quantity;
use super::super::view::View;
use super::handlers;
use crate::schema::Cause;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];
const STANDARD_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources that exist, though not for containers.
const COUNTED_RESOURCES: [&str; 8] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "storage",
];
const HUGE_PAGES: &str = "hugepages-";
/// What an environment variable can take from the pod.
const POD_FIELDS: [&str; 8] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
];

/// Checks all containers of a pod.
pub(crate) fn validate(spec: &View<'_>, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let mut names = HashSet::new();
    let containers = spec.field("containers");
    if containers.is_empty() {
        causes.push(Cause::required(&containers.path, ""));
    }
    for container in containers.items() {
        check_container(&container, volumes, causes);
        check_name_is_new(&container, &mut names, causes);
        handlers::check_lifecycle(&container, causes);
        handlers::check_probes(&container, causes);
    }
    for container in spec.field("initContainers").items() {
        check_container(&container, volumes, causes);
        let policy = container.field("restartPolicy");
        policy.one_of_if_set(&["Always"], causes);
        check_name_is_new(&container, &mut names, causes);
        if policy.text() == "Always" {
            handlers::check_lifecycle(&container, causes);
            handlers::check_probes(&container, causes);
            continue;
        }
        for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.field(name).is_set() {
                let problem = "may not be set for init containers without restartPolicy=Always";
                causes.push(Cause::forbidden(container.path.field(name), problem));
            }
        }
    }
    check_host_ports(&containers, causes);
}

fn check_name_is_new<'a>(container: &View<'a>, names: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    let name = container.field("name");
    if !name.is_empty() && !names.insert(name.text()) {
        causes.push(Cause::duplicate(&name.path, name.text()));
    }
}

fn check_container(container: &View<'_>, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let name = container.field("name");
    if !name.require(causes) {
        name.report(&names::label(name.text()), causes);
    }
    let image = container.field("image");
    if !image.require(causes) && image.text().trim() != image.text() {
        image.report(&["must not have leading or trailing whitespace".to_owned()], causes);
    }
    container.field("terminationMessagePolicy").one_of(&MESSAGE_POLICIES, causes);
    check_ports(&container.field("ports"), causes);
    check_variables(&container.field("env"), causes);
    check_variable_sources(&container.field("envFrom"), causes);
    check_mounts(&container.field("volumeMounts"), volumes, causes);
    container.field("imagePullPolicy").one_of(&PULL_POLICIES, causes);
    check_resources(&container.field("resources"), causes);
    check_security(&container.field("securityContext"), causes);
}

fn check_ports(ports: &View<'_>, causes: &mut Vec<Cause>) {
    let mut known = HashSet::new();
    for port in ports.items() {
        let name = port.field("name");
        if !name.is_empty() {
            let problems = names::port_name(name.text());
            if problems.is_empty() && !known.insert(name.text()) {
                causes.push(Cause::duplicate(&name.path, name.text()));
            }
            name.report(&problems, causes);
        }
        let number = port.field("containerPort");
        match number.number().unwrap_or_default() {
            0 => causes.push(Cause::required(&number.path, "")),
            found => number.report(&names::port_number(found), causes),
        }
        let host = port.field("hostPort");
        if let Some(found) = host.number().filter(|found| *found != 0) {
            host.report(&names::port_number(found), causes);
        }
        port.field("protocol").one_of(&PROTOCOLS, causes);
    }
}

fn check_host_ports(containers: &View<'_>, causes: &mut Vec<Cause>) {
    let mut taken = HashSet::new();
    for port in containers.items().flat_map(|container| container.field("ports").items().collect::<Vec<_>>()) {
        let host = port.field("hostPort");
        let Some(number) = host.number().filter(|number| *number != 0) else { continue };
        let key = format!("{}/{}/{number}", port.field("protocol").text(), port.field("hostIP").text());
        if !taken.insert(key.clone()) {
            causes.push(Cause::duplicate(&host.path, key));
        }
    }
}

fn check_variables(variables: &View<'_>, causes: &mut Vec<Cause>) {
    for variable in variables.items() {
        let name = variable.field("name");
        if !name.require(causes) {
            name.report(&names::variable(name.text()), causes);
        }
        check_value_source(&variable, causes);
    }
}

fn check_value_source(variable: &View<'_>, causes: &mut Vec<Cause>) {
    let source = variable.field("valueFrom");
    if !source.is_set() {
        return;
    }
    let mut count = 0;
    let field = source.field("fieldRef");
    if field.is_set() {
        count += 1;
        check_field_source(&field, &[&POD_FIELDS[..], &["status.podIPs"]].concat(), causes);
    }
    let resource = source.field("resourceFieldRef");
    if resource.is_set() {
        count += 1;
        resource.field("resource").require(causes);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        let key = source.field(name);
        if key.is_set() {
            count += 1;
            key_name(&key.field("name"), causes);
            if !key.field("key").require(causes) {
                key.field("key").report(&names::config_key(key.field("key").text()), causes);
            }
        }
    }
    if source.field("fileKeyRef").is_set() {
        count += 1;
    }
    let problem = match count {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        _ if !variable.field("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    causes.push(Cause::invalid(&source.path, "", problem));
}

/// The name of what a key is in; an absent one is as wrong as any other.
fn key_name(name: &View<'_>, causes: &mut Vec<Cause>) {
    let problems = names::subdomain(name.text());
    causes.extend(problems.iter().map(|problem| Cause::invalid(&name.path, name.text(), problem)));
}

/// Checks a reference to a field of the pod itself.
pub(crate) fn check_field_source(reference: &View<'_>, allowed: &[&str], causes: &mut Vec<Cause>) {
    let path = reference.field("fieldPath");
    if reference.field("apiVersion").require(causes) || path.require(causes) {
        return;
    }
    let text = path.text();
    if let Some((map, key)) = text.strip_suffix("']").and_then(|start| start.split_once("['")) {
        match map {
            "metadata.annotations" => reference_key(reference, &key.to_lowercase(), causes),
            "metadata.labels" => reference_key(reference, key, causes),
            _ => causes.push(Cause::invalid(&reference.path, map, "does not support subscript")),
        }
    } else if !allowed.contains(&text) {
        let is_field =
            ["metadata.annotations", "metadata.labels"].iter().chain(&POD_FIELDS).any(|known| *known == text);
        if is_field {
            let mut sorted = allowed.to_vec();
            sorted.sort_unstable();
            causes.push(Cause::not_supported(&path.path, text, &sorted));
        } else {
            let problem = format!("error converting fieldPath: field label not supported: {text}");
            causes.push(Cause::invalid(&path.path, text, &problem));
        }
    }
}

fn reference_key(reference: &View<'_>, key: &str, causes: &mut Vec<Cause>) {
    for problem in names::qualified_name(key) {
        causes.push(Cause::invalid(&reference.path, key, &problem));
    }
}

fn check_variable_sources(sources: &View<'_>, causes: &mut Vec<Cause>) {
    for source in sources.items() {
        let prefix = source.field("prefix");
        if !prefix.is_empty() {
            prefix.report(&names::variable(prefix.text()), causes);
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = source.field(name);
            if reference.is_set() {
                count += 1;
                let name = reference.field("name");
                if !name.require(causes) {
                    name.report(&names::subdomain(name.text()), causes);
                }
            }
        }
        match count {
            0 => causes.push(Cause::invalid(&sources.path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => causes.push(Cause::invalid(&sources.path, "", "may not have more than one field specified at a time")),
        }
    }
}

fn check_mounts(mounts: &View<'_>, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let mut points = HashSet::new();
    for mount in mounts.items() {
        let (name, point) = (mount.field("name"), mount.field("mountPath"));
        name.require(causes);
        if !volumes.contains(name.text()) {
            causes.push(Cause::not_found(&name.path, name.text()));
        }
        point.require(causes);
        if !points.insert(point.text()) {
            causes.push(Cause::invalid(&point.path, point.text(), "must be unique"));
        }
        let (part, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        check_relative(part.text(), &mounts.path.field("subPath"), causes);
        if !expression.is_empty() && !part.is_empty() {
            let problem = "subPathExpr and subPath are mutually exclusive";
            causes.push(Cause::invalid(&expression.path, expression.text(), problem));
        }
        check_relative(expression.text(), &mounts.path.field("subPathExpr"), causes);
        let propagation = mount.field("mountPropagation");
        propagation.one_of_if_set(&["Bidirectional", "HostToContainer", "None"], causes);
    }
}

/// Checks a path that must stay below where it starts. Empty is absent.
pub(crate) fn check_relative(text: &str, path: &crate::schema::FieldPath, causes: &mut Vec<Cause>) {
    if text.starts_with('/') {
        causes.push(Cause::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        causes.push(Cause::invalid(path, text, "must not contain '..'"));
    }
}

fn check_resources(resources: &View<'_>, causes: &mut Vec<Cause>) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    for (name, limit) in limits.entries() {
        check_resource_name(name, &limit, causes);
        check_amount(name, &limit, causes);
    }
    for (name, request) in requests.entries() {
        check_resource_name(name, &request, causes);
        check_amount(name, &request, causes);
        let limit = limits.value.get(name).and_then(serde_json::Value::as_str);
        let fixed = is_extended(name) || name.starts_with(HUGE_PAGES);
        match (amount(request.text()), limit, limit.and_then(amount)) {
            (Some(wanted), Some(text), Some(allowed)) if fixed && wanted != allowed => {
                let problem = format!("must be equal to {name} limit of {text}");
                causes.push(Cause::invalid(&requests.path, request.text(), &problem));
            }
            (Some(wanted), Some(text), Some(allowed)) if wanted > allowed => {
                let problem = format!("must be less than or equal to {name} limit of {text}");
                causes.push(Cause::invalid(&requests.path, request.text(), &problem));
            }
            (_, None, _) if fixed => {
                causes.push(Cause::required(&limits.path, "Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
    }
}

fn amount(text: &str) -> Option<Quantity> {
    Quantity::parse(text)
}

/// A resource that some device plugin or administrator defined: `example.com/thing`.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.split('/').next().is_some_and(|domain| domain.ends_with("kubernetes.io"))
}

fn check_resource_name(name: &str, at: &View<'_>, causes: &mut Vec<Cause>) {
    for problem in names::qualified_name(name) {
        causes.push(Cause::invalid(&at.path, name, &problem));
    }
    if !name.contains('/') && !STANDARD_RESOURCES.contains(&name) && !name.starts_with(HUGE_PAGES) {
        if !COUNTED_RESOURCES.contains(&name) {
            causes.push(Cause::invalid(&at.path, name, "must be a standard resource type or fully qualified"));
        }
        causes.push(Cause::invalid(&at.path, name, "must be a standard resource for containers"));
    }
}

fn check_amount(name: &str, at: &View<'_>, causes: &mut Vec<Cause>) {
    let Some(quantity) = amount(at.text()) else { return };
    if quantity.is_negative() {
        causes.push(Cause::invalid(&at.path, at.text(), "must be greater than or equal to 0"));
    }
    if is_extended(name) && !quantity.is_whole() {
        causes.push(Cause::invalid(&at.path, at.text(), "must be an integer"));
    }
}

fn check_security(security: &View<'_>, causes: &mut Vec<Cause>) {
    for name in ["runAsUser", "runAsGroup"] {
        let identifier = security.field(name);
        if identifier.number().is_some_and(|number| !(0..=i64::from(i32::MAX)).contains(&number)) {
            identifier.report(&["must be between 0 and 2147483647, inclusive".to_owned()], causes);
        }
    }
    security.field("procMount").one_of_if_set(&["Default", "Unmasked"], causes);
    let escalation = security.field("allowPrivilegeEscalation");
    if escalation.value == &serde_json::Value::Bool(false) {
        if security.field("privileged").value == &serde_json::Value::Bool(true) {
            let problem = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            causes.push(Cause::invalid(&security.path, security.value.clone(), problem));
        }
        let added = security.field("capabilities").field("add");
        if added.items().any(|capability| capability.text() == "CAP_SYS_ADMIN") {
            let problem = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            causes.push(Cause::invalid(&security.path, security.value.clone(), problem));
        }
    }
    let profile = security.field("seccompProfile").field("type");
    if security.field("seccompProfile").is_set() {
        profile.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], causes);
    }
}
