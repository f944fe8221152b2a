//! The headless Service of a Sandbox: made, kept or deleted as `spec.service` says.

use std::collections::{BTreeMap, BTreeSet};

use atoll_api::{Sandbox, labels};
use k8s_openapi::api::core::v1::{Container, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::caches::{name_of, namespace_of};
use crate::owner::{controller_of, controller_reference, is_controlled_by, is_terminating, label};
use crate::sandbox::children::{Problem, adopt, is_adoptable, name_label, not_adoptable, owned_by_other};
use crate::write::{NewObject, Target, Write};

const HEADLESS: &str = "None";
const DEFAULT_PROTOCOL: &str = "TCP";

/// What is to be done for the Service, and whether there is one that counts.
#[derive(Debug, Default)]
pub(crate) struct ServicePlan {
    pub(crate) write: Option<Write>,
    pub(crate) problem: Option<Problem>,
    pub(crate) exists: bool,
}

/// `present` is the Service that has the Sandbox's name, whoever's it is.
pub(crate) fn plan(sandbox: &Sandbox, present: Option<&Service>) -> ServicePlan {
    let owned = present.filter(|service| is_controlled_by(&service.metadata, sandbox));
    match (sandbox.spec.service, owned, present) {
        (Some(false), Some(service), _) => ServicePlan {
            write: (!is_terminating(&service.metadata)).then(|| Write::delete(service)),
            ..ServicePlan::default()
        },
        (Some(false) | None, None, _) => ServicePlan::default(),
        (wanted, Some(service), _) => {
            ServicePlan { write: repair(sandbox, service, wanted == Some(true)), problem: None, exists: true }
        }
        (Some(true), None, None) => ServicePlan {
            write: Some(Write::Create(NewObject::Service(Box::new(new_service(sandbox))))),
            ..ServicePlan::default()
        },
        (Some(true), None, Some(service)) => take_over(sandbox, service),
    }
}

fn take_over(sandbox: &Sandbox, service: &Service) -> ServicePlan {
    let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    let problem = if controller_of(&service.metadata).is_some() {
        owned_by_other(service, sandbox)
    } else if !is_adoptable(&service.metadata, sandbox) {
        not_adoptable(service)
    } else if !matches!(cluster_ip, "" | HEADLESS) {
        Problem::NotOurs(format!(
            "cannot adopt service {:?}: ClusterIP is {cluster_ip:?} (expected {HEADLESS:?}, field is immutable)",
            name_of(service)
        ))
    } else {
        return ServicePlan { write: Some(adopt(service, sandbox)), problem: None, exists: true };
    };
    ServicePlan { problem: Some(problem), ..ServicePlan::default() }
}

fn new_service(sandbox: &Sandbox) -> Service {
    let selector = selector(sandbox);
    let ports = ports(sandbox);
    Service {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(sandbox).to_owned()),
            name: Some(name_of(sandbox).to_owned()),
            labels: Some(selector.clone()),
            owner_references: Some(vec![controller_reference(sandbox)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(HEADLESS.to_owned()),
            selector: Some(selector),
            ports: (!ports.is_empty()).then_some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Selector and label are always put right, ports only where the Service was asked for.
fn repair(sandbox: &Sandbox, service: &Service, with_ports: bool) -> Option<Write> {
    if is_terminating(&service.metadata) {
        return None;
    }
    let wanted = selector(sandbox);
    let spec = service.spec.as_ref();
    let mut patch = json!({});
    if label(&service.metadata, labels::SANDBOX_NAME_HASH) != wanted.get(labels::SANDBOX_NAME_HASH).map(String::as_str)
    {
        patch["metadata"]["labels"] = json!(wanted);
    }
    let present = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if present != wanted {
        let removed = present.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), json!(null)));
        let kept = wanted.iter().map(|(key, value)| (key.clone(), json!(value)));
        patch["spec"]["selector"] = removed.chain(kept).collect();
    }
    if with_ports {
        let wanted = ports(sandbox);
        let present = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        if !same_ports(&wanted, present) {
            patch["spec"]["ports"] = json!(wanted);
        }
    }
    (patch != json!({})).then(|| Write::Merge { target: Target::of(service), patch })
}

fn selector(sandbox: &Sandbox) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::SANDBOX_NAME_HASH.to_owned(), name_label(sandbox))])
}

fn same_ports(wanted: &[ServicePort], present: &[ServicePort]) -> bool {
    let essence = |port: &ServicePort| {
        (
            port.port,
            port.protocol.clone().unwrap_or_else(|| DEFAULT_PROTOCOL.to_owned()),
            port.name.clone().unwrap_or_default(),
            port.target_port.clone().unwrap_or(IntOrString::Int(port.port)),
        )
    };
    wanted.len() == present.len() && wanted.iter().map(essence).eq(present.iter().map(essence))
}

/// The ports of all long-running containers, each pair of number and protocol once, in order.
fn ports(sandbox: &Sandbox) -> Vec<ServicePort> {
    let pod = &sandbox.spec.pod_template.spec;
    let sidecars =
        pod.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut found: BTreeMap<(i32, String), Option<String>> = BTreeMap::new();
    for port in pod.containers.iter().chain(sidecars).flat_map(container_ports) {
        let protocol = port.protocol.clone().unwrap_or_else(|| DEFAULT_PROTOCOL.to_owned());
        found.entry((port.container_port, protocol)).or_insert_with(|| port.name.clone());
    }
    let mut names = BTreeSet::new();
    found
        .into_iter()
        .map(|((number, protocol), name)| {
            let base = name.filter(|name| !name.is_empty());
            let base = base.unwrap_or_else(|| format!("p-{number}-{}", protocol.to_lowercase()));
            let name = std::iter::once(base.clone())
                .chain((2_u32..).map(|suffix| format!("{base}-{suffix}")))
                .find(|name| !names.contains(name))
                .expect("suffixes do not run out");
            names.insert(name.clone());
            ServicePort {
                name: Some(name),
                port: number,
                protocol: Some(protocol),
                target_port: Some(IntOrString::Int(number)),
                ..ServicePort::default()
            }
        })
        .collect()
}

fn container_ports(container: &Container) -> impl Iterator<Item = &k8s_openapi::api::core::v1::ContainerPort> {
    container.ports.iter().flatten()
}
