//! What a node can be told.

use std::net::Ipv4Addr;

/// What the machine offers to Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCapacity {
    /// Thousandths of a processor.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Pods at a time.
    pub pods: u32,
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The Node's name; Pods with this `spec.nodeName` run here.
    pub name: String,
    /// What is offered to the scheduler.
    pub capacity: NodeCapacity,
    /// First address of the /16 that sandboxes get addresses from; its `.0.1` is the host's end of every link.
    pub pod_network: Ipv4Addr,
    /// Sandboxes that start at the same time.
    pub starts_at_once: usize,
    /// Shown as the kubelet's version.
    pub version: String,
}
