//! What the server reads out of an object: its metadata and the fields that selectors may name.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_store::Record;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::registry::{Resource, parse};

/// What the server needs of a stored object without parsing it again.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) uid: Box<str>,
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// Parallel to the definition's selectable fields.
    pub(crate) fields: Box<[Box<str>]>,
    pub(crate) owners: Box<[Owner]>,
    pub(crate) finalizers: Box<[Box<str>]>,
    pub(crate) deleting: bool,
}

/// An owner reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) api_version: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) block_owner_deletion: bool,
}

/// An object of which nothing but its metadata is looked at; the rest is passed over unread.
#[derive(Deserialize)]
struct Shallow {
    metadata: ShallowMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ShallowMetadata {
    uid: Box<str>,
    labels: BTreeMap<Box<str>, Box<str>>,
    owner_references: Vec<Value>,
    finalizers: Box<[Box<str>]>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl View {
    /// The view of a stored object; `resource` is the kind in whose form it is stored.
    pub(crate) fn of(record: &Record, resource: &Resource) -> Arc<Self> {
        record.view(|record| match Self::read_shallow(&record.value, resource) {
            Some(view) => view,
            None => Self::read(&parse(&record.value), resource),
        })
    }

    /// `None` if metadata is not all that is wanted.
    fn read_shallow(stored: &[u8], resource: &Resource) -> Option<Self> {
        if !resource.definition.selectable_fields.is_empty() {
            return None;
        }
        let Shallow { metadata } = serde_json::from_slice(stored).ok()?;
        Some(Self {
            uid: metadata.uid,
            labels: metadata.labels.into_iter().collect(),
            fields: Box::default(),
            owners: metadata.owner_references.iter().map(Owner::read).collect(),
            finalizers: metadata.finalizers,
            deleting: metadata.deletion_timestamp.is_some(),
        })
    }

    fn read(object: &Value, resource: &Resource) -> Self {
        let metadata = &object["metadata"];
        let strings = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let fields = resource.definition.selectable_fields.iter();
        Self {
            uid: text(&metadata["uid"]),
            labels: labels.map(|(name, value)| (name.as_str().into(), text(value))).collect(),
            fields: fields.map(|path| field_text(object, path)).collect(),
            owners: metadata["ownerReferences"].as_array().into_iter().flatten().map(Owner::read).collect(),
            finalizers: strings(&metadata["finalizers"]),
            deleting: !metadata["deletionTimestamp"].is_null(),
        }
    }

    pub(crate) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|own| &**own == finalizer)
    }
}

impl Owner {
    fn read(reference: &Value) -> Self {
        Self {
            api_version: text(&reference["apiVersion"]),
            kind: text(&reference["kind"]),
            name: text(&reference["name"]),
            uid: text(&reference["uid"]),
            block_owner_deletion: reference["blockOwnerDeletion"].as_bool().unwrap_or(false),
        }
    }
}

fn text(value: &Value) -> Box<str> {
    value.as_str().unwrap_or_default().into()
}

/// A field as a field selector compares it: strings as they are, numbers and booleans printed, anything else empty.
fn field_text(object: &Value, path: &str) -> Box<str> {
    let value = path.split('.').try_fold(object, |value, name| value.get(name));
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string().into(),
        Some(_) | None => Box::default(),
    }
}

/// A member of an object's metadata as text; empty if it is absent.
pub(crate) fn metadata_text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

/// The object's metadata, made if it is not there. `object` must be a JSON object.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().expect("made an object just now")
}

/// Whether deletion of the object has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The object's finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    finalizers.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Replaces the object's finalizers.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let metadata = metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// A time as objects carry it: RFC 3339 in UTC, whole seconds.
pub(crate) fn time_text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).expect("a part of a time is a time").to_string()
}

/// What `PartialObjectMetadata` keeps of an object.
pub(crate) fn partial_metadata(object: &Value) -> Value {
    serde_json::json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    })
}
