//! All that is left to chance, from one seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A source of chance. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Dice {
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    /// Another source, so that how often one is asked does not change what the other says.
    pub(crate) fn fork(&self) -> Self {
        Self { random: Arc::new(Mutex::new(self.lock().fork())) }
    }

    /// Whether something of this likelihood happens.
    pub(crate) fn per_mille(&self, likelihood: u32) -> bool {
        self.lock().u32(..1_000) < likelihood
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&self, end: usize) -> usize {
        self.lock().usize(..end)
    }

    /// A time up to `longest`.
    pub(crate) fn up_to(&self, longest: Duration) -> Duration {
        let milliseconds = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.lock().u64(..=milliseconds))
    }

    /// One of them.
    pub(crate) fn choose<'a, T>(&self, among: &'a [T]) -> Option<&'a T> {
        if among.is_empty() { None } else { among.get(self.below(among.len())) }
    }

    fn lock(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
