//! Bringing the body of a built-in kind into the form in which an API server keeps it: typed, without nulls, without
//! zero values that mean "absent", with the fields that are always written.

use serde_json::{Map, Number, Value};

use super::quantity::{QUANTITY_RULE, Quantity};
use crate::schema::{Additional, Node, ValueType};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Where a value is, in the words of a Go decoding error.
#[derive(Clone)]
struct Place<'a> {
    /// Name of the type that has the field.
    owner: &'a str,
    /// Dotted path without indices.
    path: String,
}

/// Normalises a whole object of a built-in kind, or a part such as `metadata`. The error is the reason for a 400.
pub fn normalise(object: &mut Value, node: &Node) -> Result<(), String> {
    let place = Place { owner: type_name(node), path: String::new() };
    value(object, node, &place)
}

/// An object of the kind in which nothing is set yet: what a create compares with.
pub fn zero(node: &Node) -> Value {
    let mut fields = Map::new();
    for (name, property) in &node.properties {
        if let Some(value) = always(node, name, property) {
            let value = if value.is_object() { zero(property) } else { value };
            fields.insert((**name).to_owned(), value);
        } else if node.requires(name) {
            // Lists that are always written are null when nothing is in them.
            fields.insert((**name).to_owned(), Value::Null);
        }
    }
    Value::Object(fields)
}

fn value(value: &mut Value, node: &Node, place: &Place<'_>) -> Result<(), String> {
    match node.definition.as_deref() {
        Some(QUANTITY) => return quantity(value),
        Some(INT_OR_STRING) => return int_or_string(value, place),
        Some(TIME) => return time(value, TIME_LAYOUT),
        Some(MICRO_TIME) => return time(value, MICRO_TIME_LAYOUT),
        _ => {}
    }
    match (node.value_type, &mut *value) {
        (ValueType::Any, _) => Ok(()),
        (ValueType::Object, Value::Object(fields)) => object(fields, node, place),
        (ValueType::Array, Value::Array(items)) => array(items, node, place),
        (ValueType::String, Value::String(text)) => check_bytes(text, node),
        (ValueType::Boolean, Value::Bool(_)) => Ok(()),
        (ValueType::Integer, Value::Number(number)) => integer(number, node, place),
        (ValueType::Number, Value::Number(_)) => Ok(()),
        (_, Value::Null) => {
            *value = zero_of(node);
            Ok(())
        }
        (_, found) => Err(mismatch(found, &go_type(node), place)),
    }
}

fn object(fields: &mut Map<String, Value>, node: &Node, place: &Place<'_>) -> Result<(), String> {
    fields.retain(|_, field| !field.is_null());
    let is_map = node.properties.is_empty();
    for (name, field) in fields.iter_mut() {
        let Some(schema) = node.field(name) else { continue };
        let inner = if is_map {
            place.clone()
        } else {
            Place { owner: owner_name(node, place), path: joined(&place.path, name) }
        };
        value(field, schema, &inner)?;
    }
    if is_map {
        return Ok(());
    }
    fields.retain(|name, field| match node.properties.get(name.as_str()) {
        // Lists are written as null when empty, required or not, which is to say not at all.
        Some(schema) if field.is_array() => schema.presence || !is_zero(field, schema),
        Some(schema) => schema.presence || node.requires(name) || schema.zero.is_some() || !is_zero(field, schema),
        None => true,
    });
    for (name, property) in &node.properties {
        if !fields.contains_key(&**name)
            && let Some(mut filled) = always(node, name, property)
        {
            if filled.is_object() {
                value(&mut filled, property, place)?;
            }
            fields.insert((**name).to_owned(), filled);
        }
    }
    Ok(())
}

fn array(items: &mut [Value], node: &Node, place: &Place<'_>) -> Result<(), String> {
    let Some(schema) = &node.items else { return Ok(()) };
    for item in items {
        value(item, schema, place)?;
    }
    Ok(())
}

/// What the field `name` holds when it is absent but always written.
fn always(node: &Node, name: &str, property: &Node) -> Option<Value> {
    if let Some(zero) = &property.zero {
        return Some(zero.clone());
    }
    let scalar =
        matches!(property.value_type, ValueType::String | ValueType::Integer | ValueType::Number | ValueType::Boolean);
    let plain = scalar && !matches!(property.definition.as_deref(), Some(TIME | MICRO_TIME));
    (node.requires(name) && plain && !property.presence).then(|| zero_of(property))
}

fn zero_of(node: &Node) -> Value {
    match node.value_type {
        ValueType::String => Value::from(""),
        ValueType::Integer | ValueType::Number => Value::from(0),
        ValueType::Boolean => Value::Bool(false),
        ValueType::Object => Value::Object(Map::new()),
        ValueType::Array => Value::Array(Vec::new()),
        ValueType::Any | ValueType::IntOrString => Value::Null,
    }
}

