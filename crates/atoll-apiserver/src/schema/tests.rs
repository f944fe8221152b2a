use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::definitions::builtin;

fn schema(document: Value) -> StructuralSchema {
    StructuralSchema::from_openapi_v3(&document).expect("a structural schema")
}

fn widget() -> StructuralSchema {
    schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]*$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3, "multipleOf": 1},
            "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "when": {"type": "string", "format": "date-time"},
            "size": {"x-kubernetes-int-or-string": true},
            "note": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "object", "properties": {}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {"type": "object", "required": ["id"], "properties": {
                    "id": {"type": "string"}, "size": {"type": "integer", "default": 1, "maximum": 5}}}},
            "nested": {"type": "object", "default": {}, "properties": {"deep": {"type": "string", "default": "d"}}},
            "choice": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
        },
        "required": ["name"],
        "x-kubernetes-validations": [{"rule": "self.name == oldSelf.name", "message": "name is immutable"}],
    }))
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    for (object, kept, dropped) in [
        (json!({"name": "a", "x": 1}), json!({"name": "a"}), vec!["x"]),
        (
            json!({"parts": [{"id": "1", "x": {}}, {"y": 2}]}),
            json!({"parts": [{"id": "1"}, {}]}),
            vec!["parts[0].x", "parts[1].y"],
        ),
        (
            json!({"free": {"x": {"y": 1}, "known": {"z": 1}}}),
            json!({"free": {"x": {"y": 1}, "known": {}}}),
            vec!["free.known.z"],
        ),
        (json!({"labels": {"any": "thing"}}), json!({"labels": {"any": "thing"}}), vec![]),
        (json!({"nested": {"deep": "d", "b": 1}, "a": 1}), json!({"nested": {"deep": "d"}}), vec!["a", "nested.b"]),
        (json!([1]), json!([1]), vec![]),
    ] {
        let mut pruned = object.clone();
        assert_eq!(widget().prune(&mut pruned), dropped, "{object}");
        assert_eq!(pruned, kept);
    }
}

#[test]
fn defaults_fill_what_is_absent() {
    for (object, expected) in [
        (json!({}), json!({"count": 3, "mode": "a", "nested": {"deep": "d"}})),
        (json!({"count": null, "nested": null}), json!({"count": 3, "mode": "a", "nested": {"deep": "d"}})),
        (
            json!({"count": 1, "mode": "b", "nested": {"deep": "e"}}),
            json!({"count": 1, "mode": "b", "nested": {"deep": "e"}}),
        ),
        (
            json!({"parts": [{"id": "1"}, {"size": 2}]}),
            json!({"parts": [{"id": "1", "size": 1}, {"size": 2}], "count": 3, "mode": "a", "nested": {"deep": "d"}}),
        ),
    ] {
        let mut filled = object.clone();
        widget().default(&mut filled);
        assert_eq!(filled, expected, "{object}");
    }
}

#[test]
fn nulls_that_mean_nothing_go() {
    let mut object = json!({"name": null, "count": null, "note": null, "labels": {"a": null}, "parts": [{"id": null}]});
    widget().drop_nulls(&mut object);
    assert_eq!(object, json!({"count": null, "note": null, "labels": {}, "parts": [{}]}));
}

