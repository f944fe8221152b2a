//! Filling in defaults.

use serde_json::Value;

use super::node::Node;

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
