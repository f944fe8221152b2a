//! OpenAPI v3 documents: what `kubectl explain`, `apply` and `diff` read.

use serde_json::{Value, json};

use crate::definitions::ResourceDefinition;

/// Answer of `/openapi/v3`: the path of every group version's document, with its hash.
pub fn v3_index(_definitions: &[ResourceDefinition]) -> Value {
    json!({"paths": {}})
}

/// Answer of `/openapi/v3/api/v1` or `/openapi/v3/apis/<group>/<version>`; None when nothing is served there.
/// `group_version` is `v1` or `group/version`.
pub fn v3_group_version(_definitions: &[ResourceDefinition], _group_version: &str) -> Option<Value> {
    None
}
