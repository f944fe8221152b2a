//! Strategic merge patch: as a merge patch, but lists of objects merge by a key of theirs, and directives say more.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Node, PatchStrategy, StructuralSchema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

type Fields = Map<String, Value>;

/// Kubernetes strategic merge patch: lists merge by the schema's merge keys; `$patch`, `$retainKeys`,
/// `$setElementOrder/…` and `$deleteFromPrimitiveList/…` directives are honoured.
pub fn strategic_merge_patch(live: &Value, patch: &Value, schema: &StructuralSchema) -> Result<Value, PatchError> {
    let Value::Object(changes) = patch else {
        return Err(malformed("error decoding patch: json: cannot unmarshal a value that is no object into a patch"));
    };
    let live = live.as_object().cloned().unwrap_or_default();
    merge_map(live, changes.clone(), schema.root()).map(Value::Object)
}

/// The schema, or one that says nothing.
fn known(node: Option<&Arc<Node>>) -> &Node {
    static NOTHING: LazyLock<Node> = LazyLock::new(Node::default);
    node.map_or(&NOTHING, |node| node)
}

fn malformed(message: &str) -> PatchError {
    PatchError::Malformed(message.to_owned())
}

fn merge_map(mut original: Fields, mut patch: Fields, node: &Node) -> Result<Fields, PatchError> {
    match patch.remove(DIRECTIVE).as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
        None => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Fields::new()),
        Some(other) => return Err(malformed(&format!("unknown patch type found: {other}"))),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, node)?;
    for (name, change) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, list, &change)?;
            continue;
        }
        if name.starts_with('$') {
            return Err(malformed(&format!("unknown directive {name:?}")));
        }
        if change.is_null() {
            original.remove(&name);
            continue;
        }
        let field = node.field(&name);
        let merged = match (original.remove(&name), change) {
            (Some(Value::Object(current)), Value::Object(change)) => {
                let replaces = field.and_then(|field| field.patch.as_ref()).is_some_and(|strategy| strategy.replace);
                let merged =
                    if replaces { without_directives(change) } else { merge_map(current, change, known(field))? };
                Value::Object(merged)
            }
            (Some(Value::Array(current)), Value::Array(change)) => {
                Value::Array(merge_list(current, change, known(field))?.items)
            }
            (_, change) => match cleaned(change) {
                Some(value) => value,
                None => continue,
            },
        };
        original.insert(name, merged);
    }
    Ok(original)
}

/// `$retainKeys` names what stays of the original.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(names) = directive else {
        return Err(malformed("invalid patch format of retain keys: expected a list"));
    };
    let is_kept = |name: &String| names.iter().any(|kept| kept == name);
    if let Some(extra) = patch.keys().find(|name| !name.starts_with('$') && !is_kept(name)) {
        return Err(malformed(&format!(
            "{RETAIN_KEYS} directive does not match the patch: {extra} is not in the list"
        )));
    }
    original.retain(|name, _| is_kept(name));
    Ok(())
}