/// Whether an optional field with this value is not written back. Objects are: they were asked for.
fn is_zero(value: &Value, node: &Node) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0) && node.value_type == ValueType::Integer,
        Value::Bool(flag) => !flag,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.is_empty() && node.properties.is_empty() && matches!(node.additional, Additional::Schema(_))
        }
        Value::Null => true,
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null => "0".to_owned(),
        _ => return Err(QUANTITY_RULE.to_owned()),
    };
    if text.is_empty() {
        *value = Value::from("0");
        return Ok(());
    }
    let quantity = Quantity::parse(&text).ok_or_else(|| QUANTITY_RULE.to_owned())?;
    *value = Value::String(quantity.canonical());
    Ok(())
}

fn int_or_string(value: &mut Value, place: &Place<'_>) -> Result<(), String> {
    match value {
        Value::String(_) => Ok(()),
        Value::Null => {
            *value = Value::from(0);
            Ok(())
        }
        Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => Ok(()),
        found => Err(mismatch(found, "int32", place)),
    }
}

fn time(value: &mut Value, layout: &str) -> Result<(), String> {
    let Value::String(text) = &*value else {
        return if value.is_null() {
            Ok(())
        } else {
            Err(format!("Time.UnmarshalJSON: input is not a JSON string, got {value}"))
        };
    };
    let refused = || {
        let start = layout.get(..4).unwrap_or_default();
        let shown = crate::schema::cause::quote(text);
        format!("parsing time {shown} as \"{layout}\": cannot parse {shown} as \"{start}\"")
    };
    let parsed: jiff::Timestamp = if crate::schema::format::is_date_time(text) {
        text.parse().map_err(|_| refused())?
    } else {
        return Err(refused());
    };
    *value = Value::String(if layout == MICRO_TIME_LAYOUT { micro_time(parsed) } else { whole_seconds(parsed) });
    Ok(())
}

/// `2026-01-02T03:04:05Z`.
pub fn whole_seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000000Z`.
pub fn micro_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn check_bytes(text: &str, node: &Node) -> Result<(), String> {
    use base64::Engine as _;
    if node.rules.as_ref().and_then(|rules| rules.format.as_deref()) != Some("byte") {
        return Ok(());
    }
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let offset = match error {
                base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _) => {
                    offset
                }
                base64::DecodeError::InvalidLength(length) => length,
                base64::DecodeError::InvalidPadding => text.len(),
            };
            Err(format!("illegal base64 data at input byte {offset}"))
        }
    }
}

fn integer(number: &mut Number, node: &Node, place: &Place<'_>) -> Result<(), String> {
    let is_int32 = node.rules.as_ref().and_then(|rules| rules.format.as_deref()) == Some("int32");
    let fits = |whole: i64| !is_int32 || i32::try_from(whole).is_ok();
    match number.as_i64() {
        Some(whole) if fits(whole) => Ok(()),
        _ => Err(format!(
            "json: cannot unmarshal number {number} into Go struct field {}.{} of type {}",
            place.owner,
            place.path,
            go_type(node)
        )),
    }
}

fn mismatch(found: &Value, expected: &str, place: &Place<'_>) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if place.path.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {expected}");
    }
    format!("json: cannot unmarshal {found} into Go struct field {}.{} of type {expected}", place.owner, place.path)
}

/// `io.k8s.api.core.v1.PodSpec` → `PodSpec`.
fn type_name(node: &Node) -> &str {
    node.definition.as_deref().and_then(|name| name.rsplit('.').next()).unwrap_or_default()
}

/// The name of an object's type; objects without one speak in their owner's name.
fn owner_name<'a>(node: &'a Node, place: &Place<'a>) -> &'a str {
    if node.definition.is_some() { type_name(node) } else { place.owner }
}

fn go_type(node: &Node) -> String {
    let format = node.rules.as_ref().and_then(|rules| rules.format.as_deref());
    match node.value_type {
        ValueType::String if format == Some("byte") => "[]uint8".to_owned(),
        ValueType::String => "string".to_owned(),
        ValueType::Boolean => "bool".to_owned(),
        ValueType::Integer => if format == Some("int32") { "int32" } else { "int64" }.to_owned(),
        ValueType::Number => "float64".to_owned(),
        ValueType::IntOrString => "int32".to_owned(),
        ValueType::Any => "interface {}".to_owned(),
        ValueType::Array => {
            node.items.as_ref().map_or_else(|| "[]interface {}".to_owned(), |items| format!("[]{}", go_type(items)))
        }
        ValueType::Object => match (&node.additional, node.definition.as_deref()) {
            (Additional::Schema(values), None) => format!("map[string]{}", go_type(values)),
            (_, Some(name)) => {
                let mut parts = name.rsplit('.');
                let kind = parts.next().unwrap_or_default();
                format!("{}.{kind}", parts.next().unwrap_or_default())
            }
            _ => "map[string]interface {}".to_owned(),
        },
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
