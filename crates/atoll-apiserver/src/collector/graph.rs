//! Who owns whom, by UID.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::objects::{Owner, View};
use crate::registry::Resource;
use crate::removal::{FOREGROUND, ORPHAN};

use super::work::Task;

/// An object that is there.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) resource: Arc<Resource>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Box<str>,
    pub(super) owners: Box<[Owner]>,
    pub(super) deleting: bool,
    pub(super) foreground: bool,
    pub(super) orphaning: bool,
}

impl Member {
    pub(super) fn new(namespace: Option<&str>, name: &str, resource: &Arc<Resource>, view: &View) -> Self {
        Self {
            resource: Arc::clone(resource),
            namespace: namespace.map(Into::into),
            name: name.into(),
            owners: view.owners.clone(),
            deleting: view.deleting,
            foreground: view.has_finalizer(FOREGROUND),
            orphaning: view.has_finalizer(ORPHAN),
        }
    }

    /// Whether it stays until what it owns is gone.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// Whether it stays until what it owns has been let go.
    pub(super) fn lets_dependents_go(&self) -> bool {
        self.deleting && self.orphaning
    }

    /// Whether its owners or its own end must be looked into.
    pub(super) fn needs_care(&self) -> bool {
        !self.owners.is_empty() || self.waits_for_dependents() || self.lets_dependents_go()
    }
}

/// Everything that is there.
#[derive(Debug, Default)]
pub(super) struct Graph {
    members: HashMap<Box<str>, Member>,
    dependents: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// How an owner that an object names stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there, or nobody here can tell.
    Solid,
    /// It is gone.
    Absent,
    /// It is there only until its dependents are gone.
    Waiting,
}

/// What is known of an object when its task begins.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) member: Member,
    /// Parallel to the member's owners.
    pub(super) standing: Vec<Standing>,
    pub(super) dependents: Vec<Member>,
    /// Dependents that must be gone before it may go.
    pub(super) blocked: bool,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Member> {
        self.members.get(uid)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Box<str>, &Member)> {
        self.members.iter()
    }

    pub(super) fn put(&mut self, uid: &str, member: Member) {
        self.unlink(uid);
        for owner in &member.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.into());
        }
        self.members.insert(uid.into(), member);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.unlink(uid);
        self.members.remove(uid);
    }

    fn unlink(&mut self, uid: &str) {
        let Some(member) = self.members.get(uid) else { return };
        for owner in &member.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Box<str>> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// What is known of the object that a task is about.
    pub(super) fn facts(&self, task: &Task) -> Option<Facts> {
        let Task::Object(uid) = task else { return None };
        let member = self.members.get(uid)?.clone();
        let standing = member.owners.iter().map(|owner| self.standing(&member, owner)).collect();
        let mut dependents = Vec::new();
        let mut blocked = false;
        for dependent in self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.members.get(uid)) {
            blocked |= dependent.owners.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion);
            dependents.push(dependent.clone());
        }
        Some(Facts { member, standing, dependents, blocked })
    }

    fn standing(&self, member: &Member, owner: &Owner) -> Standing {
        match self.members.get(&owner.uid) {
            None => Standing::Absent,
            // An owner in another namespace is none, and neither is one that goes by another name or kind.
            Some(found) if found.namespace.is_some() && found.namespace != member.namespace => Standing::Absent,
            Some(found) if found.name != owner.name || found.resource.definition.kind.as_str() != &*owner.kind => {
                Standing::Absent
            }
            Some(found) if found.waits_for_dependents() => Standing::Waiting,
            Some(_) => Standing::Solid,
        }
    }
}
