//! Events, which exist under two names: `v1` and `events.k8s.io/v1`. Both are one object in the store.

use serde_json::Value;

use super::view::View;
use super::{Facet, Hooks};
use crate::schema::Cause;

/// What distinguishes `v1` events from other kinds.
pub(crate) const CORE: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_core,
    check_change: |event, _, _: Facet, causes| validate_core(event, causes),
    required_texts: false,
};

/// What distinguishes `events.k8s.io/v1` events from other kinds.
pub(crate) const NEW: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_new,
    check_change: |event, old, _: Facet, causes| validate_new_change(event, old, causes),
    required_texts: false,
};

/// Fields of `events.k8s.io/v1` and what they are called in `v1`.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// From `events.k8s.io/v1` to the stored form.
pub(crate) fn to_core(event: &mut Value) {
    rename(event, NAMES);
}

/// From the stored form to `events.k8s.io/v1`.
pub(crate) fn from_core(event: &mut Value) {
    rename(event, NAMES.map(|(new, core)| (core, new)));
}

fn rename(event: &mut Value, names: [(&str, &str); 7]) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn check_namespace(event: &Value, involved: &View<'_>, causes: &mut Vec<Cause>) {
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let expected = match involved.field("namespace").text() {
        "" => "default",
        namespace => namespace,
    };
    if namespace != expected {
        let path = involved.path.field("namespace");
        causes.push(Cause::invalid(path, involved.field("namespace").text(), "does not match event.namespace"));
    }
}

fn validate_core(event: &Value, causes: &mut Vec<Cause>) {
    check_namespace(event, &View::root(event, "involvedObject"), causes);
    let series = View::root(event, "series");
    if View::root(event, "eventTime").is_set() {
        check_reporter(event, "reportingComponent", causes);
        if series.is_set() && series.field("count").number().unwrap_or_default() < 2 {
            let problem = "should be at least 2";
            causes.push(Cause::invalid("series.count", series.field("count").number().unwrap_or_default(), problem));
        }
    }
}

fn check_reporter(event: &Value, controller: &str, causes: &mut Vec<Cause>) {
    const TEXT_BYTES_MAX: usize = 128;
    let name = View::root(event, controller);
    name.require(causes);
    let problems = super::names::qualified_name(name.text());
    causes.extend(problems.iter().map(|problem| Cause::invalid(controller, name.text(), problem)));
    for (field, required) in [("reportingInstance", true), ("action", true), ("reason", true)] {
        let text = View::root(event, field);
        if required {
            text.require(causes);
        }
        if text.text().len() > TEXT_BYTES_MAX {
            text.report(&[format!("can have at most {TEXT_BYTES_MAX} characters")], causes);
        }
    }
}

fn validate_new(event: &Value, causes: &mut Vec<Cause>) {
    const NOTE_BYTES_MAX: usize = 1024;
    check_namespace(event, &View::root(event, "regarding"), causes);
    let time = View::root(event, "eventTime");
    if !time.is_set() {
        causes.push(Cause::required("eventTime", ""));
    }
    check_reporter(event, "reportingController", causes);
    let note = View::root(event, "note");
    if note.text().len() > NOTE_BYTES_MAX {
        causes.push(Cause::invalid("note", "", &format!("can have at most {NOTE_BYTES_MAX} characters")));
    }
    let kind = View::root(event, "type");
    if !["Normal", "Warning"].contains(&kind.text()) {
        causes.push(Cause::invalid("type", "", &format!("has invalid value: {}", kind.text())));
    }
    for field in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        if View::root(event, field).is_set() {
            causes.push(Cause::invalid(field, event[field].clone(), "needs to be unset"));
        }
    }
    if View::root(event, "deprecatedCount").number().unwrap_or_default() != 0 {
        causes.push(Cause::invalid("deprecatedCount", event["deprecatedCount"].clone(), "needs to be unset"));
    }
}

fn validate_new_change(event: &Value, old: &Value, causes: &mut Vec<Cause>) {
    // Only the series may change; what an older client wrote is not judged again.
    const FIXED: [&str; 8] =
        ["regarding", "reason", "reportingController", "reportingInstance", "action", "note", "type", "eventTime"];
    for field in FIXED {
        if event[field] != old[field] {
            causes.push(Cause::invalid(field, event[field].clone(), "field is immutable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_of_an_event_are_one() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Pod"}, "note": "n", "reportingController": "c", "deprecatedCount": 3, "action": "x",
        });
        let mut event = new.clone();
        to_core(&mut event);
        assert_eq!(event["message"], "n");
        assert_eq!(event["involvedObject"]["kind"], "Pod");
        from_core(&mut event);
        assert_eq!(event, new);
    }
}
