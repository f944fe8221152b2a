//! Dropping what the schema does not know.

use serde_json::Value;

use super::node::Node;
use super::path::FieldPath;

/// Removes unknown fields below `value`; their paths go to `dropped`.
pub(super) fn prune(value: &mut Value, node: &Node, path: &mut FieldPath, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if node.keeps_unknown() {
                for (name, field) in fields.iter_mut() {
                    if let Some(schema) = node.field(name) {
                        path.within_field(name, |path| prune(field, schema, path, dropped));
                    }
                }
                return;
            }
            fields.retain(|name, field| match node.field(name) {
                Some(schema) => {
                    path.within_field(name, |path| prune(field, schema, path, dropped));
                    true
                }
                None if node.embedded_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") => true,
                None => {
                    path.within_field(name, |path| dropped.push(path.to_string()));
                    false
                }
            });
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for (index, item) in items.iter_mut().enumerate() {
                    path.within_index(index, |path| prune(item, schema, path, dropped));
                }
            }
        }
        _ => {}
    }
}

/// Removes nulls that stand for "absent": those whose schema is neither nullable nor has a default.
pub(super) fn drop_nulls(value: &mut Value, node: &Node) {
    match value {
        Value::Object(fields) => fields.retain(|name, field| {
            let Some(schema) = node.field(name) else { return true };
            if field.is_null() && !schema.nullable && schema.default.is_none() {
                return false;
            }
            drop_nulls(field, schema);
            true
        }),
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                items.iter_mut().for_each(|item| drop_nulls(item, schema));
            }
        }
        _ => {}
    }
}
