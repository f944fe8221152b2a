//! Addresses that stand for names inside of sandboxes. Pure.
//!
//! A sandbox that asks for an allowed name gets an address of a network that is routed nowhere. When it connects there,
//! the proxy knows by the address which name was meant, whatever the connection speaks, and looks the name up itself:
//! nothing that the sandbox, or a resolver it could deceive, says about addresses is believed.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use crate::name::HostName;

/// 198.18.0.0/15, without its first and last address.
const FIRST: u32 = 0xc612_0001;
const LAST: u32 = 0xc613_fffe;
/// Names that have an address at a time; the oldest make room.
const NAMES_MAX: usize = 65_536;

/// Names and their addresses.
#[derive(Debug, Default)]
pub struct SyntheticNames {
    by_name: HashMap<HostName, u32>,
    by_address: HashMap<u32, HostName>,
    order: VecDeque<u32>,
}

/// Whether an address stands for a name.
#[must_use]
pub fn is_synthetic(address: Ipv4Addr) -> bool {
    (FIRST - 1..=LAST + 1).contains(&address.to_bits())
}

impl SyntheticNames {
    /// The address of a name. Mostly the same after a restart: sandboxes keep what they were told for a while.
    pub fn address_of(&mut self, name: &HostName) -> Ipv4Addr {
        if let Some(address) = self.by_name.get(name) {
            return Ipv4Addr::from_bits(*address);
        }
        if self.order.len() >= NAMES_MAX {
            self.forget_oldest();
        }
        let count = LAST - FIRST + 1;
        let start = hash(name.as_str()) % count;
        // There are twice as many addresses as names.
        let free = (0..count)
            .map(|step| FIRST + (start + step) % count)
            .find(|address| !self.by_address.contains_key(address));
        let address = free.expect("fewer names than addresses");
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, name.clone());
        self.order.push_back(address);
        Ipv4Addr::from_bits(address)
    }

    /// The name that an address stands for.
    #[must_use]
    pub fn name_of(&self, address: Ipv4Addr) -> Option<&HostName> {
        self.by_address.get(&address.to_bits())
    }

    fn forget_oldest(&mut self) {
        if let Some(name) = self.order.pop_front().and_then(|address| self.by_address.remove(&address)) {
            self.by_name.remove(&name);
        }
    }
}

/// FNV-1a, which is the same in every process.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect("a name")
    }

    #[test]
    fn a_name_keeps_its_address() {
        let (mut names, mut after_restart) = (SyntheticNames::default(), SyntheticNames::default());
        let address = names.address_of(&name("a.example"));
        assert!(is_synthetic(address) && !is_synthetic(Ipv4Addr::new(8, 8, 8, 8)));
        assert_eq!(names.address_of(&name("a.example")), address);
        assert_ne!(names.address_of(&name("b.example")), address);
        assert_eq!(names.name_of(address), Some(&name("a.example")));
        assert_eq!(after_restart.address_of(&name("a.example")), address);
    }

    #[test]
    fn the_oldest_names_make_room() {
        let mut names = SyntheticNames::default();
        let first = names.address_of(&name("first.example"));
        for number in 0..NAMES_MAX {
            names.address_of(&name(&format!("n{number}.example")));
        }
        assert_eq!(names.by_name.len(), NAMES_MAX);
        assert_ne!(names.name_of(first), Some(&name("first.example")));
    }
}
