//! Exchanges recorded from a kube-apiserver 1.34, replayed against the pure parts of this one: what is accepted is stored
//! in the same form with the same owners, what is refused is refused in the same words.
//!
//! Left out of the recordings: what plugins of that server add (default tolerations, a node's not-ready taint,
//! the finalizer of claims, addresses of services), and times.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::apply::{self, ApplyError, Writer};
use crate::definitions::{Facet, ResourceDefinition, builtin};
use crate::patch::{self, PatchError};
use crate::schema::Cause;

#[derive(Deserialize)]
struct Scenario {
    name: String,
    resource: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "do")]
    action: String,
    #[serde(default)]
    manager: String,
    #[serde(default)]
    facet: String,
    #[serde(default)]
    force: bool,
    body: Value,
    /// What the server stored.
    object: Option<Value>,
    code: Option<u16>,
    message: Option<String>,
    #[serde(default)]
    causes: Vec<Value>,
}

/// Why a step was refused.
#[derive(Debug)]
struct Refusal {
    code: u16,
    message: String,
    causes: BTreeSet<(String, String)>,
}

impl Refusal {
    fn plain(code: u16, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), causes: BTreeSet::new() }
    }

    fn invalid(causes: &[Cause]) -> Self {
        let causes = causes.iter().map(|cause| (cause.field.clone(), without_structures(&cause.message))).collect();
        Self { code: 422, message: String::new(), causes }
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts
                    .into_iter()
                    .map(|conflict| (conflict.field, format!("conflict with {}", conflict.manager)));
                Self { code: 409, message, causes: causes.collect() }
            }
            ApplyError::Invalid(_) => Self::plain(400, message),
            ApplyError::Untyped { .. } => Self::plain(500, message),
        }
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(message) => Self::plain(400, message),
            PatchError::DoesNotApply(_) => {
                Self::plain(422, "the server rejected our request due to an error in our request")
            }
        }
    }
}

/// One object and what can be done to it.
struct Server<'a> {
    definition: &'a ResourceDefinition,
    live: Option<Value>,
}

impl Server<'_> {
    fn perform(&mut self, step: &Step) -> Result<Value, Refusal> {
        let facet = match step.facet.as_str() {
            "" => Facet::Main,
            "status" => Facet::Status,
            other => panic!("unknown facet {other}"),
        };
        let now: Timestamp = "2099-01-01T00:00:00Z".parse().expect("a time");
        let writer = Writer { definition: self.definition, manager: &step.manager, facet, now };
        let object = match (step.action.as_str(), self.live.clone()) {
            ("create", _) => self.create(step.body.clone(), &writer)?,
            ("apply", live) => {
                let object = apply::apply(live.as_ref(), &step.body, &writer, step.force)?;
                match live {
                    None => self.finish_create(object)?,
                    Some(live) => self.finish_update(object, &live, facet)?,
                }
            }
            (action, Some(live)) => {
                let object = match action {
                    "update" => step.body.clone(),
                    "merge" => patch::merge_patch(&live, &step.body),
                    "json" => patch::json_patch(&live, &step.body)?,
                    "strategic" => patch::strategic_merge_patch(&live, &step.body, &self.definition.schema)?,
                    other => panic!("unknown action {other}"),
                };
                self.update(object, &live, &writer)?
            }
            (action, None) => panic!("{action} of nothing"),
        };
        self.live = Some(object.clone());
        Ok(object)
    }

    fn decode(&self, object: &mut Value) -> Result<(), Refusal> {
        self.definition.decode(object).map(drop).map_err(|error| Refusal::plain(400, error))
    }

    fn create(&self, mut object: Value, writer: &Writer<'_>) -> Result<Value, Refusal> {
        self.decode(&mut object)?;
        self.definition.default(&mut object);
        apply::track_update(None, &mut object, writer);
        self.finish_create(object)
    }

    fn finish_create(&self, mut object: Value) -> Result<Value, Refusal> {
        object["metadata"]["uid"] = json!("uid");
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if self.definition.namespaced {
            object["metadata"]["namespace"] = json!("default");
        }
        self.definition.prepare_for_create(&mut object);
        let causes = self.definition.validate_create(&object);
        if causes.is_empty() { Ok(object) } else { Err(Refusal::invalid(&causes)) }
    }

    fn update(&self, mut object: Value, live: &Value, writer: &Writer<'_>) -> Result<Value, Refusal> {
        self.decode(&mut object)?;
        self.definition.default(&mut object);
        apply::track_update(Some(live), &mut object, writer);
        self.finish_update(object, live, writer.facet)
    }

    fn finish_update(&self, mut object: Value, live: &Value, facet: Facet) -> Result<Value, Refusal> {
        object["metadata"]["resourceVersion"] = json!("1");
        self.definition.prepare_for_update(&mut object, live, facet);
        let causes = self.definition.validate_update(&object, live, facet);
        if causes.is_empty() { Ok(object) } else { Err(Refusal::invalid(&causes)) }
    }
}

