//! A value together with where it is, for checks that walk an object.

use serde_json::Value;

use crate::schema::{Cause, FieldPath, Node, ValueType};

/// Shared by every absent value.
static ABSENT: Value = Value::Null;

/// A value and its path.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: FieldPath,
}

impl<'a> View<'a> {
    /// The field `name` of an object.
    pub(crate) fn root(object: &'a Value, name: &str) -> Self {
        Self { value: object.get(name).unwrap_or(&ABSENT), path: FieldPath::new(name) }
    }

    /// A field of this value.
    pub(crate) fn field(&self, name: &str) -> Self {
        Self { value: self.value.get(name).unwrap_or(&ABSENT), path: self.path.field(name) }
    }

    /// The items of this list, none when it is absent.
    pub(crate) fn items(&self) -> impl Iterator<Item = View<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(move |(index, value)| View { value, path: path.index(index) })
    }

    /// The entries of this map, none when it is absent. Paths are `path[key]`.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, View<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.as_object();
        entries.into_iter().flatten().map(move |(key, value)| (key.as_str(), View { value, path: path.key(key) }))
    }

    /// The text, empty when absent.
    pub(crate) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number, when there is one.
    pub(crate) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether the value is there.
    pub(crate) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether the list or map has nothing in it, or is absent.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Null => true,
            _ => false,
        }
    }

    /// Reports the value as invalid once for every problem.
    pub(crate) fn report(&self, problems: &[String], causes: &mut Vec<Cause>) {
        causes.extend(problems.iter().map(|problem| Cause::invalid(&self.path, self.value.clone(), problem)));
    }

    /// Reports an empty text. Returns whether it was empty.
    pub(crate) fn require(&self, causes: &mut Vec<Cause>) -> bool {
        let empty = self.is_empty();
        if empty {
            causes.push(Cause::required(&self.path, ""));
        }
        empty
    }

    /// Reports a text that is none of `allowed`; an empty one as missing.
    pub(crate) fn one_of(&self, allowed: &[&str], causes: &mut Vec<Cause>) {
        if !self.require(causes) {
            self.one_of_if_set(allowed, causes);
        }
    }

    /// Reports a text that is there and none of `allowed`.
    pub(crate) fn one_of_if_set(&self, allowed: &[&str], causes: &mut Vec<Cause>) {
        if self.is_set() && !allowed.contains(&self.text()) {
            causes.push(Cause::not_supported(&self.path, self.value.clone(), allowed));
        }
    }

    /// Reports a number below zero.
    pub(crate) fn not_negative(&self, causes: &mut Vec<Cause>) {
        if self.number().is_some_and(|number| number < 0) {
            causes.push(Cause::invalid(&self.path, self.value.clone(), "must be greater than or equal to 0"));
        }
    }
}

/// Texts that may be empty although their schema requires them.
const MAY_BE_EMPTY: &[&str] =
    &["HTTPHeader.value", "Sysctl.value", "NodeSelectorRequirement.operator", "LabelSelectorRequirement.operator"];

/// Reports required texts that are empty, anywhere below `view`.
pub(crate) fn require_texts(view: &View<'_>, node: &Node, causes: &mut Vec<Cause>) {
    match view.value {
        Value::Object(fields) => {
            let kind = node.definition.as_deref().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
            for name in node.required() {
                let is_text =
                    node.properties.get(name).is_some_and(|property| property.value_type == ValueType::String);
                if is_text && !MAY_BE_EMPTY.contains(&format!("{kind}.{name}").as_str()) {
                    view.field(name).require(causes);
                }
            }
            for name in fields.keys() {
                if let Some(schema) = node.properties.get(name.as_str()) {
                    require_texts(&view.field(name), schema, causes);
                }
            }
        }
        Value::Array(_) => {
            if let Some(schema) = &node.items {
                view.items().for_each(|item| require_texts(&item, schema, causes));
            }
        }
        _ => {}
    }
}
