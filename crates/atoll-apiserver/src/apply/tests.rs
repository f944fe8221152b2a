use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::definitions::builtin;

fn definition(plural: &str) -> ResourceDefinition {
    builtin().into_iter().find(|definition| definition.plural == plural).expect("a known kind")
}

fn writer<'a>(definition: &'a ResourceDefinition, manager: &'a str, second: u8) -> Writer<'a> {
    let now = format!("2026-01-01T00:00:{second:02}Z").parse().expect("a time");
    Writer { definition, manager, facet: Facet::Main, now }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
}

fn managers(object: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(entry, "manager"), text(entry, "operation"), entry["fieldsV1"].clone())).collect()
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_else_owns_it() {
    let kind = definition("configmaps");
    let first =
        apply(None, &config_map(json!({"a": "1", "b": "2"})), &writer(&kind, "one", 1), false).expect("applies");
    let both = apply(Some(&first), &config_map(json!({"b": "2"})), &writer(&kind, "two", 2), false).expect("applies");
    let less = apply(Some(&both), &config_map(json!({})), &writer(&kind, "one", 3), false).expect("applies");
    assert_eq!(less["data"], json!({"b": "2"}));
    let none = apply(Some(&less), &config_map(json!({})), &writer(&kind, "two", 4), false).expect("applies");
    assert!(none["data"].as_object().is_none_or(Map::is_empty), "{none}");
}

#[test]
fn conflicts_name_everybody_and_force_takes_over() {
    let kind = definition("configmaps");
    let one = apply(None, &config_map(json!({"a": "1"})), &writer(&kind, "one", 1), false).expect("applies");
    let refused =
        apply(Some(&one), &config_map(json!({"a": "2"})), &writer(&kind, "two", 2), false).expect_err("a conflict");
    assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let forced = apply(Some(&one), &config_map(json!({"a": "2"})), &writer(&kind, "two", 2), true).expect("applies");
    assert_eq!(forced["data"]["a"], "2");
    assert_eq!(managers(&forced), [("two".to_owned(), "Apply".to_owned(), json!({"f:data": {"f:a": {}}}))]);
    // The same value is shared, not contested.
    let shared = apply(Some(&one), &config_map(json!({"a": "1"})), &writer(&kind, "two", 2), false).expect("applies");
    assert_eq!(managers(&shared).len(), 2);
}

#[test]
fn entries_are_ordered_by_operation_time_and_name() {
    let kind = definition("configmaps");
    let mut object = config_map(json!({"a": "1"}));
    track_update(None, &mut object, &writer(&kind, "z", 5));
    let object = apply(Some(&object), &config_map(json!({"b": "1"})), &writer(&kind, "y", 7), false).expect("applies");
    let object = apply(Some(&object), &config_map(json!({"c": "1"})), &writer(&kind, "x", 6), false).expect("applies");
    let mut changed = object.clone();
    changed["data"]["d"] = json!("1");
    track_update(Some(&object), &mut changed, &writer(&kind, "w", 5));
    let names: Vec<String> = managers(&changed).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["x", "y", "w", "z"]);
}

#[test]
fn hostile_managed_fields_are_not_trusted() {
    let kind = definition("configmaps");
    let mut object = config_map(json!({"a": "1"}));
    track_update(None, &mut object, &writer(&kind, "one", 1));
    for entries in [
        json!([{"operation": "Frob"}]),
        json!("x"),
        json!([5]),
        json!([{"operation": "Update", "fieldsType": "V9"}]),
        json!(null),
    ] {
        let mut changed = object.clone();
        changed["metadata"]["managedFields"] = entries.clone();
        changed["data"]["b"] = json!("2");
        track_update(Some(&object), &mut changed, &writer(&kind, "two", 2));
        assert_eq!(managers(&changed).len(), 2, "{entries}");
    }
    let mut reset = object.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    track_update(Some(&object), &mut reset, &writer(&kind, "two", 2));
    assert!(managers(&reset).is_empty());
}

