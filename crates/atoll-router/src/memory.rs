//! Verdicts, remembered for a moment: bounded, the oldest the first to go.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

/// Verdicts by what they are about.
pub(crate) struct Memory<K, V> {
    known: Mutex<Known<K, V>>,
    entries_max: usize,
}

struct Known<K, V> {
    verdicts: HashMap<K, (V, Instant)>,
    order: VecDeque<K>,
}

impl<K: Eq + Hash + Clone, V: Clone> Memory<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { known: Mutex::new(Known { verdicts: HashMap::new(), order: VecDeque::new() }), entries_max }
    }

    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let known = self.lock();
        let (verdict, until) = known.verdicts.get(key)?;
        (*until > now).then(|| verdict.clone())
    }

    pub(crate) fn put(&self, key: K, verdict: V, until: Instant) {
        let mut known = self.lock();
        if known.verdicts.insert(key.clone(), (verdict, until)).is_some() {
            known.order.retain(|own| *own != key);
        }
        known.order.push_back(key);
        while known.order.len() > self.entries_max {
            if let Some(oldest) = known.order.pop_front() {
                known.verdicts.remove(&oldest);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known<K, V>> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn verdicts_expire_and_are_bounded() {
        const ENTRIES_MAX: usize = 64;
        let memory = Memory::new(ENTRIES_MAX);
        let (now, lifetime) = (Instant::now(), Duration::from_secs(30));
        memory.put(0, true, now + lifetime);
        assert_eq!(memory.get(&0, now), Some(true));
        assert_eq!(memory.get(&0, now + lifetime), None);
        memory.put(0, false, now + lifetime);
        assert_eq!(memory.get(&0, now), Some(false));
        for key in 1..=ENTRIES_MAX {
            memory.put(key, true, now + lifetime);
        }
        assert_eq!(memory.get(&0, now), None);
        let known = memory.lock();
        assert_eq!((known.order.len(), known.verdicts.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }
}
