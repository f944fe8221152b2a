//! Keeps the routes equal to what the API server has.

use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use atoll_api::{Sandbox, annotations, labels};
use atoll_rt::TaskGroup;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde::Deserialize;
use tokio::sync::watch;

use crate::routes::{PodFacts, Resolution, Routes, SandboxFacts};

/// How long the first lists may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// The parts of a Sandbox that routing needs; the rest is not even parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxSpecView {
    operating_mode: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct StatusView {
    #[serde(default)]
    conditions: Vec<ConditionView>,
    phase: Option<String>,
    #[serde(rename = "podIPs", default)]
    pod_ips: Vec<PodIpView>,
}

#[derive(Debug, Clone, Deserialize)]
struct ConditionView {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// On a Pod an object, on a Sandbox a plain text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum PodIpView {
    Object { ip: String },
    Text(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Ignored {}

pub(crate) type SandboxView = kube::core::Object<SandboxSpecView, StatusView>;
pub(crate) type PodView = kube::core::Object<Ignored, StatusView>;

impl StatusView {
    fn is_true(&self, kind: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
    }
}

/// The routes, and a number that changes whenever they do.
#[derive(Clone)]
pub(crate) struct SharedRoutes {
    routes: Arc<RwLock<Routes>>,
    changed: watch::Sender<u64>,
}

impl SharedRoutes {
    pub(crate) fn new(routes: Routes) -> Self {
        Self { routes: Arc::new(RwLock::new(routes)), changed: watch::Sender::new(0) }
    }

    pub(crate) fn resolve(&self, namespace: &str, name: &str, uid: Option<&str>) -> Resolution {
        self.read(|routes| routes.resolve(namespace, name, uid))
    }

    pub(crate) fn had_address(&self, namespace: &str, name: &str, address: IpAddr) -> bool {
        self.read(|routes| routes.had_address(namespace, name, address))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Routes)) {
        change(&mut self.routes.write().expect("no holder of the routes' lock panics"));
        self.changed.send_modify(|version| *version += 1);
    }

    fn read<T>(&self, question: impl FnOnce(&Routes) -> T) -> T {
        question(&self.routes.read().expect("no holder of the routes' lock panics"))
    }
}

/// Starts the two watches and waits for their first complete lists. Returns whether they came in time.
pub(crate) async fn start(client: &kube::Client, routes: &SharedRoutes, group: &TaskGroup) -> bool {
    let sandboxes: Api<SandboxView> = Api::all_with(client.clone(), &sandbox_resource());
    let sandbox_events = watcher(sandboxes, watcher::Config::default()).default_backoff();
    let pods: Api<PodView> = Api::all_with(client.clone(), &ApiResource::erase::<Pod>(&()));
    let pod_config = watcher::Config::default().labels(labels::SANDBOX_NAME_HASH);
    let pod_events = watcher(pods, pod_config).default_backoff();

    let (sandboxes_synced, mut sandboxes_wait) = watch::channel(false);
    let (pods_synced, mut pods_wait) = watch::channel(false);
    let token = group.token();
    let shared = routes.clone();
    group.spawn("router-sandbox-watch", async move {
        let follow = follow_sandboxes(sandbox_events, shared, sandboxes_synced);
        let _stopped = token.run_until_cancelled(follow).await;
    });
    let token = group.token();
    let shared = routes.clone();
    group.spawn("router-pod-watch", async move {
        let follow = follow_pods(pod_events, shared, pods_synced);
        let _stopped = token.run_until_cancelled(follow).await;
    });
    let both = async {
        let sandboxes = sandboxes_wait.wait_for(|synced| *synced).await.is_ok();
        let pods = pods_wait.wait_for(|synced| *synced).await.is_ok();
        sandboxes && pods
    };
    tokio::time::timeout(SYNC_TIMEOUT, both).await.unwrap_or(false)
}

pub(crate) fn sandbox_resource() -> ApiResource {
    ApiResource::erase::<Sandbox>(&())
}

async fn follow_sandboxes<S>(events: S, routes: SharedRoutes, synced: watch::Sender<bool>)
where
    S: Stream<Item = Result<Event<SandboxView>, watcher::Error>>,
{
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(sandbox)) => listed.extend(sandbox_facts(&sandbox)),
            Ok(Event::InitDone) => {
                let all = std::mem::take(&mut listed);
                routes.update(|routes| routes.replace_sandboxes(all));
                synced.send_replace(true);
            }
            Ok(Event::Apply(sandbox)) => {
                if let Some(facts) = sandbox_facts(&sandbox) {
                    routes.update(|routes| routes.apply_sandbox(facts));
                }
            }
            Ok(Event::Delete(sandbox)) => {
                if let Some(facts) = sandbox_facts(&sandbox) {
                    routes.update(|routes| routes.delete_sandbox(&facts.namespace, &facts.name, &facts.uid));
                }
            }
            Err(error) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "the watch on sandboxes failed; it is retried");
            }
        }
    }
}

