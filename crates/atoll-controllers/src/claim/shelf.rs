//! What pools have to give: their unclaimed members in the order in which claims take them, kept in step with every change.
//! Looking through all members for each claim would cost as much as the square of their number when many claims come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_api::{Sandbox, SandboxWarmPool};
use k8s_openapi::jiff::Timestamp;

use crate::caches::name_of;
use crate::claim::candidates::{Candidates, can_be_used, has_address, node_of};
use crate::owner::{controller_of, controller_uid, is_terminating, names_kind, uid_of};
use crate::pool::plan::has_member_labels;

/// The oldest first.
type Rank = (Option<Timestamp>, String);

/// By the UID of the pool. Bounded by the number of Sandboxes.
#[derive(Default)]
pub(crate) struct Shelves {
    shelves: Mutex<HashMap<String, Shelf>>,
}

#[derive(Default)]
struct Shelf {
    nodes: HashMap<String, Members>,
    /// By the UID of the member.
    places: HashMap<String, Place>,
}

struct Place {
    node: String,
    rank: Rank,
    usable: bool,
}

#[derive(Default)]
struct Members {
    usable: BTreeMap<Rank, Arc<Sandbox>>,
    others: BTreeMap<Rank, Arc<Sandbox>>,
}

impl Members {
    fn of(&mut self, usable: bool) -> &mut BTreeMap<Rank, Arc<Sandbox>> {
        if usable { &mut self.usable } else { &mut self.others }
    }

    fn len(&self) -> usize {
        self.usable.len() + self.others.len()
    }
}

impl Shelves {
    /// Takes in what a Sandbox was and is; `is_trusted` tells whether its pool has made it.
    pub(crate) fn note(
        &self,
        old: Option<&Arc<Sandbox>>,
        new: Option<&Arc<Sandbox>>,
        is_trusted: impl Fn(&Sandbox) -> bool,
    ) {
        let mut shelves = self.lock();
        if let Some(old) = old {
            let pool = controller_uid(&old.metadata);
            if let Some(shelf) = shelves.get_mut(pool) {
                shelf.remove(uid_of(&old.metadata));
                if shelf.places.is_empty() {
                    shelves.remove(pool);
                }
            }
        }
        if let Some(new) = new.filter(|new| is_for_claims(new) && is_trusted(new)) {
            shelves.entry(controller_uid(&new.metadata).to_owned()).or_default().put(new);
        }
    }

    /// The best that a pool has but for what is taken, on the fullest node if there is a choice.
    pub(crate) fn candidates(&self, pool: &str, taken: &HashSet<String>) -> Candidates {
        let shelves = self.lock();
        let Some(shelf) = shelves.get(pool) else { return Candidates::default() };
        let mut fullest: Vec<&Members> = shelf.nodes.values().collect();
        fullest.sort_by_key(|members| Reverse(members.len()));
        let free = |member: &&Arc<Sandbox>| !taken.contains(uid_of(&member.metadata));
        let taken_of = |usable: bool| {
            taken.iter().filter_map(|uid| shelf.places.get(uid)).filter(|place| place.usable == usable).count()
        };
        let count = |usable: bool| {
            let on_node = |members: &&Members| if usable { members.usable.len() } else { members.others.len() };
            fullest.iter().map(on_node).sum::<usize>().saturating_sub(taken_of(usable))
        };
        Candidates {
            ready: fullest.iter().find_map(|members| members.usable.values().find(free)).cloned(),
            starting: fullest
                .iter()
                .find_map(|members| members.others.values().filter(|member| has_address(member)).find(free))
                .cloned(),
            ready_count: count(true),
            pending: count(false),
        }
    }

