//! Objects seen through their schema: which fields they have, how two of them differ, how they merge.
//!
//! The rules are those of Kubernetes: maps and structures merge field by field, keyed lists item by item, sets value by
//! value; scalars, atomic maps and atomic lists are replaced whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::field_set::{FieldSet, PathElement};
use crate::schema::{ListType, Node, ValueType};

mod compare;
mod merge;

pub(crate) use self::compare::{Comparison, compare};
pub(crate) use self::merge::merge;

/// How a value of a schema is treated.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// Replaced whole.
    Leaf,
    /// An object whose fields are told apart.
    Fields,
    /// A list whose items are told apart.
    Items(&'a Node),
}

/// A schema for what no schema describes.
fn free_form() -> &'static Node {
    static NODE: std::sync::LazyLock<Node> =
        std::sync::LazyLock::new(|| Node { preserve_unknown: true, ..Node::default() });
    &NODE
}

fn shape<'a>(node: &'a Node, value: Option<&Value>) -> Shape<'a> {
    match node.value_type {
        ValueType::Object if node.atomic_map || is_opaque(node) => Shape::Leaf,
        ValueType::Object => Shape::Fields,
        ValueType::Array => match (&node.list, &node.items) {
            (ListType::Atomic, _) | (_, None) => Shape::Leaf,
            (_, Some(items)) => Shape::Items(items),
        },
        ValueType::Any => match value {
            Some(Value::Object(_)) if node.preserve_unknown => Shape::Fields,
            _ => Shape::Leaf,
        },
        _ => Shape::Leaf,
    }
}

/// An object of which nothing is known, kept by one owner: `fieldsV1` itself.
fn is_opaque(node: &Node) -> bool {
    node.properties.is_empty() && node.preserve_unknown && node.definition.is_some()
}

/// The schema of a field; fields that no schema describes are free-form.
fn field_node<'a>(node: &'a Node, name: &str) -> &'a Node {
    match node.field(name) {
        Some(field) => field,
        None => free_form(),
    }
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Null, absent or with nothing in it.
fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// What tells an item of a list from the others. The error says why nothing does.
fn item_element(item: &Value, list: &ListType, item_node: &Node) -> Result<PathElement, String> {
    let ListType::Map(keys) = list else {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(PathElement::value(scalar)),
        };
    };
    let Some(fields) = item.as_object() else {
        let what = if item.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut found = BTreeMap::new();
    for key in keys {
        let default = item_node.properties.get(key).and_then(|property| property.default.as_ref());
        if let Some(value) = fields.get(&**key).or(default) {
            found.insert(&**key, value);
        }
    }
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
             any key fields)",
            keys.join(" ")
        ));
    }
    Ok(PathElement::key(&found))
}

/// Whether the value is one of the schema: known fields only, right types, items told apart. The error has the path.
pub(crate) fn check(value: &Value, node: &Node) -> Result<(), String> {
    check_at(value, node, &mut String::new())
}

fn check_at(value: &Value, node: &Node, path: &mut String) -> Result<(), String> {
    let expected = |wanted: &str, path: &str| Err(format!("{path}: expected {wanted}, got {}", shown(value)));
    match (node.value_type, value) {
        (_, Value::Null) | (ValueType::Any | ValueType::IntOrString, _) => Ok(()),
        (ValueType::Object, Value::Object(fields)) => {
            for (name, field) in fields {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                match node.field(name) {
                    Some(schema) => check_at(field, schema, path)?,
                    None if node.keeps_unknown() => {}
                    None => return Err(format!("{path}: field not declared in schema")),
                }
                path.truncate(length);
            }
            Ok(())
        }
        (ValueType::Array, Value::Array(list)) => check_list(list, node, path),
        (ValueType::Object, _) => expected("map", path),
        (ValueType::Array, _) => expected("list", path),
        (ValueType::String, Value::String(_)) | (ValueType::Boolean, Value::Bool(_)) => Ok(()),
        (ValueType::Integer | ValueType::Number, Value::Number(_)) => Ok(()),
        (ValueType::String, _) => expected("string", path),
        (ValueType::Boolean, _) => expected("boolean", path),
        (ValueType::Integer | ValueType::Number, _) => expected("numeric (int or float)", path),
    }
}

fn check_list(list: &[Value], node: &Node, path: &mut String) -> Result<(), String> {
    let Some(item_node) = &node.items else { return Ok(()) };
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let element = match node.list {
            ListType::Atomic => PathElement::Index(index),
            ListType::Set | ListType::Map(_) => {
                let element = item_element(item, &node.list, item_node)
                    .map_err(|problem| format!("{path}: element {index}: {problem}"))?;
                if !seen.insert(element.clone()) {
                    return Err(format!("{path}: duplicate entries for key {element}"));
                }
                element
            }
        };
        let length = path.len();
        path.push_str(&element.to_string());
        check_at(item, item_node, path)?;
        path.truncate(length);
    }
    Ok(())
}

