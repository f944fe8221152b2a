//! Checking an object against its schema. Causes and messages are those of a Kubernetes API server for custom kinds.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::cause::{Cause, NO_FIELD, Reason};
use super::format;
use super::node::{Additional, Bound, ListType, Node, Rules, ValueType};
use super::path::FieldPath;

/// One walk over an object.
pub(super) struct Validation<'a> {
    /// Prepended to fields, but not to the paths inside messages.
    prefix: &'a str,
    causes: Vec<Cause>,
}

impl<'a> Validation<'a> {
    pub(super) fn new(prefix: &'a str) -> Self {
        Self { prefix, causes: Vec::new() }
    }

    pub(super) fn into_causes(self) -> Vec<Cause> {
        self.causes
    }

    /// Checks `value`. What was wrong before and did not change is forgiven.
    pub(super) fn check(&mut self, value: &Value, old: Option<&Value>, node: &Node, path: &mut FieldPath) {
        let before = self.causes.len();
        self.check_strictly(value, old, node, path);
        if self.causes.len() > before && old == Some(value) {
            self.causes.truncate(before);
        }
    }

    fn check_strictly(&mut self, value: &Value, old: Option<&Value>, node: &Node, path: &mut FieldPath) {
        if node.nullable && value.is_null() {
            return;
        }
        self.check_type(value, node, path);
        if let Some(rules) = &node.rules {
            self.check_compositions(value, rules, path);
            self.check_rules(value, node, rules, path);
        }
        match value {
            Value::Object(fields) => self.check_fields(fields, old, node, path),
            Value::Array(items) => self.check_items(items, old, node, path),
            _ => {}
        }
    }

    fn check_type(&mut self, value: &Value, node: &Node, path: &FieldPath) {
        let found = type_name(value);
        let (fits, expected) = match node.value_type {
            ValueType::Any => return,
            ValueType::IntOrString => (value.is_string() || is_integer(value), "integer,string"),
            ValueType::Integer => (is_integer(value), "integer"),
            ValueType::Number => (value.is_number(), "number"),
            ValueType::Object => (value.is_object(), "object"),
            ValueType::Array => (value.is_array(), "array"),
            ValueType::Boolean => (value.is_boolean(), "boolean"),
            ValueType::String => (value.is_string(), "string"),
        };
        if !fits {
            self.wrong_type(found, path, expected, found);
        }
    }

    fn wrong_type(&mut self, value: &str, path: &FieldPath, expected: &str, shown: &str) {
        let detail = format!("{path} in body must be of type {expected}: {}", super::cause::quote(shown));
        self.causes.push(Cause::type_invalid(self.field(path), value, &detail));
    }

    fn check_rules(&mut self, value: &Value, node: &Node, rules: &Rules, path: &FieldPath) {
        match value {
            Value::String(text) => self.check_text(text, node, rules, path),
            Value::Number(number) => self.check_number(number.as_f64().unwrap_or(f64::NAN), value, rules, path),
            Value::Array(items) => self.check_list(items, rules, path),
            Value::Object(fields) => self.check_map(fields, rules, path),
            Value::Null | Value::Bool(_) => {}
        }
        if !rules.allowed.is_empty() && !rules.allowed.contains(value) && !value.is_null() {
            let allowed: Vec<String> = rules.allowed.iter().map(plain_text).collect();
            let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
            self.causes.push(Cause::not_supported(self.field(path), value.clone(), &allowed));
        }
    }

