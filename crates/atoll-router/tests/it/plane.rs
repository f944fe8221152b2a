//! An API server with sandboxes in it, and a router before them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, TokenIdentity};
use atoll_router::{GuestEndpoint, PodNetwork, Router, RouterConfig};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_store::Store;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) const TOKEN: &str = "a-good-token";
/// Of somebody who may look at sandboxes, and no more.
pub(crate) const LOOKER_TOKEN: &str = "a-token-of-somebody-who-looks";
/// The network that the tests' sandboxes have addresses in.
pub(crate) const POD_NETWORK: PodNetwork = PodNetwork::new(Ipv4Addr::new(127, 201, 0, 0), 16);

pub(crate) struct Plane {
    pub(crate) router: Router,
    /// Where the router listens.
    pub(crate) address: SocketAddr,
    pub(crate) server: ApiServer,
    pub(crate) group: TaskGroup,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) admin: Client,
    subnet: u8,
    endpoints: Arc<RwLock<HashMap<String, GuestEndpoint>>>,
}

/// A sandbox that was made, with its Pod.
pub(crate) struct Made {
    pub(crate) uid: String,
    pub(crate) pod_uid: String,
}

/// Tests run side by side, and so may test programs: each test has addresses of its own.
fn subnet() -> u8 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    u8::try_from(number % 254 + 1).unwrap()
}

pub(crate) fn config() -> RouterConfig {
    RouterConfig {
        pod_networks: vec![POD_NETWORK],
        loopback_pod_ip: true,
        hold_ms_max: 10_000,
        request_timeout_ms: 20_000,
        ..RouterConfig::default()
    }
}

/// Gives a role to somebody.
pub(crate) async fn bind(admin: &Client, name: &str, role: &str, subject: Value) {
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    let binding = serde_json::from_value(json!({
        "metadata": { "name": name }, "subjects": [subject],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
    }));
    bindings.create(&PostParams::default(), &binding.unwrap()).await.unwrap();
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: RouterConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let group = TaskGroup::new("plane");
        let store = Store::open(directory.path().join("control.db"), &group).unwrap();
        let server = ApiServer::build(ApiServerConfig {
            store,
            definitions: atoll_apiserver::definitions::builtin(),
            tokens: vec![
                TokenIdentity::new(TOKEN, Identity::new("jo", &["sandbox-users"])),
                TokenIdentity::new(LOOKER_TOKEN, Identity::new("ann", &[])),
            ],
            clock: Arc::new(SystemClock),
            group: group.clone(),
        })
        .await
        .unwrap();
        let admin = Client::new(server.in_process(Identity::administrator("test")), "default");
        bind(&admin, "users", "edit", json!({ "kind": "Group", "name": "sandbox-users" })).await;
        bind(&admin, "lookers", "view", json!({ "kind": "User", "name": "ann" })).await;
        let client = Client::new(server.in_process(Identity::new("system:atoll:router", &[])), "default");
        let endpoints: Arc<RwLock<HashMap<String, GuestEndpoint>>> = Arc::default();
        let known = Arc::clone(&endpoints);
        let locator = Arc::new(move |uid: &str| known.read().unwrap().get(uid).cloned());
        let router = Router::start(client, locator, config, &group).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(atoll_rt::listen::serve_http(&group, listener, router.service()));
        let subnet = subnet();
        Self { router, address, server, group, directory, admin, subnet, endpoints }
    }

    /// An address of this test alone.
    pub(crate) fn ip(&self, host: u8) -> String {
        Ipv4Addr::new(127, 201, self.subnet, host).to_string()
    }

    /// A port at such an address.
    pub(crate) fn at(&self, host: u8, port: u16) -> String {
        format!("{}:{port}", self.ip(host))
    }

    /// A path for the guest socket of this sandbox.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.sock"))
    }

    /// A sandbox whose Pod runs at the address and is ready.
    pub(crate) async fn sandbox(&self, name: &str, address: &str) -> Made {
        let uid = self.bare_sandbox(name).await;
        let pod_uid = self.pod(name, name, &uid, address).await;
        self.ready(name, address).await;
        Made { uid, pod_uid }
    }

    /// A Sandbox object alone.
    pub(crate) async fn bare_sandbox(&self, name: &str) -> String {
        let object = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"name": name},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "atoll.local/host"}]}}},
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.sandboxes().create(&PostParams::default(), &object).await.unwrap().metadata.uid.unwrap()
    }

    pub(crate) fn sandboxes(&self) -> Api<DynamicObject> {
        let resource = kube::api::ApiResource::erase::<atoll_api::Sandbox>(&());
        Api::namespaced_with(self.admin.clone(), "default", &resource)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "default")
    }

    /// A Pod that says it is controlled by the Sandbox with this UID.
    pub(crate) async fn pod(&self, name: &str, sandbox: &str, sandbox_uid: &str, address: &str) -> String {
        let pod = json!({
            "metadata": {
                "name": name,
                "labels": {"agents.x-k8s.io/sandbox-name-hash": atoll_stdx::name_hash(sandbox)},
                "ownerReferences": [{
                    "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": sandbox, "uid": sandbox_uid,
                    "controller": true,
                }],
            },
            "spec": {"nodeName": "one", "containers": [{"name": "main", "image": "atoll.local/host"}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let uid = self.pods().create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap();
        let endpoint = GuestEndpoint { socket: self.socket(name), address: address.parse().unwrap() };
        self.endpoints.write().unwrap().insert(uid.clone(), endpoint);
        uid
    }

    /// The node says that the Pod is ready.
    pub(crate) async fn ready(&self, pod: &str, address: &str) {
        let status = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        self.pod_status(pod, status).await;
    }

    pub(crate) async fn pod_status(&self, pod: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.pods().patch_status(pod, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The node does not know the Pod's sandbox any more.
    pub(crate) fn forget(&self, pod_uid: &str) -> GuestEndpoint {
        self.endpoints.write().unwrap().remove(pod_uid).unwrap()
    }

    /// It knows it again.
    pub(crate) fn remember(&self, pod_uid: &str, endpoint: GuestEndpoint) {
        self.endpoints.write().unwrap().insert(pod_uid.to_owned(), endpoint);
    }

    /// The Pod is gone, here and in the API.
    pub(crate) async fn remove_pod(&self, name: &str, uid: &str) {
        self.endpoints.write().unwrap().remove(uid);
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Waits until the counters are as they should be.
    pub(crate) async fn metrics_when(&self, holds: impl Fn(&atoll_router::MetricsSnapshot) -> bool) {
        for _ in 0..4000 {
            if holds(&self.router.metrics()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the counters did not get there: {:?}", self.router.metrics());
    }
}
