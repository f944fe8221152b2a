//! An API server, a node and what tests ask of them.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, Identity};
use atoll_node::{Node, NodeCapacity, NodeConfig, PodRuntime, SimulatedConfig, SimulatedRuntime};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_store::Store;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const NODE: &str = "one";
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A running API server. Nodes come and go.
pub(crate) struct Plane {
    pub(crate) server: ApiServer,
    pub(crate) admin: Client,
    group: TaskGroup,
    _directory: tempfile::TempDir,
}

/// A running node.
pub(crate) struct RunningNode {
    pub(crate) node: Node,
    group: TaskGroup,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let group = TaskGroup::new("plane");
        let store = Store::open(directory.path().join("control.db"), &group).unwrap();
        let config = ApiServerConfig {
            store,
            definitions: atoll_apiserver::definitions::builtin(),
            tokens: Vec::new(),
            clock: Arc::new(SystemClock),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.unwrap();
        let admin = Client::new(server.in_process(Identity::administrator("test")), "default");
        Self { server, admin, group, _directory: directory }
    }

    /// A node that tells of a Pod only when it is ready or cannot become so.
    pub(crate) async fn node(&self, runtime: &Arc<SimulatedRuntime>) -> RunningNode {
        self.node_that_announces(runtime, u64::MAX).await
    }

    /// A node that tells of a start that takes longer than this.
    pub(crate) async fn node_that_announces(&self, runtime: &Arc<SimulatedRuntime>, after_ms: u64) -> RunningNode {
        let identity = Identity::new("system:node:one", &["system:nodes"]);
        let client = Client::new(self.server.in_process(identity), "default");
        let config = NodeConfig {
            capacity: NodeCapacity { cpu_milli: 4000, memory_bytes: 8 << 30, pods: 100 },
            pod_network: Ipv4Addr::new(10, 201, 0, 0),
            announce_after_ms: after_ms,
            ..NodeConfig::new(NODE, "v0.1.0-test")
        };
        let group = self.group.child("node");
        let runtime: Arc<dyn PodRuntime> = Arc::clone(runtime) as Arc<dyn PodRuntime>;
        let node = Node::start(client, runtime, config, &group).await.unwrap();
        RunningNode { node, group }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), "default")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// A Pod bound to the node, changed as the test wants it.
    pub(crate) async fn pod(&self, name: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": NODE,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "atoll.local/host"}],
            },
        });
        change(&mut pod);
        self.create::<Pod>(pod).await.metadata.uid.unwrap()
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until the Pod (`null` when it is gone) is as it should be, and returns it.
    pub(crate) async fn pod_when(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let api = self.api::<Pod>();
        let mut last = Value::Null;
        let wait = async {
            loop {
                last = serde_json::to_value(api.get_opt(name).await.unwrap()).unwrap();
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(WAIT_MAX, wait).await.is_ok();
        assert!(in_time, "pod {name} did not get there: {}", serde_json::to_string_pretty(&last).unwrap());
        last
    }

    /// Asserts how often the node patched the status of Pods. The server counts a write a moment after others see it.
    pub(crate) async fn assert_status_writes(&self, number: u64) {
        eventually("the last write", || self.node_writes("patch", "pods/status") >= number).await;
        assert_eq!(self.node_writes("patch", "pods/status"), number);
    }

    /// How often the node wrote to this resource.
    fn node_writes(&self, verb: &str, resource: &str) -> u64 {
        let counts = self.server.write_counts();
        let mine = counts
            .iter()
            .filter(|(count, _)| count.user == "system:node:one" && count.verb == verb && count.resource == resource);
        mine.map(|(_, number)| number).sum()
    }
}

impl RunningNode {
    /// Ends the node as the end of the plane does: the sandboxes stay.
    pub(crate) async fn stop(self) {
        assert!(self.group.drain(Duration::from_secs(5)).await);
    }
}

pub(crate) fn runtime() -> Arc<SimulatedRuntime> {
    Arc::new(SimulatedRuntime::new(SimulatedConfig {
        stop_delay: Some(Duration::from_millis(20)),
        guest_socket: "/run/guest.sock".into(),
        ..SimulatedConfig::default()
    }))
}

/// Waits for something that the API does not show.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(WAIT_MAX, wait).await.is_ok(), "{what} did not happen");
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

pub(crate) fn waiting_reason(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}
