//! Pools for claims that were written for the first version of this API. Such a claim may name a template and no pool;
//! its conversion then names a pool that stands in for the template. Such a pool has no members: the claim starts cold.

use atoll_api::{SandboxTemplate, SandboxWarmPool, annotations, manifests};
use atoll_client::ObjectKey;

use crate::caches::{name_of, namespace_of};
use crate::owner::controller_reference;

const PREFIX: &str = "shadow-pool-";

/// The template for which a pool of this name stands in.
pub(crate) fn template_of(pool: &str) -> Option<&str> {
    pool.strip_prefix(PREFIX).filter(|template| !template.is_empty())
}

/// The key of the pool that stands in for a template.
pub(crate) fn pool_key(template: &ObjectKey) -> ObjectKey {
    ObjectKey::new(template.namespace.as_str(), format!("{PREFIX}{}", template.name))
}

/// The pool that stands in for a template, and goes with it.
pub(crate) fn pool(template: &SandboxTemplate) -> SandboxWarmPool {
    let key = pool_key(&ObjectKey::of(template));
    let mut pool = manifests::pool(namespace_of(template), &key.name, name_of(template), 0);
    let notes = [
        (annotations::MIGRATION_SHADOW, "true".to_owned()),
        (annotations::MIGRATION_SOURCE_TEMPLATE, name_of(template).to_owned()),
    ];
    pool.metadata.annotations = Some(notes.map(|(key, value)| (key.to_owned(), value)).into());
    pool.metadata.owner_references = Some(vec![controller_reference(template)]);
    pool
}
