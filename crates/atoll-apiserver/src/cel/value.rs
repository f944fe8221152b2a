//! Values while a rule is evaluated. Parts of the object are looked at where they are.

use std::cmp::Ordering;
use std::rc::Rc;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::definitions::quantity::Quantity;
use crate::schema::{ListType, Node, ValueType};

#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Time(Timestamp),
    Span(SignedDuration),
    List(Rc<Vec<Val<'a>>>),
    Map(Rc<Vec<(Val<'a>, Val<'a>)>>),
    /// An object or a list of the object that the rule is about.
    Data(&'a Value, &'a Node),
    Optional(Option<Rc<Val<'a>>>),
    Type(&'static str),
    Quantity(Quantity),
}

/// For what no schema describes.
fn untyped() -> &'static Node {
    static NODE: std::sync::LazyLock<Node> = std::sync::LazyLock::new(Node::default);
    &NODE
}

impl<'a> Val<'a> {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// A value of the object, as its schema types it.
    pub(super) fn of(value: &'a Value, node: &'a Node) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => match (node.value_type, number.as_i64()) {
                (ValueType::Number, _) | (_, None) => Self::Double(number.as_f64().unwrap_or_default()),
                (_, Some(whole)) => Self::Int(whole),
            },
            Value::String(text) => Self::formatted(text, node),
            Value::Array(_) | Value::Object(_) => Self::Data(value, node),
        }
    }

    fn formatted(text: &str, node: &Node) -> Self {
        let parsed = match node.rules.as_ref().and_then(|rules| rules.format.as_deref()) {
            Some("date-time" | "datetime") => text.parse().ok().map(Self::Time),
            Some("date") => format!("{text}T00:00:00Z").parse().ok().map(Self::Time),
            Some("duration") => span(text).map(Self::Span),
            Some("byte") => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
                bytes.map(|bytes| Self::Bytes(bytes.into()))
            }
            _ => None,
        };
        parsed.unwrap_or_else(|| Self::text(text))
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::Data(Value::Array(items), node) => {
                let node = node.items.as_deref().unwrap_or(untyped());
                Some(items.iter().map(|item| Self::of(item, node)).collect())
            }
            _ => None,
        }
    }

    /// The keys and values of a map.
    pub(super) fn entries(&self) -> Option<Vec<(Self, Self)>> {
        match self {
            Self::Map(entries) => Some(entries.to_vec()),
            Self::Data(Value::Object(fields), node) => {
                let entry = |(name, value): (&String, &'a Value)| {
                    let node: &'a Node = node.field(name).map_or(untyped(), |node| &**node);
                    (Self::text(name), Self::of(value, node))
                };
                Some(fields.iter().map(entry).collect())
            }
            _ => None,
        }
    }

    /// A field of an object, or an entry of a map, by its name.
    pub(super) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Map(_) => self.at(&Self::text(name)),
            Self::Data(value @ Value::Object(_), node) => {
                let (name, node) = super::property(node, name)
                    .or_else(|| node.field(name).map(|field| (name, &**field)))
                    .unwrap_or((name, untyped()));
                value.get(name).map(|value| Self::of(value, node))
            }
            _ => None,
        }
    }

    /// What is at an index or under a key.
    pub(super) fn at(&self, key: &Self) -> Option<Self> {
        match (self, key) {
            (Self::List(items), key) => items.get(key.index()?).cloned(),
            (Self::Data(Value::Array(items), node), key) => {
                let node = node.items.as_deref().unwrap_or(untyped());
                items.get(key.index()?).map(|item| Self::of(item, node))
            }
            (Self::Data(value @ Value::Object(_), node), Self::Text(name)) => {
                let node: &'a Node = node.field(name).map_or(untyped(), |node| &**node);
                value.get(&**name).map(|value| Self::of(value, node))
            }
            (Self::Map(entries), key) => {
                entries.iter().find(|(own, _)| own.equals(key)).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    fn index(&self) -> Option<usize> {
        match self {
            Self::Int(index) => usize::try_from(*index).ok(),
            Self::Uint(index) => usize::try_from(*index).ok(),
            Self::Double(index) if index.fract() == 0.0 && *index >= 0.0 => Some(*index as usize),
            _ => None,
        }
    }

    /// Items, entries, characters or bytes.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::Data(Value::Array(items), _) => Some(items.len()),
            Self::Data(Value::Object(fields), _) => Some(fields.len()),
            _ => None,
        }
    }

    /// How much there is to look at when the whole value is compared.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64 / 10 + 1,
            Self::Bytes(bytes) => bytes.len() as u64 / 10 + 1,
            Self::List(items) => 1 + items.iter().map(Self::weight).sum::<u64>(),
            Self::Map(entries) => 1 + entries.iter().map(|(key, value)| key.weight() + value.weight()).sum::<u64>(),
            Self::Data(value, _) => json_weight(value),
            Self::Optional(Some(inner)) => inner.weight(),
            _ => 1,
        }
    }

    fn is_keyed(&self) -> bool {
        matches!(self, Self::Data(Value::Array(_), node) if node.list != ListType::Atomic)
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Span(a), Self::Span(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            _ => match self.compare_numbers(other) {
                Some(order) => order == Ordering::Equal,
                None => self.equals_in_parts(other),
            },
        }
    }

    fn equals_in_parts(&self, other: &Self) -> bool {
        if let (Some(ours), Some(theirs)) = (self.items(), other.items()) {
            let same_length = ours.len() == theirs.len();
            // Lists whose items are told apart have no order.
            if self.is_keyed() && other.is_keyed() {
                return same_length && ours.iter().all(|item| theirs.iter().any(|candidate| item.equals(candidate)));
            }
            return same_length && ours.iter().zip(&theirs).all(|(one, another)| one.equals(another));
        }
        match (self.entries(), other.entries()) {
            (Some(ours), Some(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().all(|(key, value)| other.at(key).is_some_and(|found| found.equals(value)))
            }
            _ => false,
        }
    }

    /// Numbers of all types are of one order.
    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => a.partial_cmp(&b.number()?),
            (a, Self::Double(b)) => a.number()?.partial_cmp(b),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "whole numbers are compared with fractions as CEL does")]
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            _ => self.compare_numbers(other),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::List(_) | Self::Data(Value::Array(_), _) => "list",
            Self::Map(_) | Self::Data(_, _) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
        }
    }
}

fn json_weight(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 / 10 + 1,
        Value::Array(items) => 1 + items.iter().map(json_weight).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(json_weight).sum::<u64>(),
        _ => 1,
    }
}

/// A duration as Go writes it: `1h30m`, `-1.5s`.
pub(super) fn span(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, factor) = UNITS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit)
                .is_some_and(|after| after.is_empty() || after.starts_with(|it: char| it.is_ascii_digit() || it == '.'))
        })?;
        seconds += number * factor;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then(|| SignedDuration::try_from_secs_f64(sign * seconds).ok()).flatten()
}
