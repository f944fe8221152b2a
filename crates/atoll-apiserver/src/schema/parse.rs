//! From an OpenAPI v3 document to nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::SchemaError;
use super::node::{Additional, Bound, ListType, Node, PatchStrategy, Pattern, Rule, Rules, ValueType};

const REFERENCE_PREFIX: &str = "#/definitions/";
/// Deeper schemas are refused, so that a hostile one can not exhaust the stack.
const DEPTH_MAX: usize = 64;

/// Named schemas that refer to one another. What is referred to twice is built once.
#[derive(Debug, Default)]
pub struct Definitions {
    nodes: HashMap<String, Arc<Node>>,
}

impl Definitions {
    /// Parses `{name: schema}`.
    pub fn parse(schemas: &Map<String, Value>) -> Result<Self, SchemaError> {
        let mut parser = Parser { sources: Some(schemas), ..Parser::default() };
        for name in schemas.keys() {
            parser.definition(name, "")?;
        }
        Ok(Self { nodes: parser.named })
    }

    /// Parses one more schema that may refer to these.
    pub fn parse_schema(&self, schema: &Value) -> Result<Arc<Node>, SchemaError> {
        let mut parser = Parser { named: self.nodes.clone(), ..Parser::default() };
        parser.schema(schema, "")
    }

    /// The definition `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }
}

/// Parses a schema without references.
pub(super) fn parse_alone(schema: &Value) -> Result<Arc<Node>, SchemaError> {
    Parser::default().schema(schema, "")
}

#[derive(Default)]
struct Parser<'a> {
    sources: Option<&'a Map<String, Value>>,
    named: HashMap<String, Arc<Node>>,
    /// Definitions being built: meeting one again is a cycle.
    open: Vec<String>,
    /// Nodes without children by their text, so that thousands of `{"type":"string"}` are one.
    leaves: HashMap<String, Arc<Node>>,
    depth: usize,
}

