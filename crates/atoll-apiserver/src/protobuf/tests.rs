use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::definitions::core_types;
use crate::schema::{Additional, Node, ValueType};

/// Writes an object in protobuf, by the same table that reads it.
fn encode(api_version: &str, kind: &str, object: &Value) -> Vec<u8> {
    let table = Table::embedded();
    let message = table.of_kind(api_version, kind).expect("a known kind");
    let mut type_meta = Vec::new();
    delimited(&mut type_meta, 1, api_version.as_bytes());
    delimited(&mut type_meta, 2, kind.as_bytes());
    let mut bytes = MAGIC.to_vec();
    delimited(&mut bytes, 1, &type_meta);
    delimited(&mut bytes, 2, &encode_message(table, message, object));
    delimited(&mut bytes, 3, b"");
    delimited(&mut bytes, 4, b"");
    bytes
}

fn encode_message(table: &Table, message: &Message, object: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in message.fields() {
        if &*field.name == "." {
            let Kind::Message(inner) = &field.kind else { panic!("only messages are inline") };
            let inner = encode_message(table, table.get(inner).expect("a message"), object);
            delimited(&mut bytes, field.number, &inner);
            continue;
        }
        let Some(value) = object.get(&*field.name) else { continue };
        match field.shape {
            Shape::One => encode_value(table, &field.kind, field.number, value, &mut bytes),
            Shape::List => {
                for item in value.as_array().expect("a list") {
                    encode_value(table, &field.kind, field.number, item, &mut bytes);
                }
            }
            Shape::Map => {
                for (key, item) in value.as_object().expect("a map") {
                    let mut entry = Vec::new();
                    delimited(&mut entry, 1, key.as_bytes());
                    encode_value(table, &field.kind, 2, item, &mut entry);
                    delimited(&mut bytes, field.number, &entry);
                }
            }
        }
    }
    bytes
}

fn encode_value(table: &Table, kind: &Kind, number: u32, value: &Value, bytes: &mut Vec<u8>) {
    use base64::Engine as _;
    match kind {
        Kind::Bool => varint_field(bytes, number, u64::from(value.as_bool().expect("a boolean"))),
        Kind::Integer => varint_field(bytes, number, value.as_i64().expect("a number").cast_unsigned()),
        Kind::Text => delimited(bytes, number, value.as_str().expect("a text").as_bytes()),
        Kind::Bytes => {
            let text = value.as_str().expect("base64");
            let raw = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            delimited(bytes, number, &raw);
        }
        Kind::Message(name) if name.ends_with(".Time") => {
            let mut inner = Vec::new();
            if let Some(time) = value.as_str() {
                let time: jiff::Timestamp = time.parse().expect("a time");
                varint_field(&mut inner, 1, time.as_second().cast_unsigned());
            }
            delimited(bytes, number, &inner);
        }
        Kind::Message(name) if name.ends_with(".Quantity") => {
            let mut inner = Vec::new();
            delimited(&mut inner, 1, value.as_str().expect("a quantity").as_bytes());
            delimited(bytes, number, &inner);
        }
        Kind::Message(name) if name.ends_with(".IntOrString") => {
            let mut inner = Vec::new();
            varint_field(&mut inner, 1, u64::from(value.is_string()));
            varint_field(&mut inner, 2, value.as_i64().unwrap_or_default().cast_unsigned());
            delimited(&mut inner, 3, value.as_str().unwrap_or_default().as_bytes());
            delimited(bytes, number, &inner);
        }
        Kind::Message(name) => {
            let inner = encode_message(table, table.get(name).expect("a message"), value);
            delimited(bytes, number, &inner);
        }
        Kind::Double | Kind::Float | Kind::Unsigned => panic!("no field of these tests has such a type"),
    }
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn varint_field(bytes: &mut Vec<u8>, number: u32, value: u64) {
    varint(bytes, u64::from(number) << 3);
    varint(bytes, value);
}

fn delimited(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(bytes, u64::from(number) << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

#[test]
fn an_object_reads_as_its_json_does() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "generation": -1, "creationTimestamp": null, "labels": {"a": "b", "c": ""},
            "deletionTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"kind": "K", "name": "n", "uid": "u", "apiVersion": "v1", "controller": true}],
        },
        "spec": {
            "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 420}]}}],
            "containers": [{
                "name": "main", "image": "i", "command": ["a", "b"],
                "ports": [{"containerPort": 80}],
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }],
            "terminationGracePeriodSeconds": 0,
        },
    });
    assert_eq!(decode(&encode("v1", "Pod", &pod)).expect("it is read"), pod);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "aGk=", "b": ""}, "type": "Opaque"});
    assert_eq!(decode(&encode("v1", "Secret", &secret)).expect("it is read"), secret);
}

#[test]
fn a_message_in_pieces_is_one() {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    delimited(&mut first, 1, b"x");
    delimited(&mut second, 3, b"ns");
    let mut object = Vec::new();
    delimited(&mut object, 1, &first);
    delimited(&mut object, 99, b"from a newer client");
    delimited(&mut object, 1, &second);
    let mut entry = Vec::new();
    delimited(&mut entry, 1, b"empty");
    delimited(&mut object, 2, &entry);
    let mut bytes = encode("v1", "ConfigMap", &json!({}));
    delimited(&mut bytes, 2, &object);
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "ns"}, "data": {"empty": ""},
    });
    assert_eq!(decode(&bytes).expect("it is read"), expected);
}