    fn check_text(&mut self, text: &str, node: &Node, rules: &Rules, path: &FieldPath) {
        let length = text.chars().count() as u64;
        // Only the first of these is reported.
        if let Some(limit) = rules.max_length.filter(|limit| length > *limit) {
            self.causes.push(Cause::too_long(self.field(path), limit));
        } else if let Some(limit) = rules.min_length.filter(|limit| length < *limit) {
            self.invalid(text, path, &format!("should be at least {limit} chars long"));
        } else if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(text, path, &format!("should match '{}'", pattern.text()));
        }
        if let (ValueType::String, Some(name)) = (node.value_type, &rules.format)
            && !format::is_valid(name, text)
        {
            self.wrong_type(text, path, name, text);
        }
    }

    fn check_number(&mut self, number: f64, value: &Value, rules: &Rules, path: &FieldPath) {
        let breaks_minimum = |bound: &Bound| if bound.exclusive { number <= bound.value } else { number < bound.value };
        if let Some(bound) = rules.minimum.filter(breaks_minimum) {
            let words = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            self.invalid(value.clone(), path, &format!("should be {words} {}", bound.value));
        }
        let breaks_maximum = |bound: &Bound| if bound.exclusive { number >= bound.value } else { number > bound.value };
        if let Some(bound) = rules.maximum.filter(breaks_maximum) {
            let words = if bound.exclusive { "less than" } else { "less than or equal to" };
            self.invalid(value.clone(), path, &format!("should be {words} {}", bound.value));
        }
        if let Some(factor) = rules.multiple_of.filter(|factor| (number / factor).fract() != 0.0) {
            self.invalid(value.clone(), path, &format!("should be a multiple of {factor}"));
        }
    }

    fn check_list(&mut self, items: &[Value], rules: &Rules, path: &FieldPath) {
        let length = items.len() as u64;
        if let Some(limit) = rules.min_items.filter(|limit| length < *limit) {
            self.invalid(length, path, &format!("should have at least {limit} items"));
        }
        if let Some(limit) = rules.max_items.filter(|limit| length > *limit) {
            self.causes.push(Cause::too_many(self.field(path), length, limit));
        }
        let mut seen = HashSet::new();
        if rules.unique_items && items.iter().any(|item| !seen.insert(item.to_string())) {
            self.invalid("", path, "shouldn't contain duplicates");
        }
    }

    fn check_map(&mut self, fields: &Map<String, Value>, rules: &Rules, path: &FieldPath) {
        let length = fields.len() as u64;
        if let Some(limit) = rules.min_properties.filter(|limit| length < *limit) {
            self.invalid(length, path, &format!("should have at least {limit} properties"));
        }
        if let Some(limit) = rules.max_properties.filter(|limit| length > *limit) {
            self.causes.push(Cause::too_many(self.field(path), length, limit));
        }
    }

    fn check_fields(&mut self, fields: &Map<String, Value>, old: Option<&Value>, node: &Node, path: &mut FieldPath) {
        let old = old.and_then(Value::as_object);
        for (name, field) in fields {
            if let Some(schema) = node.field(name) {
                let old = old.and_then(|old| old.get(name));
                path.within_field(name, |path| self.check(field, old, schema, path));
            }
        }
        for name in node.required() {
            if !fields.contains_key(&**name) {
                let field = path.within_field(name, |path| self.field(path));
                self.causes.push(Cause::required(field, ""));
            }
        }
    }

    fn check_items(&mut self, items: &[Value], old: Option<&Value>, node: &Node, path: &mut FieldPath) {
        let Some(schema) = &node.items else { return };
        let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let previous = same_item(item, old, &node.list);
            path.within_index(index, |path| self.check(item, previous, schema, path));
        }
    }

    fn check_compositions(&mut self, value: &Value, rules: &Rules, path: &mut FieldPath) {
        if !rules.any_of.is_empty() {
            let attempts = self.attempts(value, &rules.any_of, path);
            if !attempts.iter().any(Vec::is_empty) {
                self.whole(path, "must validate at least one schema (anyOf)");
                self.causes.extend(attempts.into_iter().next().unwrap_or_default());
            }
        }
        if !rules.one_of.is_empty() {
            let attempts = self.attempts(value, &rules.one_of, path);
            match attempts.iter().filter(|causes| causes.is_empty()).count() {
                1 => {}
                0 => {
                    self.whole(path, "must validate one and only one schema (oneOf). Found none valid");
                    self.causes.extend(attempts.into_iter().next().unwrap_or_default());
                }
                count => {
                    let found =
                        format!("must validate one and only one schema (oneOf). Found {count} valid alternatives");
                    self.whole(path, &found);
                }
            }
        }
        if !rules.all_of.is_empty() {
            let attempts = self.attempts(value, &rules.all_of, path);
            let valid = attempts.iter().filter(|causes| causes.is_empty()).count();
            if valid < attempts.len() {
                let detail = if valid == 0 { ". None validated" } else { "" };
                self.causes.extend(attempts.into_iter().flatten());
                self.whole(path, &format!("must validate all the schemas (allOf){detail}"));
            }
        }
        if let Some(schema) = &rules.not
            && self.attempts(value, std::slice::from_ref(schema), path).iter().all(Vec::is_empty)
        {
            self.whole(path, "must not validate the schema (not)");
        }
    }

    fn attempts(&self, value: &Value, schemas: &[std::sync::Arc<Node>], path: &mut FieldPath) -> Vec<Vec<Cause>> {
        schemas
            .iter()
            .map(|schema| {
                let mut attempt = Validation::new(self.prefix);
                attempt.check_strictly(value, None, schema, path);
                attempt.causes
            })
            .collect()
    }

    fn invalid(&mut self, value: impl Into<Value>, path: &FieldPath, rule: &str) {
        self.causes.push(Cause::invalid(self.field(path), value, &format!("{path} in body {rule}")));
    }

    /// A problem of several schemas at once belongs to no field.
    fn whole(&mut self, path: &FieldPath, rule: &str) {
        let field = if self.prefix.is_empty() { NO_FIELD } else { self.prefix };
        self.causes.push(Cause::invalid(field, "", &format!("{} {rule}", super::cause::quote(path.as_str()))));
    }

    fn field(&self, path: &FieldPath) -> String {
        match (self.prefix.is_empty(), path.as_str()) {
            (true, "") => NO_FIELD.to_owned(),
            (true, path) => path.to_owned(),
            (false, "") => self.prefix.to_owned(),
            (false, path) => format!("{}.{path}", self.prefix),
        }
    }
}

