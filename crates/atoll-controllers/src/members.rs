//! Which Sandboxes a pool has really made. A label and an owner reference can be put on a Sandbox by anyone who may
//! make one; what a pool hands out must be more than that.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_api::Sandbox;
use atoll_client::ObjectKey;

use crate::owner::{controller_uid, uid_of};

/// The record. Sandboxes that were there when the controllers started are taken on trust; after that only those count
/// whose names were drawn here before they were made, and such a name counts once.
#[derive(Debug, Default)]
pub(crate) struct Members {
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// UIDs of members. Bounded by the number of Sandboxes: the deleted are forgotten.
    uids: HashSet<String>,
    /// Names that were drawn and not yet seen, with the UID of the pool. Bounded by one batch for each pool.
    expected: HashMap<ObjectKey, String>,
}

impl Members {
    /// Takes a Sandbox on trust.
    pub(crate) fn trust(&self, sandbox: &Sandbox) {
        self.lock().uids.insert(uid_of(&sandbox.metadata).to_owned());
    }

    /// A Sandbox of this name is about to be made for a pool.
    pub(crate) fn expect(&self, key: ObjectKey, pool_uid: &str) {
        self.lock().expected.insert(key, pool_uid.to_owned());
    }

    /// The Sandbox of this name was not made.
    pub(crate) fn give_up(&self, key: &ObjectKey) {
        self.lock().expected.remove(key);
    }

    /// Whether the pool that controls the Sandbox has made it.
    pub(crate) fn contains(&self, sandbox: &Sandbox) -> bool {
        let uid = uid_of(&sandbox.metadata);
        let mut record = self.lock();
        if record.uids.contains(uid) {
            return true;
        }
        let key = ObjectKey::of(sandbox);
        let made_here = record.expected.get(&key).is_some_and(|pool| pool == controller_uid(&sandbox.metadata));
        if made_here {
            record.expected.remove(&key);
            record.uids.insert(uid.to_owned());
        }
        made_here
    }

    /// Drops a Sandbox that is gone.
    pub(crate) fn forget(&self, sandbox: &Sandbox) {
        self.lock().uids.remove(uid_of(&sandbox.metadata));
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

    use super::*;

    fn sandbox(name: &str, uid: &str, pool: &str) -> Sandbox {
        Sandbox {
            metadata: ObjectMeta {
                namespace: Some("ns".to_owned()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                owner_references: Some(vec![OwnerReference {
                    uid: pool.to_owned(),
                    controller: Some(true),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            ..Sandbox::default()
        }
    }

    #[test]
    fn only_what_the_pool_made_is_a_member() {
        let members = Members::default();
        members.expect(ObjectKey::new("ns", "a"), "pool");
        assert!(!members.contains(&sandbox("a", "1", "other pool")), "another pool's");
        assert!(members.contains(&sandbox("a", "1", "pool")));
        assert!(members.contains(&sandbox("a", "1", "claim")), "it stays one after it was claimed");
        assert!(!members.contains(&sandbox("a", "2", "pool")), "a name counts once");
        assert!(!members.contains(&sandbox("forged", "3", "pool")));
        members.forget(&sandbox("a", "1", "pool"));
        assert!(!members.contains(&sandbox("a", "1", "pool")));
    }

    #[test]
    fn what_was_there_before_is_trusted() {
        let members = Members::default();
        members.trust(&sandbox("a", "1", "pool"));
        assert!(members.contains(&sandbox("a", "1", "pool")));
    }
}