impl Parser<'_> {
    fn definition(&mut self, name: &str, path: &str) -> Result<Arc<Node>, SchemaError> {
        if let Some(node) = self.named.get(name) {
            return Ok(Arc::clone(node));
        }
        let unknown = || SchemaError::UnknownReference { path: path.to_owned(), reference: name.to_owned() };
        let source = self.sources.and_then(|sources| sources.get(name)).ok_or_else(unknown)?;
        if self.open.iter().any(|open| open == name) {
            return Err(SchemaError::RecursiveReference { path: path.to_owned(), reference: name.to_owned() });
        }
        self.open.push(name.to_owned());
        let mut node = self.node(source, name)?;
        self.open.pop();
        node.definition = Some(Arc::from(name));
        let node = Arc::new(node);
        self.named.insert(name.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    fn schema(&mut self, schema: &Value, path: &str) -> Result<Arc<Node>, SchemaError> {
        let keywords = object(schema, path)?;
        if let Some(reference) = keywords.get("$ref") {
            let reference = reference.as_str().ok_or_else(|| wrong(path, "$ref", "a string"))?;
            let target = self.definition(reference.trim_start_matches(REFERENCE_PREFIX), path)?;
            return if keywords.len() == 1 { Ok(target) } else { self.variant(&target, keywords, path) };
        }
        let is_leaf = !["properties", "items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"]
            .iter()
            .any(|keyword| keywords.contains_key(*keyword));
        if !is_leaf {
            return Ok(Arc::new(self.node(schema, path)?));
        }
        let text = schema.to_string();
        if let Some(node) = self.leaves.get(&text) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.node(schema, path)?);
        self.leaves.insert(text, Arc::clone(&node));
        Ok(node)
    }

    /// A reference with keywords beside it: the target with those changed.
    fn variant(
        &mut self,
        target: &Arc<Node>,
        keywords: &Map<String, Value>,
        path: &str,
    ) -> Result<Arc<Node>, SchemaError> {
        let mut node = Node::clone(target);
        apply_plain_keywords(&mut node, keywords, path)?;
        node.has_defaults |= node.default.is_some();
        Ok(Arc::new(node))
    }

    fn node(&mut self, schema: &Value, path: &str) -> Result<Node, SchemaError> {
        if self.depth >= DEPTH_MAX {
            return Err(wrong(path, "properties", "nested less deeply"));
        }
        self.depth += 1;
        let node = self.node_below_limit(schema, path);
        self.depth -= 1;
        node
    }

    fn node_below_limit(&mut self, schema: &Value, path: &str) -> Result<Node, SchemaError> {
        let keywords = object(schema, path)?;
        let mut node = Node { value_type: value_type(keywords, path)?, ..Node::default() };
        apply_plain_keywords(&mut node, keywords, path)?;
        if let Some(properties) = keywords.get("properties") {
            node.properties = self.properties(object(properties, path)?, path)?;
        }
        if let Some(items) = keywords.get("items") {
            node.items = Some(self.schema(items, &format!("{path}[]"))?);
        }
        node.additional = match keywords.get("additionalProperties") {
            None | Some(Value::Bool(false)) => Additional::None,
            Some(Value::Bool(true)) => Additional::Anything,
            Some(schema) => Additional::Schema(self.schema(schema, &format!("{path}.*"))?),
        };
        node.rules = self.rules(keywords, path)?;
        let below = node.properties.values().chain(node.items.iter());
        let map_has_defaults = matches!(&node.additional, Additional::Schema(values) if values.has_defaults);
        node.has_defaults =
            node.default.is_some() || map_has_defaults || below.into_iter().any(|child| child.has_defaults);
        Ok(node)
    }

    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        path: &str,
    ) -> Result<BTreeMap<Box<str>, Arc<Node>>, SchemaError> {
        properties
            .iter()
            .map(|(name, schema)| Ok((name.as_str().into(), self.schema(schema, &format!("{path}.{name}"))?)))
            .collect()
    }

    fn rules(&mut self, keywords: &Map<String, Value>, path: &str) -> Result<Option<Box<Rules>>, SchemaError> {
        let strings = |keyword| strings(keywords, keyword, path);
        let count = |keyword| count(keywords, keyword, path);
        let rules = Rules {
            required: strings("required")?,
            allowed: array(keywords, "enum", path)?.into(),
            format: text(keywords, "format", path)?.map(Into::into),
            pattern: text(keywords, "pattern", path)?.map(Pattern::new),
            minimum: bound(keywords, "minimum", "exclusiveMinimum", path)?,
            maximum: bound(keywords, "maximum", "exclusiveMaximum", path)?,
            multiple_of: keywords.get("multipleOf").and_then(Value::as_f64),
            min_length: count("minLength")?,
            max_length: count("maxLength")?,
            min_items: count("minItems")?,
            max_items: count("maxItems")?,
            unique_items: flag(keywords, "uniqueItems"),
            min_properties: count("minProperties")?,
            max_properties: count("maxProperties")?,
            all_of: self.schemas(keywords, "allOf", path)?,
            any_of: self.schemas(keywords, "anyOf", path)?,
            one_of: self.schemas(keywords, "oneOf", path)?,
            not: keywords.get("not").map(|schema| self.schema(schema, path)).transpose()?,
            validations: validations(keywords, path)?,
        };
        const KEYWORDS: &[&str] = &[
            "required",
            "enum",
            "format",
            "pattern",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "x-kubernetes-validations",
        ];
        let any = KEYWORDS.iter().any(|keyword| keywords.contains_key(*keyword));
        Ok(any.then(|| Box::new(rules)))
    }

    fn schemas(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &'static str,
        path: &str,
    ) -> Result<Box<[Arc<Node>]>, SchemaError> {
        array(keywords, keyword, path)?.iter().map(|schema| self.schema(schema, path)).collect()
    }
}

/// Keywords that have no schemas inside and may stand beside a reference.
fn apply_plain_keywords(node: &mut Node, keywords: &Map<String, Value>, path: &str) -> Result<(), SchemaError> {
    if let Some(default) = keywords.get("default") {
        node.default = Some(default.clone());
    }
    if let Some(zero) = keywords.get("x-atoll-zero") {
        node.zero = Some(zero.clone());
    }
    if let Some(description) = text(keywords, "description", path)? {
        node.description = Some(description.into());
    }
    node.nullable |= flag(keywords, "nullable");
    node.preserve_unknown |= flag(keywords, "x-kubernetes-preserve-unknown-fields");
    node.embedded_resource |= flag(keywords, "x-kubernetes-embedded-resource");
    node.presence |= flag(keywords, "x-atoll-presence");
    match text(keywords, "x-kubernetes-map-type", path)? {
        None => {}
        Some("atomic") => node.atomic_map = true,
        Some("granular") => node.atomic_map = false,
        Some(_) => return Err(wrong(path, "x-kubernetes-map-type", "granular or atomic")),
    }
    match text(keywords, "x-kubernetes-list-type", path)? {
        None => {}
        Some("atomic") => node.list = ListType::Atomic,
        Some("set") => node.list = ListType::Set,
        Some("map") => node.list = ListType::Map(strings(keywords, "x-kubernetes-list-map-keys", path)?),
        Some(_) => return Err(wrong(path, "x-kubernetes-list-type", "atomic, set or map")),
    }
    let merge_key = text(keywords, "x-kubernetes-patch-merge-key", path)?;
    if let Some(strategy) = text(keywords, "x-kubernetes-patch-strategy", path)? {
        node.patch = Some(PatchStrategy {
            merge: strategy.split(',').any(|word| word == "merge"),
            retain_keys: strategy.split(',').any(|word| word == "retainKeys"),
            replace: strategy.split(',').any(|word| word == "replace"),
            merge_key: merge_key.map(Into::into),
        });
    }
    Ok(())
}

