//! What is used of every quota, kept in step with the store: writes that are under way count as if they were done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::task::{Context, Poll};

use atoll_store::{Change, Event, ListRequest, Store, StoreError, Watch, WatchError};

use crate::admission::amounts::{self, Amounts};
use crate::definitions::quantity::Quantity;
use crate::registry::{Registry, Resource};

use super::usage::{Quota, Use};

/// A namespace with at least one quota.
pub(super) struct Space {
    quotas: Vec<(Quota, Amounts)>,
    watches: Vec<(Arc<Resource>, Watch)>,
    stored: HashMap<Arc<str>, Use>,
    under_way: HashMap<String, Use>,
}

/// What a write would take beyond what a quota has left.
pub(super) struct Exceeded {
    pub(super) quota: String,
    pub(super) requested: Amounts,
    pub(super) used: Amounts,
    pub(super) limited: Amounts,
}

impl Space {
    fn load(store: &Store, registry: &Registry, namespace: &str, quotas: Vec<Quota>) -> Result<Self, StoreError> {
        let kinds: BTreeSet<String> = quotas.iter().flat_map(Quota::counts).collect();
        let mut space = Self {
            quotas: quotas.into_iter().map(|quota| (quota, Amounts::new())).collect(),
            watches: Vec::new(),
            stored: HashMap::new(),
            under_way: HashMap::new(),
        };
        let resources = registry.stored().filter(|resource| kinds.contains(&resource.definition.qualified_plural()));
        for resource in resources {
            let prefix = resource.prefix(Some(namespace));
            let page = store.list(&ListRequest { prefix: &prefix, ..ListRequest::default() })?;
            let watch = store.watch(&prefix, page.revision)?;
            for record in &page.records {
                let used = Use::of(&resource.definition, &resource.decode(&record.value));
                space.put(Arc::clone(&record.key), Some(used));
            }
            space.watches.push((Arc::clone(resource), watch));
        }
        Ok(space)
    }

    /// What an object uses, counting a write of it that is under way.
    fn current(&self, key: &str) -> Option<&Use> {
        self.under_way.get(key).or_else(|| self.stored.get(key))
    }

    fn recount(&mut self, before: Option<&Use>, after: Option<&Use>) {
        for (quota, total) in &mut self.quotas {
            if let Some(used) = before {
                amounts::subtract(total, &quota.share(used));
            }
            if let Some(used) = after {
                amounts::add(total, &quota.share(used));
            }
        }
    }

    fn put(&mut self, key: Arc<str>, used: Option<Use>) {
        let before = self.current(&key).cloned();
        self.recount(before.as_ref(), used.as_ref());
        self.under_way.remove(&*key);
        match used {
            Some(used) => self.stored.insert(key, used),
            None => self.stored.remove(&key),
        };
    }

    fn event(&mut self, resource: &Resource, event: &Event) {
        let used =
            (event.change == Change::Put).then(|| Use::of(&resource.definition, &resource.decode(&event.record.value)));
        self.put(Arc::clone(&event.record.key), used);
    }

    /// The first quota that has not enough left for an object to use this.
    pub(super) fn exceeded(&self, key: &str, used: &Use) -> Option<Exceeded> {
        let before = self.current(key);
        self.quotas.iter().find_map(|(quota, total)| {
            let mut requested = quota.share(used);
            if let Some(before) = before {
                amounts::subtract(&mut requested, &quota.share(before));
            }
            let too_much = |name: &String, amount: &Quantity| {
                let (taken, most) = (total.get(name).copied(), quota.hard.get(name).copied());
                let sum = taken.map_or(*amount, |taken| taken.plus(*amount));
                !amount.is_zero() && most.is_some_and(|most| sum > most)
            };
            requested.retain(|name, amount| too_much(name, amount));
            if requested.is_empty() {
                return None;
            }
            let of = |all: &Amounts| {
                let named =
                    requested.keys().map(|name| (name.clone(), all.get(name).copied().unwrap_or(Quantity::ZERO)));
                named.collect()
            };
            let (used, limited) = (of(total), of(&quota.hard));
            Some(Exceeded { quota: quota.name.clone(), requested, used, limited })
        })
    }

    /// The quotas that are about an object that uses this.
    pub(super) fn about<'a>(&'a self, used: &'a Use) -> impl Iterator<Item = &'a Quota> {
        self.quotas.iter().map(|(quota, _)| quota).filter(|quota| quota.is_about(used))
    }

