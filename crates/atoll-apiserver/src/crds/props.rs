//! Reading `openAPIV3Schema`: which keywords there are, and of which type each is.
//!
//! The type contains itself, so that no schema of ours describes it. Source: `JSONSchemaProps` of
//! `apiextensions.k8s.io/v1`.

use serde_json::{Map, Value};

use crate::schema::FieldPath;

/// Deeper schemas are refused, so that a hostile one can not exhaust the stack.
const DEPTH_MAX: usize = 64;

/// The type of a keyword.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    Anything,
    Anythings,
    Texts,
    Schema,
    Schemas,
    SchemaMap,
    SchemaOrList,
    SchemaOrFlag,
    Dependencies,
    Docs,
    Rules,
}

const KEYWORDS: &[(&str, Kind)] = &[
    ("$ref", Kind::Text),
    ("$schema", Kind::Text),
    ("additionalItems", Kind::SchemaOrFlag),
    ("additionalProperties", Kind::SchemaOrFlag),
    ("allOf", Kind::Schemas),
    ("anyOf", Kind::Schemas),
    ("default", Kind::Anything),
    ("definitions", Kind::SchemaMap),
    ("dependencies", Kind::Dependencies),
    ("description", Kind::Text),
    ("enum", Kind::Anythings),
    ("example", Kind::Anything),
    ("exclusiveMaximum", Kind::Flag),
    ("exclusiveMinimum", Kind::Flag),
    ("externalDocs", Kind::Docs),
    ("format", Kind::Text),
    ("id", Kind::Text),
    ("items", Kind::SchemaOrList),
    ("maxItems", Kind::Whole),
    ("maxLength", Kind::Whole),
    ("maxProperties", Kind::Whole),
    ("maximum", Kind::Number),
    ("minItems", Kind::Whole),
    ("minLength", Kind::Whole),
    ("minProperties", Kind::Whole),
    ("minimum", Kind::Number),
    ("multipleOf", Kind::Number),
    ("not", Kind::Schema),
    ("nullable", Kind::Flag),
    ("oneOf", Kind::Schemas),
    ("pattern", Kind::Text),
    ("patternProperties", Kind::SchemaMap),
    ("properties", Kind::SchemaMap),
    ("required", Kind::Texts),
    ("title", Kind::Text),
    ("type", Kind::Text),
    ("uniqueItems", Kind::Flag),
    ("x-kubernetes-embedded-resource", Kind::Flag),
    ("x-kubernetes-int-or-string", Kind::Flag),
    ("x-kubernetes-list-map-keys", Kind::Texts),
    ("x-kubernetes-list-type", Kind::Text),
    ("x-kubernetes-map-type", Kind::Text),
    ("x-kubernetes-preserve-unknown-fields", Kind::Flag),
    ("x-kubernetes-validations", Kind::Rules),
];

const RULE_KEYWORDS: &[(&str, Kind)] = &[
    ("fieldPath", Kind::Text),
    ("message", Kind::Text),
    ("messageExpression", Kind::Text),
    ("optionalOldSelf", Kind::Flag),
    ("reason", Kind::Text),
    ("rule", Kind::Text),
];

const DOCS_KEYWORDS: &[(&str, Kind)] = &[("description", Kind::Text), ("url", Kind::Text)];

/// A flag that says something when it is false, too.
const THREE_VALUED: &[&str] = &["x-kubernetes-preserve-unknown-fields", "optionalOldSelf"];

/// Brings all schemas of a CustomResourceDefinition into shape. Returns the paths of keywords that do not exist, which
/// are dropped. The error is the reason for a 400.
pub(super) fn decode(definition: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    let Some(versions) = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut) else {
        return Ok(unknown);
    };
    for (index, version) in versions.iter_mut().enumerate() {
        let Some(schema) = version.get_mut("schema").and_then(|schema| schema.get_mut("openAPIV3Schema")) else {
            continue;
        };
        let mut reader = Reader { unknown: &mut unknown, depth: 0 };
        reader.schema(schema, &mut FieldPath::new(&format!("spec.versions[{index}].schema.openAPIV3Schema")))?;
    }
    Ok(unknown)
}

struct Reader<'a> {
    unknown: &'a mut Vec<String>,
    depth: usize,
}