/// Lists whose order the patch gives: merged, then ordered.
fn merge_ordered_lists(original: &mut Fields, patch: &mut Fields, node: &Node) -> Result<(), PatchError> {
    let orders: Vec<String> = patch.keys().filter(|name| name.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in orders {
        let name = directive.trim_start_matches(ELEMENT_ORDER);
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(malformed(&format!("{directive} must be a list")));
        };
        let strategy = node.field(name).and_then(|field| field.patch.clone()).unwrap_or_default();
        let change = patch.remove(name);
        let current = original.get(name).cloned();
        let mut live = current.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(Value::Array(change)) = &change {
            check_order(change, &order, strategy.merge_key.as_deref())?;
        }
        let merged = match (&current, change) {
            (_, Some(Value::Null)) => {
                original.remove(name);
                continue;
            }
            (None, None) => continue,
            (Some(Value::Array(current)), None) => current.clone(),
            (Some(Value::Array(current)), Some(Value::Array(change))) => {
                let merged = merge_list(current.clone(), change, known(node.field(name)))?;
                live = merged.live_order;
                merged.items
            }
            (_, Some(Value::Array(change))) => cleaned_items(change),
            (_, other) => {
                original.extend(other.map(|value| (name.to_owned(), value)));
                continue;
            }
        };
        let ordered = put_in_order(merged, &order, &live, strategy.merge_key.as_deref());
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

fn delete_from_list(original: &mut Fields, name: &str, gone: &Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else {
        return Err(malformed(&format!("{DELETE_FROM_LIST}{name} must be a list")));
    };
    if let Some(Value::Array(items)) = original.get_mut(name) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// A merged list, and the live order as later steps see it.
struct MergedList {
    items: Vec<Value>,
    live_order: Vec<Value>,
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, node: &Node) -> Result<MergedList, PatchError> {
    let replaced = |items| MergedList { items, live_order: Vec::new() };
    let Some(PatchStrategy { merge: true, merge_key, .. }) = &node.patch else {
        return Ok(replaced(cleaned_items(patch)));
    };
    let of_objects = original.iter().chain(&patch).any(Value::is_object);
    if !of_objects {
        let mut merged = original.clone();
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(MergedList { items: put_in_order(merged, &patch, &original, None), live_order: original });
    }
    let Some(key) = merge_key else {
        return Err(malformed("cannot merge lists without merge key"));
    };
    if patch.iter().any(|item| item[DIRECTIVE] == "replace") {
        return Ok(replaced(cleaned_items(patch.into_iter().filter(|item| item.get(DIRECTIVE).is_none()).collect())));
    }
    merge_keyed(original, patch, key, node)
}

/// Merges item by item; deletions come first.
fn merge_keyed(original: Vec<Value>, patch: Vec<Value>, key: &str, node: &Node) -> Result<MergedList, PatchError> {
    let length = original.len();
    let (mut kept, mut changes) = (original, Vec::new());
    for change in patch {
        let Some(fields) = change.as_object() else {
            return Err(malformed("the list has items that are no objects"));
        };
        let Some(wanted) = fields.get(key) else {
            return Err(malformed(&format!("map: {change} does not contain declared merge key: {key}")));
        };
        match fields.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            Some("delete") => kept.retain(|item| item.get(key) != Some(wanted)),
            None => changes.push(change),
            Some(other) => return Err(malformed(&format!("unknown patch type found: {other}"))),
        }
    }
    let mut merged = kept.clone();
    for change in &changes {
        match merged.iter().position(|item| item.get(key) == change.get(key)) {
            Some(place) => {
                let current = merged[place].as_object().cloned().unwrap_or_default();
                let fields = change.as_object().cloned().unwrap_or_default();
                merged[place] = Value::Object(merge_map(current, fields, known(node.items.as_ref()))?);
            }
            None => merged.extend(cleaned(change.clone())),
        }
    }
    // What is new takes the places of what was deleted, as far as the order of the live list is concerned.
    let live_order = merged.iter().take(length).cloned().collect();
    Ok(MergedList { items: put_in_order(merged, &changes, &kept, Some(key)), live_order })
}

/// The items of a patch must come in the order that the patch itself gives.
fn check_order(change: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let same = |left: &Value, right: &Value| match key {
        Some(key) => left.get(key) == right.get(key),
        None => left == right,
    };
    let mut rest = order.iter();
    let mut follows = |item: &&Value| rest.any(|ordered| same(item, ordered));
    let directed = |item: &&Value| item.get(DIRECTIVE).is_none();
    if change.iter().filter(directed).all(|item| follows(&item)) {
        return Ok(());
    }
    let (change, order) = (Value::from(change.to_vec()), Value::from(order.to_vec()));
    Err(malformed(&format!("The order in patch list:\n{change}\n doesn't match $setElementOrder list:\n{order}\n")))
}

/// Puts the items that `order` knows into its order, and the others where they are in the live list.
fn put_in_order(merged: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let same = |left: &Value, right: &Value| match key {
        Some(key) => left.get(key).is_some() && left.get(key) == right.get(key),
        None => left == right,
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut known, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    known.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(live, item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(known.len() + others.len());
    let (mut known, mut others) = (known.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), known.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(item)) => match (place(live, other), place(live, item)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
        };
        result.extend(if other_first { others.next() } else { known.next() });
    }
}

/// A new object without what is null or told to go.
fn without_directives(fields: Fields) -> Fields {
    fields
        .into_iter()
        .filter(|(name, value)| !name.starts_with('$') && !value.is_null())
        .filter_map(|(name, value)| Some((name, cleaned(value)?)))
        .collect()
}

/// A new value. There is nothing for a directive to be about: an object that has one is not there.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(without_directives(fields))),
        Value::Array(items) => Some(Value::Array(cleaned_items(items))),
        scalar => Some(scalar),
    }
}

fn cleaned_items(items: Vec<Value>) -> Vec<Value> {
    items.into_iter().filter_map(cleaned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::definitions::builtin;

    fn patched(live: Value, patch: Value) -> Result<Value, PatchError> {
        let definitions = builtin();
        let pods = definitions.iter().find(|definition| definition.plural == "pods").expect("pods are known");
        strategic_merge_patch(&live, &patch, &pods.schema)
    }

    fn check(live: Value, patch: Value, expected: Value) {
        assert_eq!(patched(live.clone(), patch.clone()).expect("the patch applies"), expected, "{live} + {patch}");
    }

    #[test]
    fn lists_of_objects_merge_by_key() {
        let live = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}});
        check(
            live.clone(),
            json!({"spec": {"containers": [{"name": "b", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]}}),
        );
        check(
            live.clone(),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
        );
        check(
            live.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
        );
        check(
            live.clone(),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"spec": {"containers": [{"name": "z"}]}}),
        );
        assert!(patched(live, json!({"spec": {"containers": [{"image": "x"}]}})).is_err());
    }

    #[test]
    fn the_order_of_a_list_can_be_given() {
        check(
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "x"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "x"}, {"name": "a"}, {"name": "server"}]}}),
        );
    }

    #[test]
    fn sets_of_scalars_grow_and_shrink() {
        let live = json!({"metadata": {"finalizers": ["a", "b"]}});
        check(
            live.clone(),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        );
        check(
            live,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        );
    }

    #[test]
    fn other_lists_are_replaced() {
        check(
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        );
        check(json!({"x": [1, 2]}), json!({"x": [3]}), json!({"x": [3]}));
    }

    #[test]
    fn objects_merge_and_directives_direct() {
        check(
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"b": "2", "a": null}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        );
        check(
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        );
        check(json!({"spec": {"a": 1}}), json!({"spec": {"$patch": "delete"}}), json!({"spec": {}}));
        check(
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
        check(json!({}), json!({"a": {"b": null, "c": [{"$patch": "delete", "name": "x"}]}}), json!({"a": {"c": []}}));
        assert!(patched(json!({}), json!({"$patch": "frob"})).is_err());
        assert!(patched(json!({}), json!([])).is_err());
    }
}
