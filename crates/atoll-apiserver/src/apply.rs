//! Server-side apply: who owns which field, and what an applied configuration changes. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::field_set::{FieldSet, path_text};
use self::managers::{Entry, ManagerId, Managers, entry_time};
use self::typed::Comparison;
use crate::definitions::{Facet, ResourceDefinition};
use crate::schema::Node;

mod field_set;
mod managers;
mod typed;

/// Metadata that nobody owns: the server's, and what names the object.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];
fn unowned() -> &'static FieldSet {
    static SET: std::sync::LazyLock<FieldSet> = std::sync::LazyLock::new(|| FieldSet::of_fields(UNOWNED));
    &SET
}

/// Owner of everything in an object that was never tracked, from its first apply on.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose client-side applies are carried over.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl-client-side-apply" using v1` as a Kubernetes API server words it.
    pub manager: String,
    /// `.spec.replicas`.
    pub field: String,
}

/// Why an apply was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// 409 with one cause of reason `FieldManagerConflict` per conflict, whose message is `conflict with <manager>`.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The request is wrong: 400.
    #[error("{0}")]
    Invalid(String),
    /// The applied configuration is none of the kind: an unknown field, a wrong type, two items with one key.
    /// A Kubernetes API server answers 500 without a reason.
    #[error("{message}")]
    Untyped { message: String },
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", conflict.manager, conflict.field);
    }
    let mut lines = Vec::new();
    let mut manager = "";
    for conflict in conflicts {
        if conflict.manager != manager {
            manager = &conflict.manager;
            lines.push(format!("conflicts with {manager}:"));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Who writes, where and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    pub definition: &'a ResourceDefinition,
    /// The field manager's name.
    pub manager: &'a str,
    /// Which view is written.
    pub facet: Facet,
    pub now: Timestamp,
}

impl Writer<'_> {
    fn node(&self) -> &Node {
        self.definition.schema.root()
    }

    fn id(&self, applies: bool) -> ManagerId {
        let subresource = match self.facet {
            Facet::Main => "",
            Facet::Status => "status",
            Facet::Scale => "scale",
            Facet::Binding => "binding",
        };
        ManagerId::new(self.manager, applies, &self.definition.api_version(), subresource)
    }

    fn reset_fields(&self) -> FieldSet {
        FieldSet::of_fields(self.definition.reset_fields(self.facet))
    }

    fn entry(&self, set: FieldSet) -> Entry {
        Entry { set, api_version: self.definition.api_version(), time: entry_time(self.now) }
    }

    /// The object in which nothing is set, named as the given one is.
    fn zero_like(&self, object: &Value) -> Value {
        let mut zero = self.definition.zero();
        if let Some(fields) = zero.as_object_mut() {
            for name in ["apiVersion", "kind"] {
                if let Some(value) = object.get(name) {
                    fields.insert(name.to_owned(), value.clone());
                }
            }
        }
        zero
    }
}

/// Merges `applied` (as parsed, not decoded) into `live` (None when the object does not exist yet) and returns the new
/// object, decoded and with defaults filled in, with `metadata.managedFields` brought up to date.
pub fn apply(live: Option<&Value>, applied: &Value, writer: &Writer<'_>, force: bool) -> Result<Value, ApplyError> {
    check_applied(applied, writer)?;
    let zero = writer.zero_like(applied);
    let mut managers = live.and_then(Managers::of).unwrap_or_default();
    let live = live.map(without_managed_fields);
    if let (true, Some(live)) = (managers.entries.is_empty(), &live) {
        claim_untracked(&zero, live, writer, &mut managers);
    }
    let live = live.unwrap_or(zero);
    let first = apply_once(&live, applied, writer, managers.clone(), force);
    let (mut object, managers) = match first {
        Err(ApplyError::Conflicts(_))
            if writer.manager == KUBECTL && was_applied_by_client(&live, writer, &managers, applied) =>
        {
            apply_once(&live, applied, writer, managers, true)?
        }
        result => result?,
    };
    if writer.manager == KUBECTL {
        renew_last_applied(&mut object, applied);
    }
    writer.definition.convert_applied(&mut object).map_err(|problem| {
        let kind = described_kind(writer);
        ApplyError::Untyped {
            message: format!(
                "failed to convert new object ({}) to proper version: unable to convert unstructured object to {kind}: \
                 error decoding from json: {problem}",
                described(applied, writer)
            ),
        }
    })?;
    writer.definition.default(&mut object);
    managers.write_to(&mut object);
    Ok(object)
}

