//! Claims that wait for a member of their pool to become Ready. One member wakes one claim.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_client::ObjectKey;

/// For each pool, the claims that wait, the longest waiting first. Bounded by the number of claims.
#[derive(Default)]
pub(crate) struct Parking {
    waiting: Mutex<HashMap<ObjectKey, VecDeque<ObjectKey>>>,
}

impl Parking {
    /// The claim waits, if it does not already.
    pub(crate) fn park(&self, pool: ObjectKey, claim: &ObjectKey) {
        let mut waiting = self.lock();
        let queue = waiting.entry(pool).or_default();
        if !queue.contains(claim) {
            queue.push_back(claim.clone());
        }
    }

    /// The claim that waits longest; it waits no more.
    pub(crate) fn wake(&self, pool: &ObjectKey) -> Option<ObjectKey> {
        let mut waiting = self.lock();
        let queue = waiting.get_mut(pool)?;
        let claim = queue.pop_front();
        if queue.is_empty() {
            waiting.remove(pool);
        }
        claim
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, VecDeque<ObjectKey>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_wake_in_the_order_in_which_they_came() {
        let parking = Parking::default();
        let (pool, first, second) = (ObjectKey::new("ns", "p"), ObjectKey::new("ns", "1"), ObjectKey::new("ns", "2"));
        parking.park(pool.clone(), &first);
        parking.park(pool.clone(), &second);
        parking.park(pool.clone(), &first);
        assert_eq!(parking.wake(&pool), Some(first));
        assert_eq!(parking.wake(&pool), Some(second));
        assert_eq!(parking.wake(&pool), None);
    }
}
