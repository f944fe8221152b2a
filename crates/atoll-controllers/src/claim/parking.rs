//! Claims that wait for a member of their pool to become Ready. One member wakes one claim: the most important one, and
//! of those the one that waits longest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_client::ObjectKey;

/// The most important first, then the longest waiting.
type Rank = (Reverse<i64>, u64);

/// For each pool, the claims that wait. Bounded by the number of claims: who is served or gone leaves.
#[derive(Default)]
pub(crate) struct Parking {
    lots: Mutex<HashMap<ObjectKey, Lot>>,
}

#[derive(Default)]
struct Lot {
    arrivals: u64,
    ranks: HashMap<ObjectKey, Rank>,
    waiting: BTreeMap<Rank, Parked>,
}

struct Parked {
    claim: ObjectKey,
    /// Told to look again, and has not come back yet.
    woken: bool,
}

impl Parking {
    /// The claim waits, in its old place if it waited before.
    pub(crate) fn park(&self, pool: ObjectKey, claim: &ObjectKey, priority: i64) {
        let mut lots = self.lock();
        let lot = lots.entry(pool).or_default();
        let arrival = match lot.ranks.get(claim).copied() {
            Some(rank) => {
                lot.waiting.remove(&rank);
                rank.1
            }
            None => {
                lot.arrivals += 1;
                lot.arrivals
            }
        };
        let rank = (Reverse(priority), arrival);
        lot.ranks.insert(claim.clone(), rank);
        lot.waiting.insert(rank, Parked { claim: claim.clone(), woken: false });
    }

    /// The claim waits no more.
    pub(crate) fn leave(&self, pool: &ObjectKey, claim: &ObjectKey) {
        let mut lots = self.lock();
        let Some(lot) = lots.get_mut(pool) else { return };
        if let Some(rank) = lot.ranks.remove(claim) {
            lot.waiting.remove(&rank);
        }
        if lot.waiting.is_empty() {
            lots.remove(pool);
        }
    }

    /// The first claim that was not woken yet. It keeps its place until it leaves.
    pub(crate) fn wake(&self, pool: &ObjectKey) -> Option<ObjectKey> {
        let mut lots = self.lock();
        let parked = lots.get_mut(pool)?.waiting.values_mut().find(|parked| !parked.woken)?;
        parked.woken = true;
        Some(parked.claim.clone())
    }

    /// How many claims come before this one, counted up to `count_max`; one that does not wait comes after all of its
    /// own priority.
    pub(crate) fn ahead(&self, pool: &ObjectKey, claim: &ObjectKey, priority: i64, count_max: usize) -> usize {
        let lots = self.lock();
        let Some(lot) = lots.get(pool) else { return 0 };
        let arrival = lot.ranks.get(claim).map_or(u64::MAX, |(_, arrival)| *arrival);
        lot.waiting.range(..(Reverse(priority), arrival)).take(count_max).count()
    }

    /// How many claims wait, for each pool.
    pub(crate) fn counts(&self) -> Vec<(ObjectKey, usize)> {
        self.lock().iter().map(|(pool, lot)| (pool.clone(), lot.waiting.len())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Lot>> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> ObjectKey {
        ObjectKey::new("ns", "p")
    }

    fn claim(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn woken(parking: &Parking) -> String {
        parking.wake(&pool()).map(|claim| claim.name).unwrap_or_default()
    }

    #[test]
    fn claims_wake_in_the_order_in_which_they_came() {
        let parking = Parking::default();
        for name in ["first", "second", "first"] {
            parking.park(pool(), &claim(name), 0);
        }
        assert_eq!([(); 3].map(|()| woken(&parking)), ["first", "second", ""]);
        parking.park(pool(), &claim("first"), 0);
        assert_eq!(woken(&parking), "first", "who got nothing waits again, in the old place");
        parking.leave(&pool(), &claim("first"));
        parking.leave(&pool(), &claim("second"));
        assert!(parking.counts().is_empty());
    }

    #[test]
    fn the_important_come_first() {
        let parking = Parking::default();
        for (name, priority) in [("low", -1), ("none", 0), ("high", 9), ("high too", 9)] {
            parking.park(pool(), &claim(name), priority);
        }
        assert_eq!(parking.ahead(&pool(), &claim("none"), 0, 10), 2);
        assert_eq!(parking.ahead(&pool(), &claim("new"), 9, 10), 2);
        assert_eq!(parking.ahead(&pool(), &claim("new"), 10, 10), 0);
        assert_eq!(parking.ahead(&pool(), &claim("new"), -2, 3), 3, "not counted further than asked");
        assert_eq!([(); 4].map(|()| woken(&parking)), ["high", "high too", "none", "low"]);
        parking.park(pool(), &claim("low"), 99);
        assert_eq!(parking.ahead(&pool(), &claim("high"), 9, 10), 1, "a claim may become more important");
    }
}
