//! The administrator's egress floor: the most that any rule of anybody can open. Closed unless the administrator opened
//! it. Pure.

use std::net::Ipv4Addr;

use atoll_sandbox::spec::POD_NETWORK;
use serde::{Deserialize, Serialize};

use crate::ranges::{NotANetwork, RangeSet};

/// Never reached from a sandbox, whatever anybody lists: this network, loopback, link-local addresses (where clouds
/// keep credentials), addresses that stand for names, multicast, reserved and broadcast.
const NEVER: [&str; 6] = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", SYNTHETIC, "224.0.0.0/4", "240.0.0.0/4"];

/// Not public (IANA's registry of special-purpose addresses, RFC 6890): reached only where listed.
const NOT_PUBLIC: [&str; 9] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.51.100.0/24",
    "203.0.113.0/24",
];

/// Addresses of this network (RFC 2544, for benchmarks, routed nowhere) stand for names inside of sandboxes.
pub const SYNTHETIC: &str = "198.18.0.0/15";
const POD_NETWORK_BITS: u32 = 16;

/// What the administrator opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Every public address.
    public: bool,
    /// What was listed.
    listed: RangeSet,
    /// Single addresses among them: the only way to open one of the machine itself.
    singles: RangeSet,
    /// The machine's own addresses.
    machine: RangeSet,
}

/// Text that says nothing about a floor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the egress floor is `public`, or networks such as 192.0.2.0/24, separated by spaces or commas")]
pub struct NotAFloor(#[source] NotANetwork);

impl Floor {
    /// Reads what the administrator opened: `public` and networks, separated by spaces or commas; nothing is closed.
    ///
    /// # Errors
    /// [`NotAFloor`].
    pub fn parse(text: &str, machine: &[Ipv4Addr]) -> Result<Self, NotAFloor> {
        let mut floor = Self { machine: RangeSet::of(machine.iter().copied()), ..Self::default() };
        for word in text.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty()) {
            if word == "public" {
                floor.public = true;
                continue;
            }
            let network = RangeSet::parse(word).map_err(NotAFloor)?;
            if !word.contains('/') || word.ends_with("/32") {
                floor.singles = floor.singles.union(&network);
            }
            floor.listed = floor.listed.union(&network);
        }
        Ok(floor)
    }

    /// Whether nothing was opened.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.public && self.listed.is_empty()
    }

    /// Every address outside that a rule can open.
    #[must_use]
    pub fn permitted(&self) -> RangeSet {
        let public = if self.public { public() } else { RangeSet::EMPTY };
        self.never_apart(&public.union(&self.listed))
    }

    /// Addresses that a name which is allowed may have: those which are public and those which were listed. Names need
    /// no open floor.
    #[must_use]
    pub fn permitted_for_names(&self) -> RangeSet {
        self.never_apart(&public().union(&self.listed))
    }

    fn never_apart(&self, addresses: &RangeSet) -> RangeSet {
        addresses
            .difference(&networks(&NEVER))
            .difference(&RangeSet::network(POD_NETWORK, POD_NETWORK_BITS))
            .difference(&self.machine.difference(&self.singles))
    }

    /// In words, for a condition.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.is_closed() {
            return "nothing leaves this node but connections to allowed names; `atoll egress floor public` lets network \
                    policies open public addresses, `atoll egress floor NETWORK` those of a network"
                .to_owned();
        }
        let public = if self.public { "public addresses" } else { "only the listed networks" };
        format!("network policies can open {public}; `atoll egress floor closed` closes it again")
    }
}

fn networks(texts: &[&str]) -> RangeSet {
    let parse = |text: &&str| RangeSet::parse(text).expect("the constants are networks");
    texts.iter().map(parse).fold(RangeSet::EMPTY, |set, network| set.union(&network))
}

fn public() -> RangeSet {
    RangeSet::all().difference(&networks(&NOT_PUBLIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_opened() {
        let machine = [Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(8, 8, 4, 4)];
        for (text, open, closed) in [
            ("", vec![], vec!["8.8.8.8", "10.0.0.1", "169.254.169.254", "127.0.0.1"]),
            (
                "public",
                vec!["8.8.8.8", "1.1.1.1"],
                vec!["10.0.0.1", "100.64.0.1", "169.254.169.254", "8.8.4.4", "198.18.0.1"],
            ),
            ("10.0.0.0/8", vec!["10.0.0.1"], vec!["8.8.8.8", "10.201.0.1", "10.201.7.7"]),
            (
                "0.0.0.0/0",
                vec!["8.8.8.8", "10.0.0.1"],
                vec!["169.254.169.254", "127.0.0.1", "224.0.0.1", "8.8.4.4", "203.0.113.9"],
            ),
            ("169.254.169.254/32 127.0.0.1", vec![], vec!["169.254.169.254", "127.0.0.1"]),
            ("203.0.113.9", vec!["203.0.113.9"], vec!["203.0.113.10"]),
            ("public,172.16.5.0/24", vec!["172.16.5.9", "8.8.8.8"], vec!["172.16.6.1"]),
        ] {
            let permitted = Floor::parse(text, &machine).expect("a floor").permitted();
            let contains = |address: &&str| permitted.contains(address.parse().expect("an address"));
            assert!(open.iter().all(contains), "{text}");
            assert!(!closed.iter().any(contains), "{text}");
        }
    }

    #[test]
    fn names_reach_public_addresses_of_a_closed_floor() {
        let floor = Floor::parse("", &[]).expect("a floor");
        assert!(floor.permitted_for_names().contains(Ipv4Addr::new(8, 8, 8, 8)));
        for address in [[10, 0, 0, 1], [169, 254, 169, 254], [127, 0, 0, 1], [192, 168, 1, 1], [10, 201, 0, 1]] {
            assert!(!floor.permitted_for_names().contains(address.into()), "{address:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["everything", "10.0.0.0/40", "public;10.0.0.0/8", "::/0"] {
            assert!(Floor::parse(text, &[]).is_err(), "{text}");
        }
    }
}