    /// Counts a write that is about to be made.
    pub(super) fn begin(&mut self, key: &str, used: Use) {
        let before = self.current(key).cloned();
        self.recount(before.as_ref(), Some(&used));
        self.under_way.insert(key.to_owned(), used);
    }

    /// Takes a write that did not happen out again. One that did has been seen in the store.
    pub(super) fn end(&mut self, key: &str) {
        if let Some(used) = self.under_way.remove(key) {
            let stored = self.stored.get(key).cloned();
            self.recount(Some(&used), stored.as_ref());
        }
    }

    /// Every quota with all that it counts, whether used or not.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&Quota, Amounts)> {
        self.quotas.iter().map(|(quota, total)| {
            let none = Quantity::ZERO;
            let all = quota.hard.keys().map(|name| (name.clone(), total.get(name).copied().unwrap_or(none)));
            (quota, all.collect())
        })
    }
}

/// The namespaces that have quotas.
pub(super) struct Ledger {
    quotas: Watch,
    folder: Arc<Resource>,
    pub(super) spaces: BTreeMap<String, Space>,
    /// Namespaces whose quotas' status may be out of date.
    pub(super) changed: BTreeSet<String>,
}

impl Ledger {
    pub(super) fn load(store: &Store, registry: &Registry, folder: Arc<Resource>) -> Result<Self, StoreError> {
        let page = store.list(&ListRequest { prefix: &folder.folder, ..ListRequest::default() })?;
        let quotas = store.watch(&folder.folder, page.revision)?;
        let mut ledger = Self { quotas, folder, spaces: BTreeMap::new(), changed: BTreeSet::new() };
        let namespaces: BTreeSet<String> =
            page.records.iter().filter_map(|record| ledger.namespace_of(&record.key)).collect();
        for namespace in namespaces {
            ledger.reload(store, registry, &namespace)?;
        }
        Ok(ledger)
    }

    fn namespace_of(&self, key: &str) -> Option<String> {
        key.strip_prefix(&self.folder.folder)?.split_once('/').map(|(namespace, _)| namespace.to_owned())
    }

    /// Reads a namespace's quotas anew, and what is in it if they have changed.
    fn reload(&mut self, store: &Store, registry: &Registry, namespace: &str) -> Result<(), StoreError> {
        let prefix = self.folder.prefix(Some(namespace));
        let page = store.list(&ListRequest { prefix: &prefix, ..ListRequest::default() })?;
        let quotas: Vec<Quota> =
            page.records.iter().map(|record| Quota::read(&self.folder.decode(&record.value))).collect();
        self.changed.insert(namespace.to_owned());
        if quotas.is_empty() {
            self.spaces.remove(namespace);
            return Ok(());
        }
        let same = self.spaces.get(namespace).is_some_and(|space| space.quotas.iter().map(|(it, _)| it).eq(&quotas));
        if same {
            return Ok(());
        }
        let mut space = Space::load(store, registry, namespace, quotas)?;
        let under_way = self.spaces.remove(namespace).map(|old| old.under_way).unwrap_or_default();
        for (key, used) in under_way {
            space.begin(&key, used);
        }
        self.spaces.insert(namespace.to_owned(), space);
        Ok(())
    }

    /// Takes in what has been written since the last look. With a context, its task is woken by the next write.
    pub(super) fn follow(
        &mut self,
        store: &Store,
        registry: &Registry,
        mut context: Option<&mut Context<'_>>,
    ) -> Result<(), FollowError> {
        let mut reread = BTreeSet::new();
        while let Some(event) = next(&mut self.quotas, &mut context)? {
            reread.extend(self.namespace_of(&event.record.key));
        }
        for namespace in reread {
            self.reload(store, registry, &namespace)?;
        }
        for (namespace, space) in &mut self.spaces {
            let mut watches = std::mem::take(&mut space.watches);
            for (resource, watch) in &mut watches {
                while let Some(event) = next(watch, &mut context)? {
                    space.event(resource, &event);
                    self.changed.insert(namespace.clone());
                }
            }
            space.watches = watches;
        }
        Ok(())
    }
}

/// Why the ledger must be made anew.
pub(super) enum FollowError {
    Lagged,
    Store(StoreError),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<WatchError> for FollowError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Lagged => Self::Lagged,
            WatchError::Closed => Self::Store(StoreError::Closed),
        }
    }
}

fn next(watch: &mut Watch, context: &mut Option<&mut Context<'_>>) -> Result<Option<Arc<Event>>, WatchError> {
    let Some(context) = context else { return watch.try_next() };
    match watch.poll_next(context) {
        Poll::Ready(event) => event.map(Some),
        Poll::Pending => Ok(None),
    }
}
