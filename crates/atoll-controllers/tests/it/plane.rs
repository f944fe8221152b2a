//! Store, API server, controllers and a pretended node, all new for each test; or a cluster that is there, with the
//! controllers alone new for each test; or a whole plane of this machine, with a node that does not pretend.

pub(crate) mod cluster;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool, conditions, labels};
use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, definitions};
use atoll_controllers::{Controllers, ControllersConfig, run_all};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_store::Store;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::cluster::Cluster;
use crate::it::node;

/// The namespace of all tests.
pub(crate) const NAMESPACE: &str = "default";
/// The user that the controllers are.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";
/// The user that the scheduler is.
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";

/// Longer than anything here takes; only reached when something never happens.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const CPU: &str = "64";

/// A kind of a namespace.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug
{
}

/// Everything that runs.
pub(crate) struct Plane {
    pub(crate) client: Client,
    backend: Backend,
    group: TaskGroup,
    controllers: OnceLock<Controllers>,
}

/// Where objects are.
enum Backend {
    Embedded { server: ApiServer, _directory: TempDir },
    Cluster(Cluster),
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(ControllersConfig::default()).await
    }

    pub(crate) async fn start_with(config: ControllersConfig) -> Self {
        let plane = Self::start_idle().await;
        plane.start_controllers(config).await;
        plane
    }

    /// API server and node alone.
    pub(crate) async fn start_idle() -> Self {
        if !cluster::is_wanted() {
            return Self::start_without_controllers(CPU).await;
        }
        let cluster = Cluster::of_environment().await;
        let client = cluster.administrator.clone();
        let (backend, group) = (Backend::Cluster(cluster), TaskGroup::new("test"));
        Self { client, backend, group, controllers: OnceLock::new() }
    }

    /// Embedded API server and node alone; the node has so many processors.
    pub(crate) async fn start_without_controllers(cpu: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let group = TaskGroup::new("test");
        let store = Store::open(directory.path().join("control.db"), &group).expect("the store opens");
        let config = ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens: Vec::new(),
            clock: Arc::new(SystemClock),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.expect("the server is built");
        let client = client_of(&server, "tester");
        node::start(client_of(&server, "system:node:pretender"), cpu, &group).await;
        let backend = Backend::Embedded { server, _directory: directory };
        Self { client, backend, group, controllers: OnceLock::new() }
    }

    /// Starts the controllers, and waits until they are at work.
    pub(crate) async fn start_controllers(&self, config: ControllersConfig) -> TaskGroup {
        let group = self.group.child("controllers");
        let (client, config) = match &self.backend {
            Backend::Embedded { server, .. } => {
                let scheduler_client = Some(client_of(server, SCHEDULER));
                (client_of(server, CONTROLLER), ControllersConfig { scheduler_client, ..config })
            }
            Backend::Cluster(cluster) => {
                let Some(client) = cluster.of_controllers().await else { return group };
                (client, ControllersConfig { scheduler: false, ..config })
            }
        };
        let controllers = run_all(client, config, &group);
        controllers.synced().await;
        let _first = self.controllers.set(controllers);
        group
    }

    /// What the controllers that were started first count.
    pub(crate) fn metrics(&self) -> String {
        self.controllers.get().expect("controllers were started").metrics_text()
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn create<K: Kind>(&self, object: &K) -> K {
        self.api().create(&PostParams::default(), object).await.expect("it is created")
    }

    /// Creates an object from JSON.
    pub(crate) async fn create_json<K: Kind>(&self, object: Value) -> K {
        self.create(&serde_json::from_value(object).expect("the JSON is such an object")).await
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.api().get_opt(name).await.expect("it can be asked for")
    }

    pub(crate) async fn list<K: Kind>(&self, selector: &str) -> Vec<K> {
        let parameters = ListParams::default().labels(selector);
        self.api().list(&parameters).await.expect("it can be listed").items
    }

    pub(crate) async fn merge<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is patched")
    }

    pub(crate) async fn delete<K: Kind>(&self, name: &str) {
        let _gone_or_going = self.api::<K>().delete(name, &DeleteParams::default()).await.expect("it is deleted");
    }

    /// Waits until the object is as wanted.
    pub(crate) async fn until<K: Kind>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K {
        match eventually(|| async { self.get::<K>(name).await.filter(&wanted) }).await {
            Some(object) => object,
            None => panic!("{} {name} never was {what}: {:#?}", K::kind(&()), self.get::<K>(name).await),
        }
    }

    /// Waits until the object is gone.
    pub(crate) async fn until_gone<K: Kind>(&self, name: &str) {
        let gone = eventually(|| async { self.get::<K>(name).await.is_none().then_some(()) }).await;
        assert!(gone.is_some(), "{} {name} never went: {:#?}", K::kind(&()), self.get::<K>(name).await);
    }

    /// Waits until so many objects carry the label.
    pub(crate) async fn until_count<K: Kind>(&self, selector: &str, count: usize) -> Vec<K> {
        let found =
            eventually(|| async { Some(self.list::<K>(selector).await).filter(|all| all.len() == count) }).await;
        match found {
            Some(all) => all,
            None => panic!("never {count} with {selector}: {:#?}", self.list::<K>(selector).await),
        }
    }

    pub(crate) async fn sandbox_until(&self, name: &str, ready: &str) -> Sandbox {
        self.until(name, ready, |sandbox: &Sandbox| {
            let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            text_of(conditions, "Ready") == ready && is_observed(conditions, &sandbox.metadata.generation)
        })
        .await
    }

    pub(crate) async fn claim_until(&self, name: &str, ready: &str) -> SandboxClaim {
        self.until(name, ready, |claim: &SandboxClaim| {
            let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            text_of(conditions, "Ready").starts_with(ready) && is_observed(conditions, &claim.metadata.generation)
        })
        .await
    }

    /// Waits until the pool has so many Ready members, and no more, and says so. Its word alone is not enough: what
    /// it said before a member was taken may be the same.
    pub(crate) async fn pool_until(&self, name: &str, ready: i32) -> SandboxWarmPool {
        let told = |pool: &SandboxWarmPool| {
            pool.status.as_ref().is_some_and(|status| {
                (status.ready_replicas, status.replicas) == (ready, ready)
                    && status.observed_generation == pool.metadata.generation
            })
        };
        let selector = format!("{}={}", labels::WARM_POOL, atoll_stdx::name_hash(name));
        let wanted = usize::try_from(ready).expect("a pool has no negative size");
        let found = eventually(|| async {
            let members = self.list::<Sandbox>(&selector).await;
            let all_ready = members.iter().all(|member| {
                let status = member.status.as_ref();
                status.is_some_and(|status| conditions::is_true(&status.conditions, "Ready"))
            });
            let complete = members.len() == wanted && all_ready;
            self.get::<SandboxWarmPool>(name).await.filter(|pool| complete && told(pool))
        });
        match found.await {
            Some(pool) => pool,
            None => panic!("pool {name} never was at {ready}: {:#?}", self.get::<SandboxWarmPool>(name).await),
        }
    }

    /// A template of one container, and what the test wants besides.
    pub(crate) async fn template(&self, name: &str, more: Value) -> SandboxTemplate {
        let base = json!({
            "metadata": {"name": name},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "atoll.local/host"}]}}},
        });
        self.create_json(with(base, &more)).await
    }

    pub(crate) async fn pool(&self, name: &str, template: &str, replicas: i32) -> SandboxWarmPool {
        self.create(&atoll_api::manifests::pool(NAMESPACE, name, template, replicas)).await
    }

    pub(crate) async fn claim(&self, name: &str, pool: &str, more: Value) -> SandboxClaim {
        let base = json!({"metadata": {"name": name}, "spec": {"warmPoolRef": {"name": pool}}});
        self.create_json(with(base, &more)).await
    }

    pub(crate) async fn sandbox(&self, name: &str, more: Value) -> Sandbox {
        let base = json!({
            "metadata": {"name": name},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "atoll.local/host"}]}}},
        });
        self.create_json(with(base, &more)).await
    }

    pub(crate) async fn pod_uid(&self, name: &str) -> Option<String> {
        self.get::<Pod>(name).await.and_then(|pod| pod.uid())
    }

    /// How many writes a user has made, by verb and resource.
    pub(crate) fn writes_of(&self, user: &str) -> BTreeMap<String, u64> {
        let server = match &self.backend {
            Backend::Embedded { server, .. } => server,
            Backend::Cluster(cluster) => return cluster.writes_of(user),
        };
        let counts = server.write_counts().into_iter().filter(|(count, _)| count.user == user);
        counts.map(|(count, number)| (format!("{} {}", count.verb, count.resource), number)).collect()
    }
}

