//! What the objects say, as values.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::SandboxTemplate;
use atoll_client::{Cache, ObjectKey};
use atoll_rt::TaskGroup;
use atoll_sandbox::network::rules::Protocol;
use atoll_sandbox::spec::{POD_NETWORK, ROUTER_ADDRESS};
use atoll_stdx::{Secret as Hidden, name_hash};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::runtime::watcher;
use tokio::sync::watch;

use super::{FLOOR_KEY, FLOOR_NAME, FLOOR_NAMESPACE};
use crate::floor::Floor;
use crate::name::HostName;
use crate::policy::{Cluster, NamedPort, PodFacts};
use crate::rules::{RULES_KEY, RULES_LABEL, RuleSet, TEMPLATE_LABEL};
use crate::selector::Labels;

/// On Pods of agents: the run that they work for.
const RUN_LABEL: &str = "atoll.dev/run";

/// How long the news of a Pod may take from the node to here.
const NEW_POD_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that is followed.
#[derive(Clone)]
pub(super) struct Caches {
    pods: Cache<Pod>,
    namespaces: Cache<Namespace>,
    policies: Cache<NetworkPolicy>,
    floor: Cache<ConfigMap>,
    rules: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    services: Cache<Service>,
    templates: Cache<SandboxTemplate>,
}

fn by_uid(pod: &Pod) -> Vec<String> {
    pod.metadata.uid.clone().into_iter().collect()
}

impl Caches {
    pub(super) fn start(client: &kube::Client, node_name: &str, group: &TaskGroup) -> Self {
        let floor = watcher::Config::default().fields(&format!("metadata.name={FLOOR_NAME}"));
        let rules = watcher::Config::default().labels(&format!("{}={}", RULES_LABEL.0, RULES_LABEL.1));
        Self {
            pods: Cache::builder()
                .index(by_uid)
                .config(watcher::Config::default().fields(&format!("spec.nodeName={node_name}")))
                .start(Api::all(client.clone()), group),
            namespaces: Cache::builder().start(Api::all(client.clone()), group),
            policies: Cache::builder().start(Api::all(client.clone()), group),
            floor: Cache::builder().config(floor).start(Api::namespaced(client.clone(), FLOOR_NAMESPACE), group),
            rules: Cache::builder().config(rules).start(Api::all(client.clone()), group),
            secrets: Cache::builder().start(Api::all(client.clone()), group),
            services: Cache::builder().start(Api::all(client.clone()), group),
            templates: Cache::builder().start(Api::all(client.clone()), group),
        }
    }

    pub(super) async fn synced(&self) {
        self.pods.synced().await;
        self.namespaces.synced().await;
        self.policies.synced().await;
        self.floor.synced().await;
        self.rules.synced().await;
        self.secrets.synced().await;
        self.services.synced().await;
        self.templates.synced().await;
    }

    pub(super) fn changes(&self) -> Vec<watch::Receiver<u64>> {
        vec![
            self.pods.subscribe(),
            self.namespaces.subscribe(),
            self.policies.subscribe(),
            self.floor.subscribe(),
            self.rules.subscribe(),
            self.secrets.subscribe(),
            self.services.subscribe(),
            self.templates.subscribe(),
        ]
    }

    /// The floor; closed where it cannot be read.
    pub(super) fn floor(&self, machine: &[Ipv4Addr]) -> Floor {
        let objects = self.floor.all();
        let text = objects.first().and_then(|object| object.data.as_ref()?.get(FLOOR_KEY)).map_or("", String::as_str);
        Floor::parse(text, machine).unwrap_or_else(|error| {
            tracing::warn!(error = atoll_stdx::chain(&error), "the egress floor cannot be read and is closed");
            Floor::parse("", machine).expect("nothing is a floor")
        })
    }

    pub(super) fn cluster(&self, floor: &Floor) -> Cluster {
        let named = |namespace: Arc<Namespace>| {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            (namespace.metadata.name.clone().unwrap_or_default(), labels)
        };
        Cluster {
            pods: self.pods.all().iter().filter_map(|pod| facts(pod)).collect(),
            namespaces: self.namespaces.all().into_iter().map(named).collect(),
            policies: self.policies.all(),
            permitted: floor.permitted(),
        }
    }

