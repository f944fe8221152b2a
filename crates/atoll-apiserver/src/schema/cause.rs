//! What is wrong with an object, in the words of a Kubernetes `Status`.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// One entry of `Status.details.causes`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// The machine-readable kind of the problem.
    pub reason: Reason,
    /// Path of the field: `spec.containers[0].name`. `<nil>` when the problem is the whole object's.
    pub field: String,
    /// Message without the field: `Required value`, `Invalid value: 3: must be at least 4`.
    pub message: String,
}

/// `Status.details.causes[].reason`. `Display` gives the wire form (`FieldValueRequired`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    FieldValueNotFound,
    FieldValueRequired,
    FieldValueDuplicate,
    FieldValueInvalid,
    FieldValueNotSupported,
    FieldValueForbidden,
    FieldValueTooLong,
    FieldValueTooMany,
    FieldValueTypeInvalid,
    InternalError,
}

impl Reason {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "FieldValueNotFound",
            Self::FieldValueRequired => "FieldValueRequired",
            Self::FieldValueDuplicate => "FieldValueDuplicate",
            Self::FieldValueInvalid => "FieldValueInvalid",
            Self::FieldValueNotSupported => "FieldValueNotSupported",
            Self::FieldValueForbidden => "FieldValueForbidden",
            Self::FieldValueTooLong => "FieldValueTooLong",
            Self::FieldValueTooMany => "FieldValueTooMany",
            Self::FieldValueTypeInvalid => "FieldValueTypeInvalid",
            Self::InternalError => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "Not found",
            Self::FieldValueRequired => "Required value",
            Self::FieldValueDuplicate => "Duplicate value",
            Self::FieldValueInvalid | Self::FieldValueTypeInvalid => "Invalid value",
            Self::FieldValueNotSupported => "Unsupported value",
            Self::FieldValueForbidden => "Forbidden",
            Self::FieldValueTooLong => "Too long",
            Self::FieldValueTooMany => "Too many",
            Self::InternalError => "Internal error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Cause {
    /// `field: message`, as `Status.message` lists them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

/// The field of a cause that belongs to no field.
pub(crate) const NO_FIELD: &str = "<nil>";

impl Cause {
    fn new(reason: Reason, field: impl fmt::Display, value: Option<&Value>, detail: &str) -> Self {
        let mut message = reason.words().to_owned();
        for part in
            value.map(display_value).iter().map(String::as_str).chain(Some(detail).filter(|text| !text.is_empty()))
        {
            message.push_str(": ");
            message.push_str(part);
        }
        Self { reason, field: field.to_string(), message }
    }

    /// A value that must be there is not.
    pub fn required(field: impl fmt::Display, detail: &str) -> Self {
        Self::new(Reason::FieldValueRequired, field, None, detail)
    }

    /// A value is wrong.
    pub fn invalid(field: impl fmt::Display, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(Reason::FieldValueInvalid, field, Some(&value.into()), detail)
    }

    /// A value is of the wrong type; `found` is the type's name.
    pub fn type_invalid(field: impl fmt::Display, found: impl Into<Value>, detail: &str) -> Self {
        Self::new(Reason::FieldValueTypeInvalid, field, Some(&found.into()), detail)
    }

    /// A value is none of the allowed ones.
    pub fn not_supported(field: impl fmt::Display, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|value| quote(value)).collect();
        let detail = format!("supported values: {}", allowed.join(", "));
        let detail = if allowed.is_empty() { "" } else { &detail };
        Self::new(Reason::FieldValueNotSupported, field, Some(&value.into()), detail)
    }

    /// A value is there twice.
    pub fn duplicate(field: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(Reason::FieldValueDuplicate, field, Some(&value.into()), "")
    }

    /// A value refers to something that is not there.
    pub fn not_found(field: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(Reason::FieldValueNotFound, field, Some(&value.into()), "")
    }

    /// A value may not be there, or may not change.
    pub fn forbidden(field: impl fmt::Display, detail: &str) -> Self {
        Self::new(Reason::FieldValueForbidden, field, None, detail)
    }

    /// A text is too long.
    pub fn too_long(field: impl fmt::Display, bytes_max: u64) -> Self {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        Self::new(Reason::FieldValueTooLong, field, None, &format!("may not be more than {bytes_max} {unit}"))
    }

    /// A list has too many items.
    pub fn too_many(field: impl fmt::Display, found: u64, items_max: u64) -> Self {
        let unit = if items_max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {items_max} {unit}");
        Self::new(Reason::FieldValueTooMany, field, Some(&found.into()), &detail)
    }
}

fn display_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

/// Puts a text in double quotes the way Go's `%q` does.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        let written = match character {
            '"' => quoted.write_str("\\\""),
            '\\' => quoted.write_str("\\\\"),
            '\x07' => quoted.write_str("\\a"),
            '\x08' => quoted.write_str("\\b"),
            '\x0c' => quoted.write_str("\\f"),
            '\n' => quoted.write_str("\\n"),
            '\r' => quoted.write_str("\\r"),
            '\t' => quoted.write_str("\\t"),
            '\x0b' => quoted.write_str("\\v"),
            control if (control as u32) < 0x20 || control == '\x7f' => write!(quoted, "\\x{:02x}", control as u32),
            control if control.is_control() => write!(quoted, "\\u{:04x}", control as u32),
            plain => quoted.write_char(plain),
        };
        written.expect("writing to a string");
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_worded_as_kubernetes_words_them() {
        let cases = [
            (Cause::required("spec", ""), "spec: Required value"),
            (Cause::required("a", "say so"), "a: Required value: say so"),
            (Cause::invalid("a", -1, "must be more"), "a: Invalid value: -1: must be more"),
            (Cause::invalid("a", "x\"y", "no"), "a: Invalid value: \"x\\\"y\": no"),
            (Cause::invalid(NO_FIELD, Value::Null, "no"), "<nil>: Invalid value: null: no"),
            (Cause::duplicate("a[1]", json!({"name": "a"})), "a[1]: Duplicate value: {\"name\":\"a\"}"),
            (
                Cause::not_supported("m", "x", &["A", "B"]),
                "m: Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (Cause::forbidden("a", "not now"), "a: Forbidden: not now"),
            (Cause::too_long("a", 63), "a: Too long: may not be more than 63 bytes"),
            (Cause::too_many("a", 5, 1), "a: Too many: 5: must have at most 1 item"),
            (Cause::not_found("a", "x"), "a: Not found: \"x\""),
        ];
        for (cause, expected) in cases {
            assert_eq!(cause.to_string(), expected);
        }
        assert_eq!(quote("\u{1}\n\u{7f}é"), "\"\\x01\\n\\x7fé\"");
    }
}
