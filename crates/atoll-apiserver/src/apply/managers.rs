//! `metadata.managedFields`: who owns what, since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::field_set::FieldSet;
use super::typed;
use crate::definitions::decode::whole_seconds;
use crate::schema::Node;

/// More managers than these that update share one entry.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// What tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ManagerId {
    pub(crate) name: String,
    pub(crate) applies: bool,
    /// Empty for managers that apply: they are one whatever version they use.
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl ManagerId {
    /// A manager that writes now.
    pub(crate) fn new(name: &str, applies: bool, api_version: &str, subresource: &str) -> Self {
        let api_version = if applies { String::new() } else { api_version.to_owned() };
        Self { name: name.to_owned(), applies, api_version, subresource: subresource.to_owned() }
    }

    /// As conflicts name it: `"kubectl-edit" with subresource "status" using v1`.
    pub(crate) fn described(&self) -> String {
        let mut text = crate::schema::cause::quote(&self.name);
        if !self.subresource.is_empty() {
            text.push_str(" with subresource ");
            text.push_str(&crate::schema::cause::quote(&self.subresource));
        }
        if !self.applies {
            text.push_str(" using ");
            text.push_str(&self.api_version);
        }
        text
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) set: FieldSet,
    pub(crate) api_version: String,
    /// As written; empty when unknown.
    pub(crate) time: String,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Managers {
    pub(crate) entries: BTreeMap<ManagerId, Entry>,
}

impl Managers {
    /// Reads the entries of an object. None when there are none or they can not be read.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let list = object["metadata"]["managedFields"].as_array()?;
        let mut entries = BTreeMap::new();
        for wire in list {
            let text = |name: &str| wire[name].as_str().unwrap_or_default();
            let applies = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            if !matches!(text("fieldsType"), "" | "FieldsV1") {
                return None;
            }
            let id = ManagerId::new(text("manager"), applies, text("apiVersion"), text("subresource"));
            let set = FieldSet::from_wire(&wire["fieldsV1"]);
            let entry = Entry { set, api_version: text("apiVersion").to_owned(), time: text("time").to_owned() };
            entries.insert(id, entry);
        }
        Some(Self { entries })
    }

    /// Whether an object asks for its managed fields to be forgotten: one empty entry.
    pub(crate) fn is_reset(object: &Value) -> bool {
        object["metadata"]["managedFields"].as_array().is_some_and(|list| list.len() == 1 && list[0] == json!({}))
    }

    /// Writes the entries into an object, or removes them all when there are none.
    pub(crate) fn write_to(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else { return };
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let mut entries: Vec<(&ManagerId, &Entry)> = self.entries.iter().collect();
        entries.sort_by(|(left_id, left), (right_id, right)| {
            let key = |id: &ManagerId| !id.applies;
            (key(left_id), &left.time, &left_id.name, &left.api_version, &left_id.subresource).cmp(&(
                key(right_id),
                &right.time,
                &right_id.name,
                &right.api_version,
                &right_id.subresource,
            ))
        });
        let list = entries.into_iter().map(|(id, entry)| wire_entry(id, entry)).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }

    /// Brings sets that were made under an older schema up to date.
    pub(crate) fn reconcile(&mut self, node: &Node, api_version: &str) {
        for entry in self.entries.values_mut().filter(|entry| entry.api_version == api_version) {
            if let Some(set) = typed::reconcile(&entry.set, node) {
                entry.set = set;
            }
        }
    }

    /// Takes `fields` from an entry; an entry that has none left goes.
    pub(crate) fn take_fields(&mut self, id: &ManagerId, fields: &FieldSet) {
        if let Some(entry) = self.entries.get_mut(id) {
            if !fields.is_empty() {
                entry.set = entry.set.difference(fields);
            }
            if entry.set.is_empty() {
                self.entries.remove(id);
            }
        }
    }

    /// Merges the oldest entries of managers that update, version by version, when there are too many.
    pub(crate) fn cap(&mut self) {
        let mut updaters: Vec<(String, ManagerId)> = self
            .entries
            .iter()
            .filter(|(id, _)| !id.applies)
            .map(|(id, entry)| (entry.time.clone(), id.clone()))
            .collect();
        updaters.sort();
        let mut count = updaters.len();
        let mut oldest_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
        for (time, id) in updaters {
            if count <= UPDATERS_MAX {
                return;
            }
            let Some(oldest) = oldest_of_version.get(&id.api_version).cloned() else {
                oldest_of_version.insert(id.api_version.clone(), id);
                continue;
            };
            let ancient = ManagerId::new(ANCIENT, false, &id.api_version, "");
            if !self.entries.contains_key(&ancient)
                && let Some(entry) = self.entries.remove(&oldest)
            {
                self.entries.insert(ancient.clone(), entry);
            }
            if let (Some(entry), Some(bucket)) = (self.entries.remove(&id), self.entries.get_mut(&ancient)) {
                bucket.set = bucket.set.union(&entry.set);
                bucket.time = time;
                count -= 1;
            }
        }
    }
}

fn wire_entry(id: &ManagerId, entry: &Entry) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("manager", json!(id.name));
    put("operation", json!(if id.applies { "Apply" } else { "Update" }));
    put("apiVersion", json!(entry.api_version));
    if !entry.time.is_empty() {
        put("time", json!(entry.time));
    }
    put("fieldsType", json!("FieldsV1"));
    put("fieldsV1", entry.set.to_wire());
    if !id.subresource.is_empty() {
        put("subresource", json!(id.subresource));
    }
    Value::Object(fields)
}

/// A time as entries carry it.
pub(crate) fn entry_time(now: Timestamp) -> String {
    whole_seconds(now)
}
