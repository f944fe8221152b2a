//! What a schema of a CustomResourceDefinition may say, beyond being structural.

use serde_json::{Value, json};

use super::keywords::{flag, list, schemas, text, texts};
use crate::schema::{Cause, FieldPath};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const AT_ROOT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Where in a schema a walk is.
#[derive(Clone, Default)]
struct Place {
    /// Within `metadata`, `kind` or `apiVersion` of the object or of an embedded one.
    in_metadata: bool,
    /// Why a default may not be set here.
    no_defaults: Option<String>,
}

/// What is wrong with a root schema. `with_status`: the status is a subresource.
pub(super) fn check(schema: &Value, with_status: bool, path: &FieldPath) -> Vec<Cause> {
    let mut causes = Vec::new();
    if with_status {
        check_root(schema, path, &mut causes);
    }
    if flag(schema, "nullable") {
        causes.push(Cause::forbidden(path.field("nullable"), "nullable cannot be true at the root"));
    }
    check_at(schema, true, &Place::default(), path, &mut causes);
    causes
}

/// With the status as a subresource, the root says nothing that would be lost when only the status is looked at.
fn check_root(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let value_type = text(schema, "type");
    if !value_type.is_empty() && value_type != "object" {
        let rule =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        causes.push(Cause::invalid(path.field("type"), value_type, rule));
    }
    let keywords = schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str());
    if keywords.into_iter().any(|keyword| !AT_ROOT.contains(&keyword)) {
        let rule = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            AT_ROOT.join(" ")
        );
        causes.push(Cause::invalid(path, schema.clone(), &rule));
    }
}

fn check_at(schema: &Value, is_root: bool, place: &Place, path: &FieldPath, causes: &mut Vec<Cause>) {
    if !schema.is_object() {
        return;
    }
    check_standard(schema, place, path, causes);
    check_children(schema, is_root, place, path, causes);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(false)) {
        let at = path.field("x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(at, false, "must be true or undefined"));
    }
    check_map_type(schema, path, causes);
    check_list_type(schema, path, causes);
    check_list_keys(schema, path, causes);
    for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        check_rule(rule, &path.field("x-kubernetes-validations").index(index), causes);
    }
}

fn check_standard(schema: &Value, place: &Place, path: &FieldPath, causes: &mut Vec<Cause>) {
    let value_type = text(schema, "type");
    if !value_type.is_empty() && !TYPES.contains(&value_type) {
        causes.push(Cause::not_supported(path.field("type"), value_type, TYPES));
    }
    if let Some(reason) = place.no_defaults.as_ref().filter(|_| schema.get("default").is_some()) {
        causes.push(Cause::forbidden(path.field("default"), &format!("must not be set {reason}")));
    }
    for keyword in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(keyword).is_some() {
            causes.push(Cause::forbidden(path.field(keyword), &format!("{keyword} is not supported")));
        }
    }
    if value_type == "null" {
        let rule = "type cannot be set to null, use nullable as an alternative";
        causes.push(Cause::forbidden(path.field("type"), rule));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        causes.push(Cause::forbidden(path.field("items"), "items must be a schema object and not an array"));
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let at = path.field("x-kubernetes-embedded-resource");
        causes.push(Cause::forbidden(at, "must not be used inside of resource meta"));
    }
    if flag(schema, "uniqueItems") {
        let rule = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(path.field("uniqueItems"), rule));
    }
    let has_properties = schemas(schema, "properties").next().is_some();
    let limits = schema.get("additionalProperties").is_some_and(|values| *values != json!(true));
    if has_properties && limits {
        let rule = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(path.field("additionalProperties"), rule));
    }
}

