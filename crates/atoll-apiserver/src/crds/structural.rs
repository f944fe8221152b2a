//! What makes a schema structural: every field has a type outside of `allOf`, `anyOf`, `oneOf` and `not`, so that the
//! server can prune, default and merge by it.
//!
//! Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::keywords::{flag, list, schemas, text};
use crate::schema::{Cause, FieldPath};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is not structural in a schema.
pub(super) fn check(schema: &Value, path: &FieldPath) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_invariants(schema, Level::Root, path, &mut causes);
    check_completeness(schema, path, &mut causes);
    causes.sort_by_key(ToString::to_string);
    causes
}

fn check_invariants(schema: &Value, level: Level, path: &FieldPath, causes: &mut Vec<Cause>) {
    let value_type = text(schema, "type");
    if value_type == "array" && schema.get("items").is_none() {
        causes.push(Cause::required(path.field("items"), "must be specified"));
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        check_invariants(items, Level::Item, &path.field("items"), causes);
    }
    for (name, property) in schemas(schema, "properties") {
        check_invariants(property, Level::Field, &path.field("properties").key(name), causes);
    }
    if let Some(values) = schema.get("additionalProperties") {
        let path = path.field("additionalProperties");
        if level == Level::Root {
            causes.push(Cause::forbidden(&path, "must not be used at the root"));
        }
        if values.is_object() {
            check_invariants(values, Level::Field, &path, causes);
        }
    }
    check_extensions(schema, path, causes);
    let any_of = schema.get("anyOf").is_some_and(is_int_or_string);
    let all_of = list(schema, "allOf").first().and_then(|first| first.get("anyOf")).is_some_and(is_int_or_string);
    check_values(schema, any_of, all_of, path, causes);
    check_type(schema, level, path, causes);
    check_metadata(schema, level, path, causes);
}

/// The two schemas that `x-kubernetes-int-or-string` allows to have types within.
fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

fn check_extensions(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    if flag(schema, "x-kubernetes-int-or-string") {
        for keyword in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if flag(schema, keyword) {
                let rule = "must be false if x-kubernetes-int-or-string is true";
                causes.push(Cause::invalid(path.field(keyword), true, rule));
            }
        }
    }
}

fn check_type(schema: &Value, level: Level, path: &FieldPath, causes: &mut Vec<Cause>) {
    let (value_type, embedded) = (text(schema, "type"), flag(schema, "x-kubernetes-embedded-resource"));
    let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let at = path.field("type");
    if embedded && value_type != "object" {
        let rule = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(if value_type.is_empty() {
            Cause::required(&at, rule)
        } else {
            Cause::invalid(&at, value_type, rule)
        });
    } else if value_type.is_empty() && !free {
        causes.push(Cause::required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let rule = "must not be used if x-kubernetes-embedded-resource is set";
        causes.push(Cause::forbidden(path.field("additionalProperties"), rule));
    }
    if level == Level::Root && !value_type.is_empty() && value_type != "object" {
        causes.push(Cause::invalid(&at, value_type, "must be object at the root"));
    }
    let empty = schemas(schema, "properties").next().is_none();
    if embedded && empty && !flag(schema, "x-kubernetes-preserve-unknown-fields") {
        let rule = "must not be empty if x-kubernetes-embedded-resource is true without \
            x-kubernetes-preserve-unknown-fields";
        causes.push(Cause::required(path.field("properties"), rule));
    }
}

fn check_metadata(schema: &Value, level: Level, path: &FieldPath, causes: &mut Vec<Cause>) {
    let properties = &schema["properties"];
    let is_object = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(property) = properties.get(name).filter(|_| is_object) else { continue };
        let found = text(property, "type");
        if found != wanted {
            let at = path.field("properties").key(name).field("type");
            causes.push(Cause::invalid(at, found, &format!("must be {wanted}")));
        }
    }
    let Some(metadata) = properties.get("metadata").and_then(Value::as_object).filter(|_| level == Level::Root) else {
        return;
    };
    let known = |name: &str| matches!(name, "name" | "generateName");
    let mut rest: Map<String, Value> = metadata.clone();
    let only_names = schemas(&properties["metadata"], "properties").map(|(name, _)| name.as_str()).all(known);
    if only_names {
        rest.remove("properties");
    }
    rest.retain(|keyword, _| !matches!(keyword.as_str(), "type" | "default"));
    if !rest.is_empty() {
        let rule = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(Cause::forbidden(path.field("properties").key("metadata"), rule));
    }
}