/// A value in an error: Go prints a pointer to it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("&{{{text}}}"),
        other => format!("&value.valueUnstructured{{Value:{other}}}"),
    }
}

/// The fields that an object has.
pub(crate) fn to_field_set(value: &Value, node: &Node) -> FieldSet {
    let mut set = FieldSet::default();
    collect(value, node, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, node: &Node, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match shape(node, Some(value)) {
        Shape::Leaf => set.insert(path),
        Shape::Fields => {
            for (name, field) in fields(Some(value)).into_iter().flatten() {
                path.push(PathElement::field(name));
                collect(field, field_node(node, name), path, set);
                let empty_map = field.as_object().is_some_and(Map::is_empty);
                if field.is_null() || empty_map || !node.properties.contains_key(name.as_str()) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Shape::Items(item_node) => {
            for (element, found) in group(items(Some(value)), &node.list, item_node) {
                path.push(element);
                if let [item] = found[..] {
                    collect(item, item_node, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// Items by what tells them apart, in order of first appearance. Items that nothing tells apart are left out.
fn group<'a>(list: &'a [Value], kind: &ListType, item_node: &Node) -> Vec<(PathElement, Vec<&'a Value>)> {
    let mut groups: Vec<(PathElement, Vec<&Value>)> = Vec::with_capacity(list.len());
    let mut places = BTreeMap::new();
    for item in list {
        let Ok(element) = item_element(item, kind, item_node) else { continue };
        let place = *places.entry(element.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, items)) => items.push(item),
            None => groups.push((element, vec![item])),
        }
    }
    groups
}

/// The value without what is in the set. None when nothing is left.
pub(crate) fn remove(value: &Value, node: &Node, set: &FieldSet) -> Option<Value> {
    match (shape(node, Some(value)), value) {
        (Shape::Leaf, Value::Object(_) | Value::Array(_)) => None,
        (Shape::Leaf, scalar) => Some(scalar.clone()),
        (Shape::Fields, Value::Object(fields)) => {
            let mut kept = Map::new();
            for (name, field) in fields {
                let element = PathElement::field(name);
                if set.has(&element) {
                    continue;
                }
                let rest = match set.below(&element) {
                    Some(below) => remove(field, field_node(node, name), below).unwrap_or(Value::Null),
                    None => field.clone(),
                };
                kept.insert(name.clone(), rest);
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Shape::Items(item_node), Value::Array(items)) => {
            let mut kept = Vec::new();
            for item in items {
                let Ok(element) = item_element(item, &node.list, item_node) else {
                    kept.push(item.clone());
                    continue;
                };
                if set.has(&element) {
                    continue;
                }
                kept.push(match set.below(&element) {
                    Some(below) => remove(item, item_node, below).unwrap_or(Value::Null),
                    None => item.clone(),
                });
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Shape::Fields | Shape::Items(_), _) => None,
    }
}

/// The set with the named fields on the way to its paths, which are not members of their own.
pub(crate) fn with_named_fields(set: &FieldSet, node: &Node) -> FieldSet {
    let mut members = BTreeSet::new();
    let mut children = BTreeMap::new();
    for (element, below) in set.children() {
        let inner = match element {
            PathElement::Field(name) => {
                if node.properties.contains_key(name) {
                    members.insert(element.clone());
                }
                field_node(node, name)
            }
            PathElement::Key(_) => match &node.items {
                Some(items) => items,
                None => free_form(),
            },
            PathElement::Value(_) | PathElement::Index(_) => free_form(),
        };
        children.insert(element.clone(), with_named_fields(below, inner));
    }
    FieldSet::with_members(members, children, set)
}

/// Brings a set that was made under an older schema up to date: what is below a field that is now atomic becomes that field.
/// Nothing if it is up to date.
pub(crate) fn reconcile(set: &FieldSet, node: &Node) -> Option<FieldSet> {
    let mut stale = FieldSet::default();
    collect_stale(set, node, &mut Vec::new(), &mut stale);
    (!stale.is_empty()).then(|| set.recursive_difference(&stale).union(&stale))
}

fn collect_stale(set: &FieldSet, node: &Node, path: &mut Vec<PathElement>, stale: &mut FieldSet) {
    let is_atomic =
        matches!(shape(node, None), Shape::Leaf) && matches!(node.value_type, ValueType::Object | ValueType::Array);
    if is_atomic && !path.is_empty() {
        stale.insert(path);
        return;
    }
    for (element, _, below) in set.elements() {
        let Some(below) = below else { continue };
        let inner = match element {
            PathElement::Field(name) => node.field(name),
            PathElement::Key(_) => node.items.as_ref(),
            PathElement::Value(_) | PathElement::Index(_) => None,
        };
        if let Some(inner) = inner {
            path.push(element.clone());
            collect_stale(below, inner, path, stale);
            path.pop();
        }
    }
}
