//! The types of expressions, as far as the schema says.

use crate::schema::{Additional, Node, ValueType};

/// The type of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Type<'n> {
    /// Not known before there is a value.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Span,
    List(Box<Self>),
    Map(Box<Self>),
    /// An object or a list of the schema.
    Data(&'n Node),
    /// The root, or an embedded object: of its metadata only the names are known.
    Root(&'n Node),
    /// `metadata` of such.
    Metadata,
    Optional(Box<Self>),
    /// A type itself.
    Meta,
    Named(&'static str),
}

impl<'n> Type<'n> {
    /// The type of a part of an object.
    pub(crate) fn of(node: &'n Node) -> Self {
        match node.value_type {
            ValueType::Boolean => Self::Bool,
            ValueType::Integer => Self::Int,
            ValueType::Number => Self::Double,
            ValueType::String => match node.rules.as_ref().and_then(|rules| rules.format.as_deref()) {
                Some("date-time" | "datetime" | "date") => Self::Time,
                Some("duration") => Self::Span,
                Some("byte") => Self::Bytes,
                _ => Self::Text,
            },
            ValueType::Any | ValueType::IntOrString => Self::Dyn,
            ValueType::Object if node.embedded_resource => Self::Root(node),
            ValueType::Object | ValueType::Array => Self::Data(node),
        }
    }

    pub(super) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// What its items are, if it is a list.
    pub(super) fn items(&self) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::List(items) => Some((**items).clone()),
            Self::Data(node) if node.value_type == ValueType::Array => {
                Some(node.items.as_deref().map_or(Self::Dyn, Self::of))
            }
            _ => None,
        }
    }

    /// What its values are, if it is a map.
    pub(super) fn values(&self) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::Map(values) => Some((**values).clone()),
            Self::Data(node) => match &node.additional {
                Additional::Schema(values) if node.value_type == ValueType::Object => Some(Self::of(values)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The type of a field; `None` if there is no such field.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::Metadata => matches!(name, "name" | "generateName").then_some(Self::Text),
            Self::Root(_) if name == "metadata" => Some(Self::Metadata),
            Self::Root(_) if matches!(name, "apiVersion" | "kind") => Some(Self::Text),
            Self::Root(node) => super::property(node, name).map(|(_, node)| Self::of(node)),
            Self::Data(node) if node.value_type == ValueType::Object => match super::property(node, name) {
                Some((_, node)) => Some(Self::of(node)),
                None => self.values(),
            },
            Self::Optional(inner) => inner.field(name).map(|it| Self::Optional(Box::new(it))),
            _ => self.values(),
        }
    }

    /// Whether values of both types may be compared or mixed.
    pub(super) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::Null, Self::Data(_) | Self::Root(_) | Self::Optional(_) | Self::Null)
            | (Self::Data(_) | Self::Root(_) | Self::Optional(_), Self::Null) => true,
            (Self::Optional(one), Self::Optional(other)) => one.fits(other),
            _ => match (self.items(), other.items(), self.values(), other.values()) {
                (Some(one), Some(other), _, _) | (_, _, Some(one), Some(other)) => one.fits(&other),
                _ => self.name() == other.name(),
            },
        }
    }

    /// Whether both are numbers, of whatever kind, or fit.
    pub(super) fn compares_with(&self, other: &Self) -> bool {
        (self.is_number() && other.is_number()) || self.fits(other)
    }

    /// As errors name it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dyn => "dyn".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Uint => "uint".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Time => "timestamp".to_owned(),
            Self::Span => "duration".to_owned(),
            Self::Metadata | Self::Root(_) => "object".to_owned(),
            Self::Optional(inner) => format!("optional_type({})", inner.name()),
            Self::Meta => "type".to_owned(),
            Self::Named(name) => (*name).to_owned(),
            Self::List(_) | Self::Map(_) | Self::Data(_) => match (self.items(), self.values()) {
                (Some(items), _) => format!("list({})", items.name()),
                (None, Some(values)) => format!("map(string, {})", values.name()),
                (None, None) => "object".to_owned(),
            },
        }
    }
}