/// The parts of a schema that only restrict values.
fn check_values(schema: &Value, skip_any_of: bool, skip_first_all_of: bool, path: &FieldPath, causes: &mut Vec<Cause>) {
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if keyword == "anyOf" && skip_any_of {
            continue;
        }
        for (index, nested) in list(schema, keyword).iter().enumerate() {
            let skip = keyword == "allOf" && skip_first_all_of && index == 0;
            check_nested(nested, skip, &path.field(keyword).index(index), causes);
        }
    }
    if let Some(nested) = schema.get("not") {
        check_nested(nested, false, &path.field("not"), causes);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = Regex::new(pattern) {
        let rule = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(path.field("pattern"), pattern, &rule));
    }
}

/// A schema within `allOf`, `anyOf`, `oneOf` or `not`: it says nothing about structure.
fn check_nested(schema: &Value, skip_any_of: bool, path: &FieldPath, causes: &mut Vec<Cause>) {
    check_values(schema, skip_any_of, false, path, causes);
    if let Some(items) = schema.get("items") {
        check_nested(items, false, &path.field("items"), causes);
    }
    for (name, property) in schemas(schema, "properties") {
        check_nested(property, false, &path.field("properties").key(name), causes);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    for (keyword, rule) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        if schema.get(keyword).is_some_and(|value| *value != Value::Bool(false)) {
            causes.push(Cause::forbidden(path.field(keyword), rule));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        let rule = "must not be specified in a nested context";
        causes.push(Cause::forbidden(path.field("properties").key("metadata"), rule));
    }
}

/// Every field and item that values are restricted of must be described outside, too.
fn check_completeness(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let mut nested: Vec<(&Value, FieldPath)> = Vec::new();
    collect_nested(schema, path, &mut nested);
    for (inner, _) in &nested {
        covers(schema, inner, path, causes);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        check_completeness(items, &path.field("items"), causes);
    }
    for (name, property) in schemas(schema, "properties") {
        check_completeness(property, &path.field("properties").key(name), causes);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        check_completeness(values, &path.field("additionalProperties"), causes);
    }
    let mut known = BTreeMap::new();
    causes.retain(|cause| known.insert((cause.field.clone(), cause.message.clone()), ()).is_none());
}

fn collect_nested<'a>(schema: &'a Value, path: &FieldPath, nested: &mut Vec<(&'a Value, FieldPath)>) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(schema, keyword).iter().enumerate() {
            let path = path.field(keyword).index(index);
            nested.push((inner, path.clone()));
            collect_nested(inner, &path, nested);
        }
    }
    if let Some(inner) = schema.get("not") {
        nested.push((inner, path.field("not")));
        collect_nested(inner, &path.field("not"), nested);
    }
}

/// Whether `outer` describes all fields that `inner` names.
fn covers(outer: &Value, inner: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let missing = |path: FieldPath| {
        let inside = path.to_string();
        Cause::required(path, &format!("because it is defined in {inside}"))
    };
    for (name, property) in schemas(inner, "properties") {
        let at = path.field("properties").key(name);
        match (outer["properties"].get(name), outer.get("additionalProperties")) {
            (Some(known), _) => covers(known, property, &at, causes),
            (None, Some(values)) if values.is_object() => {
                covers(values, property, &path.field("additionalProperties"), causes);
            }
            (None, _) => causes.push(missing(at)),
        }
    }
    if let Some(items) = inner.get("items") {
        match outer.get("items") {
            Some(known) => covers(known, items, &path.field("items"), causes),
            None => causes.push(missing(path.field("items"))),
        }
    }
}
