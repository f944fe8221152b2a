//! Chains of one sandbox's link, replaced as a whole in one transaction:
//!
//! ```text
//! chain leaving-LINK  { <not IPv4> drop; ip saddr != ADDRESS drop; <each egress rule> goto arriving; reject }
//! chain arriving-LINK { <not IPv4> drop; <each ingress rule> accept; reject }
//! chain calling-LINK  { <not IPv4> drop; ip saddr != ADDRESS drop; <was turned> tcp dport PROXY accept; … reject }
//! chain turning-LINK  { <not IPv4> drop; ip saddr != ADDRESS drop; udp dport 53 redirect to :DNS; … }
//! ```

use std::net::Ipv4Addr;

use super::expression::{DESTINATION, Expressions, SOURCE, Verdict};
use super::{
    ARRIVING, CALLING, CHAIN_NAME, CHAIN_TABLE, FLAG_ACK, FLAG_CREATE, LEAVING, LINK_NAME_BYTES, LINK_PREFIX, Message,
    NEW_CHAIN, NEW_SET, Netlink, NetlinkError, RULE_CHAIN, RULE_TABLE, SET_FLAGS, SET_ID, SET_KEY_BYTES, SET_KEY_TYPE,
    SET_NAME, SET_TABLE, TABLE, TURNING, map_of, message, rule_message, transact,
};
use crate::network::rules::{
    AddressRange, EXPLICIT_PROXY_PORT, NAMES_NETWORK, NAMES_NETWORK_MASK, NetworkRule, NetworkRules, PortRange,
    Protocol, ProxyPorts,
};
use crate::spec::ROUTER_ADDRESS;

/// Chains that each link may have one of; each with a map of the same name.
pub(super) const DIRECTIONS: [&str; 4] = [CALLING, LEAVING, ARRIVING, TURNING];

const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENTS_SET_ID: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_ENDS_INTERVAL: u32 = 1;
const DATA_VALUE: u16 = 1;
const SET_FLAGS_OF_RULE: u32 = 0x1 | 0x2 | 0x4;
const TYPE_IPV4_ADDRESS: u32 = 7;
/// Sets of rules have no name of their own; the kernel fills in a number.
const SET_OF_RULE: &str = "__set%d";
/// Elements in one message, whose length is 16 bits.
const ELEMENTS_AT_ONCE: usize = 1000;
const DNS_PORT: u16 = 53;

/// The link that a chain belongs to.
pub(super) fn link_of(chain: &str) -> Option<&str> {
    let (direction, link) = chain.split_once('-')?;
    (DIRECTIONS.contains(&direction) && link.starts_with(LINK_PREFIX)).then_some(link)
}

fn chain_of(direction: &str, link: &str) -> String {
    format!("{direction}-{link}")
}

/// Puts rules in force for a link, in place of those it had.
pub(in crate::network) fn apply(
    netlink: &mut Netlink,
    link: &str,
    address: Ipv4Addr,
    rules: &NetworkRules,
) -> Result<(), NetlinkError> {
    let mut batch = emptied(link);
    let mut writer = Writer { batch: &mut batch, link, address, sets: 0 };
    writer.leaving(&rules.egress);
    writer.arriving(&rules.ingress);
    if let Some(proxy) = rules.proxy {
        writer.turning(proxy, &rules.turned);
        writer.calling(proxy);
    }
    batch.extend(DIRECTIONS.map(|direction| element(NEW_ELEMENT, direction, link)));
    // The kernel tells of every refusal anyway; an acknowledgement of each of hundreds would not fit its queue.
    batch.push(chain_message(NEW_CHAIN, FLAG_CREATE | FLAG_ACK, &chain_of(CALLING, link)));
    transact(netlink, batch)
}

/// Removes what a link has; nothing happens when that is nothing.
pub(in crate::network) fn remove(netlink: &mut Netlink, link: &str) -> Result<(), NetlinkError> {
    let mut batch = emptied(link);
    // Only what exists can be deleted.
    batch.extend(DIRECTIONS.map(|direction| element(NEW_ELEMENT, direction, link)));
    batch.extend(DIRECTIONS.map(|direction| element(DELETE_ELEMENT, direction, link)));
    batch.extend(DIRECTIONS.map(|direction| chain_message(DELETE_CHAIN, FLAG_ACK, &chain_of(direction, link))));
    transact(netlink, batch)
}

