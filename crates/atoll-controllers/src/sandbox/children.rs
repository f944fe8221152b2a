//! What the plans of a Sandbox's children have in common.

use atoll_api::{Sandbox, labels};
use atoll_stdx::name_hash;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::caches::name_of;
use crate::owner::{controller_of, controller_reference, label};
use crate::write::{Target, Write, Written};

/// Something that only a person, or time, can put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// So many Pods are controlled by this Sandbox.
    MultiplePods(usize),
    /// An object of the right name is not ours to use.
    NotOurs(String),
    /// The API server will never accept a child.
    Invalid(String),
    /// The Sandbox of this name has the hash of this one's name.
    Collision(String),
    /// A write failed.
    Failed(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MultiplePods(count) => write!(
                formatter,
                "multiple Pods ({count}) are controlled by this Sandbox; refusing to choose or create a Pod"
            ),
            Self::Collision(other) => write!(
                formatter,
                "the name has the same hash as that of sandbox {other:?}, and their children would be mixed up; choose \
                 another name"
            ),
            Self::NotOurs(text) | Self::Invalid(text) | Self::Failed(text) => formatter.write_str(text),
        }
    }
}

/// The value of the label that selects a Sandbox's children.
pub(crate) fn name_label(sandbox: &Sandbox) -> String {
    name_hash(name_of(sandbox))
}

/// Whether an object without a controller may be taken over.
pub(crate) fn is_adoptable(metadata: &ObjectMeta, sandbox: &Sandbox) -> bool {
    label(metadata, labels::ADOPTABLE) == Some("true")
        || label(metadata, labels::SANDBOX_NAME_HASH) == Some(name_label(sandbox).as_str())
}

/// Makes the Sandbox the controller of an object that has none, beside owners it may have.
pub(crate) fn adopt<K: Written>(object: &K, sandbox: &Sandbox) -> Write {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.push(controller_reference(sandbox));
    let patch = json!({"metadata": {
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": owners,
    }});
    Write::Merge { target: Target::of(object), patch }
}

/// An object of the right name belongs to somebody else.
pub(crate) fn owned_by_other<K: Written>(object: &K, sandbox: &Sandbox) -> Problem {
    let (kind, name, uid) = controller_of(object.meta())
        .map(|owner| (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()))
        .unwrap_or_default();
    Problem::NotOurs(format!(
        "{} {:?} is owned by {kind}/{name} (UID: {uid}), not by sandbox {:?}",
        K::KIND.word(),
        name_of(object),
        name_of(sandbox)
    ))
}

/// An object of the right name belongs to nobody, and nobody said that it may be taken.
pub(crate) fn not_adoptable<K: Written>(object: &K) -> Problem {
    Problem::NotOurs(format!(
        "cannot adopt unowned {} {:?}: missing required pool authorization label ({:?}) or sandbox tracking label ({:?})",
        K::KIND.word(),
        name_of(object),
        labels::ADOPTABLE,
        labels::SANDBOX_NAME_HASH
    ))
}
