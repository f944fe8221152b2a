//! Checks of `metadata`, the same for every kind.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::names::{self, NameRule};
use crate::schema::{Cause, FieldPath};

const ANNOTATIONS_BYTES_MAX: u64 = 256 * 1024;
const MANAGER_BYTES_MAX: u64 = 128;
const IMMUTABLE: &str = "field is immutable";

/// What distinguishes kinds here.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRules {
    pub namespaced: bool,
    pub name: NameRule,
    /// Finalizers must be qualified or standard ones (built-in kinds).
    pub strict_finalizers: bool,
}

/// What is wrong with a new object's metadata.
pub fn validate_create(object: &Value, rules: MetadataRules) -> Vec<Cause> {
    let metadata = &object["metadata"];
    let mut causes = Vec::new();
    check_names(metadata, rules, &mut causes);
    if metadata["generation"].as_i64().is_some_and(|generation| generation < 0) {
        let value = metadata["generation"].clone();
        causes.push(Cause::invalid("metadata.generation", value, "must be greater than or equal to 0"));
    }
    check_common(metadata, &mut causes);
    check_finalizers(metadata, rules, &mut causes);
    check_managed_fields(metadata, &mut causes);
    causes
}

/// What is wrong with changed metadata.
pub fn validate_update(object: &Value, old: &Value) -> Vec<Cause> {
    let (metadata, before) = (&object["metadata"], &old["metadata"]);
    let mut causes = Vec::new();
    if !before["deletionTimestamp"].is_null() {
        check_no_new_finalizers(metadata, before, &mut causes);
    }
    if text(metadata, "resourceVersion").is_empty() {
        causes.push(Cause::invalid("metadata.resourceVersion", "", "must be specified for an update"));
    }
    let generation = |metadata: &Value| metadata["generation"].as_i64().unwrap_or_default();
    if generation(metadata) < generation(before) {
        causes.push(Cause::invalid("metadata.generation", generation(metadata), "must not be decremented"));
    }
    const FIXED: [&str; 6] =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for name in FIXED {
        if metadata[name] != before[name] {
            let shown = match (&metadata[name], name) {
                (Value::Null, "name" | "namespace" | "uid") => Value::from(""),
                (value, _) => value.clone(),
            };
            causes.push(Cause::invalid(format!("metadata.{name}"), shown, IMMUTABLE));
        }
    }
    check_common(metadata, &mut causes);
    check_managed_fields(metadata, &mut causes);
    causes
}

fn text<'a>(metadata: &'a Value, name: &str) -> &'a str {
    metadata[name].as_str().unwrap_or_default()
}

fn check_names(metadata: &Value, rules: MetadataRules, causes: &mut Vec<Cause>) {
    let (prefix, name, namespace) =
        (text(metadata, "generateName"), text(metadata, "name"), text(metadata, "namespace"));
    if !prefix.is_empty() {
        let problems = rules.name.check_prefix(prefix);
        causes.extend(problems.iter().map(|problem| Cause::invalid("metadata.generateName", prefix, problem)));
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        causes.extend(rules.name.check(name).iter().map(|problem| Cause::invalid("metadata.name", name, problem)));
    }
    if rules.namespaced {
        if namespace.is_empty() {
            causes.push(Cause::required("metadata.namespace", ""));
        } else {
            let problems = names::label(namespace);
            causes.extend(problems.iter().map(|problem| Cause::invalid("metadata.namespace", namespace, problem)));
        }
    } else if !namespace.is_empty() {
        causes.push(Cause::forbidden("metadata.namespace", "not allowed on this type"));
    }
}

fn check_common(metadata: &Value, causes: &mut Vec<Cause>) {
    check_labels(&metadata["labels"], &FieldPath::new("metadata.labels"), causes);
    check_annotations(&metadata["annotations"], &FieldPath::new("metadata.annotations"), causes);
    check_owners(&metadata["ownerReferences"], causes);
}

