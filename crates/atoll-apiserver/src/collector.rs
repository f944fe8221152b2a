//! What goes when something else has gone: objects whose owners are no more, the content of namespaces, old events.
//!
//! One task follows every write. It keeps who owns whom by UID, and works on what a write may have set free.

mod graph;
mod work;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_store::{Change, Event, ListRequest, Record, StoreError, Watch, WatchError};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::namespaces;
use crate::objects::View;
use crate::registry::ROOT;
use crate::server::ApiServer;

use graph::{Graph, Member};
use work::{Task, perform};

/// Tasks that are worked on at a time: they share the store's commits.
const TASKS_IN_FLIGHT_MAX: usize = 32;
/// A task that failed is tried again after this time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often old events are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long events are kept after they were last written.
const EVENT_LIFETIME_S: i64 = 3600;

/// Reads what is there, and starts the task.
pub(crate) fn start(server: &ApiServer, group: &TaskGroup) -> Result<(), StoreError> {
    let mut collector = Collector::new(server);
    let watch = collector.load()?;
    let token = group.token();
    group.spawn("garbage-collector", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = collector.run(watch) => {}
        }
    });
    Ok(())
}

struct Collector {
    server: ApiServer,
    graph: Graph,
    queue: VecDeque<Task>,
    queued: HashSet<Task>,
    /// Events by the time of their last write, oldest first.
    events: VecDeque<(i64, String, u64)>,
}

impl Collector {
    fn new(server: &ApiServer) -> Self {
        Self {
            server: server.clone(),
            graph: Graph::default(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            events: VecDeque::new(),
        }
    }

    /// Reads everything, and begins to watch from there.
    fn load(&mut self) -> Result<Watch, StoreError> {
        self.graph = Graph::default();
        self.events.clear();
        let page = self.server.store().list(&ListRequest { prefix: ROOT, ..ListRequest::default() })?;
        let watch = self.server.store().watch(ROOT, page.revision)?;
        for record in &page.records {
            self.put(record);
        }
        // While it was not running, owners may have gone.
        let tasks: Vec<Task> = self
            .graph
            .members()
            .filter(|(_, member)| member.needs_care())
            .map(|(uid, _)| Task::Object(uid.clone()))
            .collect();
        for task in tasks {
            self.enqueue(task);
        }
        Ok(watch)
    }

    async fn run(mut self, mut watch: Watch) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < TASKS_IN_FLIGHT_MAX
                && let Some(task) = self.queue.pop_front()
            {
                self.queued.remove(&task);
                let facts = self.graph.facts(&task);
                in_flight.push(perform(self.server.clone(), task, facts, RETRY_DELAY));
            }
            tokio::select! {
                // Writes first: what is known of owners should be as new as it can be.
                biased;
                event = watch.next() => match event {
                    Ok(event) => self.event(&event),
                    Err(WatchError::Closed) => return,
                    Err(WatchError::Lagged) => match self.load() {
                        Ok(again) => watch = again,
                        Err(error) => {
                            tracing::error!(cause = %atoll_stdx::chain(&error), "the garbage collector cannot follow the store");
                            return;
                        }
                    },
                },
                Some(unfinished) = in_flight.next() => {
                    if let Some(task) = unfinished {
                        self.enqueue(task);
                    }
                }
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn enqueue(&mut self, task: Task) {
        if self.queued.insert(task.clone()) {
            self.queue.push_back(task);
        }
    }

    fn event(&mut self, event: &Event) {
        match event.change {
            Change::Put => {
                // Deleted and made anew between two looks: the old one is gone.
                if let Some(previous) = &event.previous
                    && previous.created_revision != event.record.created_revision
                {
                    self.gone(previous);
                }
                self.put(&event.record);
            }
            Change::Delete => self.gone(&event.record),
        }
    }

    fn put(&mut self, record: &Record) {
        let server = self.server.clone();
        let registry = server.registry();
        let Some((resource, namespace, name)) = registry.by_key(&record.key) else { return };
        let view = View::of(record, resource);
        if resource.definition.kind == "Event" {
            self.events.push_back((server.now().as_second(), record.key.to_string(), record.revision));
        }
        if view.deleting && namespaces::is_namespace(resource) {
            self.enqueue(Task::Namespace(name.to_owned()));
        }
        let member = Member::new(namespace, name, resource, &view);
        let waited = self.graph.get(&view.uid).is_some_and(Member::waits_for_dependents);
        let begins_to_wait = member.waits_for_dependents() && !waited;
        let needs_care = member.needs_care();
        self.graph.put(&view.uid, member);
        if needs_care {
            self.enqueue(Task::Object(view.uid.clone()));
        }
        if begins_to_wait {
            self.enqueue_dependents(&view.uid);
        }
    }

    fn gone(&mut self, record: &Record) {
        let registry = self.server.registry();
        let Some((resource, namespace, _)) = registry.by_key(&record.key) else { return };
        let view = View::of(record, resource);
        // Owners that waited for this one may go now.
        for owner in &view.owners {
            if self.graph.get(&owner.uid).is_some_and(Member::waits_for_dependents) {
                self.enqueue(Task::Object(owner.uid.clone()));
            }
        }
        self.graph.remove(&view.uid);
        self.enqueue_dependents(&view.uid);
        if let Some(namespace) = namespace
            && self.is_terminating(namespace)
        {
            self.enqueue(Task::Namespace(namespace.to_owned()));
        }
    }

    fn is_terminating(&self, namespace: &str) -> bool {
        let Some(resource) = namespaces::resource(&self.server) else { return false };
        let record = self.server.store().get(&resource.key(None, namespace));
        record.is_some_and(|record| View::of(&record, &resource).deleting)
    }

    fn enqueue_dependents(&mut self, uid: &str) {
        for dependent in self.graph.dependents(uid) {
            self.enqueue(Task::Object(dependent));
        }
    }

    /// Queues the events that nobody has written to for long.
    fn sweep(&mut self) {
        let due = self.server.now().as_second() - EVENT_LIFETIME_S;
        while self.events.front().is_some_and(|(written, _, _)| *written <= due) {
            let Some((_, key, revision)) = self.events.pop_front() else { return };
            self.enqueue(Task::Event(key, revision));
        }
    }
}
