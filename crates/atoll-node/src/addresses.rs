//! The node's pool of IPv4 addresses. Pure.

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;

/// How long an address rests after its sandbox is gone, in milliseconds: whoever still knows it finds nobody there.
pub(crate) const REST_MS: u64 = 60_000;

const POOL_PREFIX: u32 = 16;
/// Host parts that are never given out: the network's own address and the router's.
const FIRST_HOST: u32 = 2;
const LAST_HOST: u32 = (1 << (32 - POOL_PREFIX)) - 2;

/// Gives out the addresses of one /16 in turn.
#[derive(Debug)]
pub(crate) struct AddressPool {
    network: u32,
    cursor: u32,
    taken: HashSet<u32>,
    /// Addresses that rest, with the time from which they can be used again; the earliest first.
    resting: VecDeque<(u64, u32)>,
}

impl AddressPool {
    /// The /16 that `network` lies in.
    #[must_use]
    pub(crate) fn new(network: Ipv4Addr) -> Self {
        let mask = u32::MAX << (32 - POOL_PREFIX);
        Self { network: network.to_bits() & mask, cursor: FIRST_HOST, taken: HashSet::new(), resting: VecDeque::new() }
    }

    /// The next free address; `None` when all are in use or at rest.
    pub(crate) fn allocate(&mut self, now_ms: u64) -> Option<Ipv4Addr> {
        while self.resting.front().is_some_and(|(until, _)| *until <= now_ms) {
            if let Some((_, host)) = self.resting.pop_front() {
                self.taken.remove(&host);
            }
        }
        let hosts = LAST_HOST - FIRST_HOST + 1;
        for step in 0..hosts {
            let host = FIRST_HOST + (self.cursor - FIRST_HOST + step) % hosts;
            if self.taken.insert(host) {
                self.cursor = if host == LAST_HOST { FIRST_HOST } else { host + 1 };
                return Some(Ipv4Addr::from_bits(self.network | host));
            }
        }
        None
    }

    /// Marks an address as in use, for a sandbox that was there before the node. Returns whether it was free and of
    /// this pool.
    pub(crate) fn reserve(&mut self, address: Ipv4Addr) -> bool {
        let Some(host) = self.host(address) else { return false };
        let free = self.taken.insert(host);
        if free && host >= self.cursor {
            self.cursor = if host == LAST_HOST { FIRST_HOST } else { host + 1 };
        }
        free
    }

    /// Takes an address back. Its sandbox must be gone, to the last trace.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now_ms: u64) {
        if let Some(host) = self.host(address).filter(|host| self.taken.contains(host)) {
            self.resting.push_back((now_ms.saturating_add(REST_MS), host));
        }
    }

    fn host(&self, address: Ipv4Addr) -> Option<u32> {
        let host = address.to_bits() ^ self.network;
        (FIRST_HOST..=LAST_HOST).contains(&host).then_some(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> AddressPool {
        AddressPool::new(Ipv4Addr::new(10, 201, 0, 0))
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_come_in_turn_and_rest_before_reuse() {
        let mut pool = pool();
        assert_eq!(pool.allocate(0), Some(ip("10.201.0.2")));
        assert_eq!(pool.allocate(0), Some(ip("10.201.0.3")));
        pool.release(ip("10.201.0.2"), 0);
        assert_eq!(pool.allocate(REST_MS), Some(ip("10.201.0.4")));
    }

    #[test]
    fn a_full_pool_gives_only_rested_addresses() {
        let mut pool = pool();
        let mut given = HashSet::new();
        while let Some(address) = pool.allocate(0) {
            assert!(given.insert(address), "{address} was given twice");
        }
        assert_eq!(given.len(), 65533);
        assert!(!given.contains(&ip("10.201.0.0")) && !given.contains(&ip("10.201.0.1")));
        assert!(!given.contains(&ip("10.201.255.255")));
        pool.release(ip("10.201.7.7"), 1_000);
        assert_eq!(pool.allocate(1_000 + REST_MS - 1), None);
        assert_eq!(pool.allocate(1_000 + REST_MS), Some(ip("10.201.7.7")));
    }

    #[test]
    fn reserved_addresses_are_not_given() {
        let mut pool = pool();
        assert!(pool.reserve(ip("10.201.0.2")));
        assert!(!pool.reserve(ip("10.201.0.2")), "it is taken");
        assert!(!pool.reserve(ip("10.202.0.2")), "it is another network's");
        assert!(!pool.reserve(ip("10.201.0.1")), "it is the router's");
        assert_eq!(pool.allocate(0), Some(ip("10.201.0.3")));
    }

    #[test]
    fn what_was_never_given_is_not_taken_back() {
        let mut pool = pool();
        pool.release(ip("10.201.0.9"), 0);
        assert!(pool.resting.is_empty());
    }
}
