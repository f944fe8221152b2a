//! Approvals in use: routes and credentials that are open for one sandbox, for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The longest that one lasts.
pub const GRANT_SECONDS_MAX: u64 = 3600;
/// Grants at a time.
const GRANTS_MAX: usize = 1024;

/// What is granted: rules with `onApproval` for this name, to this sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// The sandbox's namespace.
    pub namespace: String,
    /// The sandbox's Pod.
    pub sandbox: String,
    /// The rule's name (a pattern where the rule has one), or address.
    pub name: String,
}

/// A grant cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// Too long, or no time at all.
    #[error("a grant lasts from 1 to {GRANT_SECONDS_MAX} seconds")]
    Time,
    /// Too many at once.
    #[error("there are {GRANTS_MAX} grants already")]
    TooMany,
}

/// All grants of a plane. They do not outlive it. Clones share them.
#[derive(Debug, Clone)]
pub struct Grants {
    open: Arc<Mutex<Open>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Open {
    by_id: BTreeMap<u64, (Grant, Instant)>,
    last_id: u64,
}

impl Default for Grants {
    fn default() -> Self {
        Self { open: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Grants {
    /// Opens what is granted for `seconds`; returns a number to close it by.
    ///
    /// # Errors
    /// [`NotGranted`].
    pub fn give(&self, grant: Grant, seconds: u64) -> Result<u64, NotGranted> {
        if !(1..=GRANT_SECONDS_MAX).contains(&seconds) {
            return Err(NotGranted::Time);
        }
        let id = {
            let mut open = self.lock();
            open.drop_expired(Instant::now());
            if open.by_id.len() >= GRANTS_MAX {
                return Err(NotGranted::TooMany);
            }
            open.last_id += 1;
            let id = open.last_id;
            open.by_id.insert(id, (grant, Instant::now() + Duration::from_secs(seconds)));
            id
        };
        self.changed.send_modify(|version| *version += 1);
        Ok(id)
    }

    /// Closes what was opened. Returns whether it was open.
    #[must_use]
    pub fn take_back(&self, id: u64) -> bool {
        let was_open = self.lock().by_id.remove(&id).is_some();
        self.changed.send_modify(|version| *version += 1);
        was_open
    }

    /// Whether a rule's name is granted to a sandbox now.
    #[must_use]
    pub fn holds(&self, namespace: &str, sandbox: &str, name: &str) -> bool {
        let now = Instant::now();
        self.lock().by_id.values().any(|(grant, until)| {
            *until > now && grant.namespace == namespace && grant.sandbox == sandbox && grant.name == name
        })
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// When the next one ends by itself.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let mut open = self.lock();
        open.drop_expired(Instant::now());
        open.by_id.values().map(|(_, until)| *until).min()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn drop_expired(&mut self, now: Instant) {
        self.by_id.retain(|_, (_, until)| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_one_sandbox_and_one_name() {
        let grants = Grants::default();
        let grant = Grant { namespace: "team".into(), sandbox: "box".into(), name: "a.example".into() };
        let id = grants.give(grant.clone(), 60).expect("it is given");
        assert!(grants.holds("team", "box", "a.example"));
        for (namespace, sandbox, name) in
            [("other", "box", "a.example"), ("team", "other", "a.example"), ("team", "box", "b.example")]
        {
            assert!(!grants.holds(namespace, sandbox, name));
        }
        assert!(grants.next_end().is_some());
        assert!(grants.take_back(id) && !grants.take_back(id));
        assert!(!grants.holds("team", "box", "a.example") && grants.next_end().is_none());
        assert_eq!(grants.give(grant.clone(), 0), Err(NotGranted::Time));
        assert_eq!(grants.give(grant, GRANT_SECONDS_MAX + 1), Err(NotGranted::Time));
    }
}
