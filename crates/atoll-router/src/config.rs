//! What a router can be told.

use std::net::{IpAddr, Ipv4Addr};

/// A range of IPv4 addresses that sandboxes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNetwork {
    base: u32,
    mask: u32,
}

impl PodNetwork {
    /// `prefix_length` is at most 32.
    ///
    /// # Panics
    /// With a longer prefix.
    #[must_use]
    pub const fn new(base: Ipv4Addr, prefix_length: u8) -> Self {
        assert!(prefix_length <= 32, "an IPv4 prefix has at most 32 bits");
        let mask = if prefix_length == 0 { 0 } else { u32::MAX << (32 - prefix_length) };
        Self { base: base.to_bits() & mask, mask }
    }

    /// Whether the address lies in this range.
    #[must_use]
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.base
    }
}

/// Limits and times of one router.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Addresses that may be dialled at all. A Pod whose address lies elsewhere is not reachable, whatever its status says.
    pub pod_networks: Vec<PodNetwork>,
    /// How long the sandbox may take to begin its answer, unless the request asks otherwise. Milliseconds.
    pub request_timeout_ms: u64,
    /// What `X-Sandbox-Timeout` may ask for at most. Milliseconds.
    pub request_timeout_ms_max: u64,
    /// How long a request waits for a sandbox that is still starting. Milliseconds.
    pub hold_ms_max: u64,
    /// How long an answer or an upgraded connection may stand still. Milliseconds.
    pub idle_ms_max: u64,
    /// Requests that wait for a starting sandbox at the same time; more are answered 503.
    pub held_max: usize,
    /// Whether `X-Sandbox-Pod-IP` may name a loopback address. For tests, whose sandboxes have such addresses.
    pub loopback_pod_ip: bool,
    /// Requests in flight, all sandboxes together; more are answered 503.
    pub requests_max: usize,
    /// Requests in flight to one sandbox's guest, which serves 64 connections; more are answered 503.
    pub requests_per_guest_max: usize,
    /// Requests in flight to the workload's own ports of one sandbox; more are answered 503.
    pub requests_per_workload_max: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            pod_networks: vec![PodNetwork::new(Ipv4Addr::new(10, 201, 0, 0), 16)],
            request_timeout_ms: 180_000,
            request_timeout_ms_max: 3_600_000,
            hold_ms_max: 15_000,
            idle_ms_max: 3_600_000,
            held_max: 1024,
            loopback_pod_ip: false,
            requests_max: 4096,
            requests_per_guest_max: 60,
            requests_per_workload_max: 512,
        }
    }
}

impl RouterConfig {
    /// Whether this router may dial the address.
    #[must_use]
    pub fn may_dial(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.pod_networks.iter().any(|network| network.contains(address)),
            IpAddr::V6(_) => false,
        }
    }
}
