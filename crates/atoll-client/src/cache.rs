//! A cache that follows one kind: listed once, watched from then on, indexed, and told of our own writes at once so
//! that whoever wrote does not read something older than what it wrote.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use atoll_rt::TaskGroup;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::wire::Unread;

/// UIDs of deleted objects that are remembered, so that a late answer does not bring one back.
const TOMBSTONES_MAX: usize = 65_536;

/// Namespace and name; the namespace of a cluster-wide object is empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What an object is found by, besides its key: any number of values.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

/// One object came, changed or went.
#[derive(Debug)]
pub struct Change<K> {
    /// What it was; nothing when it is new.
    pub old: Option<Arc<K>>,
    /// What it is; nothing when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newer of the two.
    ///
    /// # Panics
    /// Never: a change has at least one side.
    #[must_use]
    pub fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has at least one side")
    }

    /// Both sides that are there, the older one first.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(self.new.iter())
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A [`Cache`] that does not follow anything yet.
pub struct CacheBuilder<K> {
    indexes: Vec<IndexFn<K>>,
    handlers: Vec<Handler<K>>,
    config: watcher::Config,
    trim: fn(&mut K),
}

/// The objects of one kind, as far as they are known here. Cloning shares the cache.
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<K> {
    state: RwLock<State<K>>,
    /// Held from a change to the end of its handlers, so that they hear of changes in the order in which they happened.
    order: Mutex<()>,
    handlers: Vec<Handler<K>>,
    trim: fn(&mut K),
    synced: watch::Sender<bool>,
    version: watch::Sender<u64>,
}

struct State<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
    tombstones: Tombstones,
    /// While a list is read: the keys that were in it.
    listed: Option<HashSet<ObjectKey>>,
}

struct Index<K> {
    values_of: IndexFn<K>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

#[derive(Default)]
struct Tombstones {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

impl<K> Default for CacheBuilder<K> {
    fn default() -> Self {
        Self { indexes: Vec::new(), handlers: Vec::new(), config: watcher::Config::default(), trim: |_| {} }
    }
}

impl<K> CacheBuilder<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    /// Adds an index. Indexes are named by their number, in the order in which they were added.
    #[must_use]
    pub fn index(mut self, values_of: IndexFn<K>) -> Self {
        self.indexes.push(values_of);
        self
    }

    /// Calls `handler` after every change, in the order of the changes. It must not block, and must not tell this cache
    /// anything.
    #[must_use]
    pub fn on_change(mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) -> Self {
        self.handlers.push(Box::new(handler));
        self
    }

    /// Follows only what the watch is configured to see.
    #[must_use]
    pub fn config(mut self, config: watcher::Config) -> Self {
        self.config = config;
        self
    }

    /// Drops what nobody will look at from each object before it is kept.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Starts to follow `api`, until the group stops.
    #[must_use]
    pub fn start(self, api: Api<Unread<K>>, group: &TaskGroup) -> Cache<K> {
        let config = self.config.clone();
        let cache = self.detached();
        let follower = cache.clone();
        let stop = group.token();
        group.spawn("cache", async move {
            tokio::select! {
                () = follower.follow(api, config) => {}
                () = stop.cancelled() => {}
            }
        });
        cache
    }

