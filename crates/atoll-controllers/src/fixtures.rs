//! Objects for tests, from JSON, and plans as text.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::write::{NewObject, Propagation, Write};

/// The time at which all tests happen.
pub(crate) const NOW: &str = "2026-01-02T03:04:05Z";

/// [`NOW`], as a time.
pub(crate) fn now() -> Timestamp {
    NOW.parse().expect("it is a time")
}

/// `base` with the members of `more` laid over it; `null` removes.
pub(crate) fn with(mut base: Value, more: &Value) -> Value {
    lay_over(&mut base, more);
    base
}

/// An object from JSON.
pub(crate) fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("the test's JSON is such an object")
}

/// A reference that makes an object of this kind and UID the controller.
pub(crate) fn controller(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

/// One line for each write.
pub(crate) fn lines(writes: &[Write]) -> Vec<String> {
    writes.iter().map(line).collect()
}

fn line(write: &Write) -> String {
    match write {
        Write::Create(object) => format!("create {:?} {}", object.kind(), object.key()),
        Write::Merge { target, patch } => format!("merge {:?} {} {patch}", target.kind, target.key),
        Write::Status { target, .. } => format!("status {:?} {}", target.kind, target.key),
        Write::Delete { target, resource_version, propagation } => {
            let version = resource_version.as_ref().map(|version| format!(" at {version}")).unwrap_or_default();
            let foreground = if *propagation == Propagation::Foreground { " foreground" } else { "" };
            format!("delete {:?} {} uid {}{version}{foreground}", target.kind, target.key, target.uid)
        }
    }
}

/// The object that the write makes, as JSON.
pub(crate) fn created(write: &Write) -> Value {
    match write {
        Write::Create(object) => match object {
            NewObject::Sandbox(object) => serde_json::to_value(object),
            NewObject::SandboxWarmPool(object) => serde_json::to_value(object),
            NewObject::Pod(object) => serde_json::to_value(object),
            NewObject::Service(object) => serde_json::to_value(object),
            NewObject::PersistentVolumeClaim(object) => serde_json::to_value(object),
            NewObject::NetworkPolicy(object) => serde_json::to_value(object),
        }
        .expect("objects are JSON"),
        other => panic!("{other:?} makes nothing"),
    }
}

/// One line for each condition.
pub(crate) fn condition_lines(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|condition| {
            format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message)
        })
        .collect()
}

fn lay_over(into: &mut Value, from: &Value) {
    match from {
        Value::Object(from) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in from {
                if value.is_null() {
                    into.as_object_mut().expect("it is one").remove(key);
                } else {
                    lay_over(&mut into[key], value);
                }
            }
        }
        other => *into = other.clone(),
    }
}
