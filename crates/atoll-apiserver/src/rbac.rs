//! Role-based access control: the rules of roles, given to people and programs by bindings.
//!
//! What is decided follows the store without delay: whoever has seen the answer to a write of a role or binding is judged
//! by it.

mod aggregation;
mod bootstrap;
mod defaults;
mod escalation;
mod policy;
mod rule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use atoll_store::{Change, Event, ListRequest, Record, Store, StoreError, Watch};

use crate::registry::{ROOT, parse};

use policy::{Binding, RoleKey};

pub(crate) use aggregation::start as start_aggregation;
pub(crate) use bootstrap::bootstrap;
pub(crate) use escalation::check as check_escalation;
pub(crate) use policy::{Grant, Policy};
pub(crate) use rule::PolicyRule;

/// The group of the four kinds.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
pub(crate) const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

fn folder() -> String {
    format!("{ROOT}{GROUP}/")
}

/// Roles and bindings as they are stored now.
pub(crate) struct Rbac(Mutex<Live>);

struct Live {
    watch: Watch,
    roles: HashMap<RoleKey, Arc<[PolicyRule]>>,
    bindings: HashMap<Arc<str>, Arc<Binding>>,
    policy: Arc<Policy>,
}

impl Rbac {
    pub(crate) fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Self(Mutex::new(Live::load(store)?)))
    }

    /// What holds now.
    pub(crate) fn policy(&self, store: &Store) -> Arc<Policy> {
        let mut live = self.0.lock().expect("no panic while the policy is locked");
        let mut changed = false;
        loop {
            match live.watch.try_next() {
                Ok(Some(event)) => {
                    live.event(&event);
                    changed = true;
                }
                Ok(None) => break,
                // Read anew; where even that fails, nobody is given more than before, and the store refuses all writes.
                Err(_lagged_or_closed) => {
                    match Live::load(store) {
                        Ok(again) => *live = again,
                        Err(error) => tracing::error!(cause = %atoll_stdx::chain(&error), "roles cannot be read"),
                    }
                    return Arc::clone(&live.policy);
                }
            }
        }
        if changed {
            live.compile();
        }
        Arc::clone(&live.policy)
    }
}

impl Live {
    fn load(store: &Store) -> Result<Self, StoreError> {
        let prefix = folder();
        let page = store.list(&ListRequest { prefix: &prefix, ..ListRequest::default() })?;
        let watch = store.watch(&prefix, page.revision)?;
        let mut live = Self { watch, roles: HashMap::new(), bindings: HashMap::new(), policy: Arc::default() };
        for record in &page.records {
            live.put(record);
        }
        live.compile();
        Ok(live)
    }

    fn compile(&mut self) {
        self.policy = Arc::new(Policy::new(self.roles.clone(), self.bindings.values()));
    }

    fn event(&mut self, event: &Event) {
        match event.change {
            Change::Put => self.put(&event.record),
            Change::Delete => match Place::of(&event.record.key) {
                Some(Place::Role(key)) => {
                    self.roles.remove(&key);
                }
                Some(Place::Binding) => {
                    self.bindings.remove(&event.record.key);
                }
                None => {}
            },
        }
    }

    fn put(&mut self, record: &Record) {
        match Place::of(&record.key) {
            Some(Place::Role(key)) => {
                let object = parse(&record.value);
                let rules = object["rules"].as_array().into_iter().flatten().map(PolicyRule::read).collect();
                self.roles.insert(key, rules);
            }
            Some(Place::Binding) => {
                self.bindings.insert(Arc::clone(&record.key), Arc::new(Binding::read(&parse(&record.value))));
            }
            None => {}
        }
    }
}

/// What lies under a key.
enum Place {
    Role(RoleKey),
    Binding,
}

impl Place {
    fn of(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(ROOT)?.strip_prefix(GROUP)?.strip_prefix('/')?.splitn(3, '/');
        let (plural, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        match plural {
            "clusterroles" => Some(Self::Role((Box::default(), name.into()))),
            "roles" => Some(Self::Role((namespace.into(), name.into()))),
            "clusterrolebindings" | "rolebindings" => Some(Self::Binding),
            _ => None,
        }
    }
}
