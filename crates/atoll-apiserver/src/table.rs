//! The Table form of objects, which `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::definitions::ResourceDefinition;

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    /// A `PartialObjectMetadata`. The default.
    Metadata,
    Object,
}

/// A `meta.k8s.io/v1 Table` without list metadata; the caller sets `metadata.resourceVersion` and the like.
pub fn to_table(_definition: &ResourceDefinition, _objects: &[&Value], _include: IncludeObject, _now: Timestamp) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": [], "rows": []})
}
