//! The wire format: tagged fields, one after another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::ProtobufError;
use super::table::Kind;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;
const VARINT_BYTES_MAX: usize = 10;

/// A value as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

impl<'a> Scalar<'a> {
    pub(super) fn zero(kind: &Kind) -> Self {
        match kind {
            Kind::Bool | Kind::Integer | Kind::Unsigned => Self::Varint(0),
            Kind::Double => Self::Fixed64([0; 8]),
            Kind::Float => Self::Fixed32([0; 4]),
            Kind::Bytes | Kind::Text | Kind::Message(_) => Self::Bytes(&[]),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(ProtobufError::Malformed) }
    }

    pub(super) fn text(self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Text)
    }

    /// As JSON has it: bytes in base64.
    pub(super) fn to_value(self, kind: &Kind) -> Result<Value, ProtobufError> {
        Ok(match (kind, self) {
            (Kind::Bool, Self::Varint(number)) => Value::Bool(number != 0),
            // Negative numbers are written as the 64 bits that they are.
            (Kind::Integer, Self::Varint(number)) => Value::from(number.cast_signed()),
            (Kind::Unsigned, Self::Varint(number)) => Value::from(number),
            (Kind::Double, Self::Fixed64(bytes)) => Value::from(f64::from_le_bytes(bytes)),
            (Kind::Float, Self::Fixed32(bytes)) => Value::from(f32::from_le_bytes(bytes)),
            (Kind::Text, scalar) => Value::from(scalar.text()?),
            (Kind::Bytes, scalar) => Value::from(STANDARD.encode(scalar.bytes()?)),
            _ => return Err(ProtobufError::Malformed),
        })
    }
}

/// Reads fields from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Scalar<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or(ProtobufError::Malformed)?;
        let scalar = match tag & 7 {
            VARINT => Scalar::Varint(self.varint()?),
            FIXED_64 => Scalar::Fixed64(self.array()?),
            FIXED_32 => Scalar::Fixed32(self.array()?),
            DELIMITED => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Scalar::Bytes(self.take(length)?)
            }
            // Groups, which nobody writes any more.
            _ => return Err(ProtobufError::Malformed),
        };
        Ok(Some((number, scalar)))
    }

    /// The next number of a packed list; `None` at the end.
    pub(super) fn packed(&mut self, kind: &Kind) -> Result<Option<Scalar<'a>>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(match kind {
            Kind::Double => Scalar::Fixed64(self.array()?),
            Kind::Float => Scalar::Fixed32(self.array()?),
            _ => Scalar::Varint(self.varint()?),
        }))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0_u64;
        for position in 0..VARINT_BYTES_MAX {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Malformed)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], ProtobufError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
