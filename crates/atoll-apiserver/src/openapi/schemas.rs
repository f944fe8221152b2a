//! Schemas as OpenAPI objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::definitions::{Origin, ResourceDefinition};
use crate::schema::node::{Bound, Rule, Rules};
use crate::schema::{Additional, ListType, Node, ValueType};

const REFERENCE_PREFIX: &str = "#/components/schemas/";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const INT_OR_STRING: &str = "IntOrString";

/// Named schemas, collected as they are referred to.
#[derive(Default)]
pub(super) struct Components {
    schemas: BTreeMap<String, Value>,
}

impl Components {
    /// Adds a kind, its list and everything that they refer to. Returns the kind's name.
    pub(super) fn add_kind(&mut self, definition: &ResourceDefinition) -> String {
        let root = definition.schema.root();
        let name = match (&root.definition, definition.strategy.origin) {
            (Some(name), Origin::Builtin) => name.to_string(),
            _ => component_name(definition),
        };
        let kind = |kind: String| json!([{"group": definition.group, "version": definition.version, "kind": kind}]);
        let mut schema = self.body(root);
        schema["x-kubernetes-group-version-kind"] = kind(definition.kind.clone());
        if let Some(description) = &root.description {
            schema["description"] = json!(description);
        }
        self.schemas.insert(name.clone(), schema);
        if let Some(metadata) = crate::definitions::core_types().get(LIST_META) {
            let reference = self.reference(metadata);
            let list = json!({
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": reference,
                    "items": {"type": "array", "items": {"$ref": format!("{REFERENCE_PREFIX}{name}")}},
                },
                "x-kubernetes-group-version-kind": kind(format!("{}List", definition.kind)),
            });
            self.schemas.insert(format!("{name}List"), list);
        }
        name
    }

    /// All schemas by name.
    pub(super) fn finish(self) -> Map<String, Value> {
        self.schemas.into_iter().collect()
    }

    /// The schema of a field: a reference where it has a name.
    fn schema(&mut self, node: &Arc<Node>) -> Value {
        if node.definition.is_none() {
            let mut schema = self.body(node);
            annotate(&mut schema, node);
            return schema;
        }
        let reference = self.reference(node);
        let mut around = json!({});
        annotate(&mut around, node);
        if around.as_object().is_some_and(Map::is_empty) {
            return reference;
        }
        around["allOf"] = json!([reference]);
        around
    }

    fn reference(&mut self, node: &Arc<Node>) -> Value {
        let name = node.definition.as_deref().unwrap_or_default().to_owned();
        if !self.schemas.contains_key(&name) {
            // Reserved first, so that nothing is done twice.
            self.schemas.insert(name.clone(), Value::Null);
            let body = self.body(node);
            self.schemas.insert(name.clone(), body);
        }
        json!({ "$ref": format!("{REFERENCE_PREFIX}{name}") })
    }

    /// The schema itself, without what a field adds.
    fn body(&mut self, node: &Node) -> Value {
        let mut schema = Map::new();
        if let Some(keyword) = node.value_type.keyword() {
            schema.insert("type".to_owned(), json!(keyword));
        }
        if node.value_type == ValueType::IntOrString {
            describe_int_or_string(node, &mut schema);
        }
        if !node.properties.is_empty() {
            let properties =
                node.properties.iter().map(|(name, property)| ((**name).to_owned(), self.schema(property)));
            schema.insert("properties".to_owned(), Value::Object(properties.collect()));
        }
        if let Some(items) = &node.items {
            let items = self.schema(items);
            schema.insert("items".to_owned(), items);
        }
        match &node.additional {
            Additional::None => {}
            Additional::Anything => {
                schema.insert("additionalProperties".to_owned(), json!(true));
            }
            Additional::Schema(values) => {
                let values = self.schema(values);
                schema.insert("additionalProperties".to_owned(), values);
            }
        }
        if let Some(rules) = &node.rules {
            self.add_rules(rules, &mut schema);
        }
        let flags = [
            ("nullable", node.nullable),
            ("x-kubernetes-preserve-unknown-fields", node.preserve_unknown && node.definition.is_none()),
            ("x-kubernetes-embedded-resource", node.embedded_resource),
        ];
        schema.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| ((*name).to_owned(), json!(true))));
        if node.atomic_map {
            schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
        Value::Object(schema)
    }

    fn add_rules(&mut self, rules: &Rules, schema: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                schema.insert(name.to_owned(), value);
            }
        };
        put("required", (!rules.required.is_empty()).then(|| json!(rules.required)));
        put("enum", (!rules.allowed.is_empty()).then(|| json!(rules.allowed)));
        put("format", rules.format.as_ref().map(|format| json!(format)));
        put("pattern", rules.pattern.as_ref().map(|pattern| json!(pattern.text())));
        put("multipleOf", rules.multiple_of.map(number));
        for (name, exclusive, bound) in
            [("minimum", "exclusiveMinimum", rules.minimum), ("maximum", "exclusiveMaximum", rules.maximum)]
        {
            put(name, bound.map(|Bound { value, .. }| number(value)));
            put(exclusive, bound.filter(|bound| bound.exclusive).map(|_| json!(true)));
        }
        for (name, limit) in [
            ("minLength", rules.min_length),
            ("maxLength", rules.max_length),
            ("minItems", rules.min_items),
            ("maxItems", rules.max_items),
            ("minProperties", rules.min_properties),
            ("maxProperties", rules.max_properties),
        ] {
            put(name, limit.map(|limit| json!(limit)));
        }
        put("uniqueItems", rules.unique_items.then(|| json!(true)));
        put(
            "x-kubernetes-validations",
            (!rules.validations.is_empty()).then(|| rules.validations.iter().map(rule).collect()),
        );
        for (name, nodes) in [("allOf", &rules.all_of), ("anyOf", &rules.any_of), ("oneOf", &rules.one_of)] {
            if !nodes.is_empty() {
                let schemas: Vec<Value> = nodes.iter().map(|node| self.schema(node)).collect();
                schema.insert(name.to_owned(), Value::Array(schemas));
            }
        }
        if let Some(node) = &rules.not {
            let inner = self.schema(node);
            schema.insert("not".to_owned(), inner);
        }
    }
}