#[test]
fn what_is_no_object_is_refused() {
    let good = encode("v1", "ConfigMap", &json!({"metadata": {"name": "x"}}));
    let mut compressed = good.clone();
    delimited(&mut compressed, 3, b"gzip");
    let envelope = |kind: &str| {
        let mut type_meta = Vec::new();
        delimited(&mut type_meta, 1, b"example.com/v1");
        delimited(&mut type_meta, 2, kind.as_bytes());
        let mut bytes = MAGIC.to_vec();
        delimited(&mut bytes, 1, &type_meta);
        bytes
    };
    let unknown = ProtobufError::UnknownKind { api_version: "example.com/v1".to_owned(), kind: "ConfigMap".to_owned() };
    let with_raw = |raw: &[u8]| {
        let mut bytes = good.clone();
        delimited(&mut bytes, 2, raw);
        bytes
    };
    let cases: Vec<(Vec<u8>, ProtobufError)> = vec![
        (Vec::new(), ProtobufError::NoMagic),
        (b"{}".to_vec(), ProtobufError::NoMagic),
        (compressed, ProtobufError::Encoding("gzip".to_owned())),
        (envelope("ConfigMap"), unknown),
        (with_raw(&[0x0a, 0x7f]), ProtobufError::Truncated),
        (with_raw(&[0x0a]), ProtobufError::Truncated),
        (with_raw(&[0xff; 16]), ProtobufError::Malformed),
        (with_raw(&[0x0b]), ProtobufError::Malformed),
        (with_raw(&[0x08, 0x01]), ProtobufError::Malformed),
        (with_raw(&[0x0a, 0x03, 0x0a, 0x01, 0xff]), ProtobufError::Text),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(&bytes).expect_err("it is refused"), expected);
    }
    assert!(decode(&envelope("DeleteOptions")).is_ok(), "options are of every version");
}

/// Names of a schema's fields and, by the table, of its message's.
fn compare(table: &Table, node: &Node, message: &Message, name: &str, seen: &mut Vec<String>) {
    if seen.iter().any(|known| known == name) {
        return;
    }
    seen.push(name.to_owned());
    let mut fields = Vec::new();
    flatten(table, message, &mut fields);
    for (property, schema) in &node.properties {
        if matches!(&**property, "apiVersion" | "kind") {
            continue;
        }
        let field = fields.iter().find(|field| field.name == *property);
        let field = field.unwrap_or_else(|| panic!("{name}.{property} has no number"));
        let (shape, inner) = match (schema.value_type, &schema.additional) {
            (ValueType::Array, _) => (Shape::List, schema.items.as_deref()),
            (ValueType::Object, Additional::Schema(values)) => (Shape::Map, Some(&**values)),
            _ => (Shape::One, Some(&**schema)),
        };
        assert!(field.shape == shape || schema.definition.is_some(), "{name}.{property}");
        if let (Kind::Message(next), Some(inner)) = (&field.kind, inner)
            && !inner.properties.is_empty()
        {
            compare(table, inner, table.get(next).expect("a message"), next, seen);
        }
    }
}

fn flatten<'a>(table: &'a Table, message: &'a Message, fields: &mut Vec<&'a super::table::Field>) {
    for field in message.fields() {
        match &field.kind {
            Kind::Message(inner) if &*field.name == "." => {
                flatten(table, table.get(inner).expect("a message"), fields);
            }
            _ => fields.push(field),
        }
    }
}

#[test]
fn every_field_of_every_built_in_kind_has_a_number() {
    let (table, mut seen) = (Table::embedded(), Vec::new());
    let mut kinds = 0;
    for definition in crate::definitions::builtin() {
        let Some(name) = definition.schema.root().definition.clone().filter(|name| name.starts_with("io.k8s.api."))
        else {
            continue;
        };
        let message = table.of_kind(&definition.api_version(), &definition.kind).expect("a message");
        compare(table, definition.schema.root(), message, &name, &mut seen);
        kinds += 1;
    }
    assert!(kinds >= 17 && seen.len() > 100, "{kinds} kinds, {} messages", seen.len());
    for name in table.names() {
        for field in table.get(name).expect("it has a name").fields() {
            if let Kind::Message(inner) = &field.kind {
                assert!(table.get(inner).is_some(), "{name}: {inner}");
            }
        }
    }
    assert!(core_types().get("io.k8s.api.core.v1.Pod").is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = encode("v1", "Pod", &json!({}));
        delimited(&mut bytes, 2, &raw);
        let _either = decode(&bytes);
        let _either = decode(&raw);
    }

    #[test]
    fn a_flipped_byte_is_no_crash(position in 0_usize..400, with in any::<u8>()) {
        let map = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "data": {"k": "v", "l": "w"}});
        let mut bytes = encode("v1", "ConfigMap", &map);
        let position = position % bytes.len();
        bytes[position] ^= with;
        if let Ok(value) = decode(&bytes) {
            prop_assert!(value.is_object());
        }
    }

    #[test]
    fn config_maps_come_through(data in proptest::collection::btree_map("[a-z]{1,8}", ".{0,20}", 1..8)) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
        prop_assert_eq!(decode(&encode("v1", "ConfigMap", &map)).expect("it is read"), map);
    }
}
