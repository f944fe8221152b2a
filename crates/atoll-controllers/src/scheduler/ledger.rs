//! What is given away on each node, kept in step with the Pods, and ahead of them by what was just given away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;

use crate::owner::uid_of;
use crate::scheduler::requests::Amounts;

/// The ledger. Bounded by the number of Pods.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// By the UID of the Pod: where it is, and what it takes there.
    entries: HashMap<String, (String, Amounts)>,
    used: HashMap<String, Amounts>,
}

impl Ledger {
    /// Takes in a Pod as it is now.
    pub(crate) fn note(&self, pod: &Pod) {
        let uid = uid_of(&pod.metadata);
        if has_ended(pod) {
            return self.lock().release(uid);
        }
        let Some(spec) = &pod.spec else { return };
        if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
            self.lock().give(uid, node, Amounts::of_pod(spec));
        }
    }

    /// The Pod is gone, or was not given to the node after all.
    pub(crate) fn release(&self, uid: &str) {
        self.lock().release(uid);
    }

    /// The Pod is about to be given to a node.
    pub(crate) fn give(&self, uid: &str, node: &str, amounts: Amounts) {
        self.lock().give(uid, node, amounts);
    }

    /// What is given away on a node.
    pub(crate) fn used(&self, node: &str) -> Amounts {
        self.lock().used.get(node).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn give(&mut self, uid: &str, node: &str, amounts: Amounts) {
        self.release(uid);
        *self.used.entry(node.to_owned()).or_default() += amounts;
        self.entries.insert(uid.to_owned(), (node.to_owned(), amounts));
    }

    fn release(&mut self, uid: &str) {
        if let Some((node, amounts)) = self.entries.remove(uid)
            && let Some(used) = self.used.get_mut(&node)
        {
            *used -= amounts;
        }
    }
}

/// Whether a Pod takes nothing any more.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(uid: &str, node: Option<&str>, phase: &str) -> Pod {
        let requests = [("cpu".to_owned(), Quantity("250m".to_owned()))].into();
        let container = Container {
            resources: Some(ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() }),
            ..Container::default()
        };
        Pod {
            metadata: ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() },
            spec: Some(PodSpec {
                node_name: node.map(str::to_owned),
                containers: vec![container],
                ..PodSpec::default()
            }),
            status: Some(PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() }),
        }
    }

    #[test]
    fn the_ledger_counts_each_pod_once() {
        let ledger = Ledger::default();
        ledger.give("1", "n", Amounts::of_pod(pod("1", None, "Pending").spec.as_ref().expect("it has one")));
        ledger.note(&pod("1", Some("n"), "Pending"));
        ledger.note(&pod("1", Some("n"), "Running"));
        ledger.note(&pod("2", Some("n"), "Running"));
        assert_eq!(ledger.used("n"), Amounts { cpu_milli: 500, memory_bytes: 0, pods: 2 });
        ledger.note(&pod("1", Some("n"), "Succeeded"));
        ledger.release("2");
        ledger.release("2");
        assert_eq!(ledger.used("n"), Amounts::default());
    }
}
