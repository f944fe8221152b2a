//! A cluster as the place of a test: its own API server, garbage collector and scheduler, with nodes that pretend.

use std::collections::BTreeMap;
use std::path::PathBuf;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{Kind, NAMESPACE, eventually};

/// The kubeconfig of an administrator, where tests are to run on a cluster.
pub(crate) const ADMINISTRATOR: &str = "ATOLL_TEST_KUBECONFIG";
/// The kubeconfig of the controllers, who may do there what `deploy/rbac.yaml` says. Without it they run there already.
const CONTROLLERS: &str = "ATOLL_TEST_CONTROLLERS_KUBECONFIG";
/// The cluster's audit log, one request a line.
const AUDIT_LOG: &str = "ATOLL_TEST_AUDIT_LOG";
/// What every cluster has in its first namespace.
const SERVICE_OF_CLUSTER: &str = "kubernetes";

/// A cluster that was there before.
pub(super) struct Cluster {
    pub(super) administrator: Client,
    controllers: Option<PathBuf>,
    audit_log: Option<PathBuf>,
}

/// Whether tests run on a cluster.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(ADMINISTRATOR).is_some()
}

impl Cluster {
    /// The cluster that the environment names, without what earlier tests left.
    pub(super) async fn of_environment() -> Self {
        let _set_before = rustls::crypto::ring::default_provider().install_default();
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let administrator = client(path(ADMINISTRATOR).expect("a cluster is wanted")).await;
        let cluster = Self { administrator, controllers: path(CONTROLLERS), audit_log: path(AUDIT_LOG) };
        cluster.sweep().await;
        cluster
    }

    /// A client with the rights of the controllers, and no others; nothing where they run already.
    pub(super) async fn of_controllers(&self) -> Option<Client> {
        match &self.controllers {
            Some(kubeconfig) => Some(client(kubeconfig.clone()).await),
            None => None,
        }
    }

    async fn sweep(&self) {
        self.delete_all::<ResourceQuota>().await;
        self.delete_all::<SandboxClaim>().await;
        self.delete_all::<SandboxWarmPool>().await;
        self.delete_all::<SandboxTemplate>().await;
        self.delete_all::<Sandbox>().await;
        self.delete_all::<Pod>().await;
        self.delete_all::<PersistentVolumeClaim>().await;
        self.delete_all::<NetworkPolicy>().await;
        self.delete_all::<Event>().await;
        let services: Api<Service> = Api::namespaced(self.administrator.clone(), NAMESPACE);
        for service in services.list(&ListParams::default()).await.expect("they can be listed") {
            if service.name_any() != SERVICE_OF_CLUSTER {
                let _gone = services.delete(&service.name_any(), &DeleteParams::default()).await;
            }
        }
    }

    async fn delete_all<K: Kind>(&self) {
        let api: Api<K> = Api::namespaced(self.administrator.clone(), NAMESPACE);
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        let gone = eventually(|| async {
            let left = api.list(&ListParams::default()).await.expect("they can be listed").items;
            if left.is_empty() {
                return Some(());
            }
            let _begun = api.delete_collection(&now, &ListParams::default()).await;
            for object in left.iter().filter(|object| object.finalizers().contains(&"example.com/hold".to_owned())) {
                let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                let _freed = api.patch(&object.name_any(), &PatchParams::default(), &free).await;
            }
            None
        });
        assert!(gone.await.is_some(), "{} of an earlier test never went", K::kind(&()));
    }

    /// The writes of a user so far, by the cluster's own account.
    pub(super) fn writes_of(&self, user: &str) -> BTreeMap<String, u64> {
        let log = std::fs::read_to_string(self.audit_log.as_ref().expect("requests are written down"))
            .expect("the audit log can be read");
        let mut counts = BTreeMap::new();
        for line in log.lines() {
            // The last line may still be written.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if text("/user/username") != user || matches!(text("/verb"), "get" | "list" | "watch" | "") {
                continue;
            }
            let subresource = text("/objectRef/subresource");
            let separator = if subresource.is_empty() { "" } else { "/" };
            let resource = format!("{} {}{separator}{subresource}", text("/verb"), text("/objectRef/resource"));
            *counts.entry(resource).or_default() += 1;
        }
        counts
    }
}

async fn client(kubeconfig: PathBuf) -> Client {
    atoll_client::from_kubeconfig(&kubeconfig, None).await.expect("the kubeconfig is usable")
}
