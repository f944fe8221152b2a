//! Which sandboxes there are, and which Pod each of them owns. Pure: fed by the watches, asked by requests.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use atoll_rt::CancellationToken;
use tokio::sync::Semaphore;

/// Addresses a sandbox had before, remembered per sandbox.
const FORMER_ADDRESSES_MAX: usize = 8;

/// What the router needs to know of a Sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Name that this Sandbox's Pod must have.
    pub(crate) pod_name: String,
    pub(crate) is_deleting: bool,
    pub(crate) is_suspended: bool,
    /// Its Pod ended, or its time did: it will not become ready by waiting.
    pub(crate) is_finished: bool,
}

/// What the router needs to know of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// UID of the Sandbox that controls it.
    pub(crate) sandbox_uid: String,
    pub(crate) is_deleting: bool,
    /// Running, and its Ready condition is true.
    pub(crate) is_ready: bool,
    /// Succeeded or Failed.
    pub(crate) is_finished: bool,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The answer to "where is this sandbox?".
#[derive(Debug, Clone)]
pub(crate) enum Resolution {
    /// No Sandbox of this name is known.
    Unknown,
    /// There is one, and it has another UID.
    OtherUid,
    /// It is there, or about to be, and is not ready yet.
    Starting,
    /// It will not become ready by waiting.
    Down,
    Ready(Route),
}

/// A sandbox that can be reached now.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) pod_uid: String,
    /// Cancelled when the Pod is no longer there.
    pub(crate) gone: CancellationToken,
    pub(crate) permits: Permits,
}

/// Requests that one sandbox may have in flight.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    pub(crate) guest: Arc<Semaphore>,
    pub(crate) workload: Arc<Semaphore>,
}

/// How many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) guest: usize,
    pub(crate) workload: usize,
}

#[derive(Debug)]
struct PodEntry {
    facts: PodFacts,
    gone: CancellationToken,
}

#[derive(Debug)]
struct SandboxEntry {
    facts: SandboxFacts,
    permits: Permits,
    former: VecDeque<IpAddr>,
}

/// All sandboxes and their Pods.
#[derive(Debug)]
pub(crate) struct Routes {
    sandboxes: HashMap<(String, String), SandboxEntry>,
    /// Namespace and name by Sandbox UID.
    names: HashMap<String, (String, String)>,
    /// By Pod UID.
    pods: HashMap<String, PodEntry>,
    /// Pod UIDs by the UID of the Sandbox that controls them.
    pods_of: HashMap<String, Vec<String>>,
    limits: Limits,
}