/// Every chain of the link exists and has no rule.
fn emptied(link: &str) -> Vec<Message> {
    let chains = DIRECTIONS.map(|direction| chain_of(direction, link));
    let made = chains.iter().map(|chain| chain_message(NEW_CHAIN, FLAG_CREATE, chain));
    let flush = chains.iter().map(|chain| message(DELETE_RULE, 0).text(RULE_TABLE, TABLE).text(RULE_CHAIN, chain));
    made.chain(flush).collect()
}

fn chain_message(kind: u16, flags: u16, chain: &str) -> Message {
    message(kind, flags).text(CHAIN_TABLE, TABLE).text(CHAIN_NAME, chain)
}

/// The map's element for a link: go to the link's own chain.
fn element(kind: u16, direction: &str, link: &str) -> Message {
    let flags = if kind == NEW_ELEMENT { FLAG_CREATE } else { 0 };
    let mut name = [0; LINK_NAME_BYTES];
    name[..link.len()].copy_from_slice(link.as_bytes());
    let verdict = Verdict::Goto(chain_of(direction, link));
    message(kind, flags).text(ELEMENTS_TABLE, TABLE).text(ELEMENTS_SET, &map_of(direction)).nested(
        ELEMENTS_LIST,
        |list| {
            list.nested(LIST_ELEMENT, |element| {
                element
                    .nested(ELEMENT_KEY, |key| key.attribute(DATA_VALUE, &name))
                    .nested(ELEMENT_DATA, |data| verdict.encode(data))
            })
        },
    )
}

/// Writes the rules of one link.
struct Writer<'a> {
    batch: &'a mut Vec<Message>,
    link: &'a str,
    address: Ipv4Addr,
    sets: u32,
}

impl Writer<'_> {
    fn leaving(&mut self, rules: &[NetworkRule]) {
        self.own_packets_only(LEAVING);
        self.each(LEAVING, DESTINATION, rules, |list| list.decide(&Verdict::Goto(ARRIVING.to_owned())));
        self.rule(LEAVING, "none", Expressions::reject);
    }

    fn arriving(&mut self, rules: &[NetworkRule]) {
        self.rule(ARRIVING, "family", |list| list.other_than_ipv4().decide(&Verdict::Drop));
        self.each(ARRIVING, SOURCE, rules, |list| list.decide(&Verdict::Accept));
        self.rule(ARRIVING, "none", Expressions::reject);
    }

    /// What the proxy is to see comes to the machine itself.
    fn turning(&mut self, proxy: ProxyPorts, turned: &[NetworkRule]) {
        self.own_packets_only(TURNING);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            self.rule(TURNING, "names", |list| {
                list.transport(protocol as u8).port(DNS_PORT, DNS_PORT).redirect(proxy.dns)
            });
        }
        self.rule(TURNING, "asked", |list| {
            list.address_is(DESTINATION, ROUTER_ADDRESS.octets())
                .transport(Protocol::Tcp as u8)
                .port(EXPLICIT_PROXY_PORT, EXPLICIT_PROXY_PORT)
                .redirect(proxy.tcp)
        });
        self.rule(TURNING, "named", |list| {
            list.address_within(DESTINATION, NAMES_NETWORK.octets(), NAMES_NETWORK_MASK)
                .transport(Protocol::Tcp as u8)
                .redirect(proxy.tcp)
        });
        self.each(TURNING, DESTINATION, turned, |list| list.transport(Protocol::Tcp as u8).redirect(proxy.tcp));
    }

    fn calling(&mut self, proxy: ProxyPorts) {
        self.own_packets_only(CALLING);
        for (protocol, port) in [(Protocol::Tcp, proxy.tcp), (Protocol::Tcp, proxy.dns), (Protocol::Udp, proxy.dns)] {
            self.rule(CALLING, "proxy", |list| {
                list.was_turned().transport(protocol as u8).port(port, port).decide(&Verdict::Accept)
            });
        }
        self.rule(CALLING, "none", Expressions::reject);
    }

    fn own_packets_only(&mut self, direction: &str) {
        let address = self.address.octets();
        self.rule(direction, "family", |list| list.other_than_ipv4().decide(&Verdict::Drop));
        self.rule(direction, "source", |list| list.address_is_not(SOURCE, address).decide(&Verdict::Drop));
    }

    /// Does the same with whatever one of the rules is about.
    fn each(
        &mut self,
        direction: &str,
        offset: u32,
        rules: &[NetworkRule],
        decide: impl Fn(Expressions) -> Expressions,
    ) {
        for rule in rules.iter().filter(|rule| !rule.addresses.is_empty()) {
            let ports: Vec<Option<PortRange>> = match rule.ports.as_slice() {
                [] => vec![None],
                ports => ports.iter().copied().map(Some).collect(),
            };
            for port in ports {
                let set = (rule.addresses != [AddressRange::ALL]).then(|| self.set(&rule.addresses));
                self.rule(direction, "allow", |mut list| {
                    if let Some(id) = set {
                        list = list.address_in_set(offset, SET_OF_RULE, id);
                    }
                    if let Some(protocol) = rule.protocol {
                        list = list.transport(protocol as u8);
                    }
                    if let Some(PortRange { first, last }) = port {
                        list = list.port(first, last);
                    }
                    decide(list)
                });
            }
        }
    }

    fn rule(&mut self, direction: &str, name: &str, expressions: impl FnOnce(Expressions) -> Expressions) {
        self.batch.push(rule_message(&chain_of(direction, self.link), name, 0, expressions));
    }

    /// A set for the next rule alone.
    fn set(&mut self, ranges: &[AddressRange]) -> u32 {
        self.sets += 1;
        let id = self.sets;
        self.batch.push(
            message(NEW_SET, FLAG_CREATE)
                .text(SET_TABLE, TABLE)
                .text(SET_NAME, SET_OF_RULE)
                .number(SET_FLAGS, SET_FLAGS_OF_RULE)
                .number(SET_KEY_TYPE, TYPE_IPV4_ADDRESS)
                .number(SET_KEY_BYTES, 4)
                .number(SET_ID, id),
        );
        for portion in edges(ranges).chunks(ELEMENTS_AT_ONCE) {
            self.batch.push(
                message(NEW_ELEMENT, FLAG_CREATE)
                    .text(ELEMENTS_TABLE, TABLE)
                    .text(ELEMENTS_SET, SET_OF_RULE)
                    .number(ELEMENTS_SET_ID, id)
                    .nested(ELEMENTS_LIST, |list| portion.iter().fold(list, |list, edge| edge.encode(list))),
            );
        }
        id
    }
}