    /// A cache that follows nothing and knows only what it is told.
    #[must_use]
    pub fn detached(self) -> Cache<K> {
        let indexes = self.indexes.into_iter().map(|values_of| Index { values_of, keys: HashMap::new() }).collect();
        Cache {
            inner: Arc::new(Inner {
                state: RwLock::new(State {
                    objects: HashMap::new(),
                    indexes,
                    tombstones: Tombstones::default(),
                    listed: None,
                }),
                order: Mutex::default(),
                handlers: self.handlers,
                trim: self.trim,
                synced: watch::Sender::new(false),
                version: watch::Sender::new(0),
            }),
        }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    /// A cache to be.
    #[must_use]
    pub fn builder() -> CacheBuilder<K> {
        CacheBuilder::default()
    }

    /// The object of this key.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// The objects that index number `index` finds under `value`, in the order of their keys.
    ///
    /// # Panics
    /// If there is no such index.
    #[must_use]
    pub fn find(&self, index: usize, value: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let Some(keys) = state.indexes[index].keys.get(value) else { return Vec::new() };
        keys.iter().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// How many objects index number `index` finds under `value`.
    ///
    /// # Panics
    /// If there is no such index.
    #[must_use]
    pub fn count(&self, index: usize, value: &str) -> usize {
        self.read().indexes[index].keys.get(value).map_or(0, BTreeSet::len)
    }

    /// All objects, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// Shows every object, in no order, between two changes: handlers hear of the next one after the last was shown.
    pub fn for_each(&self, show: impl FnMut(&Arc<K>)) {
        let _order = self.in_order();
        self.all().iter().for_each(show);
    }

    /// Returns when the first list is complete. Cancel-safe.
    pub async fn synced(&self) {
        let mut receiver = self.inner.synced.subscribe();
        let _sender_is_alive = receiver.wait_for(|synced| *synced).await;
    }

    /// A counter that grows with every change, to wait on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// Takes in what the API server answered to a write, unless something newer is known already.
    pub fn remember(&self, mut object: K) -> Arc<K> {
        let key = ObjectKey::of(&object);
        object.meta_mut().managed_fields = None;
        (self.inner.trim)(&mut object);
        let object = Arc::new(object);
        let _order = self.in_order();
        let change = self.write().put(key, Arc::clone(&object));
        self.tell(change);
        object
    }

    /// Takes in that an object was deleted and is gone for good.
    pub fn forget(&self, object: &K) {
        self.forget_named(&ObjectKey::of(object), object.meta());
    }

    fn forget_named(&self, key: &ObjectKey, identity: &ObjectMeta) {
        let _order = self.in_order();
        let change = self.write().remove(key, identity.uid.as_deref().unwrap_or_default());
        self.tell(change);
    }

    async fn follow(&self, api: Api<Unread<K>>, config: watcher::Config) {
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), error = atoll_stdx::chain(&error), "the watch broke off");
                }
            }
        }
    }

    fn take(&self, event: watcher::Event<Unread<K>>) {
        match event {
            watcher::Event::Init => self.write().listed = Some(HashSet::new()),
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => self.take_object(&object),
            watcher::Event::Delete(object) => self.forget_named(&ObjectKey::of(&object), object.meta()),
            watcher::Event::InitDone => {
                let _order = self.in_order();
                let gone = self.write().drop_unlisted();
                for object in gone {
                    self.tell(Some(Change { old: Some(object), new: None }));
                }
                self.inner.synced.send_replace(true);
            }
        }
    }

    /// Takes in what a watch tells. Most of it is the answer to an own write once more, and is not even read.
    fn take_object(&self, object: &Unread<K>) {
        if self.write().knows(&ObjectKey::of(object), object.meta()) {
            return;
        }
        match object.read() {
            Ok(object) => drop(self.remember(object)),
            Err(error) => {
                let (kind, name) = (K::kind(&()), object.meta().name.as_deref().unwrap_or_default());
                tracing::warn!(%kind, name, cause = %error, "an object that can not be read is left out");
            }
        }
    }

    fn tell(&self, change: Option<Change<K>>) {
        if let Some(change) = change {
            for handler in &self.inner.handlers {
                handler(&change);
            }
            self.inner.version.send_modify(|version| *version += 1);
        }
    }

    fn in_order(&self) -> MutexGuard<'_, ()> {
        self.inner.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    fn put(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Change<K>> {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        if self.tombstones.uids.contains(uid) {
            return None;
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        let old = self.objects.get(&key).cloned();
        if let Some(old) = &old {
            if version(old.meta()) >= version(object.meta()) && version(old.meta()).is_some() {
                return None;
            }
            self.unindex(&key, old);
            let old_uid = old.meta().uid.as_deref().unwrap_or_default();
            if old_uid != uid {
                self.tombstones.add(old_uid);
            }
        }
        for index in &mut self.indexes {
            for value in (index.values_of)(&object) {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
        self.objects.insert(key, Arc::clone(&object));
        Some(Change { old, new: Some(object) })
    }

    /// Whether there is nothing new in this version. It counts as listed.
    fn knows(&mut self, key: &ObjectKey, identity: &ObjectMeta) -> bool {
        let known = self.objects.get(key).is_some_and(|known| {
            let known = known.meta();
            known.uid == identity.uid && version(known).is_some() && version(known) >= version(identity)
        });
        if known && let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        known
    }

    fn remove(&mut self, key: &ObjectKey, uid: &str) -> Option<Change<K>> {
        self.tombstones.add(uid);
        let known = self.objects.get(key).filter(|known| known.meta().uid.as_deref().unwrap_or_default() == uid);
        let old = Arc::clone(known?);
        self.unindex(key, &old);
        self.objects.remove(key);
        Some(Change { old: Some(old), new: None })
    }

    fn drop_unlisted(&mut self) -> Vec<Arc<K>> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !listed.contains(key)).cloned().collect();
        let mut objects = Vec::with_capacity(gone.len());
        for key in gone {
            if let Some(object) = self.objects.remove(&key) {
                self.unindex(&key, &object);
                objects.push(object);
            }
        }
        objects
    }

    fn unindex(&mut self, key: &ObjectKey, object: &Arc<K>) {
        for index in &mut self.indexes {
            for value in (index.values_of)(object) {
                if let Some(keys) = index.keys.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(&value);
                    }
                }
            }
        }
    }
}