/// What is wrong with an object, as `Status.message` lists it.
fn complaints(object: Value) -> Vec<String> {
    widget().validate(&object, None).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_checked() {
    const MOOT: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
        correct the existing errors to complete validation";
    for (object, expected) in [
        (json!({"name": "a"}), vec![]),
        (json!({}), vec!["name: Required value", MOOT]),
        (
            json!({"name": 5}),
            vec!["name: Invalid value: \"integer\": name in body must be of type string: \"integer\"", MOOT],
        ),
        (json!({"name": ""}), vec!["name: Invalid value: \"\": name in body should be at least 1 chars long"]),
        (json!({"name": "abcdef"}), vec!["name: Too long: may not be more than 5 bytes", MOOT]),
        (json!({"name": "A"}), vec!["name: Invalid value: \"A\": name in body should match '^[a-z]*$'"]),
        (
            json!({"name": "a", "count": 0}),
            vec!["count: Invalid value: 0: count in body should be greater than or equal to 1"],
        ),
        (
            json!({"name": "a", "count": 10}),
            vec!["count: Invalid value: 10: count in body should be less than or equal to 9"],
        ),
        (json!({"name": "a", "count": 2.0}), vec![]),
        (json!({"name": "a", "ratio": 0}), vec!["ratio: Invalid value: 0: ratio in body should be greater than 0"]),
        (
            json!({"name": "a", "mode": "c"}),
            vec!["mode: Unsupported value: \"c\": supported values: \"a\", \"b\"", MOOT],
        ),
        (
            json!({"name": "a", "when": "x"}),
            vec!["when: Invalid value: \"x\": when in body must be of type date-time: \"x\"", MOOT],
        ),
        (json!({"name": "a", "size": "1", "note": null}), vec![]),
        (
            json!({"name": "a", "size": 1.5}),
            vec!["size: Invalid value: \"number\": size in body must be of type integer,string: \"number\"", MOOT],
        ),
        (
            json!({"name": "a", "labels": {"a": 1}}),
            vec!["labels.a: Invalid value: \"integer\": labels.a in body must be of type string: \"integer\"", MOOT],
        ),
        (
            json!({"name": "a", "labels": {"a": "", "b": "", "c": ""}}),
            vec!["labels: Too many: 3: must have at most 2 items", MOOT],
        ),
        (json!({"name": "a", "tags": ["x", "y", "x"]}), vec!["tags[2]: Duplicate value: \"x\""]),
        (json!({"name": "a", "parts": [{"id": "1"}, {"id": "1"}]}), vec!["parts[1]: Duplicate value: {\"id\":\"1\"}"]),
        (
            json!({"name": "a", "parts": {}}),
            vec!["parts: Invalid value: \"object\": parts in body must be of type array: \"object\"", MOOT],
        ),
        (json!({"name": "a", "choice": {"x": 1}}), vec![]),
        (
            json!({"name": "a", "choice": {"x": 1, "y": 1}}),
            vec![
                "<nil>: Invalid value: \"\": \"choice\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
    ] {
        assert_eq!(complaints(object.clone()), expected, "{object}");
    }
}

#[test]
fn what_was_wrong_before_is_forgiven_until_it_changes() {
    let schema = widget();
    let old = json!({"name": "a", "mode": "old", "parts": [{"id": "1", "size": 9}], "tags": ["x", "x"]});
    let check = |new: &Value| schema.validate(new, Some(&old)).len();
    assert_eq!(check(&old), 0);
    assert_eq!(check(&json!({"name": "a", "mode": "old", "count": 5, "tags": ["x", "x"]})), 0);
    // The wrong part is found by its key, wherever it stands.
    assert_eq!(check(&json!({"name": "a", "parts": [{"id": "0"}, {"id": "1", "size": 9}]})), 0);
    assert_eq!(check(&json!({"name": "a", "parts": [{"id": "1", "size": 8}]})), 1);
    assert_eq!(check(&json!({"name": "a", "mode": "new"})), 2);
}

#[test]
fn changes_can_be_forbidden() {
    let schema = widget();
    let old = json!({"name": "a"});
    assert!(schema.validate(&json!({"name": "a"}), Some(&old)).is_empty());
    let causes = schema.validate(&json!({"name": "b"}), Some(&old));
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].message, "Invalid value: \"object\": name is immutable");
}

#[test]
fn what_is_no_schema_is_refused() {
    for document in [
        json!(5),
        json!({"type": "thing"}),
        json!({"type": 5}),
        json!({"properties": []}),
        json!({"properties": {"a": 5}}),
        json!({"required": "a"}),
        json!({"maxLength": -1}),
        json!({"x-kubernetes-list-type": "bag"}),
        json!({"$ref": "#/definitions/nowhere"}),
    ] {
        assert!(StructuralSchema::from_openapi_v3(&document).is_err(), "{document}");
    }
    let circle = json!({"a": {"properties": {"b": {"$ref": "#/definitions/a"}}}});
    let circle = Definitions::parse(circle.as_object().expect("an object"));
    assert!(matches!(circle, Err(SchemaError::RecursiveReference { .. })));
    let deep = (0..100).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}));
    assert!(StructuralSchema::from_openapi_v3(&deep).is_err());
}

#[test]
fn equal_scalars_share_a_node() {
    let schema =
        schema(json!({"properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "integer"}}}));
    let property = |name: &str| schema.root().properties[name].clone();
    assert!(std::sync::Arc::ptr_eq(&property("a"), &property("b")));
    assert!(!std::sync::Arc::ptr_eq(&property("a"), &property("c")));
}

/// Documents that look a little like sandboxes and pods.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..70_000_i64).prop_map(Value::from),
        "[a-zA-Z0-9./:-]{0,6}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "spec",
        "status",
        "metadata",
        "labels",
        "podTemplate",
        "containers",
        "name",
        "image",
        "ports",
        "containerPort",
        "env",
        "operatingMode",
        "resources",
        "limits",
        "volumes",
        "other",
    ]);
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(name.clone(), inner, 0..5).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pruning_twice_is_pruning_once(document in documents(), kind in 0..21_usize) {
        let definitions = builtin();
        let schema = &definitions[kind % definitions.len()].schema;
        let mut once = document;
        schema.prune(&mut once);
        let mut twice = once.clone();
        prop_assert!(schema.prune(&mut twice).is_empty());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn defaulting_twice_is_defaulting_once(document in documents(), kind in 0..21_usize) {
        let definitions = builtin();
        let definition = &definitions[kind % definitions.len()];
        let mut once = document;
        if definition.decode(&mut once).is_ok() {
            definition.default(&mut once);
            let mut twice = once.clone();
            prop_assert!(definition.decode(&mut twice).expect("what was decoded decodes").is_empty());
            definition.default(&mut twice);
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn nothing_that_is_sent_makes_a_check_panic(document in documents(), other in documents(), kind in 0..21_usize) {
        use crate::definitions::Facet;
        let definitions = builtin();
        let definition = &definitions[kind % definitions.len()];
        let (mut new, mut old) = (document, other);
        if definition.decode(&mut new).is_ok() && definition.decode(&mut old).is_ok() {
            definition.default(&mut new);
            definition.default(&mut old);
            for facet in [Facet::Main, Facet::Status] {
                let mut changed = new.clone();
                definition.prepare_for_update(&mut changed, &old, facet);
                definition.validate_update(&changed, &old, facet);
            }
            definition.prepare_for_create(&mut new);
            definition.validate_create(&new);
        }
    }
}
