//! What a node can be told.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

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

/// Pods that one node takes unless told otherwise.
pub const DEFAULT_PODS_MAX: u32 = 2000;
/// Sandboxes that start at the same time unless told otherwise.
pub const DEFAULT_STARTS_AT_ONCE: usize = 16;

/// See [`NodeConfig::announce_after_ms`].
pub const DEFAULT_ANNOUNCE_AFTER_MS: u64 = 500;

impl NodeCapacity {
    /// All processors and all memory of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu_milli: u64::try_from(processors).unwrap_or(1) * 1000,
            memory_bytes: memory_bytes(&meminfo).unwrap_or(0),
            pods: DEFAULT_PODS_MAX,
        }
    }
}

/// A part of the plane that is shown as a Pod, so that clients find it as they find one on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartName {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub name: String,
}

impl PartName {
    /// Whether a Pod is this part.
    #[must_use]
    pub(crate) fn is_of(&self, pod: &Pod) -> bool {
        pod.metadata.namespace.as_deref() == Some(&self.namespace) && pod.metadata.name.as_deref() == Some(&self.name)
    }
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The Node's name; Pods with this `spec.nodeName` run here.
    pub name: String,
    /// What is offered to the scheduler.
    pub capacity: NodeCapacity,
    /// Base of the /16 that sandboxes get addresses from; its `.0.1` is the host's end of every link.
    pub pod_network: Ipv4Addr,
    /// Sandboxes that start at the same time.
    pub starts_at_once: usize,
    /// How long a start may take before the Pod's status says that it is under way, and how long readiness may take
    /// before it says that the Pod runs without being ready. What is quicker is one write instead of two. Milliseconds.
    pub announce_after_ms: u64,
    /// Parts of the plane that are shown as Pods of this node. They run with the plane: nothing is started for them,
    /// and somebody else keeps their objects.
    pub parts: Vec<PartName>,
    /// Images that were imported; `None` for a node that keeps none.
    pub images: Option<atoll_image::Images>,
    /// Shown as the kubelet's version.
    pub version: String,
    /// Shown as the kernel's version.
    pub kernel_version: String,
}

impl NodeConfig {
    /// A node of this name that offers the whole machine.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            name: name.to_owned(),
            capacity: NodeCapacity::of_this_machine(),
            pod_network: atoll_sandbox::spec::POD_NETWORK,
            starts_at_once: DEFAULT_STARTS_AT_ONCE,
            announce_after_ms: DEFAULT_ANNOUNCE_AFTER_MS,
            parts: Vec::new(),
            images: None,
            version: version.to_owned(),
            kernel_version: kernel.trim().to_owned(),
        }
    }

    /// The host's end of every sandbox's link.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.pod_network.to_bits() & 0xffff_0000) | 1)
    }
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(memory_bytes("MemTotal:       24737112 kB\nMemFree: 1 kB\n"), Some(25_330_802_688));
        assert_eq!(memory_bytes("nothing"), None);
    }

    #[test]
    fn this_machine_offers_something() {
        let capacity = NodeCapacity::of_this_machine();
        assert!(capacity.cpu_milli >= 1000 && capacity.memory_bytes > 0);
        assert_eq!(NodeConfig::new("n", "v").host_address(), Ipv4Addr::new(10, 201, 0, 1));
    }
}