impl Tombstones {
    fn add(&mut self, uid: &str) {
        if uid.is_empty() || !self.uids.insert(uid.to_owned()) {
            return;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > TOMBSTONES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

/// The resource version as the number that it is on every server of today.
fn version(identity: &ObjectMeta) -> Option<u64> {
    identity.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::ResourceExt;

    use super::*;

    fn object(name: &str, uid: &str, version: u64, team: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("ns".to_owned()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_string()),
                labels: Some([("team".to_owned(), team.to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn by_team(object: &ConfigMap) -> Vec<String> {
        object.labels().get("team").cloned().into_iter().collect()
    }

    fn unread(object: &ConfigMap) -> Unread<ConfigMap> {
        let text = serde_json::to_string(object).expect("it is JSON");
        serde_json::from_str(&text).expect("it is an object")
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
        objects.iter().map(|object| object.name_any()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let cache = Cache::builder().index(by_team).detached();
        cache.remember(object("a", "1", 1, "red"));
        cache.remember(object("b", "2", 2, "red"));
        assert_eq!(names(&cache.find(0, "red")), ["a", "b"]);
        cache.remember(object("a", "1", 3, "blue"));
        assert_eq!((cache.count(0, "red"), cache.count(0, "blue")), (1, 1));
        cache.forget(&object("b", "2", 4, "red"));
        assert_eq!(cache.count(0, "red"), 0);
    }

    #[test]
    fn what_is_older_is_not_taken_in() {
        let cache = Cache::builder().index(by_team).detached();
        cache.remember(object("a", "1", 5, "new"));
        cache.remember(object("a", "1", 4, "old"));
        assert_eq!(cache.count(0, "new"), 1);
    }

    #[test]
    fn what_was_deleted_does_not_come_back() {
        let cache = Cache::builder().index(by_team).detached();
        cache.forget(&object("a", "1", 5, "red"));
        cache.remember(object("a", "1", 4, "red"));
        assert!(cache.all().is_empty());
        cache.remember(object("a", "2", 6, "red"));
        assert_eq!(cache.all().len(), 1, "another object of the same name may come");
        cache.forget(&object("a", "1", 7, "red"));
        assert_eq!(cache.all().len(), 1, "the deletion of its predecessor does not concern it");
    }

    #[test]
    fn a_new_list_drops_what_is_not_in_it() {
        let cache = Cache::builder().index(by_team).detached();
        cache.remember(object("a", "1", 1, "red"));
        cache.take(watcher::Event::Init);
        cache.take(watcher::Event::InitApply(unread(&object("b", "2", 2, "red"))));
        cache.remember(object("c", "3", 9, "red"));
        assert_eq!(cache.count(0, "red"), 3, "nothing is dropped before the list is complete");
        cache.take(watcher::Event::InitDone);
        assert_eq!(names(&cache.find(0, "red")), ["b", "c"]);
    }

    #[test]
    fn what_nobody_looks_at_is_not_kept() {
        let cache = Cache::builder().index(by_team).trim(|object: &mut ConfigMap| object.data = None).detached();
        let data = Some([("k".to_owned(), "v".to_owned())].into());
        let kept = cache.remember(ConfigMap { data, ..object("a", "1", 1, "red") });
        assert_eq!((kept.data.clone(), cache.count(0, "red")), (None, 1));
    }

    #[test]
    fn what_a_list_says_again_stays() {
        let cache = Cache::builder().index(by_team).detached();
        cache.remember(object("a", "1", 5, "new"));
        cache.take(watcher::Event::Init);
        cache.take(watcher::Event::InitApply(unread(&object("a", "1", 4, "old"))));
        cache.take(watcher::Event::InitDone);
        assert_eq!(names(&cache.find(0, "new")), ["a"]);
        cache.take(watcher::Event::Apply(unread(&object("a", "1", 6, "old"))));
        assert_eq!(cache.count(0, "new"), 0, "what is new is read");
        cache.take(watcher::Event::Delete(unread(&object("a", "1", 7, "old"))));
        assert!(cache.all().is_empty());
    }

    #[test]
    fn handlers_hear_of_every_change_once() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let cache = Cache::builder()
            .on_change(move |change: &Change<ConfigMap>| {
                let sides = (change.old.is_some(), change.new.is_some());
                log.lock().expect("no handler panicked").push(sides);
            })
            .detached();
        cache.remember(object("a", "1", 1, "red"));
        cache.remember(object("a", "1", 1, "red"));
        cache.remember(object("a", "1", 2, "red"));
        cache.forget(&object("a", "1", 3, "red"));
        assert_eq!(*heard.lock().expect("no handler panicked"), [(false, true), (true, true), (true, false)]);
    }

    #[test]
    fn handlers_hear_of_changes_in_their_order() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let cache = Cache::builder()
            .on_change(move |change: &Change<ConfigMap>| {
                let version = change.new.as_ref().and_then(|new| version(new.meta()));
                log.lock().expect("no handler panicked").push(version);
            })
            .detached();
        std::thread::scope(|scope| {
            for first in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..500 {
                        cache.remember(object("a", "1", 1 + first + 4 * step, "red"));
                    }
                });
            }
        });
        let heard = heard.lock().expect("no handler panicked");
        assert!(heard.is_sorted(), "{heard:?}");
        assert_eq!(heard.last(), Some(&Some(2_000)));
    }
}
