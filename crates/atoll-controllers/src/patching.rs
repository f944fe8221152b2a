//! The smallest merge patches between maps.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What turns `present` into `wanted`; nothing when they are equal.
pub(crate) fn replace(present: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Option<Value> {
    let removed = present.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let set = wanted
        .iter()
        .filter(|(key, value)| present.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), Value::String(value.clone())));
    let patch: Map<String, Value> = removed.chain(set).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_says_only_what_differs() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(replace(&map(&[("a", "1")]), &map(&[("a", "1")])), None);
        assert_eq!(
            replace(&map(&[("a", "1"), ("b", "2"), ("c", "3")]), &map(&[("a", "1"), ("b", "9"), ("d", "4")])),
            Some(json!({"b": "9", "c": null, "d": "4"}))
        );
    }
}
