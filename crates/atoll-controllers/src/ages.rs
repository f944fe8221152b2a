//! How long objects have been known here. Creation times on objects count whole seconds, too coarse for short waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When each object, by UID, was first looked at, and whether it was Ready since. Bounded by the number of objects: the
/// deleted are forgotten.
#[derive(Default)]
pub(crate) struct Ages {
    objects: Mutex<HashMap<String, Known>>,
}

struct Known {
    since: Instant,
    was_ready: bool,
}

impl Ages {
    /// How long ago the object was first asked about.
    pub(crate) fn age(&self, uid: &str) -> Duration {
        let now = Instant::now();
        let mut objects = self.lock();
        let known = objects.entry(uid.to_owned()).or_insert(Known { since: now, was_ready: false });
        now.duration_since(known.since)
    }

    /// Notes that the object is Ready; for the first time, returns how long ago it was first asked about.
    pub(crate) fn first_ready(&self, uid: &str) -> Option<Duration> {
        let age = self.age(uid);
        let mut objects = self.lock();
        let known = objects.get_mut(uid)?;
        (!std::mem::replace(&mut known.was_ready, true)).then_some(age)
    }

    /// Drops an object.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
