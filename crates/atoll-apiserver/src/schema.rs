//! Structural schemas: what a kind's objects look like, and the four things the server does with that
//! knowledge: drop what it does not know, check types, fill in defaults, and report what is wrong.
//!
//! Everything here is pure and works on [`serde_json::Value`].

use std::sync::Arc;

use serde_json::Value;

pub use self::cause::{Cause, Reason};
pub use self::node::{Additional, ListType, Node, PatchStrategy, ValueType};
pub use self::parse::Definitions;
pub use self::path::FieldPath;

pub(crate) mod cause;
mod defaulting;
pub(crate) mod format;
pub mod node;
mod parse;
mod path;
mod prune;
mod rules;
mod validate;

/// Said once when an object is so wrong that rules were not looked at.
const RULES_NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; \
    correct the existing errors to complete validation";

/// A parsed structural schema. Cheap to clone: nodes are shared.
#[derive(Clone, Debug)]
pub struct StructuralSchema {
    root: Arc<Node>,
    has_rules: bool,
}

/// Why an OpenAPI document is not a structural schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A keyword has a value of the wrong shape.
    #[error("schema at {path}: {keyword} must be {expected}")]
    Keyword { path: String, keyword: &'static str, expected: &'static str },
    /// A `$ref` leads nowhere.
    #[error("schema at {path}: reference {reference:?} is not defined")]
    UnknownReference { path: String, reference: String },
    /// A definition contains itself.
    #[error("schema at {path}: reference {reference:?} is recursive")]
    RecursiveReference { path: String, reference: String },
}

impl StructuralSchema {
    /// Parses an OpenAPI v3 schema object without references.
    pub fn from_openapi_v3(document: &Value) -> Result<Self, SchemaError> {
        Ok(Self::from_node(parse::parse_alone(document)?))
    }

    /// Wraps a node.
    pub fn from_node(root: Arc<Node>) -> Self {
        let has_rules = rules::exist(&root);
        Self { root, has_rules }
    }

    /// The same schema with another one for `metadata`, and with what says of which kind an object is.
    pub fn with_metadata(&self, metadata: &Arc<Node>) -> Self {
        let mut root = Node::clone(&self.root);
        root.properties.insert("metadata".into(), Arc::clone(metadata));
        for name in ["apiVersion", "kind"] {
            let text = || Arc::new(Node { value_type: ValueType::String, ..Node::default() });
            root.properties.entry(name.into()).or_insert_with(text);
        }
        Self { root: Arc::new(root), has_rules: self.has_rules }
    }

    /// The same schema, sharing with another one what lies at a path: it must be the same there.
    pub(crate) fn sharing(&self, path: &[&str], other: &Self) -> Self {
        Self { root: share(&self.root, path, &other.root), has_rules: self.has_rules }
    }

    /// What is wrong with the defaults: each must be known to the schema and valid by it.
    pub(crate) fn check_defaults(&self, path: &FieldPath) -> Vec<Cause> {
        let mut causes = Vec::new();
        defaulting::check(&self.root, path, &mut causes);
        causes
    }

    /// The root node.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Removes every field that the schema does not know, in place.
    /// Returns their paths (`spec.foo`, `spec.containers[0].bar`), sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        prune::prune(object, &self.root, &mut FieldPath::default(), &mut dropped);
        dropped.sort();
        dropped
    }

    /// Removes nulls where null is no value and no default takes its place.
    pub fn drop_nulls(&self, object: &mut Value) {
        prune::drop_nulls(object, &self.root);
    }

    /// Fills in the schema's defaults, in place. A null where a default exists counts as absent.
    pub fn default(&self, object: &mut Value) {
        defaulting::default(object, &self.root);
    }

    /// Checks `object` against the schema; rules about changes compare it with `old` when given, and what was wrong in `old`
    /// and did not change is forgiven.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = self.check_values(object, old);
        causes.extend(self.check_uniqueness(object, old));
        causes.extend(self.check_rules(object, old, &causes));
        causes
    }

    /// The first part of [`Self::validate`]: types, required fields, limits.
    pub fn check_values(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut validation = validate::Validation::new("");
        validation.check(object, old, &self.root, &mut FieldPath::default());
        validation.into_causes()
    }

    /// As [`Self::check_values`], for the one field `name` of the root.
    pub fn check_field(&self, name: &str, value: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Some(node) = self.root.field(name) else { return Vec::new() };
        let mut validation = validate::Validation::new(name);
        validation.check(value, old, node, &mut FieldPath::default());
        validation.into_causes()
    }

    /// The second part of [`Self::validate`]: items of sets and keyed lists are there once.
    pub fn check_uniqueness(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = Vec::new();
        validate::check_uniqueness(object, &self.root, &mut FieldPath::default(), &mut causes);
        if causes.is_empty() {
            return causes;
        }
        let was_broken = old.is_some_and(|old| {
            let mut before = Vec::new();
            validate::check_uniqueness(old, &self.root, &mut FieldPath::default(), &mut before);
            !before.is_empty()
        });
        if was_broken { Vec::new() } else { causes }
    }

    /// The last part of [`Self::validate`]: rules, unless `found` makes them moot.
    pub fn check_rules(&self, object: &Value, old: Option<&Value>, found: &[Cause]) -> Vec<Cause> {
        if !self.has_rules {
            return Vec::new();
        }
        if found.iter().any(validate::is_blocking) {
            return vec![Cause::invalid(cause::NO_FIELD, Value::Null, RULES_NOT_CHECKED)];
        }
        rules::check(object, old, &self.root)
    }

    /// What is wrong with the rules themselves. `path` is the schema's.
    pub(crate) fn check_own_rules(&self, path: &FieldPath) -> Vec<Cause> {
        if self.has_rules { rules::check_own(&self.root, path) } else { Vec::new() }
    }
}

fn share(node: &Arc<Node>, path: &[&str], other: &Arc<Node>) -> Arc<Node> {
    let [name, rest @ ..] = path else { return Arc::clone(other) };
    let (Some(own), Some(other)) = (node.properties.get(*name), other.properties.get(*name)) else {
        return Arc::clone(node);
    };
    let mut shared = Node::clone(node);
    shared.properties.insert((*name).into(), share(own, rest, other));
    Arc::new(shared)
}

#[cfg(test)]
mod tests;
