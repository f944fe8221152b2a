//! Bodies in the protobuf form of Kubernetes (`application/vnd.kubernetes.protobuf`), as JSON values.
//!
//! Such a body is the four bytes `k8s\0` and a `runtime.Unknown`: apiVersion, kind, and the encoded object. What the
//! numbers in it mean says a table that is generated from the published `.proto` files (`cargo xtask protobuf`).
//! Answers stay JSON: clients that write protobuf accept it.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>. Envelope: `k8s.io/apimachinery`,
//! `pkg/runtime/serializer/protobuf`.

mod table;
mod well_known;
mod wire;

use serde_json::{Map, Value};

use self::table::{Kind, Message, Shape, Table};
use self::wire::{Reader, Scalar};

/// The media type.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
const UNKNOWN: &str = "io.k8s.apimachinery.pkg.runtime.Unknown";
/// How deep messages may nest. The deepest kind, a Pod, needs about 12.
const DEPTH_MAX: usize = 64;

/// Why a body is no object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProtobufError {
    #[error("the body does not begin with the bytes of the Kubernetes protobuf form")]
    NoMagic,
    #[error("the encoding {0:?} of the object is not supported")]
    Encoding(String),
    #[error("there is no protobuf form of {kind:?} in {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("the message ends early")]
    Truncated,
    #[error("the message is malformed")]
    Malformed,
    #[error("a text is not valid UTF-8")]
    Text,
    #[error("the message nests too deep")]
    TooDeep,
}

/// The object in a body.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let bytes = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let table = Table::embedded();
    let envelope = table.get(UNKNOWN).ok_or(ProtobufError::Malformed)?;
    let mut reader = Reader::new(bytes);
    let (mut unknown, mut raw) = (Map::new(), None);
    while let Some((number, scalar)) = reader.field()? {
        match (envelope.field(number).map(|field| &*field.name), scalar) {
            (Some("raw"), Scalar::Bytes(bytes)) => raw = Some(bytes),
            _ => decode_field(table, envelope, number, scalar, &mut unknown, 0)?,
        }
    }
    let text = |name: &str| unknown.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    for name in ["contentEncoding", "contentType"] {
        if !matches!(text(name).as_str(), "" | PROTOBUF) {
            return Err(ProtobufError::Encoding(text(name)));
        }
    }
    let Some(message) = table.of_kind(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    decode_message(table, message, raw.unwrap_or_default(), &mut object, 0)?;
    Ok(Value::Object(object))
}

/// Reads a message into an object; what it has already is added to, as protobuf wants it.
fn decode_message(
    table: &Table,
    message: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth >= DEPTH_MAX {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, scalar)) = reader.field()? {
        decode_field(table, message, number, scalar, object, depth)?;
    }
    Ok(())
}

/// Puts one field into the object of its message. Numbers that the message does not have are from newer clients.
fn decode_field(
    table: &Table,
    message: &Message,
    number: u32,
    scalar: Scalar<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let Some(field) = message.field(number) else { return Ok(()) };
    let name = &*field.name;
    match (field.shape, &field.kind) {
        (Shape::One, Kind::Message(type_name)) if name == "." => {
            let inner = table.get(type_name).ok_or(ProtobufError::Malformed)?;
            decode_message(table, inner, scalar.bytes()?, object, depth + 1)
        }
        (Shape::One, kind) => {
            let before = object.remove(name);
            let value = decode_value(table, kind, scalar, before, depth)?;
            object.insert(name.to_owned(), value);
            Ok(())
        }
        (Shape::List, kind) => {
            let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = list else { return Err(ProtobufError::Malformed) };
            match scalar {
                Scalar::Bytes(packed) if kind.is_number() => {
                    let mut reader = Reader::new(packed);
                    while let Some(scalar) = reader.packed(kind)? {
                        items.push(decode_value(table, kind, scalar, None, depth)?);
                    }
                }
                scalar => items.push(decode_value(table, kind, scalar, None, depth)?),
            }
            Ok(())
        }
        (Shape::Map, kind) => {
            let (key, value) = decode_entry(table, kind, scalar.bytes()?, depth)?;
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = map else { return Err(ProtobufError::Malformed) };
            entries.insert(key, value);
            Ok(())
        }
    }
}

/// One entry of a map: field 1 is the key, field 2 the value; what is absent is zero.
fn decode_entry(table: &Table, kind: &Kind, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let mut reader = Reader::new(bytes);
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, scalar)) = reader.field()? {
        match number {
            1 => key = scalar.text()?.to_owned(),
            2 => value = Some(decode_value(table, kind, scalar, None, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => decode_value(table, kind, Scalar::zero(kind), None, depth)?,
    };
    Ok((key, value))
}

fn decode_value(
    table: &Table,
    kind: &Kind,
    scalar: Scalar<'_>,
    before: Option<Value>,
    depth: usize,
) -> Result<Value, ProtobufError> {
    let Kind::Message(type_name) = kind else { return scalar.to_value(kind) };
    let bytes = scalar.bytes()?;
    if let Some(value) = well_known::decode(type_name, bytes)? {
        return Ok(value);
    }
    let message = table.get(type_name).ok_or(ProtobufError::Malformed)?;
    let mut object = match before {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    decode_message(table, message, bytes, &mut object, depth + 1)?;
    if message.is_list {
        return Ok(object.remove("items").unwrap_or_else(|| Value::Array(Vec::new())));
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests;
