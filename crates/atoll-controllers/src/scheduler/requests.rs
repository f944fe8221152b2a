//! What a Pod asks for.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::scheduler::quantity::{thousandths, units};

/// Amounts of what nodes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) pods: i64,
}

impl Amounts {
    /// What a Pod asks for: its long-running containers together, or its largest init container if that is more.
    pub(crate) fn of_pod(pod: &PodSpec) -> Self {
        let mut running = Self { pods: 1, ..Self::default() };
        let mut starting = Self::default();
        for container in pod.init_containers.iter().flatten() {
            let requested = Self::of_container(container);
            if container.restart_policy.as_deref() == Some("Always") {
                running += requested;
            } else {
                starting = starting.largest(requested);
            }
        }
        for container in &pod.containers {
            running += Self::of_container(container);
        }
        let mut wanted = running.largest(starting);
        if let Some(requested) = pod.resources.as_ref().map(Self::of_requirements) {
            wanted = wanted.largest(requested);
        }
        wanted += Self::of_map(pod.overhead.as_ref(), None);
        wanted
    }

    /// What a node has to give.
    pub(crate) fn of_node(allocatable: &BTreeMap<String, Quantity>) -> Self {
        let pods = allocatable.get("pods").and_then(units).unwrap_or_default();
        Self { pods, ..Self::of_map(Some(allocatable), None) }
    }

    fn of_container(container: &Container) -> Self {
        container.resources.as_ref().map(Self::of_requirements).unwrap_or_default()
    }

    fn of_requirements(requirements: &ResourceRequirements) -> Self {
        Self::of_map(requirements.requests.as_ref(), requirements.limits.as_ref())
    }

    /// A limit without a request is a request.
    fn of_map(requests: Option<&BTreeMap<String, Quantity>>, limits: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |name: &str, read: fn(&Quantity) -> Option<i64>| {
            let given = requests.and_then(|map| map.get(name)).or_else(|| limits.and_then(|map| map.get(name)));
            given.and_then(read).unwrap_or_default().max(0)
        };
        Self { cpu_milli: amount("cpu", thousandths), memory_bytes: amount("memory", units), pods: 0 }
    }

    fn largest(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            pods: self.pods.max(other.pods),
        }
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.pods = self.pods.saturating_add(other.pods);
    }
}

impl SubAssign for Amounts {
    fn sub_assign(&mut self, other: Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        self.pods = self.pods.saturating_sub(other.pods);
    }
}
