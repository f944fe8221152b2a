//! Keeps the packet filter and the proxy as the objects say: watches Pods, namespaces, NetworkPolicies, rules by name and
//! the floor, compiles, and applies what changed.

mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use atoll_rt::TaskGroup;
use atoll_sandbox::SandboxDriver;
use atoll_sandbox::launcher::protocol::RefusalKind;
use atoll_sandbox::network::rules::{NetworkRule, NetworkRules, PortRange, Protocol, ProxyPorts};
use futures::future::select_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::credential::placeholder;
use crate::floor::Floor;
use crate::grants::Grants;
use crate::name::NamePattern;
use crate::node_credentials::NodeCredentials;
use crate::policy::{Cluster, Compiled, PodFacts, compile};
use crate::ranges::RangeSet;
use crate::redact::TOKEN_BYTES_MIN;
use crate::rules::{Allow, CredentialRef, RuleSet};
use crate::snapshot::{ActiveAllow, Credential, SandboxPolicy, Snapshot};
use observe::Caches;

/// Where the floor is: who may write ConfigMaps here administers the node.
pub const FLOOR_NAMESPACE: &str = "kube-system";
/// The ConfigMap's name.
pub const FLOOR_NAME: &str = "atoll-egress-floor";
/// The key of what is open; see [`Floor::parse`].
pub const FLOOR_KEY: &str = "open";
/// The Node's condition that tells of the floor.
pub const FLOOR_CONDITION: &str = "atoll.local/EgressFloor";

/// Changes that come together are compiled together.
const SETTLE: Duration = Duration::from_millis(10);
/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Puts rules in force.
#[async_trait]
pub trait Enforcer: Send + Sync + 'static {
    /// Replaces what the sandbox of this id may send and receive.
    ///
    /// # Errors
    /// Why it could not be done; the rules before stay.
    async fn set_network(&self, id: &str, rules: NetworkRules) -> Result<(), NotEnforced>;
}

/// Rules are not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEnforced {
    /// There is no such sandbox (any more, or yet).
    #[error("there is no such sandbox")]
    NoSandbox,
    /// The launcher does not take them; asking again does not help.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

#[async_trait]
impl Enforcer for SandboxDriver {
    async fn set_network(&self, id: &str, rules: NetworkRules) -> Result<(), NotEnforced> {
        Self::set_network(self, id, rules).await.map_err(|error| match error.refusal_kind() {
            Some(RefusalKind::NotFound) => NotEnforced::NoSandbox,
            Some(RefusalKind::Invalid | RefusalKind::Unsupported) => NotEnforced::Refused(atoll_stdx::chain(&error)),
            _ => NotEnforced::Failed(atoll_stdx::chain(&error)),
        })
    }
}

/// What a controller is told.
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// The Node whose Pods these are.
    pub node_name: String,
    /// The machine's own addresses, which no rule opens.
    pub machine_addresses: Vec<Ipv4Addr>,
    /// The proxy that connections to the outside are turned to, if there is one.
    pub proxy: Option<ProxyFeed>,
    /// What is granted for a while.
    pub grants: Grants,
    /// What the administrator gave the node.
    pub credentials: NodeCredentials,
}

/// How the proxy is told.
#[derive(Debug, Clone)]
pub struct ProxyFeed {
    /// Where it listens.
    pub ports: ProxyPorts,
    /// Takes what it is to know.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
}

/// A running controller. Clones share it.
#[derive(Clone)]
pub struct EgressController {
    caches: Caches,
    problems: Arc<Mutex<BTreeSet<String>>>,
}

impl EgressController {
    /// Follows the objects and enforces, in tasks of `group`. Stopping leaves the rules in force.
    pub fn start(client: kube::Client, enforcer: Arc<dyn Enforcer>, config: EgressConfig, group: &TaskGroup) -> Self {
        let caches = Caches::start(&client, &config.node_name, group);
        let problems = Arc::default();
        let worker = Worker {
            client,
            caches: caches.clone(),
            enforcer,
            config,
            applied: BTreeMap::new(),
            told_floor: None,
            problems: Arc::clone(&problems),
        };
        let token = group.token();
        group.spawn("egress-policies", async move {
            let _stopped = token.run_until_cancelled(worker.run()).await;
        });
        Self { caches, problems }
    }

    /// Returns when the first lists are complete.
    pub async fn synced(&self) {
        self.caches.synced().await;
    }

