//! Messages that JSON writes in a form of their own: times, quantities, numbers or texts, objects within objects.

use jiff::Timestamp;
use serde_json::Value;

use super::ProtobufError;
use super::table::Kind;
use super::wire::Reader;
use crate::definitions::decode::{micro_time, whole_seconds};

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// The value of such a message; `None` if it is an ordinary one.
pub(super) fn decode(type_name: &str, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let value = match type_name {
        TIME => time(bytes)?.map_or(Value::Null, |time| whole_seconds(time).into()),
        MICRO_TIME => time(bytes)?.map_or(Value::Null, |time| micro_time(time).into()),
        FIELDS | RAW => json(bytes)?,
        QUANTITY => text(bytes)?.into(),
        INT_OR_STRING => int_or_string(bytes)?,
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// Seconds and nanoseconds since the epoch. Both zero: no time at all.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut parts = [0_i64; 2];
    while let Some((number, scalar)) = reader.field()? {
        if let Some(part) = usize::try_from(number).ok().and_then(|number| parts.get_mut(number - 1)) {
            *part = scalar.to_value(&Kind::Integer)?.as_i64().unwrap_or_default();
        }
    }
    if parts == [0, 0] {
        return Ok(None);
    }
    let nanoseconds = i32::try_from(parts[1]).map_err(|_| ProtobufError::Malformed)?;
    Timestamp::new(parts[0], nanoseconds).map(Some).map_err(|_| ProtobufError::Malformed)
}

/// A message whose first field is JSON.
fn json(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut value = Value::Null;
    while let Some((number, scalar)) = reader.field()? {
        if number == 1 {
            value = serde_json::from_slice(scalar.bytes()?).map_err(|_| ProtobufError::Malformed)?;
        }
    }
    Ok(value)
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut text = String::new();
    while let Some((number, scalar)) = reader.field()? {
        if number == 1 {
            scalar.text()?.clone_into(&mut text);
        }
    }
    Ok(text)
}

/// Field 1 says which it is: 0 a number, in field 2, or 1 a text, in field 3.
fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let (mut which, mut number, mut text) = (Value::from(0), Value::from(0), Value::from(""));
    while let Some((field, scalar)) = reader.field()? {
        match field {
            1 => which = scalar.to_value(&Kind::Integer)?,
            2 => number = scalar.to_value(&Kind::Integer)?,
            3 => text = scalar.to_value(&Kind::Text)?,
            _ => {}
        }
    }
    match which.as_i64() {
        Some(0) => Ok(number),
        Some(1) => Ok(text),
        _ => Err(ProtobufError::Malformed),
    }
}