/// The object without what differs from run to run. Null and absent are one.
fn normalised(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().expect("an object has metadata");
    for name in ["uid", "creationTimestamp", "resourceVersion"] {
        metadata.remove(name);
    }
    if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
        for entry in entries.iter_mut().filter(|entry| entry.get("time").is_some()) {
            entry["time"] = json!("T");
        }
        // The order depends on the second in which things happened.
        let key =
            |entry: &Value| ["manager", "operation", "apiVersion", "subresource"].map(|name| entry[name].to_string());
        entries.sort_by_key(key);
    }
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastTransitionTime");
        }
    }
    without_nulls(&mut object);
    object
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Where two documents differ, for people.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let (left, right) = (left.get(name).unwrap_or(&Value::Null), right.get(name).unwrap_or(&Value::Null));
                differences(&format!("{path}.{name}"), left, right, found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{path}[{index}]"), left, right, found);
            }
        }
        (left, right) if left != right => found.push(format!("{path}: ours {left}, theirs {right}")),
        _ => {}
    }
}

fn check_step(step: &Step, result: Result<Value, Refusal>) -> Vec<String> {
    match (result, &step.object) {
        (Ok(ours), Some(theirs)) => {
            let mut found = Vec::new();
            differences("", &normalised(ours), &normalised(theirs.clone()), &mut found);
            found
        }
        (Err(refusal), Some(_)) => vec![format!("refused: {refusal:?}")],
        (Ok(_), None) => vec![format!("accepted; theirs: {:?} {:?} {:?}", step.code, step.message, step.causes)],
        (Err(ours), None) => {
            let theirs: BTreeSet<(String, String)> = step
                .causes
                .iter()
                .map(|cause| {
                    (
                        cause["field"].as_str().unwrap_or_default().to_owned(),
                        without_structures(cause["message"].as_str().unwrap_or_default()),
                    )
                })
                .collect();
            let mut found = Vec::new();
            if Some(ours.code) != step.code {
                found.push(format!(
                    "code: ours {} {}, theirs {:?} {:?}",
                    ours.code, ours.message, step.code, step.message
                ));
            }
            for cause in theirs.difference(&ours.causes) {
                found.push(format!("lacks cause {cause:?}"));
            }
            for cause in ours.causes.difference(&theirs) {
                found.push(format!("has cause {cause:?}"));
            }
            if theirs.is_empty() && ours.code != 422 && step.message.as_deref() != Some(&ours.message) {
                found.push(format!("message: ours {:?}, theirs {:?}", ours.message, step.message));
            }
            found
        }
    }
}

/// A message without an object or list in it: Kubernetes shows its internal form of them.
fn without_structures(message: &str) -> String {
    for prefix in ["Invalid value: ", "Duplicate value: "] {
        if let Some(rest) = message.strip_prefix(prefix)
            && rest.starts_with(['{', '['])
        {
            let detail = rest.rsplit_once("}: ").or_else(|| rest.rsplit_once("]: ")).map_or("", |(_, detail)| detail);
            return format!("{prefix}…: {detail}");
        }
    }
    // Kubernetes adds a difference of its internal forms.
    message.split('\n').next().unwrap_or_default().to_owned()
}

fn definition_of<'a>(definitions: &'a [ResourceDefinition], resource: &str) -> &'a ResourceDefinition {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut matching = definitions.iter().filter(|definition| definition.plural == plural);
    matching.find(|definition| group.is_empty() || definition.group == group).expect("a recorded kind is known")
}

/// Replays a recording and returns every difference.
fn replay(recording: &str) -> (usize, Vec<String>) {
    let scenarios: Vec<Scenario> = serde_json::from_str(recording).expect("a recording is JSON");
    let definitions = builtin();
    let (mut steps, mut problems) = (0, Vec::new());
    for scenario in &scenarios {
        let mut server = Server { definition: definition_of(&definitions, &scenario.resource), live: None };
        for (index, step) in scenario.steps.iter().enumerate() {
            steps += 1;
            let before = server.live.clone();
            let result = server.perform(step);
            server.live = before;
            for problem in check_step(step, result) {
                problems.push(format!("{} / step {index} {}: {problem}", scenario.name, step.action));
            }
            if let Some(theirs) = &step.object {
                // The next step starts from what the recorded server had.
                let mut live = theirs.clone();
                let metadata: &mut Map<String, Value> =
                    live["metadata"].as_object_mut().expect("an object has metadata");
                metadata.insert("uid".to_owned(), json!("uid"));
                metadata.insert("resourceVersion".to_owned(), json!("1"));
                metadata.insert("creationTimestamp".to_owned(), json!("2026-01-01T00:00:00Z"));
                without_nulls_in_spec(&mut live);
                server.live = Some(live);
            }
        }
    }
    (steps, problems)
}

fn without_nulls_in_spec(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        without_nulls(spec);
    }
}

#[test]
fn new_objects_are_treated_as_kubernetes_treats_them() {
    let (steps, problems) = replay(include_str!("recorded/create.json"));
    assert!(problems.is_empty(), "{} of {steps} exchanges differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn changes_are_treated_as_kubernetes_treats_them() {
    let (steps, problems) = replay(include_str!("recorded/change.json"));
    assert!(problems.is_empty(), "{} of {steps} exchanges differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn applied_configurations_are_treated_as_kubernetes_treats_them() {
    let (steps, problems) = replay(include_str!("recorded/apply.json"));
    assert!(problems.is_empty(), "{} of {steps} exchanges differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn random_histories_end_as_they_do_with_kubernetes() {
    let (steps, problems) = replay(include_str!("recorded/random.json"));
    assert!(problems.is_empty(), "{} of {steps} exchanges differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn random_strategic_patches_are_treated_as_kubernetes_treats_them() {
    let (steps, problems) = replay(include_str!("recorded/strategic.json"));
    assert!(problems.is_empty(), "{} of {steps} exchanges differ:\n{}", problems.len(), problems.join("\n"));
}