async fn follow_pods<S>(events: S, routes: SharedRoutes, synced: watch::Sender<bool>)
where
    S: Stream<Item = Result<Event<PodView>, watcher::Error>>,
{
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => listed.extend(pod_facts(&pod)),
            Ok(Event::InitDone) => {
                let all = std::mem::take(&mut listed);
                routes.update(|routes| routes.replace_pods(all));
                synced.send_replace(true);
            }
            Ok(Event::Apply(pod)) => match (pod_facts(&pod), pod.metadata.uid) {
                (Some(facts), _) => routes.update(|routes| routes.apply_pod(facts)),
                // Nothing controls it any more.
                (None, Some(uid)) => routes.update(|routes| routes.delete_pod(&uid)),
                (None, None) => {}
            },
            Ok(Event::Delete(pod)) => {
                if let Some(uid) = pod.metadata.uid {
                    routes.update(|routes| routes.delete_pod(&uid));
                }
            }
            Err(error) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "the watch on Pods failed; it is retried");
            }
        }
    }
}

pub(crate) fn sandbox_facts(sandbox: &SandboxView) -> Option<SandboxFacts> {
    let metadata = &sandbox.metadata;
    let name = metadata.name.clone()?;
    let legacy = metadata.annotations.as_ref().and_then(|all| all.get(annotations::POD_NAME));
    let pod_name = legacy.filter(|pod| !pod.is_empty()).cloned().unwrap_or_else(|| name.clone());
    Some(SandboxFacts {
        namespace: metadata.namespace.clone()?,
        name,
        uid: metadata.uid.clone()?,
        pod_name,
        is_deleting: metadata.deletion_timestamp.is_some(),
        is_suspended: sandbox.spec.operating_mode.as_deref() == Some("Suspended"),
        is_finished: sandbox.status.as_ref().is_some_and(|status| status.is_true("Finished")),
    })
}

fn pod_facts(pod: &PodView) -> Option<PodFacts> {
    let metadata = &pod.metadata;
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    Some(PodFacts {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        uid: metadata.uid.clone()?,
        sandbox_uid: controlling_sandbox(metadata)?,
        is_deleting: metadata.deletion_timestamp.is_some(),
        is_ready: phase == "Running" && status.is_true("Ready"),
        is_finished: phase == "Succeeded" || phase == "Failed",
        addresses: status.pod_ips.iter().filter_map(PodIpView::address).collect(),
    })
}

impl PodIpView {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Object { ip } | Self::Text(ip) => ip.parse().ok(),
        }
    }
}

/// The UID of the Sandbox that controls an object.
fn controlling_sandbox(metadata: &ObjectMeta) -> Option<String> {
    let owner = metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))?;
    let group = owner.api_version.split('/').next().unwrap_or_default();
    let is_sandbox = owner.kind == "Sandbox" && group == atoll_api::SANDBOX_GROUP;
    is_sandbox.then(|| owner.uid.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(change: impl FnOnce(&mut serde_json::Value)) -> Option<PodFacts> {
        let mut value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "default", "uid": "p-a",
                "ownerReferences": [{
                    "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "s-a",
                    "controller": true,
                }],
            },
            "spec": {"containers": []},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "podIPs": [{"ip": "10.201.0.2"}],
            },
        });
        change(&mut value);
        pod_facts(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_ready_pod_is_read() {
        let facts = pod(|_| ()).unwrap();
        assert!(facts.is_ready);
        assert_eq!(facts.sandbox_uid, "s-a");
        assert_eq!(facts.addresses, ["10.201.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn only_a_controlling_sandbox_owns() {
        assert_eq!(pod(|pod| pod["metadata"]["ownerReferences"][0]["controller"] = json!(false)), None);
        assert_eq!(pod(|pod| pod["metadata"]["ownerReferences"][0]["kind"] = json!("SandboxClaim")), None);
        assert_eq!(pod(|pod| pod["metadata"]["ownerReferences"][0]["apiVersion"] = json!("evil.io/v1beta1")), None);
        assert_eq!(pod(|pod| pod["metadata"]["ownerReferences"] = json!([])), None);
    }

    #[test]
    fn readiness_needs_phase_and_condition() {
        assert!(!pod(|pod| pod["status"]["phase"] = json!("Pending")).unwrap().is_ready);
        assert!(!pod(|pod| pod["status"]["conditions"][0]["status"] = json!("False")).unwrap().is_ready);
        assert!(!pod(|pod| pod["status"] = json!({})).unwrap().is_ready);
        assert!(pod(|pod| pod["status"]["phase"] = json!("Failed")).unwrap().is_finished);
    }

    #[test]
    fn a_sandbox_is_read() {
        let mut value = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
            "metadata": {"name": "a", "namespace": "default", "uid": "s-a"},
            "spec": {"podTemplate": {"spec": {"containers": []}}},
            "status": {"podIPs": ["10.201.0.2"], "conditions": []},
        });
        let facts = |value: &serde_json::Value| sandbox_facts(&serde_json::from_value(value.clone()).unwrap()).unwrap();
        assert_eq!(facts(&value).pod_name, "a");
        assert!(!facts(&value).is_suspended);
        value["metadata"]["annotations"] = json!({"agents.x-k8s.io/pod-name": "old-name"});
        value["spec"]["operatingMode"] = json!("Suspended");
        assert_eq!(facts(&value).pod_name, "old-name");
        assert!(facts(&value).is_suspended);
    }
}