fn check_children(schema: &Value, is_root: bool, place: &Place, path: &FieldPath, causes: &mut Vec<Cause>) {
    if let Some(values) = schema.get("additionalProperties") {
        let mut inner = place.clone();
        if place.in_metadata {
            inner.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        check_at(values, false, &inner, &path.field("additionalProperties"), causes);
    }
    for (name, property) in schemas(schema, "properties") {
        let mut inner = place.clone();
        let is_object = is_root || flag(schema, "x-kubernetes-embedded-resource");
        if is_object && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            inner.in_metadata = true;
            if is_root {
                inner.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        check_at(property, false, &inner, &path.field("properties").key(name), causes);
    }
    if let Some(inner) = schema.get("not") {
        check_at(inner, false, place, &path.field("not"), causes);
    }
    for keyword in ["allOf", "oneOf", "anyOf"] {
        for (index, inner) in list(schema, keyword).iter().enumerate() {
            check_at(inner, false, place, &path.field(keyword).index(index), causes);
        }
    }
    if let Some(items) = schema.get("items") {
        check_at(items, false, place, &path.field("items"), causes);
    }
}

fn check_map_type(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let Some(map_type) = schema.get("x-kubernetes-map-type").and_then(Value::as_str) else { return };
    require_type(schema, "object", "x-kubernetes-map-type", path, causes);
    if !matches!(map_type, "atomic" | "granular") {
        let at = path.field("x-kubernetes-map-type");
        causes.push(Cause::not_supported(at, map_type, &["atomic", "granular"]));
    }
}

fn require_type(schema: &Value, wanted: &str, keyword: &str, path: &FieldPath, causes: &mut Vec<Cause>) {
    let rule = format!("must be {wanted} if {keyword} is specified");
    match text(schema, "type") {
        found if found == wanted => {}
        "" => causes.push(Cause::required(path.field("type"), &rule)),
        found => causes.push(Cause::invalid(path.field("type"), found, &rule)),
    }
}

fn check_list_type(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let Some(list_type) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
    require_type(schema, "array", "x-kubernetes-list-type", path, causes);
    let items = &schema["items"];
    if list_type == "set" && text(schema, "type") == "array" {
        let rule = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (keyword, found) = match text(items, "type") {
            "array" => (
                "x-kubernetes-list-type",
                items.get("x-kubernetes-list-type").map_or("atomic", |_| text(items, "x-kubernetes-list-type")),
            ),
            "object" => ("x-kubernetes-map-type", text(items, "x-kubernetes-map-type")),
            _ => ("", "atomic"),
        };
        if found != "atomic" {
            causes.push(Cause::invalid(path.field("items").field(keyword), found, rule));
        }
    }
    if !matches!(list_type, "atomic" | "set" | "map") {
        let at = path.field("x-kubernetes-list-type");
        causes.push(Cause::not_supported(at, list_type, &["atomic", "set", "map"]));
    }
    if matches!(list_type, "set" | "map") && flag(items, "nullable") {
        let rule = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        causes.push(Cause::forbidden(path.field("items").field("nullable"), &rule));
    }
}

fn check_list_keys(schema: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let (list_type, keys) = (text(schema, "x-kubernetes-list-type"), texts(schema, "x-kubernetes-list-map-keys"));
    let (at_type, at_keys) = (path.field("x-kubernetes-list-type"), path.field("x-kubernetes-list-map-keys"));
    if !keys.is_empty() && list_type != "map" {
        let rule = "must be map if x-kubernetes-list-map-keys is non-empty";
        causes.push(match list_type {
            "" => Cause::required(&at_type, rule),
            found => Cause::invalid(&at_type, found, rule),
        });
    }
    if list_type != "map" {
        return;
    }
    if keys.is_empty() {
        causes.push(Cause::required(&at_keys, "must not be empty if x-kubernetes-list-type is map"));
    }
    let at_items = path.field("items");
    let Some(items) = schema.get("items") else {
        causes.push(Cause::required(&at_items, "must have a schema if x-kubernetes-list-type is map"));
        return;
    };
    if text(items, "type") != "object" {
        let rule = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(at_items.field("type"), text(items, "type"), rule));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            causes.push(Cause::invalid(&at_keys, json!(keys), "must not contain duplicate entries"));
        }
        let Some(property) = items["properties"].get(*key) else {
            causes.push(Cause::invalid(&at_keys, json!(keys), "entries must all be names of item properties"));
            continue;
        };
        check_key(items, key, property, &at_items.field("properties").key(key), causes);
    }
}

fn check_key(items: &Value, key: &str, property: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    if matches!(text(property, "type"), "array" | "object") {
        let rule = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(path.field("type"), text(items, "type"), rule));
    }
    if !texts(items, "required").contains(&key) && property.get("default").is_none() {
        let rule =
            "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        causes.push(Cause::required(path.field("default"), rule));
    }
    if flag(property, "nullable") {
        let rule = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
        causes.push(Cause::forbidden(path.field("nullable"), rule));
    }
}

/// The form of a rule; what it says is checked when it is compiled.
fn check_rule(rule: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let (expression, message) = (text(rule, "rule"), text(rule, "message"));
    let has_lines = |text: &str| text.trim().contains(['\n', '\r']);
    if expression.trim().is_empty() {
        causes.push(Cause::required(path.field("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        causes.push(Cause::invalid(path.field("message"), message, "must be non-empty if specified"));
    } else if has_lines(message) {
        causes.push(Cause::invalid(path.field("message"), message, "must not contain line breaks"));
    } else if has_lines(expression) && message.trim().is_empty() {
        let rule = "message must be specified if rule contains line breaks";
        causes.push(Cause::required(path.field("message"), rule));
    }
    let reason = text(rule, "reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        causes.push(Cause::not_supported(path.field("reason"), reason, REASONS));
    }
    for keyword in ["messageExpression", "fieldPath"] {
        let given = text(rule, keyword);
        if !given.is_empty() && given.trim().is_empty() {
            let at = path.field(keyword);
            causes.push(match keyword {
                "fieldPath" => Cause::invalid(at, given, "must be non-empty if specified"),
                _ => Cause::required(at, "messageExpression must be non-empty if specified"),
            });
        }
    }
    if has_lines(text(rule, "fieldPath")) {
        causes.push(Cause::invalid(path.field("fieldPath"), text(rule, "fieldPath"), "must not contain line breaks"));
    }
}