    /// Rules that are not in force, each with the reason.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether requests of a Pod are to be seen within TLS: then it must trust the proxy's certificates.
    pub async fn needs_trust(&self, pod_uid: &str) -> bool {
        let Some((namespace, labels)) = self.caches.labels_of_soon(pod_uid).await else { return false };
        self.caches.rule_sets().iter().any(|((of, _), rules)| {
            let Ok(rules) = rules else { return false };
            *of == namespace && rules.select(&labels) && rules.allow.iter().any(Allow::is_about_requests)
        })
    }
}

/// Addresses that rules allow by themselves: connections to them go to the proxy.
fn turned_addresses(policy: &SandboxPolicy, permitted: &RangeSet) -> Vec<NetworkRule> {
    let rule = |active: &ActiveAllow| {
        let addresses = RangeSet::parse(active.allow.address.as_deref()?).ok()?.intersection(permitted);
        let ports = active.allow.ports.iter().map(|port| PortRange { first: *port, last: *port }).collect();
        let rule = NetworkRule { addresses: addresses.to_rules(), protocol: Some(Protocol::Tcp), ports };
        (active.granted && !addresses.is_empty()).then_some(rule)
    };
    policy.allow.iter().filter_map(rule).collect()
}

struct Worker {
    client: kube::Client,
    caches: Caches,
    enforcer: Arc<dyn Enforcer>,
    config: EgressConfig,
    /// What each sandbox was told last.
    applied: BTreeMap<String, NetworkRules>,
    told_floor: Option<(bool, String)>,
    problems: Arc<Mutex<BTreeSet<String>>>,
}

