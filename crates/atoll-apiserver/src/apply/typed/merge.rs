//! Putting an applied configuration over a live object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::field_set::PathElement;
use super::{Shape, field_node, fields, is_hollow, item_element, items, shape};
use crate::schema::{ListType, Node};

/// Merges `applied` over `live`. Items of lists keep the live order where it does not contradict the applied one.
pub(crate) fn merge(live: &Value, applied: &Value, node: &Node) -> Value {
    merge_values(Some(live), Some(applied), node).unwrap_or(Value::Null)
}

fn merge_values(live: Option<&Value>, applied: Option<&Value>, node: &Node) -> Option<Value> {
    let leaf = || applied.or(live).cloned();
    if is_hollow(live) && is_hollow(applied) {
        return leaf();
    }
    match shape(node, applied.or(live)) {
        Shape::Leaf => leaf(),
        Shape::Fields => {
            let (live, applied) = (fields(live), fields(applied));
            let mut merged = Map::new();
            for name in live.into_iter().chain(applied).flat_map(|fields| fields.keys()) {
                if merged.contains_key(name) {
                    continue;
                }
                let (left, right) =
                    (live.and_then(|fields| fields.get(name)), applied.and_then(|fields| fields.get(name)));
                if let Some(value) = merge_values(left, right, field_node(node, name)) {
                    merged.insert(name.clone(), value);
                }
            }
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Shape::Items(item_node) => {
            let merged = merge_items(items(live), items(applied), &node.list, item_node);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

struct Side<'a> {
    elements: Vec<PathElement>,
    items: Vec<&'a Value>,
    /// Items that are there once; those that are there several times are None.
    by_element: BTreeMap<PathElement, Option<&'a Value>>,
}

impl<'a> Side<'a> {
    fn of(list: &'a [Value], kind: &ListType, item_node: &Node) -> Self {
        let mut side = Side { elements: Vec::new(), items: Vec::new(), by_element: BTreeMap::new() };
        for item in list {
            let Ok(element) = item_element(item, kind, item_node) else { continue };
            let entry = side.by_element.entry(element.clone());
            entry.and_modify(|known| *known = None).or_insert(Some(item));
            side.elements.push(element);
            side.items.push(item);
        }
        side
    }

    fn has(&self, element: &PathElement) -> bool {
        self.by_element.contains_key(element)
    }

    fn get(&self, element: &PathElement) -> Option<&'a Value> {
        self.by_element.get(element).copied().flatten()
    }
}

fn merge_items(live: &[Value], applied: &[Value], kind: &ListType, item_node: &Node) -> Vec<Value> {
    let (left, right) = (Side::of(live, kind, item_node), Side::of(applied, kind, item_node));
    // Items of both sides, in applied order: the live list is walked from one of them to the next.
    let mut shared = right.elements.iter().filter(|element| left.has(element)).cloned().collect::<Vec<_>>().into_iter();
    let mut next_shared = shared.next();
    let mut merged_elements = BTreeSet::new();
    let mut merged = Vec::new();
    let (mut at_left, mut at_right) = (0, 0);
    let both = |element: &PathElement| merge_values(left.get(element), right.get(element), item_node);
    while at_left < left.elements.len() || at_right < right.elements.len() {
        if let (Some(element), Some(applied)) = (left.elements.get(at_left), right.elements.get(at_right)) {
            if element == applied {
                merged_elements.insert(element.clone());
                merged.extend(both(element));
                at_left += 1;
                at_right += 1;
                next_shared = shared.next();
                continue;
            }
            if right.has(element) && next_shared.as_ref().is_some_and(|next| next != element) {
                // Shared, but not the one whose turn it is.
                at_left += 1;
                continue;
            }
        }
        if let Some(element) = left.elements.get(at_left) {
            if !right.has(element) {
                merged.extend(merge_values(Some(left.items[at_left]), None, item_node));
                at_left += 1;
                continue;
            }
            if merged_elements.contains(element) {
                at_left += 1;
            }
        }
        if let Some(element) = right.elements.get(at_right) {
            merged_elements.insert(element.clone());
            merged.extend(both(element));
            at_right += 1;
            if next_shared.as_ref() == Some(element) {
                next_shared = shared.next();
            }
        }
    }
    merged
}
