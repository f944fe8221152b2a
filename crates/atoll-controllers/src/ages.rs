//! How long objects have been known here. Creation times on objects count whole seconds, too coarse for short waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When each object, by UID, was first looked at. Bounded by the number of objects: the deleted are forgotten.
#[derive(Default)]
pub(crate) struct Ages {
    first_seen: Mutex<HashMap<String, Instant>>,
}

impl Ages {
    /// How long ago the object was first asked about.
    pub(crate) fn age(&self, uid: &str) -> Duration {
        let now = Instant::now();
        let mut first_seen = self.lock();
        let since = *first_seen.entry(uid.to_owned()).or_insert(now);
        now.duration_since(since)
    }

    /// Drops an object.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.first_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
