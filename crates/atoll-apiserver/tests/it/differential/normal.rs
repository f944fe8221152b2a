//! Answers without what differs from run to run. Two answers of servers that behave alike have one normal form.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// Fields that tell a time of the server.
const TIMES: &[&str] = &["creationTimestamp", "deletionTimestamp", "time", "lastTransitionTime"];
/// The prefixes of names that the table has generated, the longest first.
const GENERATED: &[&str] = &["generated-A-", "generated-"];
/// After these words servers go on in the words of the parser that they are built with.
const PARSERS_WORDS: &[&str] = &[
    "the object provided is unrecognized",
    "couldn't get version/kind",
    "error decoding patch: ",
    "error decoding YAML: ",
    "in record (",
];

/// UIDs and versions by the order of their appearance: that two are the same is kept, what they are is not.
#[derive(Default)]
pub(crate) struct Normal {
    uids: HashMap<String, String>,
    versions: HashMap<String, String>,
}

impl Normal {
    /// The normal form of a body: its JSON, the events of a watch, or its text.
    pub(crate) fn body(&mut self, text: &str, documents: Vec<Value>, watch: bool) -> Value {
        // Bookmarks come when a server thinks fit, but for the one that ends the events of the beginning.
        let documents = documents.into_iter().filter(|it| it["type"] != "BOOKMARK" || ends_beginning(&it["object"]));
        let mut documents: Vec<Value> = documents.map(|document| self.value(document)).collect();
        match documents.len() {
            0 => json!(text),
            1 if !watch => documents.remove(0),
            _ => Value::Array(documents),
        }
    }

    fn value(&mut self, value: Value) -> Value {
        match value {
            Value::Object(mut map) => {
                if map.get("kind").is_some_and(|kind| kind == "Table") {
                    without_ages(&mut map);
                }
                if map.get("items").is_some_and(Value::is_null) {
                    map.insert("items".to_owned(), json!([]));
                }
                let is_list = map.contains_key("continue") || map.contains_key("remainingItemCount");
                // Numbers are given in the order of names: servers write fields in different orders.
                let sorted: BTreeMap<String, Value> = map.into_iter().collect();
                // Null and absent are one.
                Value::Object(
                    sorted
                        .into_iter()
                        .filter(|(_, value)| !value.is_null())
                        .map(|(name, value)| {
                            let value = self.field(&name, value, is_list);
                            (name, value)
                        })
                        .collect(),
                )
            }
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.value(item)).collect()),
            Value::String(text) => Value::String(self.text(text)),
            other => other,
        }
    }

    fn field(&mut self, name: &str, value: Value, is_list: bool) -> Value {
        match (name, value) {
            (name, Value::String(text)) if TIMES.contains(&name) => json!(if text.is_empty() { "" } else { "TIME" }),
            ("uid", Value::String(uid)) => {
                let next = format!("uid-{}", self.uids.len() + 1);
                json!(self.uids.entry(uid).or_insert(next).clone())
            }
            ("continue", Value::String(token)) => json!(if token.is_empty() { "" } else { "CONTINUE" }),
            ("resourceVersion", Value::String(_)) if is_list => json!("VERSION"),
            ("resourceVersion", Value::String(version)) if !version.is_empty() => {
                let next = format!("version-{}", self.versions.len() + 1);
                json!(self.versions.entry(version).or_insert(next).clone())
            }
            ("managedFields", Value::Array(entries)) => {
                let mut entries: Vec<Value> = entries.into_iter().map(|entry| self.value(entry)).collect();
                // The order depends on the second in which things happened.
                entries.sort_by_key(|entry| {
                    ["manager", "operation", "apiVersion", "subresource"].map(|name| entry[name].to_string())
                });
                Value::Array(entries)
            }
            // A kube-apiserver says the same twice where two of its layers found it.
            ("causes", Value::Array(causes)) => {
                let mut causes: Vec<Value> = causes.into_iter().map(|cause| self.value(cause)).collect();
                causes.sort_by_key(Value::to_string);
                causes.dedup();
                Value::Array(causes)
            }
            ("metadata", Value::Object(metadata))
                if !metadata.contains_key("name") && !metadata.contains_key("uid") =>
            {
                // Of a list: its version is that of the whole store.
                let mut metadata = metadata;
                let versioned = metadata.remove("resourceVersion").is_some_and(|version| version != "");
                let mut metadata = self.value(Value::Object(metadata));
                if versioned {
                    metadata["resourceVersion"] = json!("VERSION");
                }
                metadata
            }
            (_, value) => self.value(value),
        }
    }

    /// Texts name UIDs, and names that were generated.
    fn text(&self, text: String) -> String {
        let text = self.uids.iter().fold(text, |text, (uid, name)| text.replace(uid, name));
        if let Some((before, words, _)) = split_at_first(&text, PARSERS_WORDS) {
            return format!("{before}{words}…");
        }
        match split_at_first(&text, GENERATED) {
            Some((before, prefix, after)) if after.len() >= 5 && after.is_char_boundary(5) => {
                format!("{before}{prefix}NAME{}", &after[5..])
            }
            _ => text,
        }
    }
}

fn ends_beginning(object: &Value) -> bool {
    object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
}

/// What is before, is, and is after the first of some words that a text has.
fn split_at_first<'a>(text: &'a str, words: &[&'static str]) -> Option<(&'a str, &'static str, &'a str)> {
    words.iter().find_map(|word| text.split_once(word).map(|(before, after)| (before, *word, after)))
}

/// Tables show how old things are, and explain their columns in words of their own.
fn without_ages(table: &mut serde_json::Map<String, Value>) {
    let columns = table.get_mut("columnDefinitions").and_then(Value::as_array_mut);
    let mut ages = Vec::new();
    for (index, column) in columns.into_iter().flatten().enumerate() {
        if column["name"] == "Age" {
            ages.push(index);
        }
        if let Some(column) = column.as_object_mut() {
            column.insert("description".to_owned(), json!("TEXT"));
        }
    }
    for row in table.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        for index in &ages {
            row["cells"][*index] = json!("AGE");
        }
    }
}