/// What is wrong with a map of labels.
pub fn check_labels(labels: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        causes.extend(names::qualified_name(key).iter().map(|problem| Cause::invalid(path, key.as_str(), problem)));
        causes.extend(names::label_value(value).iter().map(|problem| Cause::invalid(path, value, problem)));
    }
}

/// What is wrong with a map of annotations.
pub fn check_annotations(annotations: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let empty = Map::new();
    let annotations = annotations.as_object().unwrap_or(&empty);
    for key in annotations.keys() {
        let problems = names::qualified_name(&key.to_lowercase());
        causes.extend(problems.iter().map(|problem| Cause::invalid(path, key.as_str(), problem)));
    }
    let length = |(key, value): (&String, &Value)| (key.len() + value.as_str().map_or(0, str::len)) as u64;
    if annotations.iter().map(length).sum::<u64>() > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn check_owners(owners: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let version = text(owner, "apiVersion");
        if version.rsplit('/').next().unwrap_or_default().is_empty() {
            causes.push(Cause::invalid(format!("{FIELD}.apiVersion"), version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                causes.push(Cause::invalid(format!("{FIELD}.{name}"), "", "must not be empty"));
            }
        }
        if version == "v1" && text(owner, "kind") == "Event" {
            let problem = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::invalid(FIELD, owner.clone(), problem));
        }
        if owner["controller"] != Value::Bool(true) {
            continue;
        }
        let described = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        match &controller {
            None => controller = Some(described),
            Some(first) => {
                let problem = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {described}"
                );
                causes.push(Cause::invalid(FIELD, owners.clone(), &problem));
            }
        }
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn check_finalizers(metadata: &Value, rules: MetadataRules, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.finalizers";
    let finalizers = &metadata["finalizers"];
    for name in strings(finalizers) {
        causes.extend(names::qualified_name(name).iter().map(|problem| Cause::invalid(FIELD, name, problem)));
    }
    let has = |wanted: &str| strings(finalizers).any(|name| name == wanted);
    if has("orphan") && has("foregroundDeletion") {
        let problem = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(Cause::invalid(FIELD, finalizers.clone(), problem));
    }
    if rules.strict_finalizers {
        for (index, name) in strings(finalizers).enumerate() {
            causes.extend(names::qualified_name(name).iter().map(|problem| Cause::invalid(FIELD, name, problem)));
            let standard = ["kubernetes", "orphan", "foregroundDeletion"].contains(&name);
            if !name.contains('/') && !standard {
                let problem = "name is neither a standard finalizer name nor is it fully qualified";
                causes.push(Cause::invalid(format!("{FIELD}[{index}]"), name, problem));
            }
        }
    }
    causes.dedup();
}

fn check_no_new_finalizers(metadata: &Value, before: &Value, causes: &mut Vec<Cause>) {
    let known: BTreeSet<&str> = strings(&before["finalizers"]).collect();
    let new: BTreeSet<&str> = strings(&metadata["finalizers"]).filter(|name| !known.contains(name)).collect();
    if !new.is_empty() {
        let quoted: Vec<String> = new.iter().map(|name| crate::schema::cause::quote(name)).collect();
        let problem = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            quoted.join(", ")
        );
        causes.push(Cause::forbidden("metadata.finalizers", &problem));
    }
}

fn check_managed_fields(metadata: &Value, causes: &mut Vec<Cause>) {
    for (index, entry) in metadata["managedFields"].as_array().into_iter().flatten().enumerate() {
        let path = FieldPath::new("metadata.managedFields").index(index);
        let operation = text(entry, "operation");
        if operation != "Apply" && operation != "Update" {
            causes.push(Cause::invalid(path.field("operation"), operation, "must be `Apply` or `Update`"));
        }
        let fields_type = text(entry, "fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            causes.push(Cause::invalid(path.field("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        let manager = text(entry, "manager");
        if manager.len() as u64 > MANAGER_BYTES_MAX {
            causes.push(Cause::too_long(path.field("manager"), MANAGER_BYTES_MAX));
        }
        if manager.chars().any(char::is_control) {
            causes.push(Cause::invalid(path.field("manager"), manager, "should only contain printable characters"));
        }
    }
}
