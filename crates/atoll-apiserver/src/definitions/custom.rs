//! Kinds that behave as ones defined by a CustomResourceDefinition: everything follows from the schema.

use serde_json::{Map, Value};

use super::{Facet, ResourceDefinition, Scale, decode, metadata, without_repetition};
use crate::schema::{Cause, FieldPath};

/// Drops unknown fields and nulls that mean nothing, checks the types in metadata.
pub(super) fn decode(definition: &ResourceDefinition, object: &mut Value) -> Result<Vec<String>, String> {
    let unknown = definition.schema.prune(object);
    normalise_metadata(definition, object)?;
    definition.schema.drop_nulls(object);
    Ok(unknown)
}

/// Checks the types in metadata, and sees to it that there is some.
pub(super) fn normalise_metadata(definition: &ResourceDefinition, object: &mut Value) -> Result<(), String> {
    let root = definition.schema.root();
    if let (Some(node), Some(metadata)) = (root.properties.get("metadata"), object.get_mut("metadata")) {
        if metadata.is_null() {
            *metadata = Value::Object(Map::new());
        }
        decode::normalise(metadata, node)?;
    } else if let Some(fields) = object.as_object_mut() {
        fields.insert("metadata".to_owned(), Value::Object(Map::new()));
    }
    Ok(())
}

/// A write to `/status` changes only the status, and who manages it.
pub(super) fn keep_all_but_status(object: &mut Value, old: &Value) {
    let status = object.get("status").cloned();
    let managed = object["metadata"].get("managedFields").cloned();
    let version = object["metadata"].get("resourceVersion").cloned();
    *object = old.clone();
    let Some(fields) = object.as_object_mut() else { return };
    set_or_remove(fields, "status", status);
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        set_or_remove(metadata, "managedFields", managed);
        if version.is_some() {
            set_or_remove(metadata, "resourceVersion", version);
        }
    }
}

fn set_or_remove(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            fields.insert(name.to_owned(), value);
        }
        None => {
            fields.remove(name);
        }
    }
}

/// Everything wrong with a new object.
pub(super) fn validate_create(definition: &ResourceDefinition, object: &Value) -> Vec<Cause> {
    let wrong_type = check_type(definition, object);
    if !wrong_type.is_empty() {
        return wrong_type;
    }
    let mut causes = metadata::validate_create(object, definition.metadata_rules());
    causes.extend(definition.schema.check_values(object, None));
    check_scale(definition, object, true, &mut causes);
    finish(definition, object, None, causes)
}

/// Everything wrong with a changed object.
pub(super) fn validate_update(
    definition: &ResourceDefinition,
    object: &Value,
    old: &Value,
    facet: Facet,
) -> Vec<Cause> {
    let wrong_type = check_type(definition, object);
    if !wrong_type.is_empty() {
        return wrong_type;
    }
    let mut causes = metadata::validate_update(object, old);
    if facet == Facet::Status {
        if let Some(status) = object.get("status") {
            causes.extend(definition.schema.check_field("status", status, old.get("status")));
        }
        check_scale(definition, object, false, &mut causes);
    } else {
        causes.extend(definition.schema.check_values(object, Some(old)));
        check_scale(definition, object, true, &mut causes);
    }
    finish(definition, object, Some(old), causes)
}

fn finish(definition: &ResourceDefinition, object: &Value, old: Option<&Value>, mut causes: Vec<Cause>) -> Vec<Cause> {
    causes.extend(definition.schema.check_uniqueness(object, old));
    causes.extend(definition.schema.check_rules(object, old, &causes));
    without_repetition(causes)
}

fn check_type(definition: &ResourceDefinition, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (field, expected) in [("kind", definition.kind.clone()), ("apiVersion", definition.api_version())] {
        let found = object[field].as_str().unwrap_or_default();
        if found != expected {
            causes.push(Cause::invalid(field, found, &format!("must be {expected}")));
        }
    }
    causes
}

/// The numbers of the scale subresource are whole and not negative, whatever the schema says.
fn check_scale(definition: &ResourceDefinition, object: &Value, with_spec: bool, causes: &mut Vec<Cause>) {
    let Some(scale) = &definition.subresources.scale else { return };
    if with_spec {
        check_count(object, &scale.spec_replicas, causes);
    }
    check_count(object, &scale.status_replicas, causes);
    if let Some(path) = &scale.label_selector {
        let value = at(object, path);
        if !value.is_null() && !value.is_string() {
            let problem = format!(".{path} accessor error: {value} is of the type {}, expected string", go_type(value));
            causes.push(Cause::invalid(format!(".{path}"), "", &problem));
        }
    }
}

fn check_count(object: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (value, field) = (at(object, path), format!(".{path}"));
    match value.as_i64() {
        None if value.is_null() => {}
        None => {
            let problem = format!("{field} accessor error: {value} is of the type {}, expected int64", go_type(value));
            causes.push(Cause::invalid(FieldPath::new(&field), 0, &problem));
        }
        Some(count) if count < 0 => causes.push(Cause::invalid(field, count, "should be a non-negative integer")),
        Some(count) if count > i64::from(i32::MAX) => {
            causes.push(Cause::invalid(field, count, &format!("should be less than or equal to {}", i32::MAX)));
        }
        Some(_) => {}
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The value at a dotted path; null when there is none.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, name| &value[name])
}

impl Scale {
    /// The number of replicas that the object asks for.
    pub fn wanted(&self, object: &Value) -> i64 {
        at(object, &self.spec_replicas).as_i64().unwrap_or_default()
    }

    /// The number of replicas that the object has.
    pub fn found(&self, object: &Value) -> i64 {
        at(object, &self.status_replicas).as_i64().unwrap_or_default()
    }

    /// The label selector of the replicas, empty when there is none.
    pub fn selector<'a>(&self, object: &'a Value) -> &'a str {
        self.label_selector.as_ref().and_then(|path| at(object, path).as_str()).unwrap_or_default()
    }

    /// Sets the number of replicas that the object asks for.
    pub fn set_wanted(&self, object: &mut Value, replicas: i64) {
        let mut target = object;
        for name in self.spec_replicas.split('.') {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            target = &mut target[name];
        }
        *target = Value::from(replicas);
    }
}