/// Where a range begins, or the first address after it.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    address: Ipv4Addr,
    ends: bool,
}

impl Edge {
    fn encode(&self, list: Message) -> Message {
        list.nested(LIST_ELEMENT, |element| {
            let element = element.nested(ELEMENT_KEY, |key| key.attribute(DATA_VALUE, &self.address.octets()));
            if self.ends { element.number(ELEMENT_FLAGS, ELEMENT_ENDS_INTERVAL) } else { element }
        })
    }
}

/// Ranges as the kernel's interval sets have them. Ranges that touch are one.
fn edges(ranges: &[AddressRange]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(2 * ranges.len());
    for range in ranges {
        match edges.last() {
            Some(last) if last.ends && last.address == range.first => drop(edges.pop()),
            _ => edges.push(Edge { address: range.first, ends: false }),
        }
        if let Some(after) = range.last.to_bits().checked_add(1) {
            edges.push(Edge { address: Ipv4Addr::from_bits(after), ends: true });
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_off_chains() {
        for (chain, link) in [
            ("leaving-atv12", Some("atv12")),
            ("turning-atv12", Some("atv12")),
            ("leaving", None),
            ("leaving-eth0", None),
            ("other-atv12", None),
        ] {
            assert_eq!(link_of(chain), link, "{chain}");
        }
    }

    #[test]
    fn ranges_become_edges() {
        let range = |first: [u8; 4], last: [u8; 4]| AddressRange { first: first.into(), last: last.into() };
        let edge = |address: [u8; 4], ends| Edge { address: address.into(), ends };
        assert_eq!(
            edges(&[range([1, 0, 0, 0], [1, 0, 0, 9]), range([1, 0, 0, 10], [1, 0, 0, 10])]),
            [edge([1, 0, 0, 0], false), edge([1, 0, 0, 11], true)]
        );
        assert_eq!(edges(&[range([9, 0, 0, 0], [255, 255, 255, 255])]), [edge([9, 0, 0, 0], false)]);
    }
}