    /// Rules by name, by where they are written; those that are not understood with the reason.
    pub(super) fn rule_sets(&self) -> BTreeMap<(String, String), Result<RuleSet, String>> {
        let parse = |object: Arc<ConfigMap>| {
            let text = object.data.as_ref().and_then(|data| data.get(RULES_KEY)).cloned();
            let rules = match text {
                Some(text) => RuleSet::parse(&text).map_err(|error| error.to_string()),
                None => Err(format!("it has no key {RULES_KEY}")),
            };
            let metadata = &object.metadata;
            ((metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default()), rules)
        };
        self.rules.all().into_iter().map(parse).collect()
    }

    /// Addresses of Services' Pods, by their full names.
    pub(super) fn services(&self, cluster: &Cluster) -> BTreeMap<HostName, Vec<Ipv4Addr>> {
        let mut found = BTreeMap::new();
        for service in self.services.all() {
            let metadata = &service.metadata;
            let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else { continue };
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|map| !map.is_empty());
            let (Some(selector), Ok(host)) =
                (selector, HostName::parse(&format!("{name}.{namespace}.svc.cluster.local")))
            else {
                continue;
            };
            let has = |labels: &Labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            let pods = cluster.pods.iter().filter(|pod| pod.namespace == *namespace && has(&pod.labels));
            found.insert(host, pods.filter_map(|pod| pod.address).collect());
        }
        found
    }

    /// The names of templates by their hashes.
    pub(super) fn templates(&self) -> BTreeMap<String, String> {
        let names = self.templates.all().into_iter().filter_map(|template| template.metadata.name.clone());
        names.map(|name| (name_hash(&name), name)).collect()
    }

    /// What a Secret holds under a key.
    pub(super) fn secret(&self, namespace: &str, name: &str, key: &str) -> Option<Hidden<String>> {
        let secret = self.secrets.get(&ObjectKey::new(namespace, name))?;
        let text = String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()?;
        Some(Hidden::new(text.trim().to_owned()))
    }

    /// Namespace and labels of a Pod, which may be so new that it was not heard of here yet.
    pub(super) async fn labels_of_soon(&self, uid: &str) -> Option<(String, Labels)> {
        let mut changes = self.pods.subscribe();
        let heard = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.labels_of(uid) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(NEW_POD_TIMEOUT, heard).await.ok().flatten()
    }

    fn labels_of(&self, uid: &str) -> Option<(String, Labels)> {
        let pod = self.pods.find(0, uid).into_iter().next()?;
        Some((pod.metadata.namespace.clone()?, pod.metadata.labels.clone().unwrap_or_default()))
    }
}

/// The template that a Pod was made from.
pub(super) fn template_of(pod: &PodFacts, templates: &BTreeMap<String, String>) -> Option<String> {
    pod.labels.get(TEMPLATE_LABEL).and_then(|hash| templates.get(hash)).cloned()
}

/// The run that a Pod works for.
pub(super) fn run_of(pod: &PodFacts) -> Option<String> {
    pod.labels.get(RUN_LABEL).cloned()
}

/// A Pod that runs; `None` for one without an address, or at its end: its address may be another's soon.
fn facts(pod: &Pod) -> Option<PodFacts> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let address: Ipv4Addr = status.pod_ip.as_deref()?.parse().ok()?;
    // Pods of the machine itself are no sandboxes.
    if address.octets()[..2] != POD_NETWORK.octets()[..2] || address == ROUTER_ADDRESS {
        return None;
    }
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let ports = containers.iter().flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        let number = u16::try_from(port.container_port).ok()?;
        Some(NamedPort { name: port.name.clone()?, protocol, number })
    });
    Some(PodFacts {
        uid: pod.metadata.uid.clone()?,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        address: Some(address),
        ports: ports.collect(),
    })
}
