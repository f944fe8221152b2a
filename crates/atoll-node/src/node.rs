//! The node: a handle to the task that converges Pods.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use atoll_rt::TaskGroup;
use atoll_rt::clock::now_unix_ms;
use atoll_stdx::Hint;
use tokio::sync::{Semaphore, oneshot};

use crate::config::{NodeConfig, PartName};
use crate::runtime::{GuestEndpoint, PodRuntime, RuntimeError};
use crate::status::NodeFacts;
use crate::streams::{PlanePart, STREAMS_MAX};
use crate::worker::Worker;
use crate::{claims, register};

const EVENT_WRITES_MAX: usize = 8;

/// The node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The Node object could not be written.
    #[error("cannot register the node with the API server")]
    Register(#[source] kube::Error),
    /// What runs on this machine could not be found out.
    #[error("cannot find out which sandboxes run on this machine")]
    Inventory(#[source] RuntimeError),
    /// The group stopped before the first list of Pods arrived.
    #[error("the node was stopped while it started")]
    Stopped,
}

impl Hint for NodeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Inventory(error) => error.hint.clone(),
            Self::Register(_) | Self::Stopped => None,
        }
    }
}

/// A running node. Clones share it.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

/// What all tasks of a node share.
pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) config: NodeConfig,
    pub(crate) facts: NodeFacts,
    pub(crate) group: TaskGroup,
    pub(crate) starts: Semaphore,
    pub(crate) event_writes: Arc<Semaphore>,
    pub(crate) endpoints: RwLock<HashMap<String, GuestEndpoint>>,
    /// How parts of the plane are reached.
    pub(crate) parts: RwLock<HashMap<PartName, Arc<dyn PlanePart>>>,
    /// Logs, commands and ports that are served.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) started_at_ms: u64,
}

impl Node {
    /// Registers the node, takes over the sandboxes that run for its Pods, removes those that run for none, and
    /// converges from then on, in tasks of `group`. Returns when the first list of Pods has been compared.
    ///
    /// Stopping the group leaves the sandboxes running.
    ///
    /// # Errors
    /// The API server refuses the node, or the runtime does not answer.
    pub async fn start(
        client: kube::Client,
        runtime: Arc<dyn PodRuntime>,
        config: NodeConfig,
        group: &TaskGroup,
    ) -> Result<Self, NodeError> {
        let shared = Arc::new(Shared {
            client,
            runtime,
            facts: NodeFacts { host_address: config.host_address(), announce_after_ms: config.announce_after_ms },
            group: group.clone(),
            starts: Semaphore::new(config.starts_at_once),
            event_writes: Arc::new(Semaphore::new(EVENT_WRITES_MAX)),
            endpoints: RwLock::default(),
            parts: RwLock::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            started_at_ms: now_unix_ms(),
            config,
        });
        register::register(&shared).await?;
        // Before any list of objects: what is there now and in no list later belongs to nobody.
        let records = shared.runtime.list().await.map_err(NodeError::Inventory)?;
        let volumes = shared.runtime.list_volumes().await.map_err(NodeError::Inventory)?;

        let (synced, first_sync) = oneshot::channel();
        let worker = Worker::new(Arc::clone(&shared), records, volumes.clone(), synced);
        spawn(&shared, "node-worker", worker.run());
        spawn(&shared, "node-claims", claims::collect(Arc::clone(&shared), volumes));
        spawn(&shared, "node-heartbeat", register::heartbeat(Arc::clone(&shared)));
        first_sync.await.map_err(|_dropped| NodeError::Stopped)?;
        Ok(Self { shared })
    }

    /// Says how the ports of a part of the plane are reached, which is one of [`NodeConfig::parts`].
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn connect_part(&self, name: PartName, part: Arc<dyn PlanePart>) {
        self.shared.parts.write().expect("no holder of this lock panics").insert(name, part);
    }

    /// Where the guest of the Pod with this UID is; `None` when it does not run here (any more).
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    #[must_use]
    pub fn locate_guest(&self, pod_uid: &str) -> Option<GuestEndpoint> {
        self.shared.endpoints.read().expect("no holder of this lock panics").get(pod_uid).cloned()
    }
}

fn spawn(shared: &Arc<Shared>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let token = shared.group.token();
    shared.group.spawn(name, async move {
        let _stopped = token.run_until_cancelled(task).await;
    });
}