impl Routes {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { sandboxes: HashMap::new(), names: HashMap::new(), pods: HashMap::new(), pods_of: HashMap::new(), limits }
    }

    pub(crate) fn apply_sandbox(&mut self, facts: SandboxFacts) {
        let key = (facts.namespace.clone(), facts.name.clone());
        match self.sandboxes.get_mut(&key) {
            Some(entry) if entry.facts.uid == facts.uid => entry.facts = facts,
            previous => {
                if let Some(namesake) = previous {
                    self.names.remove(&namesake.facts.uid);
                }
                self.names.insert(facts.uid.clone(), key.clone());
                let permits = Permits {
                    guest: Arc::new(Semaphore::new(self.limits.guest)),
                    workload: Arc::new(Semaphore::new(self.limits.workload)),
                };
                self.sandboxes.insert(key, SandboxEntry { facts, permits, former: VecDeque::new() });
            }
        }
    }

    pub(crate) fn delete_sandbox(&mut self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if self.sandboxes.get(&key).is_some_and(|entry| entry.facts.uid == uid) {
            self.sandboxes.remove(&key);
            self.names.remove(uid);
        }
    }

    /// Makes the sandboxes exactly these.
    pub(crate) fn replace_sandboxes(&mut self, all: Vec<SandboxFacts>) {
        let kept: std::collections::HashSet<String> = all.iter().map(|facts| facts.uid.clone()).collect();
        self.sandboxes.retain(|_, entry| kept.contains(&entry.facts.uid));
        self.names.retain(|uid, _| kept.contains(uid));
        for facts in all {
            self.apply_sandbox(facts);
        }
    }

    pub(crate) fn apply_pod(&mut self, facts: PodFacts) {
        let gone = match self.remove_pod(&facts.uid) {
            Some(old) => {
                self.remember_former_addresses(&old.facts, &facts.addresses);
                old.gone
            }
            None => CancellationToken::new(),
        };
        if facts.is_finished {
            gone.cancel();
        }
        self.pods_of.entry(facts.sandbox_uid.clone()).or_default().push(facts.uid.clone());
        self.pods.insert(facts.uid.clone(), PodEntry { facts, gone });
    }

    pub(crate) fn delete_pod(&mut self, uid: &str) {
        if let Some(old) = self.remove_pod(uid) {
            self.remember_former_addresses(&old.facts, &[]);
            old.gone.cancel();
        }
    }

    /// Makes the Pods exactly these.
    pub(crate) fn replace_pods(&mut self, all: Vec<PodFacts>) {
        let kept: std::collections::HashSet<String> = all.iter().map(|facts| facts.uid.clone()).collect();
        let lost: Vec<String> = self.pods.keys().filter(|uid| !kept.contains(*uid)).cloned().collect();
        for uid in lost {
            self.delete_pod(&uid);
        }
        for facts in all {
            self.apply_pod(facts);
        }
    }

    /// Finds a sandbox by its name, and by its UID where the client knows it.
    pub(crate) fn resolve(&self, namespace: &str, name: &str, uid: Option<&str>) -> Resolution {
        let Some(entry) = self.sandboxes.get(&(namespace.to_owned(), name.to_owned())) else {
            return Resolution::Unknown;
        };
        let sandbox = &entry.facts;
        if uid.is_some_and(|uid| uid != sandbox.uid) {
            return Resolution::OtherUid;
        }
        if sandbox.is_deleting || sandbox.is_suspended {
            return Resolution::Down;
        }
        let Some(pod) = self.owned_pod(sandbox) else {
            return if sandbox.is_finished { Resolution::Down } else { Resolution::Starting };
        };
        if pod.facts.is_finished {
            return Resolution::Down;
        }
        // A Pod that goes while its Sandbox stays is replaced by another one.
        if pod.facts.is_deleting || !pod.facts.is_ready {
            return Resolution::Starting;
        }
        Resolution::Ready(Route {
            pod_uid: pod.facts.uid.clone(),
            gone: pod.gone.clone(),
            permits: entry.permits.clone(),
        })
    }

    /// Whether the sandbox had this address earlier: then a client that names it is late, not lying.
    pub(crate) fn had_address(&self, namespace: &str, name: &str, address: IpAddr) -> bool {
        self.sandboxes
            .get(&(namespace.to_owned(), name.to_owned()))
            .is_some_and(|entry| entry.former.contains(&address))
    }

    /// The one Pod that the Sandbox controls. Owner references can be written by whoever may write Pods, so the name
    /// must fit too, and names are unique.
    fn owned_pod(&self, sandbox: &SandboxFacts) -> Option<&PodEntry> {
        self.pods_of.get(&sandbox.uid)?.iter().filter_map(|uid| self.pods.get(uid)).find(|pod| {
            pod.facts.namespace == sandbox.namespace
                && pod.facts.name == sandbox.pod_name
                && pod.facts.sandbox_uid == sandbox.uid
        })
    }

    fn remove_pod(&mut self, uid: &str) -> Option<PodEntry> {
        let old = self.pods.remove(uid)?;
        if let Some(siblings) = self.pods_of.get_mut(&old.facts.sandbox_uid) {
            siblings.retain(|sibling| sibling != uid);
            if siblings.is_empty() {
                self.pods_of.remove(&old.facts.sandbox_uid);
            }
        }
        Some(old)
    }

    fn remember_former_addresses(&mut self, old: &PodFacts, now: &[IpAddr]) {
        let key = self.names.get(&old.sandbox_uid);
        let entry = key
            .and_then(|key| self.sandboxes.get_mut(key))
            .filter(|entry| entry.facts.pod_name == old.name && entry.facts.namespace == old.namespace);
        let Some(entry) = entry else { return };
        for address in old.addresses.iter().filter(|address| !now.contains(address)) {
            if entry.former.len() == FORMER_ADDRESSES_MAX {
                entry.former.pop_front();
            }
            entry.former.push_back(*address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { guest: 4, workload: 4 };

    fn sandbox(name: &str, uid: &str) -> SandboxFacts {
        SandboxFacts {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            pod_name: name.to_owned(),
            is_deleting: false,
            is_suspended: false,
            is_finished: false,
        }
    }

    fn pod(name: &str, uid: &str, sandbox_uid: &str, address: &str) -> PodFacts {
        PodFacts {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            sandbox_uid: sandbox_uid.to_owned(),
            is_deleting: false,
            is_ready: true,
            is_finished: false,
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn routes() -> Routes {
        let mut routes = Routes::new(LIMITS);
        routes.apply_sandbox(sandbox("a", "s-a"));
        routes.apply_sandbox(sandbox("b", "s-b"));
        routes.apply_pod(pod("a", "p-a", "s-a", "10.201.0.2"));
        routes.apply_pod(pod("b", "p-b", "s-b", "10.201.0.3"));
        routes
    }

    fn told(resolution: &Resolution) -> String {
        match resolution {
            Resolution::Ready(route) => format!("ready {}", route.pod_uid),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    #[test]
    fn a_sandbox_is_found_by_name_and_by_uid() {
        let routes = routes();
        for (name, uid, expected) in [
            ("a", None, "ready p-a"),
            ("a", Some("s-a"), "ready p-a"),
            ("a", Some("s-b"), "otheruid"),
            ("c", None, "unknown"),
            ("c", Some("s-a"), "unknown"),
        ] {
            assert_eq!(told(&routes.resolve("default", name, uid)), expected, "{name} {uid:?}");
        }
        assert_eq!(told(&routes.resolve("other", "a", None)), "unknown");
    }

    #[test]
    fn a_pod_that_only_claims_an_owner_gets_no_traffic() {
        let mut routes = routes();
        routes.apply_pod(pod("thief", "p-thief", "s-a", "10.201.0.66"));
        assert_eq!(told(&routes.resolve("default", "a", None)), "ready p-a");
        routes.delete_pod("p-a");
        assert_eq!(told(&routes.resolve("default", "a", None)), "starting");
        let mut elsewhere = pod("a", "p-elsewhere", "s-a", "10.201.0.67");
        elsewhere.namespace = "other".to_owned();
        routes.apply_pod(elsewhere);
        assert_eq!(told(&routes.resolve("default", "a", None)), "starting");
    }

    #[test]
    fn each_state_has_its_answer() {
        type Change = fn(&mut SandboxFacts, &mut PodFacts);
        let cases: [(&str, Change, &str); 6] = [
            ("not ready", |_, pod| pod.is_ready = false, "starting"),
            ("pod replaced", |_, pod| pod.is_deleting = true, "starting"),
            ("pod ended", |_, pod| pod.is_finished = true, "down"),
            ("suspended", |sandbox, _| sandbox.is_suspended = true, "down"),
            ("deleting", |sandbox, _| sandbox.is_deleting = true, "down"),
            ("expired, pod still there", |sandbox, _| sandbox.is_finished = true, "ready p-a"),
        ];
        for (label, change, expected) in cases {
            let mut routes = Routes::new(LIMITS);
            let (mut sandbox, mut pod) = (sandbox("a", "s-a"), pod("a", "p-a", "s-a", "10.201.0.2"));
            change(&mut sandbox, &mut pod);
            routes.apply_sandbox(sandbox);
            routes.apply_pod(pod);
            assert_eq!(told(&routes.resolve("default", "a", None)), expected, "{label}");
        }
    }

    #[test]
    fn the_end_of_a_pod_is_told_to_its_connections() {
        let mut routes = routes();
        let Resolution::Ready(route) = routes.resolve("default", "a", None) else { panic!("it is ready") };
        routes.apply_pod(pod("a", "p-a", "s-a", "10.201.0.2"));
        assert!(!route.gone.is_cancelled());
        routes.replace_pods(vec![pod("b", "p-b", "s-b", "10.201.0.3")]);
        assert!(route.gone.is_cancelled());
        let address = "10.201.0.2".parse().unwrap();
        assert!(routes.had_address("default", "a", address));
        assert!(!routes.had_address("default", "b", address));
    }

    #[test]
    fn a_late_delete_of_a_namesake_changes_nothing() {
        let mut routes = routes();
        routes.apply_sandbox(sandbox("a", "s-a2"));
        routes.delete_sandbox("default", "a", "s-a");
        assert_eq!(told(&routes.resolve("default", "a", Some("s-a2"))), "starting");
        routes.replace_sandboxes(vec![sandbox("b", "s-b")]);
        assert_eq!(told(&routes.resolve("default", "a", None)), "unknown");
    }
}