impl Reader<'_> {
    fn schema(&mut self, schema: &mut Value, path: &mut FieldPath) -> Result<(), String> {
        if self.depth >= DEPTH_MAX {
            return Err(format!("{path}: the schema nests deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        let read = self.object(schema, "JSONSchemaProps", KEYWORDS, path);
        self.depth -= 1;
        read
    }

    fn object(
        &mut self,
        value: &mut Value,
        owner: &str,
        keywords: &[(&str, Kind)],
        path: &mut FieldPath,
    ) -> Result<(), String> {
        let Value::Object(fields) = value else { return Err(mismatch(value, owner, path)) };
        fields.retain(|name, field| {
            let known = keywords.iter().any(|(keyword, _)| keyword == name);
            if !known {
                self.unknown.push(path.field(name).to_string());
            }
            known && !field.is_null()
        });
        for (name, field) in fields.iter_mut() {
            let kind = keywords.iter().find(|(keyword, _)| keyword == name).map(|(_, kind)| *kind);
            if let Some(kind) = kind {
                path.within_field(name, |path| self.field(field, kind, path))?;
            }
        }
        fields.retain(|name, field| THREE_VALUED.contains(&name.as_str()) || !is_zero(name, field));
        Ok(())
    }

    fn field(&mut self, value: &mut Value, kind: Kind, path: &mut FieldPath) -> Result<(), String> {
        match (kind, &mut *value) {
            (Kind::Text, Value::String(_))
            | (Kind::Flag | Kind::SchemaOrFlag, Value::Bool(_))
            | (Kind::Number, Value::Number(_))
            | (Kind::Anything, _)
            | (Kind::Anythings, Value::Array(_)) => Ok(()),
            (Kind::Whole, Value::Number(number)) if number.is_i64() => Ok(()),
            (Kind::Texts, Value::Array(items)) => match items.iter().find(|item| !item.is_string()) {
                Some(item) => Err(mismatch(item, "string", path)),
                None => Ok(()),
            },
            (Kind::Schema | Kind::SchemaOrFlag | Kind::SchemaOrList, Value::Object(_)) => self.schema(value, path),
            (Kind::Schemas | Kind::SchemaOrList, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.within_index(index, |path| self.schema(item, path))?;
                }
                Ok(())
            }
            (Kind::SchemaMap, Value::Object(schemas)) => self.map(schemas, path),
            (Kind::Dependencies, Value::Object(schemas)) => schemas
                .iter_mut()
                .filter(|(_, value)| value.is_object())
                .try_for_each(|(name, schema)| self.schema(schema, &mut path.key(name))),
            (Kind::Docs, Value::Object(_)) => self.object(value, "ExternalDocumentation", DOCS_KEYWORDS, path),
            (Kind::Rules, Value::Array(rules)) => {
                for (index, rule) in rules.iter_mut().enumerate() {
                    path.within_index(index, |path| self.object(rule, "ValidationRule", RULE_KEYWORDS, path))?;
                }
                Ok(())
            }
            (kind, found) => Err(mismatch(found, kind.go_type(), path)),
        }
    }

    fn map(&mut self, schemas: &mut Map<String, Value>, path: &FieldPath) -> Result<(), String> {
        for (name, schema) in schemas.iter_mut() {
            if schema.is_null() {
                *schema = Value::Object(Map::new());
            }
            self.schema(schema, &mut path.key(name))?;
        }
        Ok(())
    }
}

impl Kind {
    fn go_type(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "bool",
            Self::Whole => "int64",
            Self::Number => "float64",
            Self::Anything => "interface {}",
            Self::Anythings => "[]v1.JSON",
            Self::Texts => "[]string",
            Self::Schema => "v1.JSONSchemaProps",
            Self::Schemas => "[]v1.JSONSchemaProps",
            Self::SchemaMap => "map[string]v1.JSONSchemaProps",
            Self::SchemaOrList => "v1.JSONSchemaPropsOrArray",
            Self::SchemaOrFlag => "v1.JSONSchemaPropsOrBool",
            Self::Dependencies => "v1.JSONSchemaDependencies",
            Self::Docs => "v1.ExternalDocumentation",
            Self::Rules => "v1.ValidationRules",
        }
    }
}

fn mismatch(found: &Value, expected: &str, path: &FieldPath) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go struct field JSONSchemaProps.{path} of type {expected}")
}

/// What a real server does not write back. Limits may be zero, and a schema may forbid or allow everything.
fn is_zero(name: &str, value: &Value) -> bool {
    match value {
        // Of any type, and what they say.
        _ if matches!(name, "default" | "example") => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag && !matches!(name, "additionalProperties" | "additionalItems"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.is_empty() && matches!(name, "properties" | "patternProperties" | "definitions")
        }
        _ => false,
    }
}