impl Worker {
    async fn run(mut self) {
        self.caches.synced().await;
        let mut changes = self.caches.changes();
        changes.extend([self.config.grants.changes(), self.config.credentials.changes()]);
        loop {
            for change in &mut changes {
                change.mark_unchanged();
            }
            let settled = self.converge().await;
            let retry = (!settled).then(|| Instant::now() + RETRY);
            let next = [retry, self.config.grants.next_end()].into_iter().flatten().min();
            let wait = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            // The senders live as long as this task: the channels do not close.
            tokio::select! {
                _ = select_all(changes.iter_mut().map(|change| Box::pin(change.changed()))) => {}
                () = wait => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Returns whether everything is as it should be.
    async fn converge(&mut self) -> bool {
        let floor = self.caches.floor(&self.config.machine_addresses);
        let cluster = self.caches.cluster(&floor);
        let mut settled = self.tell_floor(&floor).await;
        let compiled: Vec<Compiled> = cluster.pods.iter().map(|pod| compile(&cluster, pod)).collect();
        let policies = self.policies(&cluster, &compiled);
        let more: Vec<Vec<NetworkRule>> =
            policies.iter().map(|policy| turned_addresses(policy, &floor.permitted_for_names())).collect();
        // The proxy first: who is turned to it is known there then.
        self.tell_proxy(&cluster, policies, &floor);
        for ((pod, compiled), more) in cluster.pods.iter().zip(&compiled).zip(more) {
            settled &= self.enforce(pod, compiled, more).await;
        }
        self.applied.retain(|uid, _| cluster.pods.iter().any(|pod| pod.uid == *uid));
        settled
    }

    /// What each Pod may reach through the proxy.
    fn policies(&self, cluster: &Cluster, compiled: &[Compiled]) -> Vec<SandboxPolicy> {
        let templates = self.caches.templates();
        let mut problems = BTreeSet::new();
        let rule_sets = self.caches.rule_sets();
        for ((namespace, name), rules) in &rule_sets {
            if let Err(problem) = rules {
                problems.insert(format!("configmap {namespace}/{name}: {problem}"));
            }
        }
        let policy = |(pod, compiled): (&PodFacts, &Compiled)| SandboxPolicy {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            template: observe::template_of(pod, &templates),
            run: observe::run_of(pod),
            egress: compiled.rules.egress.clone(),
            resolver: compiled.resolver,
            allow: self.active(pod, &rule_sets, &mut problems),
        };
        let policies = cluster.pods.iter().zip(compiled).map(policy).collect();
        let mut known = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.difference(&known) {
            tracing::warn!(problem, "egress rules are not in force");
        }
        *known = problems;
        policies
    }

    fn tell_proxy(&self, cluster: &Cluster, policies: Vec<SandboxPolicy>, floor: &Floor) {
        let Some(proxy) = &self.config.proxy else { return };
        let by_address = cluster.pods.iter().zip(policies).filter_map(|(pod, policy)| Some((pod.address?, policy)));
        let snapshot = Snapshot {
            sandboxes: by_address.collect(),
            permitted_for_names: floor.permitted_for_names(),
            services: self.caches.services(cluster),
        };
        proxy.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Rules by name that are about a Pod.
    fn active(
        &self,
        pod: &PodFacts,
        rule_sets: &BTreeMap<(String, String), Result<RuleSet, String>>,
        problems: &mut BTreeSet<String>,
    ) -> Vec<ActiveAllow> {
        let mut found = Vec::new();
        for ((namespace, name), rules) in rule_sets {
            let Ok(rules) = rules else { continue };
            if *namespace != pod.namespace || !rules.select(&pod.labels) {
                continue;
            }
            for (place, allow) in (1..).zip(&rules.allow) {
                let rule = format!("configmap/{namespace}/{name}#{place}");
                let credential = allow.credential.as_ref().map(|wanted| self.credential(pod, allow, wanted));
                if credential.as_ref().is_some_and(|credential| credential.token.is_none()) {
                    problems.insert(format!("{rule}: its credential cannot be had, or is not for this host"));
                }
                let granted =
                    !allow.on_approval || self.config.grants.holds(&pod.namespace, &pod.name, &allow.called());
                found.push(ActiveAllow { rule, granted, credential, allow: allow.clone() });
            }
        }
        found
    }

    fn credential(&self, pod: &PodFacts, allow: &Allow, wanted: &CredentialRef) -> Credential {
        let of_secret = |name: &String| self.caches.secret(&pod.namespace, name, &wanted.key);
        let of_node = |name: &String| {
            let host = allow.name.as_ref().and_then(NamePattern::exact)?;
            self.config.credentials.token(name, host)
        };
        let (name, token) = match (&wanted.secret, &wanted.node) {
            (Some(name), _) => (name, of_secret(name)),
            (None, Some(name)) => (name, of_node(name)),
            (None, None) => return Credential { placeholder: String::new(), token: None },
        };
        // Shorter ones could not be taken out of answers.
        let token = token.filter(|token| token.expose().len() >= TOKEN_BYTES_MIN);
        Credential { placeholder: placeholder(name), token }
    }

    async fn enforce(&mut self, pod: &PodFacts, compiled: &Compiled, more: Vec<NetworkRule>) -> bool {
        let rules = compiled.through(self.config.proxy.as_ref().map(|proxy| proxy.ports), more);
        let before = self.applied.get(&pod.uid);
        if before == Some(&rules) || (before.is_none() && rules == NetworkRules::default()) {
            return true;
        }
        match self.enforcer.set_network(&pod.uid, rules.clone()).await {
            Ok(()) => {
                self.applied.insert(pod.uid.clone(), rules);
                true
            }
            Err(NotEnforced::NoSandbox) => false,
            Err(NotEnforced::Refused(why)) => {
                tracing::error!(
                    pod = pod.name,
                    namespace = pod.namespace,
                    why,
                    "network rules are refused: it may nothing"
                );
                let closed = self.enforcer.set_network(&pod.uid, NetworkRules::default()).await.is_ok();
                // So that the same rules are not tried again and again.
                self.applied.insert(pod.uid.clone(), rules);
                closed
            }
            Err(NotEnforced::Failed(why)) => {
                tracing::warn!(pod = pod.name, namespace = pod.namespace, why, "network rules are not in force yet");
                false
            }
        }
    }

    /// Tells of the floor in the Node's conditions.
    async fn tell_floor(&mut self, floor: &Floor) -> bool {
        let now = (floor.is_closed(), floor.describe());
        if self.told_floor.as_ref() == Some(&now) {
            return true;
        }
        let (status, reason) = if now.0 { ("True", "Closed") } else { ("False", "Opened") };
        let patch = json!({"status": {"conditions": [{
            "type": FLOOR_CONDITION, "status": status, "reason": reason, "message": now.1,
            "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let written =
            nodes.patch_status(&self.config.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        match written {
            Ok(_) => self.told_floor = Some(now),
            Err(error) => tracing::debug!(error = atoll_stdx::chain(&error), "the floor's condition is not written"),
        }
        self.told_floor.is_some()
    }
}
