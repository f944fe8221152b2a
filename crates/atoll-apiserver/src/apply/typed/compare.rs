//! How two objects differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::field_set::{FieldSet, PathElement};
use super::{Shape, field_node, fields, group, is_hollow, items, shape};
use crate::schema::{ListType, Node};

/// The fields in which two objects differ. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    /// Leaves out what is in `fields` or below.
    pub(crate) fn without(&self, fields: &FieldSet) -> Self {
        Self {
            added: self.added.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            removed: self.removed.recursive_difference(fields),
        }
    }
}

/// Compares two objects of one schema.
pub(crate) fn compare(old: &Value, new: &Value, node: &Node) -> Comparison {
    let mut comparison = Comparison::default();
    visit(Some(old), Some(new), node, &mut Vec::new(), &mut comparison);
    comparison
}

fn visit(old: Option<&Value>, new: Option<&Value>, node: &Node, path: &mut Vec<PathElement>, found: &mut Comparison) {
    if old.is_some() && old == new {
        return;
    }
    let known = new.or(old);
    let empty = is_hollow(old) && is_hollow(new);
    match shape(node, known) {
        Shape::Fields if !empty => visit_fields(old, new, node, path, found),
        Shape::Items(item_node) if !empty => visit_items(old, new, &node.list, item_node, path, found),
        Shape::Leaf | Shape::Fields | Shape::Items(_) => {
            match (old, new) {
                (None, _) => found.added.insert(path),
                (_, None) => found.removed.insert(path),
                (Some(_), Some(_)) => found.modified.insert(path),
            }
            return;
        }
    }
    if old.is_none() {
        found.added.insert(path);
    } else if new.is_none() {
        found.removed.insert(path);
    }
}

fn visit_fields(
    old: Option<&Value>,
    new: Option<&Value>,
    node: &Node,
    path: &mut Vec<PathElement>,
    found: &mut Comparison,
) {
    let (old, new) = (fields(old), fields(new));
    let names: BTreeSet<&String> = old.into_iter().chain(new).flat_map(|fields| fields.keys()).collect();
    for name in names {
        path.push(PathElement::field(name));
        let (old, new) = (old.and_then(|fields| fields.get(name)), new.and_then(|fields| fields.get(name)));
        visit(old, new, field_node(node, name), path, found);
        path.pop();
    }
}

fn visit_items(
    old: Option<&Value>,
    new: Option<&Value>,
    list: &ListType,
    item_node: &Node,
    path: &mut Vec<PathElement>,
    found: &mut Comparison,
) {
    let (old, new) = (group(items(old), list, item_node), group(items(new), list, item_node));
    let in_group = |groups: &[(PathElement, Vec<&Value>)], element: &PathElement| -> Vec<Value> {
        let items = groups.iter().find(|(known, _)| known == element).map(|(_, items)| items.clone());
        items.unwrap_or_default().into_iter().cloned().collect()
    };
    let elements: BTreeSet<&PathElement> = old.iter().chain(&new).map(|(element, _)| element).collect();
    for element in elements {
        let (before, after) = (in_group(&old, element), in_group(&new, element));
        path.push(element.clone());
        match (before.len(), after.len()) {
            (0 | 1, 0 | 1) => visit(before.first(), after.first(), item_node, path, found),
            // What is there several times is compared as a whole.
            (0 | 1, _) => {
                if let Some(item) = before.first() {
                    visit(Some(item), None, item_node, path, found);
                }
                found.added.insert(path);
            }
            (_, 0 | 1) => {
                if let Some(item) = after.first() {
                    visit(None, Some(item), item_node, path, found);
                }
                found.removed.insert(path);
            }
            _ => {
                if before != after {
                    found.modified.insert(path);
                }
            }
        }
        path.pop();
    }
}
