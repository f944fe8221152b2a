//! What one sandbox may send and receive, as the launcher is told it. Nothing that is not in a rule passes.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Address ranges of one sandbox's rules, all together.
pub const RANGES_MAX: usize = 2048;
/// Rules of one sandbox after each port range became one.
pub const RULES_MAX: usize = 512;

/// The traffic of one sandbox, beside answers to what the machine asks it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// What it may begin. Both this and the receiver's `ingress` must allow a connection between sandboxes.
    pub egress: Vec<NetworkRule>,
    /// What others may begin with it.
    pub ingress: Vec<NetworkRule>,
    /// The proxy that names, and what is `turned`, are carried by.
    pub proxy: Option<ProxyPorts>,
    /// TCP connections to addresses outside that go through the proxy. Others are forwarded, where `egress` says so.
    pub turned: Vec<NetworkRule>,
}

/// One kind of connection that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRule {
    /// The other side: sorted, not overlapping.
    pub addresses: Vec<AddressRange>,
    /// The transport; any when `None`.
    pub protocol: Option<Protocol>,
    /// Destination ports; all when empty. Only together with a protocol.
    pub ports: Vec<PortRange>,
}

/// Addresses from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressRange {
    /// The lowest.
    pub first: Ipv4Addr,
    /// The highest.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ALL: Self = Self { first: Ipv4Addr::UNSPECIFIED, last: Ipv4Addr::BROADCAST };
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A transport, with its number in IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// The egress proxy's ports on the machine. It listens at the machine's end of every link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPorts {
    /// Takes TCP connections.
    pub tcp: u16,
    /// Answers DNS over UDP and TCP.
    pub dns: u16,
}

/// Addresses of this network (RFC 2544, for benchmarks, routed nowhere) stand for names inside of sandboxes; connections
/// to them always go through the proxy. A /15.
pub const NAMES_NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// The mask of [`NAMES_NETWORK`].
pub const NAMES_NETWORK_MASK: [u8; 4] = [255, 254, 0, 0];

/// The port on which the machine's end of a link offers the proxy to programs that ask for one by name.
pub const EXPLICIT_PROXY_PORT: u16 = 3128;

/// Why rules cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRules {
    /// Too much for one sandbox.
    #[error("{found} {what} are more than {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Ranges of one rule out of order, or upside down.
    #[error("the ranges of a rule must be sorted and apart")]
    Order,
    /// Ports without a protocol.
    #[error("ports need a protocol")]
    PortsAlone,
}

impl NetworkRules {
    /// Checks what the kernel would not, or would refuse with a number.
    ///
    /// # Errors
    /// [`InvalidRules`].
    pub fn validate(&self) -> Result<(), InvalidRules> {
        let all = || self.egress.iter().chain(&self.ingress).chain(&self.turned);
        let bounded =
            |what, found, most| if found > most { Err(InvalidRules::TooMany { what, found, most }) } else { Ok(()) };
        bounded("address ranges", all().map(|rule| rule.addresses.len()).sum(), RANGES_MAX)?;
        bounded("rules", all().map(|rule| rule.ports.len().max(1)).sum(), RULES_MAX)?;
        for rule in all() {
            let apart = rule.addresses.windows(2).all(|pair| pair[0].last < pair[1].first);
            let upright = rule.addresses.iter().all(|range| range.first <= range.last)
                && rule.ports.iter().all(|range| range.first <= range.last);
            if !apart || !upright {
                return Err(InvalidRules::Order);
            }
            if rule.protocol.is_none() && !rule.ports.is_empty() {
                return Err(InvalidRules::PortsAlone);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: [u8; 4], last: [u8; 4]) -> AddressRange {
        AddressRange { first: first.into(), last: last.into() }
    }

    #[test]
    fn rules_are_checked() {
        let rule = |addresses, protocol, ports| NetworkRule { addresses, protocol, ports };
        let port = |first, last| PortRange { first, last };
        for (rule, expected) in [
            (rule(vec![AddressRange::ALL], None, vec![]), Ok(())),
            (rule(vec![], Some(Protocol::Tcp), vec![port(1, 9), port(5, 5)]), Ok(())),
            (rule(vec![], None, vec![port(1, 1)]), Err(InvalidRules::PortsAlone)),
            (rule(vec![range([2, 0, 0, 0], [1, 0, 0, 0])], None, vec![]), Err(InvalidRules::Order)),
            (
                rule(vec![range([1, 0, 0, 0], [3, 0, 0, 0]), range([3, 0, 0, 0], [4, 0, 0, 0])], None, vec![]),
                Err(InvalidRules::Order),
            ),
            (rule(vec![], Some(Protocol::Udp), vec![port(9, 1)]), Err(InvalidRules::Order)),
            (
                rule(vec![], Some(Protocol::Udp), vec![port(1, 1); RULES_MAX + 1]),
                Err(InvalidRules::TooMany { what: "rules", found: RULES_MAX + 1, most: RULES_MAX }),
            ),
        ] {
            assert_eq!(
                NetworkRules { egress: vec![rule.clone()], ..NetworkRules::default() }.validate(),
                expected,
                "{rule:?}"
            );
        }
    }
}
