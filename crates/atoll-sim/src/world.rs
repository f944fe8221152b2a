//! Everything that runs in a simulation, and how it crashes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, definitions};
use atoll_controllers::{ControllersConfig, run_all};
use atoll_rt::TaskGroup;
use atoll_store::Store;
use kube::Client;
use tempfile::TempDir;

use crate::clock::{self, SimulatedClock};
use crate::dice::Dice;
use crate::history::History;
use crate::network::Wire;
use crate::node;

/// How long, in real time, to wait between two attempts to open the database of a server that was killed.
const REOPEN_WAIT: Duration = Duration::from_millis(20);
const REOPEN_ATTEMPTS_MAX: usize = 500;
const WORKERS: usize = 8;
/// Long enough that no claim starts cold because its pool's members take their time.
const PENDING_MEMBERS_WAIT: Duration = Duration::from_secs(5);

/// One world.
pub(crate) struct World {
    pub(crate) wire: Arc<Wire>,
    pub(crate) history: Arc<History>,
    clock: Arc<SimulatedClock>,
    group: TaskGroup,
    server: Mutex<TaskGroup>,
    controllers: Mutex<TaskGroup>,
    directory: TempDir,
}

impl World {
    /// A server, a node and controllers, in good weather.
    pub(crate) async fn start(dice: &Dice, faults_per_mille: u32) -> Self {
        let group = TaskGroup::new("simulation");
        let wire = Wire::new(dice.fork(), faults_per_mille);
        let world = Self {
            history: Arc::default(),
            clock: Arc::new(SimulatedClock::new()),
            server: Mutex::new(group.child("server")),
            controllers: Mutex::new(group.child("controllers")),
            directory: tempfile::tempdir().expect("a directory can be made"),
            wire,
            group,
        };
        let wire = Arc::clone(&world.wire);
        world.group.spawn("time", async move { clock::run(&wire).await });
        world.start_server().await;
        node::register(&world.people()).await;
        let node = world.wire.client("system:node:pretender");
        world.group.spawn("node", node::run(node, dice.fork()));
        world.start_controllers();
        world
    }

    /// People have a network to themselves.
    pub(crate) fn people(&self) -> Client {
        self.wire.sheltered_client("people")
    }

    /// Kills the controllers and starts them anew.
    pub(crate) fn crash_controllers(&self) {
        lock(&self.controllers).cancel();
        self.start_controllers();
    }

    /// Kills the server and starts it anew on the same disk. Who talks to it meanwhile finds nobody.
    pub(crate) async fn crash_server(&self) {
        self.wire.connect(None);
        lock(&self.server).cancel();
        self.start_server().await;
    }

    /// Ends everything.
    pub(crate) fn stop(&self) {
        self.wire.connect(None);
        self.group.cancel();
    }

    async fn start_server(&self) {
        let group = self.group.child("server");
        let store = self.open_store(&group).await;
        self.history.follow(&store, &group);
        let config = ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens: Vec::new(),
            clock: self.clock.clone(),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.expect("the server is built");
        *lock(&self.server) = group;
        self.wire.connect(Some(server));
    }

    /// The thread that wrote for the one before may still hold the file.
    async fn open_store(&self, group: &TaskGroup) -> Store {
        for _attempt in 0..REOPEN_ATTEMPTS_MAX {
            if let Ok(store) = Store::open(self.directory.path().join("control.db"), group) {
                return store;
            }
            tokio::task::yield_now().await;
            std::thread::sleep(REOPEN_WAIT);
        }
        panic!("the database of a killed server can not be opened");
    }

    fn start_controllers(&self) {
        let group = self.group.child("controllers");
        let config = ControllersConfig {
            clock: self.clock.clone(),
            scheduler_client: Some(self.wire.client("system:kube-scheduler")),
            sandbox_workers: WORKERS,
            claim_workers: WORKERS,
            pending_members_wait: PENDING_MEMBERS_WAIT,
            events: false,
            ..ControllersConfig::default()
        };
        let _running = run_all(self.wire.client("controllers"), config, &group);
        *lock(&self.controllers) = group;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
