//! CustomResourceDefinitions: kinds that are made while the server runs.
//!
//! A definition is an object like any other; a task follows them and keeps the table of kinds in step. The kinds that
//! this server ships beyond those compiled in are definitions too.

mod check;
mod conditions;
mod controller;
mod definition;
mod keywords;
mod props;
mod schema_rules;
mod shipped;
mod structural;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use self::controller::{load, start};
pub(crate) use self::definition::kinds;
use self::keywords::{flag, list, text};
pub(crate) use self::shipped::with_older_version;
use crate::definitions::{Facet, Hooks, ResourceDefinition};
use crate::registry::Resource;
use crate::schema::Cause;

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What distinguishes definitions from other kinds.
pub(crate) const HOOKS: Hooks =
    Hooks { default, create, update, check: check::check, check_change, required_texts: false };

/// Whether this is the kind of definitions.
pub(crate) fn is_kind(definition: &ResourceDefinition) -> bool {
    definition.group == GROUP && definition.plural == PLURAL
}

/// Reads the schemas within a definition; returns the paths of what they may not have, which is dropped.
pub(crate) fn decode_schemas(object: &mut Value) -> Result<Vec<String>, String> {
    props::decode(object)
}

/// Shows that a definition is on its way out, and holds it until its objects are gone. The finalizers are `held`.
pub(crate) fn mark_terminating(resource: &Resource, object: &mut Value, now: Timestamp) {
    if is_kind(&resource.definition) {
        conditions::set_terminating(object, now);
    }
}

/// The finalizer of a definition whose deletion begins.
pub(crate) fn holder(resource: &Resource, object: &Value) -> Option<&'static str> {
    let begins = is_kind(&resource.definition) && !crate::objects::is_deleting(object);
    begins.then_some(CLEANUP)
}

fn default(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let kind = text(&spec["names"], "kind").to_owned();
    if text(&spec["names"], "singular").is_empty() && !kind.is_empty() {
        spec["names"]["singular"] = kind.to_lowercase().into();
    }
    if text(&spec["names"], "listKind").is_empty() && !kind.is_empty() {
        spec["names"]["listKind"] = format!("{kind}List").into();
    }
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
}

fn create(definition: &mut Value) {
    definition["status"] =
        json!({ "conditions": [], "acceptedNames": { "plural": "", "kind": "" }, "storedVersions": [] });
    remember_stored_version(definition);
}

fn update(definition: &mut Value, _old: &Value, facet: Facet) {
    if facet == Facet::Main {
        remember_stored_version(definition);
    }
}

/// Objects may have been stored in each version that once was the storage version.
fn remember_stored_version(definition: &mut Value) {
    let versions = list(&definition["spec"], "versions");
    let Some(storage) = versions.iter().find(|version| flag(version, "storage")) else { return };
    let name = Value::from(text(storage, "name"));
    let stored = &mut definition["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(stored) if stored.contains(&name) => {}
        Some(stored) => stored.push(name),
        None => *stored = json!([name]),
    }
}

fn check_change(definition: &Value, old: &Value, facet: Facet, causes: &mut Vec<Cause>) {
    if facet == Facet::Main {
        check::check_change(definition, old, causes);
    }
}