fn value_type(keywords: &Map<String, Value>, path: &str) -> Result<ValueType, SchemaError> {
    if flag(keywords, "x-kubernetes-int-or-string") {
        return Ok(ValueType::IntOrString);
    }
    match text(keywords, "type", path)? {
        None => Ok(ValueType::Any),
        Some("object") => Ok(ValueType::Object),
        Some("array") => Ok(ValueType::Array),
        Some("string") => Ok(ValueType::String),
        Some("integer") => Ok(ValueType::Integer),
        Some("number") => Ok(ValueType::Number),
        Some("boolean") => Ok(ValueType::Boolean),
        Some(_) => Err(wrong(path, "type", "object, array, string, integer, number or boolean")),
    }
}

fn validations(keywords: &Map<String, Value>, path: &str) -> Result<Box<[Rule]>, SchemaError> {
    array(keywords, "x-kubernetes-validations", path)?
        .iter()
        .map(|rule| {
            let rule = object(rule, path)?;
            let field = |name| Ok(text(rule, name, path)?.unwrap_or_default().trim().into());
            Ok(Rule {
                rule: field("rule")?,
                message: field("message")?,
                message_expression: field("messageExpression")?,
                reason: field("reason")?,
                field_path: field("fieldPath")?,
                optional_old_self: flag(rule, "optionalOldSelf"),
                ..Rule::default()
            })
        })
        .collect()
}

fn wrong(path: &str, keyword: &'static str, expected: &'static str) -> SchemaError {
    SchemaError::Keyword { path: if path.is_empty() { ".".to_owned() } else { path.to_owned() }, keyword, expected }
}

fn object<'a>(schema: &'a Value, path: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    schema.as_object().ok_or_else(|| wrong(path, "schema", "an object"))
}

fn flag(keywords: &Map<String, Value>, keyword: &str) -> bool {
    keywords.get(keyword).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(
    keywords: &'a Map<String, Value>,
    keyword: &'static str,
    path: &str,
) -> Result<Option<&'a str>, SchemaError> {
    match keywords.get(keyword) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(path, keyword, "a string")),
    }
}

fn count(keywords: &Map<String, Value>, keyword: &'static str, path: &str) -> Result<Option<u64>, SchemaError> {
    match keywords.get(keyword) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(path, keyword, "a whole number")),
    }
}

fn array(keywords: &Map<String, Value>, keyword: &'static str, path: &str) -> Result<Vec<Value>, SchemaError> {
    match keywords.get(keyword) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values.clone()),
        Some(_) => Err(wrong(path, keyword, "an array")),
    }
}

fn strings(keywords: &Map<String, Value>, keyword: &'static str, path: &str) -> Result<Box<[Box<str>]>, SchemaError> {
    array(keywords, keyword, path)?
        .iter()
        .map(|value| value.as_str().map(Into::into).ok_or_else(|| wrong(path, keyword, "an array of strings")))
        .collect()
}

fn bound(
    keywords: &Map<String, Value>,
    keyword: &'static str,
    exclusive: &str,
    path: &str,
) -> Result<Option<Bound>, SchemaError> {
    match keywords.get(keyword) {
        None => Ok(None),
        Some(value) => {
            let value = value.as_f64().ok_or_else(|| wrong(path, keyword, "a number"))?;
            Ok(Some(Bound { value, exclusive: flag(keywords, exclusive) }))
        }
    }
}