/// Whether a test that needs an API server of its own can not run; says so.
pub(crate) fn skipped_on_a_cluster(test: &str, reason: &str) -> bool {
    let skipped = cluster::is_wanted();
    if skipped {
        println!("SKIPPED {test}: {reason}");
    }
    skipped
}

fn client_of(server: &ApiServer, user: &str) -> Client {
    atoll_client::in_process(server.in_process(Identity::administrator(user)))
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.group.cancel();
    }
}

/// Looks until there is something to see; nothing if patience ends first.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> Option<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Status, reason and message of a condition.
pub(crate) fn text_of(conditions: &[Condition], type_: &str) -> String {
    conditions::find(conditions, type_)
        .map(|condition| format!("{} {}: {}", condition.status, condition.reason, condition.message))
        .unwrap_or_default()
}

/// All conditions, one line each.
pub(crate) fn texts_of(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|condition| format!("{} {}", condition.type_, text_of(conditions, &condition.type_)))
        .collect()
}

/// `base` with the members of `more` laid over it.
pub(crate) fn with(mut base: Value, more: &Value) -> Value {
    match (&mut base, more) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                let present = into.remove(key).unwrap_or(Value::Null);
                into.insert(key.clone(), with(present, value));
            }
        }
        (_, more) => base = more.clone(),
    }
    base
}

fn is_observed(conditions: &[Condition], generation: &Option<i64>) -> bool {
    conditions::find(conditions, "Ready").is_some_and(|ready| ready.observed_generation == *generation)
}
