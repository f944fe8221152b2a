//! Sets of IPv4 addresses as sorted ranges. Pure.

use std::net::Ipv4Addr;

use atoll_sandbox::network::rules::AddressRange;
use serde::{Deserialize, Serialize};

/// A set of IPv4 addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSet(Vec<(u32, u32)>);

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 network")]
pub struct NotANetwork(pub String);

impl RangeSet {
    /// No address.
    pub const EMPTY: Self = Self(Vec::new());

    /// Every address.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(0, u32::MAX)])
    }

    /// These addresses.
    pub fn of(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self::normal(addresses.into_iter().map(|address| (address.to_bits(), address.to_bits())).collect())
    }

    /// A network such as `10.0.0.0/8`, or one address. Bits beyond the prefix are ignored, as Kubernetes does.
    ///
    /// # Errors
    /// [`NotANetwork`]; IPv6 networks too.
    pub fn parse(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let digits_only = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u32 = bits.parse().ok().filter(|bits| digits_only && *bits <= 32).ok_or_else(wrong)?;
        Ok(Self::network(address, bits))
    }

    /// The network of `bits` leading bits that the address lies in.
    #[must_use]
    pub fn network(address: Ipv4Addr, bits: u32) -> Self {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let first = address.to_bits() & mask;
        Self(vec![(first, first | !mask)])
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = address.to_bits();
        let after = self.0.partition_point(|(first, _)| *first <= address);
        after > 0 && self.0[after - 1].1 >= address
    }

    /// Whether it has no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::normal(self.0.iter().chain(&other.0).copied().collect())
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                both.push((a.max(c), b.min(d)));
            }
            if b < d {
                left.next()
            } else {
                right.next()
            };
        }
        Self(both)
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    fn complement(&self) -> Self {
        let mut rest = Vec::new();
        let mut next = Some(0);
        for (first, last) in &self.0 {
            if let Some(start) = next.filter(|start| start < first) {
                rest.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        rest.extend(next.map(|start| (start, u32::MAX)));
        Self(rest)
    }

    fn normal(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(end) if u64::from(first) <= u64::from(end.1) + 1 => end.1 = end.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// As the packet filter takes it.
    #[must_use]
    pub fn to_rules(&self) -> Vec<AddressRange> {
        let range = |(first, last): &(u32, u32)| AddressRange {
            first: Ipv4Addr::from_bits(*first),
            last: Ipv4Addr::from_bits(*last),
        };
        self.0.iter().map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(networks: &[&str]) -> RangeSet {
        networks.iter().fold(RangeSet::EMPTY, |set, text| set.union(&RangeSet::parse(text).expect("a network")))
    }

    #[test]
    fn networks_are_read_strictly() {
        for (text, range) in [
            ("10.0.0.0/8", Some((0x0a00_0000, 0x0aff_ffff))),
            ("10.1.2.3/8", Some((0x0a00_0000, 0x0aff_ffff))),
            ("0.0.0.0/0", Some((0, u32::MAX))),
            ("192.0.2.7", Some((0xc000_0207, 0xc000_0207))),
            ("192.0.2.7/32", Some((0xc000_0207, 0xc000_0207))),
            ("192.0.2.7/33", None),
            ("192.0.2.7/+8", None),
            ("192.0.2/24", None),
            ("0300.0.2.7/8", None),
            ("::/0", None),
            ("", None),
        ] {
            assert_eq!(RangeSet::parse(text).ok(), range.map(|range| RangeSet(vec![range])), "{text}");
        }
    }

    #[test]
    fn what_touches_is_one_range() {
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/9"]), set(&["10.0.0.0/8"]));
        assert_eq!(RangeSet::all().difference(&RangeSet::all()), RangeSet::EMPTY);
    }

    fn arbitrary() -> impl Strategy<Value = RangeSet> {
        prop::collection::vec((0u32..64, 0u32..16), 0..6).prop_map(|ranges| {
            RangeSet::normal(ranges.into_iter().map(|(first, more)| (first, first + more)).collect())
        })
    }

    proptest! {
        #[test]
        fn sets_are_sets(left in arbitrary(), right in arbitrary(), at in 0u32..96) {
            let at = Ipv4Addr::from_bits(at);
            let (in_left, in_right) = (left.contains(at), right.contains(at));
            prop_assert_eq!(left.union(&right).contains(at), in_left || in_right);
            prop_assert_eq!(left.intersection(&right).contains(at), in_left && in_right);
            prop_assert_eq!(left.difference(&right).contains(at), in_left && !in_right);
            let ranges = left.difference(&right).to_rules();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
        }
    }
}
