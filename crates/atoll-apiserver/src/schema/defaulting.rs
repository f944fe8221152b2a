//! Filling in defaults.

use std::sync::Arc;

use serde_json::Value;

use super::cause::Cause;
use super::node::{Additional, Node};
use super::path::FieldPath;
use super::{prune, validate};

/// Fills in what is absent below `value`. A null where null is no value and a default exists counts as absent.
pub(super) fn default(value: &mut Value, node: &Node) {
    if !node.has_defaults {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, schema) in &node.properties {
                let Some(default) = &schema.default else { continue };
                let absent = match fields.get(&**name) {
                    None => true,
                    Some(field) => field.is_null() && !schema.nullable,
                };
                if absent {
                    fields.insert((**name).to_owned(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                if let Some(schema) = node.field(name) {
                    if let (true, false, Some(default)) = (field.is_null(), schema.nullable, &schema.default) {
                        *field = default.clone();
                    }
                    self::default(field, schema);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for item in items {
                if let (true, false, Some(default)) = (item.is_null(), schema.nullable, &schema.default) {
                    *item = default.clone();
                }
                self::default(item, schema);
            }
        }
        _ => {}
    }
}

/// Reports defaults below `node` that hold what the schema drops, or that are not valid by it.
pub(super) fn check(node: &Arc<Node>, path: &FieldPath, causes: &mut Vec<Cause>) {
    if !node.has_defaults {
        return;
    }
    if let Some(given) = &node.default {
        let path = path.field("default");
        let mut value = given.clone();
        let mut dropped = Vec::new();
        prune::prune(&mut value, node, &mut FieldPath::default(), &mut dropped);
        if dropped.is_empty() {
            let mut validation = validate::Validation::new(path.as_str());
            validation.check(given, None, node, &mut FieldPath::default());
            causes.extend(validation.into_causes());
        } else {
            causes.push(Cause::invalid(&path, given.clone(), "must not have unknown fields"));
        }
    }
    for (name, property) in &node.properties {
        check(property, &path.field("properties").key(name), causes);
    }
    if let Some(items) = &node.items {
        check(items, &path.field("items"), causes);
    }
    if let Additional::Schema(values) = &node.additional {
        check(values, &path.field("additionalProperties"), causes);
    }
}