fn check_applied(applied: &Value, writer: &Writer<'_>) -> Result<(), ApplyError> {
    if !applied.is_object() {
        return Err(ApplyError::Invalid("error decoding YAML: the applied configuration is no object".to_owned()));
    }
    let metadata = &applied["metadata"];
    if metadata["managedFields"].as_array().is_some_and(|entries| !entries.is_empty()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    typed::check(applied, writer.node()).map_err(|problem| ApplyError::Untyped {
        message: format!("failed to create typed patch object ({}): {problem}", described(applied, writer)),
    })
}

/// `default/name; /v1, Kind=Pod`, as such errors name an object.
fn described(object: &Value, writer: &Writer<'_>) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}; {}", text("namespace"), text("name"), described_kind(writer))
}

fn described_kind(writer: &Writer<'_>) -> String {
    format!("{}/{}, Kind={}", writer.definition.group, writer.definition.version, writer.definition.kind)
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// What was written before anything was tracked belongs to one manager of its own.
fn claim_untracked(zero: &Value, live: &Value, writer: &Writer<'_>, managers: &mut Managers) {
    let everything = typed::compare(zero, live, writer.node()).without(&writer.reset_fields());
    let set = everything.added.union(&everything.modified).difference(unowned());
    if !set.is_empty() {
        let id = ManagerId { name: BEFORE_FIRST_APPLY.to_owned(), ..writer.id(false) };
        managers.entries.insert(id, writer.entry(set));
    }
}

/// One attempt: the merged object, not yet decoded, and the new managers.
fn apply_once(
    live: &Value,
    applied: &Value,
    writer: &Writer<'_>,
    mut managers: Managers,
    force: bool,
) -> Result<(Value, Managers), ApplyError> {
    let (node, id) = (writer.node(), writer.id(true));
    managers.reconcile(node, &writer.definition.api_version());
    let previous = managers.entries.get(&id).cloned();
    let reset = writer.reset_fields();
    let set = typed::to_field_set(applied, node).recursive_difference(&reset);
    let mut entry = writer.entry(set);
    managers.entries.insert(id.clone(), entry.clone());
    let merged = typed::merge(live, applied, node);
    let object = match &previous {
        Some(previous) if !previous.set.is_empty() => drop_abandoned(&merged, &previous.set, &managers, writer),
        _ => merged,
    };
    let comparison = typed::compare(live, &object, node).without(&reset);
    let conflicts = settle_ownership(&comparison, &id, writer, &mut managers);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    if *live == object {
        // The time is that of the last change, which may not have come by this manager.
        entry.time = previous.map(|previous| previous.time).unwrap_or_default();
    }
    entry.set = entry.set.difference(unowned());
    if entry.set.is_empty() {
        managers.entries.remove(&id);
    } else {
        managers.entries.insert(id, entry);
    }
    Ok((object, managers))
}

/// Takes out what this manager applied last time, does not apply now, and nobody else owns.
fn drop_abandoned(merged: &Value, last: &FieldSet, managers: &Managers, writer: &Writer<'_>) -> Value {
    let node = writer.node();
    let named = |set: &FieldSet| typed::with_named_fields(set, node);
    let remove = |set: &FieldSet| typed::remove(merged, node, set).unwrap_or(Value::Object(Map::new()));
    let last = named(last);
    let everything = named(&typed::to_field_set(merged, node));
    let without_last = remove(&last);
    // Back comes what somebody owns, be it this manager's new configuration.
    let version = writer.definition.api_version();
    let mut kept = named(&typed::to_field_set(&without_last, node));
    let owned = managers.entries.values().filter(|entry| entry.api_version == version);
    for entry in owned {
        kept = kept.union(&named(&entry.set));
    }
    let with_owned = remove(&everything.difference(&kept));
    // Back comes also what this manager never owned.
    let kept = named(&typed::to_field_set(&with_owned, node));
    remove(&everything.difference(&kept).intersection(&last))
}

/// Takes what changed from everybody but `writer_id`, and returns what others had owned with another value.
fn settle_ownership(
    comparison: &Comparison,
    writer_id: &ManagerId,
    writer: &Writer<'_>,
    managers: &mut Managers,
) -> Vec<Conflict> {
    let changed = comparison.modified.union(&comparison.added);
    let version = writer.definition.api_version();
    let others: Vec<ManagerId> = managers.entries.keys().filter(|id| *id != writer_id).cloned().collect();
    let mut conflicts = Vec::new();
    for id in others {
        let Some(entry) = managers.entries.get(&id).filter(|entry| entry.api_version == version) else { continue };
        let contested = entry.set.intersection(&changed);
        let described = id.described();
        conflicts.extend(
            contested.paths().iter().map(|path| Conflict { manager: described.clone(), field: path_text(path) }),
        );
        managers.take_fields(&id, &contested.union(&comparison.removed));
    }
    conflicts
}

/// Whether every conflict is with what `kubectl apply` itself wrote on the client's side.
fn was_applied_by_client(live: &Value, writer: &Writer<'_>, managers: &Managers, applied: &Value) -> bool {
    let Some(last) = last_applied(live) else { return false };
    let node = writer.node();
    let differing = typed::compare(&last, live, node).modified;
    let allowed = typed::to_field_set(&last, node).difference(&differing);
    let merged = typed::merge(live, applied, node);
    let comparison = typed::compare(live, &merged, node).without(&writer.reset_fields());
    let changed = comparison.modified.union(&comparison.added);
    let id = writer.id(true);
    let others = managers.entries.iter().filter(|(other, _)| **other != id);
    others.map(|(_, entry)| entry.set.intersection(&changed)).all(|contested| contested.difference(&allowed).is_empty())
}

fn last_applied(object: &Value) -> Option<Value> {
    serde_json::from_str(object["metadata"]["annotations"][LAST_APPLIED].as_str()?).ok()
}

/// Keeps the annotation of client-side applies in step, where there is one.
fn renew_last_applied(object: &mut Value, applied: &Value) {
    let annotations = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    let Some(annotation) = annotations.and_then(|annotations| annotations.get_mut(LAST_APPLIED)) else { return };
    let mut configuration = without_managed_fields(applied);
    if let Some(annotations) = configuration
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    *annotation = Value::String(format!("{configuration}\n"));
}

/// Records in `new.metadata.managedFields` that the writer made `new` out of `old` (None on create) by any means
/// but apply. Call it when defaults are filled in, before `prepare_for_create` or `prepare_for_update`: what the server
/// itself changes then is nobody's.
pub fn track_update(old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let mut managers = current_managers(old, new, writer);
    let untracked = managers.entries.is_empty() && old.is_some_and(|old| !old["metadata"]["uid"].is_null());
    if untracked {
        managers.write_to(new);
        return;
    }
    // They are written anew at the end; until then they would only be compared.
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let zero = if old.is_none() { writer.zero_like(new) } else { Value::Null };
    let before = old.unwrap_or(&zero);
    let (node, id) = (writer.node(), writer.id(false));
    managers.reconcile(node, &writer.definition.api_version());
    let left_out = writer.reset_fields().union(&FieldSet::of_fields(&[&["metadata", "managedFields"]]));
    let comparison = typed::compare(before, new, node).without(&left_out);
    // Nobody keeps what changed, the writer included: it is about to take it anew.
    let nobody = ManagerId::new("", true, "", "");
    settle_ownership(&comparison, &nobody, writer, &mut managers);
    let taken = comparison.modified.union(&comparison.added).difference(unowned());
    if !taken.is_empty() {
        let entry = match managers.entries.get(&id) {
            Some(known) => writer.entry(known.set.union(&taken)),
            None => writer.entry(taken),
        };
        managers.entries.insert(id, entry);
        managers.cap();
    }
    managers.write_to(new);
}

/// The managers that an update starts from: those that it brings, unless it brings none.
fn current_managers(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managers {
    let live = || old.and_then(Managers::of).unwrap_or_default();
    if writer.facet != Facet::Main {
        return live();
    }
    if Managers::is_reset(new) {
        return Managers::default();
    }
    match Managers::of(new) {
        Some(managers) if !managers.entries.is_empty() => managers,
        _ => live(),
    }
}

#[cfg(test)]
mod tests;