/// A rule as it was written.
fn rule(rule: &Rule) -> Value {
    let texts = [
        ("rule", &rule.rule),
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("reason", &rule.reason),
        ("fieldPath", &rule.field_path),
    ];
    let mut written: Map<String, Value> = texts
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    if rule.optional_old_self {
        written.insert("optionalOldSelf".to_owned(), json!(true));
    }
    Value::Object(written)
}

/// Whole numbers without a fraction.
fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX { json!(value as i64) } else { json!(value) }
}

/// Built-in kinds say by alternatives what custom ones say by a keyword of Kubernetes.
fn describe_int_or_string(node: &Node, schema: &mut Map<String, Value>) {
    let alternatives = node.rules.as_ref().is_some_and(|rules| !rules.any_of.is_empty());
    match node.definition.as_deref() {
        Some(name) if !alternatives && name.ends_with(INT_OR_STRING) => {
            schema.insert("format".to_owned(), json!("int-or-string"));
            schema.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
        }
        Some(_) if !alternatives => {
            schema.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": "number"}]));
        }
        _ => {
            schema.insert("x-kubernetes-int-or-string".to_owned(), json!(true));
        }
    }
}

/// What a field adds to the schema of its value.
fn annotate(schema: &mut Value, node: &Node) {
    let mut put = |name: &str, value: Value| schema[name] = value;
    if let Some(description) = &node.description {
        put("description", json!(description));
    }
    if let Some(default) = node.default.as_ref().filter(|default| !default.is_null()) {
        put("default", default.clone());
    }
    if node.value_type == ValueType::Array {
        match &node.list {
            ListType::Atomic => put("x-kubernetes-list-type", json!("atomic")),
            ListType::Set => put("x-kubernetes-list-type", json!("set")),
            ListType::Map(keys) => {
                put("x-kubernetes-list-type", json!("map"));
                put("x-kubernetes-list-map-keys", json!(keys));
            }
        }
    }
    if let Some(patch) = &node.patch {
        let words = [("merge", patch.merge), ("retainKeys", patch.retain_keys), ("replace", patch.replace)];
        let words: Vec<&str> = words.iter().filter(|(_, set)| *set).map(|(word, _)| *word).collect();
        put("x-kubernetes-patch-strategy", json!(words.join(",")));
        if let Some(key) = &patch.merge_key {
            put("x-kubernetes-patch-merge-key", json!(key));
        }
    }
}

/// `io.x-k8s.agents.v1beta1.Sandbox`.
fn component_name(definition: &ResourceDefinition) -> String {
    let mut parts: Vec<&str> = definition.group.split('.').rev().collect();
    parts.extend([definition.version.as_str(), definition.kind.as_str()]);
    parts.join(".")
}
