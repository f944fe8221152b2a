//! Kinds that are two views of the same stored objects: `events.k8s.io` events are stored as core events.

use serde_json::{Map, Value};

/// How a kind's objects are written in the form they are stored in.
#[derive(Debug)]
pub(crate) struct Conversion {
    pub(crate) storage_api_version: &'static str,
    /// Top-level members: name in this kind, name in the stored one.
    renames: &'static [(&'static str, &'static str)],
}

const EVENTS: Conversion = Conversion {
    storage_api_version: "v1",
    renames: &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
};

/// The conversion between two groups of a resource, where there is one.
pub(crate) fn between(group: &str, storage_group: &str, plural: &str) -> Option<&'static Conversion> {
    match (group, storage_group, plural) {
        ("events.k8s.io", "", "events") => Some(&EVENTS),
        _ => None,
    }
}

impl Conversion {
    pub(crate) fn to_storage(&self, object: &Value) -> Value {
        let rename = |name: &str| self.renames.iter().find(|(here, _)| *here == name).map(|(_, stored)| *stored);
        self.convert(object, self.storage_api_version, rename)
    }

    pub(crate) fn from_storage(&self, stored: &Value, api_version: &str) -> Value {
        let rename = |name: &str| self.renames.iter().find(|(_, stored)| *stored == name).map(|(here, _)| *here);
        self.convert(stored, api_version, rename)
    }

    fn convert(&self, object: &Value, api_version: &str, rename: impl Fn(&str) -> Option<&'static str>) -> Value {
        let mut converted = Map::new();
        for (name, member) in object.as_object().into_iter().flatten() {
            let member = if name == "apiVersion" { Value::from(api_version) } else { member.clone() };
            converted.insert(rename(name).map_or_else(|| name.clone(), str::to_owned), member);
        }
        Value::Object(converted)
    }

    /// The stored path of a field: `regarding.name` is `involvedObject.name`.
    pub(crate) fn storage_path(&self, path: &str) -> String {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let first = self.renames.iter().find(|(here, _)| *here == first).map_or(first, |(_, stored)| stored);
        rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_survives_both_ways() {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started",
            "regarding": {"name": "p"}, "note": "it started", "reportingController": "c", "deprecatedCount": 2,
        });
        let stored = EVENTS.to_storage(&event);
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(stored["message"], "it started");
        assert_eq!(EVENTS.from_storage(&stored, "events.k8s.io/v1"), event);
        assert_eq!(EVENTS.storage_path("regarding.name"), "involvedObject.name");
        assert_eq!(EVENTS.storage_path("reason"), "reason");
    }
}