    /// All that a pool has but for what is taken.
    pub(crate) fn all(&self, pool: &str, taken: &HashSet<String>) -> Vec<Arc<Sandbox>> {
        let shelves = self.lock();
        let members = shelves.get(pool).into_iter().flat_map(|shelf| shelf.nodes.values());
        members
            .flat_map(|members| members.usable.values().chain(members.others.values()))
            .filter(|member| !taken.contains(uid_of(&member.metadata)))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn put(&mut self, member: &Arc<Sandbox>) {
        let uid = uid_of(&member.metadata);
        self.remove(uid);
        let created = member.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let place = Place {
            node: node_of(member).to_owned(),
            rank: (created, name_of(&**member).to_owned()),
            usable: can_be_used(member),
        };
        let members = self.nodes.entry(place.node.clone()).or_default();
        members.of(place.usable).insert(place.rank.clone(), Arc::clone(member));
        self.places.insert(uid.to_owned(), place);
    }

    fn remove(&mut self, uid: &str) {
        let Some(place) = self.places.remove(uid) else { return };
        let Some(members) = self.nodes.get_mut(&place.node) else { return };
        members.of(place.usable).remove(&place.rank);
        if members.len() == 0 {
            self.nodes.remove(&place.node);
        }
    }
}

fn is_for_claims(sandbox: &Sandbox) -> bool {
    !is_terminating(&sandbox.metadata)
        && controller_of(&sandbox.metadata).is_some_and(names_kind::<SandboxWarmPool>)
        && has_member_labels(sandbox)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{controller, object};

    fn member(name: &str, ready: &str, more: &Value) -> Arc<Sandbox> {
        let base = json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": format!("uid-{name}"),
                "labels": {
                    "agents.x-k8s.io/warm-pool-sandbox": "h", "agents.x-k8s.io/sandbox-template-ref-hash": "t",
                },
                "ownerReferences": controller("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "p", "pu"),
            },
            "spec": {"podTemplate": {"spec": {"containers": []}}},
            "status": {
                "podIPs": ["10.0.0.1"], "nodeName": "n",
                "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:01Z"}],
            },
        });
        Arc::new(object(crate::fixtures::with(base, more)))
    }

    fn names(candidates: &Candidates) -> (Option<&str>, Option<&str>, usize, usize) {
        let name = |member: &Option<Arc<Sandbox>>| member.as_ref().map(|member| member.metadata.name.clone());
        let leak = |name: Option<Option<String>>| name.flatten().map(|name| &*name.leak());
        (leak(name(&candidates.ready)), leak(name(&candidates.starting)), candidates.ready_count, candidates.pending)
    }

    #[test]
    fn a_shelf_follows_its_members() {
        let shelves = Shelves::default();
        let none = HashSet::new();
        let (a, b) = (member("a", "True", &json!({})), member("b", "False", &json!({})));
        shelves.note(None, Some(&a), |_| true);
        shelves.note(None, Some(&b), |_| true);
        shelves.note(None, Some(&member("forged", "True", &json!({}))), |_| false);
        shelves.note(None, Some(&member("bare", "True", &json!({"metadata": {"labels": null}}))), |_| true);
        assert_eq!(names(&shelves.candidates("pu", &none)), (Some("a"), Some("b"), 1, 1));
        let taken = HashSet::from(["uid-a".to_owned()]);
        assert_eq!(names(&shelves.candidates("pu", &taken)), (None, Some("b"), 0, 1));
        assert_eq!(shelves.all("pu", &taken).len(), 1);

        let ready = member("b", "True", &json!({}));
        shelves.note(Some(&b), Some(&ready), |_| true);
        assert_eq!(names(&shelves.candidates("pu", &none)), (Some("a"), None, 2, 0));
        let owner = controller("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", "c", "cu");
        let claimed = member("a", "True", &json!({"metadata": {"ownerReferences": owner}}));
        shelves.note(Some(&a), Some(&claimed), |_| true);
        assert_eq!(names(&shelves.candidates("pu", &none)), (Some("b"), None, 1, 0));
        shelves.note(Some(&ready), None, |_| true);
        assert_eq!(names(&shelves.candidates("pu", &none)), (None, None, 0, 0));
        assert!(shelves.lock().is_empty());
    }
}
