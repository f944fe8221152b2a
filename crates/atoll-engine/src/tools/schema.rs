//! Arguments against a JSON Schema that a stranger wrote: the keywords that tools use, with bounds on depth and work, so
//! that no schema can keep the plane busy or make it fall. Keywords beyond these are left to the server's own check.

use serde_json::Value;

use super::type_name;

/// How deep schema and value are followed together.
const DEPTH_MAX: usize = 32;
/// Steps of one check.
const STEPS_MAX: usize = 20_000;
/// Problems that are told.
const PROBLEMS_MAX: usize = 8;

/// What does not fit; empty when everything does.
pub(super) fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { root: schema, steps: 0, problems: Vec::new() };
    check.value(schema, value, "", 0);
    check.problems
}

struct Check<'s> {
    root: &'s Value,
    steps: usize,
    problems: Vec<String>,
}

impl<'s> Check<'s> {
    fn problem(&mut self, path: &str, text: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            let path = if path.is_empty() { "the arguments".to_owned() } else { format!("`{path}`") };
            self.problems.push(format!("{path} {text}"));
        }
    }

    fn value(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        self.steps += 1;
        if depth > DEPTH_MAX || self.steps > STEPS_MAX {
            return self.problem(path, "can not be checked: schema and value together are too deep or too large");
        }
        let schema = match schema["$ref"].as_str() {
            Some(reference) => match reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) => return self.value(target, value, path, depth + 1),
                None => return self.problem(path, "can not be checked: the schema points outside of itself"),
            },
            None => schema,
        };
        if !self.kind(schema, value, path) {
            return;
        }
        self.constants(schema, value, path);
        self.numbers(schema, value, path);
        self.members(schema, value, path, depth);
        self.items(schema, value, path, depth);
        self.alternatives(schema, value, path, depth);
    }

    fn kind(&mut self, schema: &Value, value: &Value, path: &str) -> bool {
        let wanted: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        let fits = wanted.iter().any(|kind| match *kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => true,
        });
        if !fits {
            self.problem(path, &format!("is {}, expected {}", type_name(value), wanted.join(" or ")));
        }
        fits
    }

    fn constants(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
            let allowed: Vec<String> = allowed.iter().take(32).map(Value::to_string).collect();
            self.problem(path, &format!("is {value}, expected one of {}", allowed.join(", ")));
        }
        if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
            self.problem(path, &format!("is {value}, expected {constant}"));
        }
    }

    fn numbers(&mut self, schema: &Value, value: &Value, path: &str) {
        let size = match value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        };
        let length = match value {
            Value::String(text) => Some((text.chars().count(), "minLength", "maxLength")),
            Value::Array(items) => Some((items.len(), "minItems", "maxItems")),
            _ => None,
        };
        let limits = [
            ("minimum", size, false, false),
            ("exclusiveMinimum", size, false, true),
            ("maximum", size, true, false),
            ("exclusiveMaximum", size, true, true),
        ];
        for (keyword, size, upper, exclusive) in limits {
            let Some((size, limit)) = size.zip(schema[keyword].as_f64()) else { continue };
            let over = if upper { size > limit } else { size < limit };
            if over || (exclusive && size == limit) {
                self.problem(path, &format!("is {size}, against `{keyword}` {limit}"));
            }
        }
        if let Some((length, low, high)) = length {
            let length = length as u64;
            if schema[low].as_u64().is_some_and(|least| length < least) {
                self.problem(path, &format!("has length {length}, against `{low}` {}", schema[low]));
            }
            if schema[high].as_u64().is_some_and(|most| length > most) {
                self.problem(path, &format!("has length {length}, against `{high}` {}", schema[high]));
            }
        }
    }

    fn members(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        let Some(members) = value.as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.problem(&joined(path, name), "is missing");
            }
        }
        for (name, member) in members {
            let inner = joined(path, name);
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(property), _) => self.value(property, member, &inner, depth + 1),
                (None, Value::Bool(false)) => {
                    let known: Vec<&str> =
                        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    self.problem(&inner, &format!("is not known (known: {})", known.join(", ")));
                }
                (None, more @ Value::Object(_)) => self.value(more, member, &inner, depth + 1),
                (None, _) => {}
            }
        }
    }

    fn items(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        let (Some(items), of @ Value::Object(_)) = (value.as_array(), &schema["items"]) else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(of, item, &format!("{path}[{index}]"), depth + 1);
        }
    }

    fn alternatives(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.value(part, value, path, depth + 1);
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(parts) = schema[keyword].as_array().filter(|parts| !parts.is_empty()) else { continue };
            let fits = parts.iter().any(|part| {
                let mut inner = Check { root: self.root, steps: self.steps, problems: Vec::new() };
                inner.value(part, value, path, depth + 1);
                self.steps = inner.steps;
                inner.problems.is_empty()
            });
            if !fits {
                self.problem(path, &format!("fits none of the {} ways that the schema allows", parts.len()));
            }
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_checked() {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
                "kind": {"enum": ["bug", "task"]},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
                "who": {"$ref": "#/$defs/person"},
                "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["id"],
            "additionalProperties": false,
            "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        });
        for (value, expected) in [
            (json!({"id": 1}), ""),
            (json!({"id": 2.0, "kind": "bug", "tags": ["a"], "who": {"name": "x", "age": 3}, "when": null}), ""),
            (json!([]), "the arguments is an array, expected object"),
            (json!({}), "`id` is missing"),
            (json!({"id": 0}), "against `minimum` 1"),
            (json!({"id": 10}), "against `exclusiveMaximum` 10"),
            (json!({"id": 1.5}), "`id` is a number, expected integer"),
            (json!({"id": 1, "kind": "x"}), r#"expected one of "bug", "task""#),
            (json!({"id": 1, "tags": ["long"]}), "`tags[0]` has length 4"),
            (json!({"id": 1, "tags": ["a", "b", "c"]}), "`tags` has length 3"),
            (json!({"id": 1, "who": {}}), "`who.name` is missing"),
            (json!({"id": 1, "when": 3}), "fits none of the 2 ways"),
            (json!({"id": 1, "more": 3}), "`more` is not known"),
        ] {
            let found = problems(&schema, &value);
            match expected {
                "" => assert!(found.is_empty(), "{value}: {found:?}"),
                _ => assert!(found.iter().any(|problem| problem.contains(expected)), "{value}: {found:?}"),
            }
        }
    }

    #[test]
    fn no_schema_can_make_it_fall_or_work_forever() {
        let ends = json!({"$ref": "#"});
        assert!(problems(&ends, &json!({}))[0].contains("too deep"));
        let outside = json!({"$ref": "https://evil.example/schema.json"});
        assert!(problems(&outside, &json!({}))[0].contains("outside of itself"));
        let double = json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert!(!problems(&double, &json!({})).is_empty(), "two to the power of the depth is cut short");
        let ways = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]});
        assert!(!problems(&ways, &json!({})).is_empty());
        let list = json!({"type": "array", "items": {"type": "string"}});
        let long: Value = (0..50_000).collect();
        let found = problems(&list, &long);
        assert!(found.len() <= PROBLEMS_MAX, "{}", found.len());
    }
}