/// The item of `old` that `item` is a newer version of. Only lists told apart by keys have such.
pub(super) fn same_item<'a>(item: &Value, old: &'a [Value], list: &ListType) -> Option<&'a Value> {
    let ListType::Map(keys) = list else { return None };
    let matches = |candidate: &&Value| keys.iter().all(|key| candidate.get(&**key) == item.get(&**key));
    old.iter().find(matches)
}

/// Checks that items of sets and keyed lists are there once.
pub(super) fn check_uniqueness(value: &Value, node: &Node, path: &mut FieldPath, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match (node.properties.get(name.as_str()), &node.additional) {
                    (Some(schema), _) => {
                        path.within_field(name, |path| check_uniqueness(field, schema, path, causes));
                    }
                    (None, Additional::Schema(schema)) => {
                        check_uniqueness(field, schema, &mut path.key(name), causes);
                    }
                    (None, _) => {}
                }
            }
        }
        Value::Array(items) => {
            match &node.list {
                ListType::Atomic => {}
                ListType::Set => {
                    for index in repeated(items.iter().map(Value::to_string)) {
                        causes.push(Cause::duplicate(path.index(index), items[index].clone()));
                    }
                }
                ListType::Map(keys) => check_keys(items, keys, path, causes),
            }
            if let Some(schema) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    path.within_index(index, |path| check_uniqueness(item, schema, path, causes));
                }
            }
        }
        _ => {}
    }
}

fn check_keys(items: &[Value], keys: &[Box<str>], path: &FieldPath, causes: &mut Vec<Cause>) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        causes.push(Cause::invalid(path.index(index), items[index].clone(), detail));
        return;
    }
    let key_of = |item: &Value| -> Map<String, Value> {
        let values = keys.iter().filter_map(|key| Some(((**key).to_owned(), item.get(&**key)?.clone())));
        let mut values: Vec<_> = values.collect();
        values.sort_by(|left, right| left.0.cmp(&right.0));
        values.into_iter().collect()
    };
    let found: Vec<Value> = items.iter().map(|item| Value::Object(key_of(item))).collect();
    for index in repeated(found.iter().map(Value::to_string)) {
        causes.push(Cause::duplicate(path.index(index), found[index].clone()));
    }
}

/// Indices at which something comes for the second time.
fn repeated(items: impl Iterator<Item = String>) -> Vec<usize> {
    let mut times = std::collections::HashMap::<String, u32>::new();
    let mut indices = Vec::new();
    for (index, item) in items.enumerate() {
        let count = times.entry(item).or_default();
        *count += 1;
        if *count == 2 {
            indices.push(index);
        }
    }
    indices
}

/// Causes after which rules are not looked at.
pub(super) fn is_blocking(cause: &Cause) -> bool {
    matches!(
        cause.reason,
        Reason::FieldValueNotSupported
            | Reason::FieldValueRequired
            | Reason::FieldValueTooLong
            | Reason::FieldValueTooMany
            | Reason::FieldValueTypeInvalid
    )
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.is_finite() && number.fract() == 0.0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
