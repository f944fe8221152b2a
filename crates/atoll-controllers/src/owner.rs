//! Who controls an object: always by UID, never by name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The reference to an object's controller.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

/// The UID of an object's controller; empty when it has none.
pub(crate) fn controller_uid(metadata: &ObjectMeta) -> &str {
    controller_of(metadata).map_or("", |owner| owner.uid.as_str())
}

/// Whether `owner` controls the object.
pub(crate) fn is_controlled_by<O: Resource>(metadata: &ObjectMeta, owner: &O) -> bool {
    let uid = uid_of(owner.meta());
    !uid.is_empty() && controller_uid(metadata) == uid
}

/// Whether a reference names a kind of an API group, of any version.
pub(crate) fn names_kind<O: k8s_openapi::Resource>(owner: &OwnerReference) -> bool {
    owner.kind == O::KIND && owner.api_version.split_once('/').is_some_and(|(group, _)| group == O::GROUP)
}

/// The reference by which `owner` controls an object.
pub(crate) fn controller_reference<O: Resource + k8s_openapi::Resource>(owner: &O) -> OwnerReference {
    let metadata = owner.meta();
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The UID; empty when the object has none yet.
pub(crate) fn uid_of(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

/// The value of a label.
pub(crate) fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The value of an annotation.
pub(crate) fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the object is on its way out.
pub(crate) fn is_terminating(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}
