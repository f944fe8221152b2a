//! The checks of the two levels, in the order in which their findings are listed. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Demand, Level};

/// One thing that a level forbids and a Pod has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Allowed since some minor version.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SELINUX_TYPES: &[(&str, u32)] =
    &[("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A Pod, and how new the rules are.
struct Subject<'a> {
    pod: &'a Value,
    minor: u32,
}

/// Everything that a demand forbids in a Pod.
pub(super) fn run(demand: Demand, pod: &Value) -> Vec<Violation> {
    let subject = Subject { pod, minor: demand.minor.unwrap_or(u32::MAX) };
    let restricted = demand.level == Level::Restricted;
    if demand.level == Level::Privileged {
        return Vec::new();
    }
    let mut found = Vec::new();
    found.extend(subject.apparmor());
    // The restricted level has stricter checks in place of these three.
    if !(restricted && subject.minor >= 22) {
        found.extend(subject.added_capabilities());
    }
    found.extend(subject.host_namespaces());
    if !restricted {
        found.extend(subject.host_paths());
    }
    found.extend(subject.host_ports());
    found.extend(subject.probe_hosts());
    found.extend(subject.privileged());
    found.extend(subject.proc_mount());
    found.extend(subject.selinux());
    if !(restricted && subject.minor >= 19) {
        found.extend(subject.seccomp(false));
    }
    found.extend(subject.sysctls());
    found.extend(subject.windows_host_process());
    if restricted {
        found.extend(subject.privilege_escalation());
        found.extend(subject.capabilities());
        found.extend(subject.volumes());
        found.extend(subject.run_as_non_root());
        found.extend(subject.run_as_user());
        if subject.minor >= 19 {
            found.extend(subject.seccomp(true));
        }
    }
    found
}

/// The containers that set something bad, and what they set.
#[derive(Default)]
struct Bad {
    pod: bool,
    containers: Vec<String>,
    values: BTreeSet<String>,
}

impl Bad {
    fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    /// `pod and containers "a", "b"`.
    fn setters(&self) -> String {
        let pod = self.pod.then(|| "pod".to_owned());
        let containers = (!self.containers.is_empty()).then(|| named("container", &self.containers));
        pod.into_iter().chain(containers).collect::<Vec<_>>().join(" and ")
    }

    fn values(&self) -> Vec<String> {
        self.values.iter().cloned().collect()
    }
}

/// `container "a"`, `containers "a", "b"`.
fn named(noun: &str, names: &[String]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

fn plural(noun: &str, count: usize) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

impl<'a> Subject<'a> {
    fn spec(&self) -> &'a Value {
        &self.pod["spec"]
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec();
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| spec[list].as_array().into_iter().flatten())
    }

    fn is_windows(&self) -> bool {
        self.minor >= 25 && self.spec()["os"]["name"] == "windows"
    }

    /// The containers of which something holds.
    fn bad_containers(&self, bad: impl Fn(&Value) -> bool) -> Vec<String> {
        self.containers().filter(|it| bad(it)).map(|it| text(&it["name"]).to_owned()).collect()
    }

    /// The security contexts, the Pod's and its containers', in which something bad is set; `bad` gives the bad value.
    fn bad_contexts(&self, bad: impl Fn(&Value) -> Option<String>) -> Bad {
        let mut found = Bad::default();
        if let Some(value) = bad(&self.spec()["securityContext"]) {
            found.pod = true;
            found.values.insert(value);
        }
        for container in self.containers() {
            if let Some(value) = bad(&container["securityContext"]) {
                found.containers.push(text(&container["name"]).to_owned());
                found.values.insert(value);
            }
        }
        found
    }

    fn apparmor(&self) -> Option<Violation> {
        let found = self.bad_contexts(|context| {
            let profile = &context["appArmorProfile"];
            let kind = text(&profile["type"]);
            (profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
        });
        let annotations = self.pod["metadata"]["annotations"].as_object().into_iter().flatten();
        let mut annotations: Vec<String> = annotations
            .filter(|(name, _)| name.starts_with(APPARMOR_ANNOTATION))
            .map(|(name, value)| (name, text(value)))
            .filter(|(_, value)| !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/"))
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        annotations.sort();
        if found.is_empty() && annotations.is_empty() {
            return None;
        }
        let setters = (!found.is_empty()).then(|| found.setters());
        let annotated = (!annotations.is_empty()).then(|| plural("annotation", annotations.len()));
        let setters = setters.into_iter().chain(annotated).collect::<Vec<_>>().join(" and ");
        let mut values = found.values();
        values.append(&mut annotations);
        let reason = if values.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
        violation(reason, format!("{setters} must not set AppArmor profile type to {}", quoted(&values)))
    }

    fn added_capabilities(&self) -> Option<Violation> {
        let mut values = BTreeSet::new();
        let mut containers = Vec::new();
        for container in self.containers() {
            let added = texts(&container["securityContext"]["capabilities"]["add"]);
            let bad: Vec<&str> = added.filter(|name| !CAPABILITIES.contains(name)).collect();
            if !bad.is_empty() {
                containers.push(text(&container["name"]).to_owned());
                values.extend(bad.into_iter().map(str::to_owned));
            }
        }
        if containers.is_empty() {
            return None;
        }
        let values: Vec<String> = values.into_iter().collect();
        let containers = named("container", &containers);
        let detail = format!("{containers} must not include {} in securityContext.capabilities.add", quoted(&values));
        violation("non-default capabilities", detail)
    }

    fn host_namespaces(&self) -> Option<Violation> {
        let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| self.spec()[*name] == true);
        let shared: Vec<String> = shared.map(|name| format!("{name}=true")).collect();
        if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
    }

    fn host_paths(&self) -> Option<Violation> {
        let volumes = self.spec()["volumes"].as_array().into_iter().flatten();
        let volumes = volumes.filter(|volume| !volume["hostPath"].is_null());
        let names: Vec<String> = volumes.map(|volume| text(&volume["name"]).to_owned()).collect();
        if names.is_empty() { None } else { violation("hostPath volumes", named("volume", &names)) }
    }

    fn host_ports(&self) -> Option<Violation> {
        let ports_of = |container: &Value| -> Vec<String> {
            let ports = container["ports"].as_array().into_iter().flatten();
            ports.filter_map(|port| port["hostPort"].as_i64()).filter(|it| *it != 0).map(|it| it.to_string()).collect()
        };
        let containers = self.bad_containers(|container| !ports_of(container).is_empty());
        if containers.is_empty() {
            return None;
        }
        let ports: BTreeSet<String> = self.containers().flat_map(ports_of).collect();
        let detail = format!(
            "{} {} {} {}",
            named("container", &containers),
            uses(containers.len()),
            plural("hostPort", ports.len()),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        );
        violation("hostPort", detail)
    }

    fn probe_hosts(&self) -> Option<Violation> {
        let hosts_of = |container: &Value| -> Vec<String> {
            let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|name| &container[name]);
            let hooks = ["postStart", "preStop"].map(|name| &container["lifecycle"][name]);
            let handlers = probes.into_iter().chain(hooks);
            let hosts = handlers.flat_map(|it| [text(&it["httpGet"]["host"]), text(&it["tcpSocket"]["host"])]);
            hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
        };
        if self.minor < 34 {
            return None;
        }
        let mut containers = self.bad_containers(|container| !hosts_of(container).is_empty());
        containers.sort();
        if containers.is_empty() {
            return None;
        }
        let hosts: BTreeSet<String> = self.containers().flat_map(hosts_of).collect();
        let hosts: Vec<String> = hosts.into_iter().collect();
        let noun = plural("probe or lifecycle host", hosts.len());
        let detail =
            format!("{} {} {noun} {}", named("container", &containers), uses(containers.len()), quoted(&hosts));
        violation("probe or lifecycle host", detail)
    }

    fn privileged(&self) -> Option<Violation> {
        let containers = self.bad_containers(|container| container["securityContext"]["privileged"] == true);
        if containers.is_empty() {
            return None;
        }
        let detail = format!("{} must not set securityContext.privileged=true", named("container", &containers));
        violation("privileged", detail)
    }

    fn proc_mount(&self) -> Option<Violation> {
        let mut found = self.bad_contexts(|context| {
            let mount = context["procMount"].as_str()?;
            (mount != "Default").then(|| mount.to_owned())
        });
        found.pod = false;
        if found.is_empty() {
            return None;
        }
        let detail =
            format!("{} must not set securityContext.procMount to {}", found.setters(), quoted(&found.values()));
        violation("procMount", detail)
    }

    fn selinux(&self) -> Option<Violation> {
        let allowed = |kind: &str| SELINUX_TYPES.iter().any(|(own, since)| *own == kind && *since <= self.minor);
        let options = |context: &Value| context["seLinuxOptions"].clone();
        let bad = |options: &Value| {
            !allowed(text(&options["type"])) || !text(&options["user"]).is_empty() || !text(&options["role"]).is_empty()
        };
        let found = self.bad_contexts(|context| bad(&options(context)).then(|| options(context).to_string()));
        if found.is_empty() {
            return None;
        }
        let contexts = self.containers().chain([self.spec()]).map(|it| options(&it["securityContext"]));
        let contexts: Vec<Value> = contexts.filter(|options| bad(options)).collect();
        let types: BTreeSet<String> =
            contexts.iter().map(|it| text(&it["type"]).to_owned()).filter(|it| !allowed(it)).collect();
        let types: Vec<String> = types.into_iter().collect();
        let mut data = Vec::new();
        if !types.is_empty() {
            data.push(named("type", &types));
        }
        for name in ["user", "role"] {
            if contexts.iter().any(|it| !text(&it[name]).is_empty()) {
                data.push(format!("{name} may not be set"));
            }
        }
        let detail = format!("{} set forbidden securityContext.seLinuxOptions: {}", found.setters(), data.join("; "));
        violation("seLinuxOptions", detail)
    }

    /// `wanted`: a profile must be set (the restricted level), else only no bad one.
    fn seccomp(&self, wanted: bool) -> Option<Violation> {
        if wanted && self.is_windows() {
            return None;
        }
        let good = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
        let found = self.bad_contexts(|context| {
            let profile = &context["seccompProfile"];
            let kind = text(&profile["type"]);
            (profile.is_object() && !good(kind)).then(|| kind.to_owned())
        });
        if !found.is_empty() {
            let (setters, values) = (found.setters(), quoted(&found.values()));
            let detail = format!("{setters} must not set securityContext.seccompProfile.type to {values}");
            return violation("seccompProfile", detail);
        }
        let pod_has = self.spec()["securityContext"]["seccompProfile"].is_object();
        let missing =
            self.bad_containers(|container| !pod_has && !container["securityContext"]["seccompProfile"].is_object());
        if !wanted || missing.is_empty() {
            return None;
        }
        let containers = named("container", &missing);
        let detail = format!(
            "pod or {containers} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        );
        violation("seccompProfile", detail)
    }

    fn sysctls(&self) -> Option<Violation> {
        let allowed = |name: &str| SYSCTLS.iter().any(|(own, since)| *own == name && *since <= self.minor);
        let set = self.spec()["securityContext"]["sysctls"].as_array().into_iter().flatten();
        let bad: Vec<&str> = set.map(|sysctl| text(&sysctl["name"])).filter(|name| !allowed(name)).collect();
        if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
    }

    fn windows_host_process(&self) -> Option<Violation> {
        let found = self.bad_contexts(|context| (context["windowsOptions"]["hostProcess"] == true).then(String::new));
        if found.is_empty() {
            return None;
        }
        let detail = format!("{} must not set securityContext.windowsOptions.hostProcess=true", found.setters());
        violation("hostProcess", detail)
    }

    fn privilege_escalation(&self) -> Option<Violation> {
        if self.minor < 8 || self.is_windows() {
            return None;
        }
        let containers =
            self.bad_containers(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
        if containers.is_empty() {
            return None;
        }
        let containers = named("container", &containers);
        let detail = format!("{containers} must set securityContext.allowPrivilegeEscalation=false");
        violation("allowPrivilegeEscalation != false", detail)
    }

    fn capabilities(&self) -> Option<Violation> {
        if self.minor < 22 || self.is_windows() {
            return None;
        }
        let capabilities = |container: &Value| container["securityContext"]["capabilities"].clone();
        let keeping = self.bad_containers(|container| !texts(&capabilities(container)["drop"]).any(|it| it == "ALL"));
        let extra = |container: &Value| -> Vec<String> {
            let added = capabilities(container);
            texts(&added["add"]).filter(|name| *name != "NET_BIND_SERVICE").map(str::to_owned).collect()
        };
        let adding = self.bad_containers(|container| !extra(container).is_empty());
        let mut details = Vec::new();
        if !keeping.is_empty() {
            let containers = named("container", &keeping);
            details.push(format!("{containers} must set securityContext.capabilities.drop=[\"ALL\"]"));
        }
        if !adding.is_empty() {
            let values: BTreeSet<String> = self.containers().flat_map(extra).collect();
            let values = quoted(&values.into_iter().collect::<Vec<_>>());
            let containers = named("container", &adding);
            details.push(format!("{containers} must not include {values} in securityContext.capabilities.add"));
        }
        if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
    }

    fn volumes(&self) -> Option<Violation> {
        let volumes = self.spec()["volumes"].as_array().into_iter().flatten();
        let kind = |volume: &Value| {
            let members = volume.as_object().into_iter().flatten();
            members.map(|(name, _)| name.clone()).find(|name| name != "name").unwrap_or_else(|| "unknown".to_owned())
        };
        let bad = volumes.filter(|volume| !VOLUMES.contains(&kind(volume).as_str()));
        let bad: Vec<(String, String)> = bad.map(|it| (text(&it["name"]).to_owned(), kind(it))).collect();
        if bad.is_empty() {
            return None;
        }
        let (names, kinds): (Vec<String>, BTreeSet<String>) = bad.into_iter().unzip();
        let kinds: Vec<String> = kinds.into_iter().collect();
        let noun = plural("restricted volume type", kinds.len());
        let detail = format!("{} {} {noun} {}", named("volume", &names), uses(names.len()), quoted(&kinds));
        violation("restricted volume types", detail)
    }

    fn run_as_non_root(&self) -> Option<Violation> {
        const REASON: &str = "runAsNonRoot != true";
        let found = self.bad_contexts(|context| (context["runAsNonRoot"] == false).then(String::new));
        if !found.is_empty() {
            return violation(REASON, format!("{} must not set securityContext.runAsNonRoot=false", found.setters()));
        }
        let pod_says = self.spec()["securityContext"]["runAsNonRoot"] == true;
        let missing =
            self.bad_containers(|container| !pod_says && container["securityContext"]["runAsNonRoot"].is_null());
        if missing.is_empty() {
            return None;
        }
        let containers = named("container", &missing);
        violation(REASON, format!("pod or {containers} must set securityContext.runAsNonRoot=true"))
    }

    fn run_as_user(&self) -> Option<Violation> {
        let found = self.bad_contexts(|context| (context["runAsUser"] == 0).then(String::new));
        if self.minor < 23 || found.is_empty() {
            return None;
        }
        violation("runAsUser=0", format!("{} must not set runAsUser=0", found.setters()))
    }
}

#[cfg(test)]
mod tests;