fn configurations() -> impl Strategy<Value = Value> {
    let container = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop::sample::select(vec!["i", "j"]),
        prop::collection::vec(80..83_i64, 0..3),
    );
    let containers = prop::collection::vec(container, 1..4).prop_map(|containers| {
        let mut known = std::collections::BTreeSet::new();
        let wire = containers.into_iter().filter(|(name, ..)| known.insert(*name)).map(|(name, image, ports)| {
            let mut container = json!({"name": name, "image": image});
            // Empty lists and maps are left out: where others own items, applying them again can conflict or take two
            // applies to settle, with Kubernetes as here.
            let ports: std::collections::BTreeSet<i64> = ports.into_iter().collect();
            if !ports.is_empty() {
                let ports = ports.into_iter().map(|port| json!({"containerPort": port}));
                container["ports"] = Value::Array(ports.collect());
            }
            container
        });
        Value::Array(wire.collect())
    });
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (containers, labels, any::<Option<bool>>()).prop_map(|(containers, labels, service)| {
        let mut applied = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"name": "x"},
            "spec": {"podTemplate": {"spec": {"containers": containers}}},
        });
        if !labels.is_empty() {
            applied["metadata"]["labels"] = json!(labels);
        }
        if let Some(service) = service {
            applied["spec"]["service"] = json!(service);
        }
        applied
    })
}

/// A history of applies by a few managers.
fn histories() -> impl Strategy<Value = Vec<(usize, Value)>> {
    prop::collection::vec((0..3_usize, configurations()), 1..6)
}

const NAMES: [&str; 3] = ["one", "two", "three"];

fn replay(kind: &ResourceDefinition, history: &[(usize, Value)]) -> Value {
    history.iter().fold(Value::Null, |live, (manager, applied)| {
        let live = (!live.is_null()).then_some(&live);
        apply(live, applied, &writer(kind, NAMES[*manager], 1), true).expect("a forced apply succeeds")
    })
}

fn without_times(mut object: Value) -> Value {
    for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
        entry["time"] = Value::Null;
    }
    if let Some(entries) = object["metadata"]["managedFields"].as_array_mut() {
        entries.sort_by_key(ToString::to_string);
    }
    object
}

/// Whether everything in `part` is in `whole`; lists by their keys.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| contains(whole.get(name).unwrap_or(&Value::Null), part))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (Value::Null, Value::Array(part)) => part.is_empty(),
        (Value::Null, Value::Object(part)) => part.is_empty(),
        (whole, part) => whole == part,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_again_changes_nothing(history in histories()) {
        let kind = definition("sandboxes");
        let live = replay(&kind, &history);
        let (manager, applied) = history.last().expect("a history is not empty");
        let again = apply(Some(&live), applied, &writer(&kind, NAMES[*manager], 30), false).expect("no conflict with oneself");
        // Times aside: what is written anew, though equal, may get a new one.
        prop_assert_eq!(without_times(live), without_times(again));
    }

    #[test]
    fn what_was_applied_last_is_there(history in histories()) {
        let kind = definition("sandboxes");
        let live = replay(&kind, &history);
        let (_, applied) = history.last().expect("a history is not empty");
        prop_assert!(contains(&live, applied), "{live} lacks something of {applied}");
    }

    #[test]
    fn a_field_has_an_owner_or_a_default(history in histories()) {
        let kind = definition("sandboxes");
        let live = replay(&kind, &history);
        let managers = Managers::of(&live).expect("managers");
        let owned = managers.entries.values().fold(FieldSet::default(), |all, entry| all.union(&entry.set));
        let bare = apply(None, &json!({"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"name": "x"}}),
            &writer(&kind, "nobody", 1), true).expect("applies");
        let labels = live["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        for name in labels.keys() {
            let path = ["metadata", "labels", name.as_str()];
            prop_assert!(!owned.intersection(&FieldSet::of_fields(&[&path])).is_empty(), "{name} is nobody's in {live}");
        }
        prop_assert!(bare["metadata"].get("labels").is_none());
    }

    #[test]
    fn sets_survive_the_wire(history in histories()) {
        let kind = definition("sandboxes");
        let live = replay(&kind, &history);
        for (_, entry) in Managers::of(&live).expect("managers").entries {
            prop_assert_eq!(FieldSet::from_wire(&entry.set.to_wire()), entry.set);
        }
    }
}
