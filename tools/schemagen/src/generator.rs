//! Collects the schemas of Rust types and brings them into the one form used here: no descriptions, references
//! written `#/definitions/NAME`.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Definitions by name: `io.k8s.api.core.v1.Pod`.
pub type Definitions = Map<String, Value>;

/// Collects types.
#[derive(Default)]
pub struct Generator {
    generator: SchemaGenerator,
}

impl Generator {
    /// Adds a type and everything that it refers to.
    pub fn add<T: JsonSchema>(&mut self) {
        self.generator.subschema_for::<T>();
    }

    /// Everything collected.
    pub fn definitions(mut self) -> Definitions {
        let mut definitions = self.generator.take_definitions(true);
        for schema in definitions.values_mut() {
            clean(schema);
        }
        definitions
    }
}

fn clean(schema: &mut Value) {
    let Value::Object(keywords) = schema else { return };
    if keywords.get("description").is_some_and(Value::is_string) {
        keywords.remove("description");
    }
    if let Some(Value::String(reference)) = keywords.get_mut("$ref") {
        *reference = reference.replace("#/$defs/", "#/definitions/");
    }
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(clean),
            ("items" | "additionalProperties", value) => clean(value),
            _ => {}
        }
    }
}

/// The schema of one property; panics when the tables name one that does not exist.
pub fn property<'a>(definitions: &'a mut Definitions, definition: &str, name: &str) -> &'a mut Map<String, Value> {
    definitions
        .get_mut(definition)
        .and_then(|schema| schema.get_mut("properties"))
        .and_then(|properties| properties.get_mut(name))
        .and_then(Value::as_object_mut)
        .unwrap_or_else(|| panic!("no property {definition}.{name}"))
}

/// `core.Pod` → `io.k8s.api.core.v1.Pod`; `meta.ObjectMeta` → its name in the API machinery.
pub fn full_name(short: &str) -> String {
    match short.split_once('.') {
        Some(("meta", kind)) => format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
        Some(("apiextensions", kind)) => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{kind}"),
        Some((group, kind)) => format!("io.k8s.api.{group}.v1.{kind}"),
        None => panic!("{short} has no group"),
    }
}
