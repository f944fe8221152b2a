//! Links, addresses and routes.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::NetworkError;
use super::netlink::{FLAG_ACK, FLAG_CREATE, FLAG_EXCLUSIVE, Message, Netlink, NetlinkError};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;

const INTERFACE_UP: u32 = 1;
const LOOPBACK_INDEX: u32 = 1;
const INET: u8 = 2;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const SCOPE_UNIVERSE: u8 = 0;
const TYPE_UNICAST: u8 = 1;
const WHOLE_ADDRESS_BITS: u8 = 32;

/// The sandbox's end of its link.
const INSIDE_LINK: &str = "eth0";

const NEW: u16 = FLAG_ACK | FLAG_CREATE | FLAG_EXCLUSIVE;

fn link_failed(attempted: &'static str) -> impl FnOnce(NetlinkError) -> NetworkError {
    move |source| NetworkError::Link { attempted, source }
}

/// The fixed part of a message about a link.
fn link_body(index: u32, up: bool) -> [u8; 16] {
    let flags = if up { INTERFACE_UP } else { 0 };
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&flags.to_ne_bytes());
    body
}

fn address_message(index: u32, address: Ipv4Addr) -> Message {
    let mut body = [INET, WHOLE_ADDRESS_BITS, 0, 0, 0, 0, 0, 0];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    Message::new(RTM_NEWADDR, NEW, &body)
        .attribute(IFA_LOCAL, &address.octets())
        .attribute(IFA_ADDRESS, &address.octets())
}

fn route_message(kind: u16, flags: u16, index: u32, to: Ipv4Addr, from: Ipv4Addr) -> Message {
    let fixed = [INET, WHOLE_ADDRESS_BITS, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_LINK, TYPE_UNICAST, 0, 0, 0, 0];
    Message::new(kind, flags, &fixed)
        .attribute(RTA_DST, &to.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .attribute(RTA_PREFSRC, &from.octets())
}

/// The route to everywhere else.
fn default_route_message(index: u32, gateway: Ipv4Addr, from: Ipv4Addr) -> Message {
    let fixed = [INET, 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_UNIVERSE, TYPE_UNICAST, 0, 0, 0, 0];
    Message::new(RTM_NEWROUTE, NEW, &fixed)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .attribute(RTA_PREFSRC, &from.octets())
}

fn up_message(index: u32) -> Message {
    Message::new(RTM_NEWLINK, FLAG_ACK, &link_body(index, true))
}

fn index_of(netlink: &Netlink, link: &str) -> Result<u32, NetworkError> {
    rustix::net::netdevice::name_to_index(netlink.socket(), link)
        .map_err(|errno| link_failed("find the link")(NetlinkError::Socket(errno.into())))
}

/// Makes a pair: `link` here, and its other end in `sandbox`. Neither can be up before both exist.
pub(super) fn make_link(netlink: &mut Netlink, link: &str, sandbox: &OwnedFd) -> Result<(), NetworkError> {
    let message =
        Message::new(RTM_NEWLINK, NEW, &link_body(0, false)).text(IFLA_IFNAME, link).nested(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth").nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_body(0, false))
                        .text(IFLA_IFNAME, INSIDE_LINK)
                        .attribute(IFLA_NET_NS_FD, &sandbox.as_raw_fd().to_ne_bytes())
                })
            })
        });
    netlink.transact(vec![message]).map_err(link_failed("make a veth link"))
}

/// Whether there is a link of this name.
pub(super) fn has_link(netlink: &Netlink, link: &str) -> bool {
    index_of(netlink, link).is_ok()
}

/// Whether what was to be made exists.
pub(super) fn exists(error: &NetworkError) -> bool {
    matches!(error, NetworkError::Link { source, .. } if source.errno() == Some(libc::EEXIST))
}

/// Brings the machine's end up, without IPv6, and lets packets that come in by it go on to other sandboxes: no other
/// link of the machine begins to forward.
pub(super) fn raise_host(netlink: &mut Netlink, link: &str) -> Result<(), NetworkError> {
    std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/forwarding"), "1")
        .map_err(|source| NetworkError::Namespace { attempted: "let the link forward to other sandboxes", source })?;
    // Nothing speaks IPv6 on it. Where that cannot be set, the filter holds for IPv6 too.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1");
    let index = index_of(netlink, link)?;
    netlink.transact(vec![up_message(index)]).map_err(link_failed("bring the link up"))
}

/// The machine's end gets the router's address and the route to the sandbox.
pub(super) fn address_host(
    netlink: &mut Netlink,
    link: &str,
    address: Ipv4Addr,
    router: Ipv4Addr,
) -> Result<(), NetworkError> {
    let index = index_of(netlink, link)?;
    netlink.transact(vec![address_message(index, router)]).map_err(link_failed("give the link its address"))?;
    netlink.transact(vec![route_message(RTM_NEWROUTE, NEW, index, address, router)]).map_err(|source| {
        if source.errno() == Some(libc::EEXIST) {
            NetworkError::AddressInUse(address)
        } else {
            NetworkError::Link { attempted: "route the sandbox's address", source }
        }
    })
}

/// The sandbox's end gets its address, and a route that leads to the machine's end, whatever the destination: there it
/// is judged. Loopback comes up.
pub(super) fn address_sandbox(netlink: &mut Netlink, address: Ipv4Addr, router: Ipv4Addr) -> Result<(), NetworkError> {
    let index = index_of(netlink, INSIDE_LINK)?;
    netlink
        .transact(vec![
            up_message(LOOPBACK_INDEX),
            up_message(index),
            address_message(index, address),
            route_message(RTM_NEWROUTE, NEW, index, router, address),
            default_route_message(index, router, address),
        ])
        .map_err(link_failed("set up the network in the sandbox"))
}

/// Takes the route away, so that the address can be given to another sandbox; it may have gone with its link.
pub(super) fn remove_host_route(netlink: &mut Netlink, link: &str, address: Ipv4Addr) {
    let Ok(index) = index_of(netlink, link) else { return };
    let fixed = [INET, WHOLE_ADDRESS_BITS, 0, 0, TABLE_MAIN, 0, SCOPE_LINK, TYPE_UNICAST, 0, 0, 0, 0];
    let message = Message::new(RTM_DELROUTE, FLAG_ACK, &fixed)
        .attribute(RTA_DST, &address.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes());
    // The link is about to go, and its routes with it.
    let _ = netlink.transact(vec![message]);
}

pub(super) fn remove_link(netlink: &mut Netlink, link: &str) -> Result<(), NetworkError> {
    let Ok(index) = index_of(netlink, link) else { return Ok(()) };
    let message = Message::new(RTM_DELLINK, FLAG_ACK, &link_body(index, false));
    match netlink.transact(vec![message]) {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        other => other.map_err(link_failed("remove a link")),
    }
}
