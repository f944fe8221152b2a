//! The kinds this server knows: names, schema, and the rules that a schema can not say.
//!
//! The order of a write, as in a Kubernetes API server:
//! 1. `decode` (drops unknown fields, checks the types of built-in kinds), 2. `default`,
//! 3. [`crate::apply::track_update`], 4. `prepare_for_create` or `prepare_for_update`,
//! 5. `validate_create` or `validate_update`.

use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use self::catalog::core_types;
use self::metadata::MetadataRules;
pub use self::names::NameRule;
use self::pod::check_port as pod_port;
pub(crate) use self::sandbox::{Shipped, object_metadata};
use crate::schema::{Cause, StructuralSchema};

mod bounds;
mod catalog;
mod claim;
mod cluster;
mod columns;
mod configuration;
mod custom;
pub mod decode;
mod event;
pub mod metadata;
pub mod names;
mod network;
mod pod;
pub mod quantity;
mod rbac;
mod sandbox;
mod service;
mod view;

/// Everything the server needs to know of one resource of one API version.
#[derive(Clone, Debug)]
pub struct ResourceDefinition {
    /// API group; empty for the core group.
    pub group: String,
    /// `v1`, `v1beta1`.
    pub version: String,
    /// `Pod`. The list kind is this with `List` appended.
    pub kind: String,
    /// `pods`.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// What else can be addressed below an object.
    pub subresources: Subresources,
    /// Columns of the Table form.
    pub printer_columns: Vec<PrinterColumn>,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: `spec.nodeName`.
    pub selectable_fields: Vec<String>,
    /// What objects look like.
    pub schema: Arc<StructuralSchema>,
    /// Flags that steer writes.
    pub strategy: Strategy,
    /// The form in which objects are stored, where it is that of another group or version.
    pub storage: Option<StorageForm>,
    /// The CustomResourceDefinition that the kind comes from; none if it is compiled in.
    pub defined_by: Option<Arc<str>>,
    /// Whether and how requests are answered.
    pub serving: Serving,
    /// What objects may be called.
    pub name_rule: NameRule,
    /// What the kind does beyond its schema.
    pub hooks: Hooks,
}

/// The form in which objects of a kind are stored, and the way there and back.
#[derive(Clone, Debug)]
pub struct StorageForm {
    pub group: String,
    pub version: String,
    /// Everything but `apiVersion`, which follows from group and version.
    pub to: fn(&mut Value),
    pub from: fn(&mut Value),
}

impl StorageForm {
    /// Another version whose objects differ in nothing but `apiVersion`.
    pub fn same_but_for_version(group: &str, version: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), to: |_| {}, from: |_| {} }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Whether and how requests for a kind are answered.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Whether it has a path. Without, it is only the form in which objects are stored.
    pub served: bool,
    /// Whether objects may be made: not while the definition is on its way out.
    pub accepts_new: bool,
    /// Whether the schema may have changed since an object was written.
    pub changes: bool,
    /// Said to everyone who asks for a version that will go.
    pub deprecation: Option<String>,
}

impl Serving {
    /// A kind that stays as it is.
    pub const FIXED: Self = Self { served: true, accepts_new: true, changes: false, deprecation: None };
}

/// What a kind does beyond its schema.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Fills in defaults that depend on other fields.
    pub default: fn(&mut Value),
    /// Changes a new object: its status, what other parts follow from.
    pub create: fn(&mut Value),
    /// Changes a changed object, given the old one.
    pub update: fn(&mut Value, &Value, Facet),
    /// Reports what is wrong with a new object, metadata aside.
    pub check: fn(&Value, &mut Vec<Cause>),
    /// Reports what is wrong with a changed object, given the old one, metadata aside.
    pub check_change: fn(&Value, &Value, Facet, &mut Vec<Cause>),
    /// Whether texts of the spec that the schema requires may not be empty either.
    pub required_texts: bool,
}

impl Hooks {
    /// Nothing beyond the schema.
    pub const NONE: Self = Self {
        default: |_| {},
        create: |_| {},
        update: |_, _, _| {},
        check: |_, _| {},
        check_change: |_, _, _, _| {},
        required_texts: false,
    };
}

/// What else can be addressed below an object.
#[derive(Clone, Debug, Default)]
pub struct Subresources {
    /// `/status`.
    pub status: bool,
    /// `/scale`, with its paths.
    pub scale: Option<Scale>,
    /// Others by name: `binding`, `log`, `exec`, `attach`, `portforward`, `eviction`.
    pub others: Vec<String>,
}

/// Where the `scale` subresource finds its numbers. Paths are dotted: `spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

/// One column of the Table form.
#[derive(Clone, Debug)]
pub struct PrinterColumn {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub column_type: String,
    /// `name` for the first column of built-in kinds, else empty.
    pub format: String,
    pub description: String,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i32,
    pub source: ColumnSource,
}

/// Where a cell comes from.
#[derive(Clone, Debug)]
pub enum ColumnSource {
    /// A JSONPath as in a CustomResourceDefinition: `.status.conditions[?(@.type=='Ready')].status`.
    JsonPath(String),
    /// Worked out from the object.
    Computed(fn(&Value, jiff::Timestamp) -> Value),
}

/// Whether a kind behaves like one compiled into a Kubernetes API server or like a custom one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Wrong types are 400, nulls are dropped, strategic merge patch is allowed.
    Builtin,
    /// Wrong types are 422 with causes, strategic merge patch is 415.
    Custom,
}

/// Flags that steer writes.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    pub origin: Origin,
    /// `metadata.generation` is kept: 1 on create, +1 when the spec changes.
    pub generation: bool,
    /// A PUT on a name that does not exist creates it.
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites.
    pub unconditional_update: bool,
    /// Deletion waits `deletionGracePeriodSeconds` for whoever runs the object (pods).
    pub graceful_deletion: bool,
    /// Objects are answers, never stored (TokenReview).
    pub answer_only: bool,
}

/// Which view of an object a write goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facet {
    /// The object itself.
    Main,
    /// `/status`.
    Status,
    /// `/scale`.
    Scale,
    /// `/binding` of a pod.
    Binding,
}

/// A body that can not be read as the kind.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Answer 400 with this message.
    #[error("{kind} in version \"{version}\" cannot be handled as a {kind}: {problem}")]
    WrongType { kind: String, version: String, problem: String },
}

impl ResourceDefinition {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `sandboxes.agents.x-k8s.io`.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Brings a body into shape: drops unknown fields (their paths are returned, for `fieldValidation`), checks metadata's
    /// types and, for built-in kinds, those of everything else.
    pub fn decode(&self, object: &mut Value) -> Result<Vec<String>, DecodeError> {
        let wrong_type =
            |problem| DecodeError::WrongType { kind: self.kind.clone(), version: self.version.clone(), problem };
        if !object.is_object() {
            let found = "couldn't get version/kind; json parse error: json: cannot unmarshal a value that is no object";
            return Err(wrong_type(found.to_owned()));
        }
        match self.strategy.origin {
            Origin::Builtin => {
                let mut unknown = self.schema.prune(object);
                decode::normalise(object, self.schema.root()).map_err(wrong_type)?;
                if crate::crds::is_kind(self) {
                    unknown.extend(crate::crds::decode_schemas(object).map_err(wrong_type)?);
                }
                Ok(unknown)
            }
            Origin::Custom => custom::decode(self, object).map_err(wrong_type),
        }
    }

    /// Brings the outcome of an apply into shape. Custom kinds are left as they are, but for metadata: what an apply makes
    /// null there is not absent.
    pub(crate) fn convert_applied(&self, object: &mut Value) -> Result<(), String> {
        match self.strategy.origin {
            Origin::Builtin => decode::normalise(object, self.schema.root()),
            Origin::Custom => custom::normalise_metadata(self, object),
        }
    }

    /// Fills in defaults, the schema's and the kind's own.
    pub fn default(&self, object: &mut Value) {
        self.schema.default(object);
        (self.hooks.default)(object);
    }

    /// What a create changes before validation: status dropped, generation 1, no deletion under way.
    pub fn prepare_for_create(&self, object: &mut Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("deletionTimestamp");
            metadata.remove("deletionGracePeriodSeconds");
            if self.strategy.generation {
                metadata.insert("generation".to_owned(), Value::from(1));
            }
        }
        if self.strategy.origin == Origin::Custom
            && self.subresources.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        (self.hooks.create)(object);
    }

    /// What an update through `facet` changes before validation: parts that this facet can not write are taken
    /// from `old`, generation is counted up when the spec changed, what a client may leave out is filled in.
    pub fn prepare_for_update(&self, object: &mut Value, old: &Value, facet: Facet) {
        keep_system_metadata(object, old);
        match (self.strategy.origin, facet) {
            (Origin::Custom, Facet::Status) => custom::keep_all_but_status(object, old),
            (Origin::Builtin, Facet::Status) => keep_field(object, old, "spec"),
            (_, Facet::Binding) => {}
            (_, Facet::Main | Facet::Scale) => {
                if self.subresources.status {
                    keep_field(object, old, "status");
                }
            }
        }
        (self.hooks.update)(object, old, facet);
        if self.strategy.generation && facet != Facet::Status && self.changes_generation(object, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = Value::from(generation + 1);
        }
    }

    fn changes_generation(&self, object: &Value, old: &Value) -> bool {
        let differs = |name: &String| object.get(name) != old.get(name);
        let mut names = [object, old].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
        match self.strategy.origin {
            Origin::Builtin if old.get("spec").is_some() => object.get("spec") != old.get("spec"),
            _ => names.any(|name| name != "metadata" && differs(name)),
        }
    }

    /// Everything wrong with a new object, metadata included.
    pub fn validate_create(&self, object: &Value) -> Vec<Cause> {
        if self.strategy.answer_only {
            return Vec::new();
        }
        if self.strategy.origin == Origin::Custom {
            return custom::validate_create(self, object);
        }
        let mut causes = metadata::validate_create(object, self.metadata_rules());
        (self.hooks.check)(object, &mut causes);
        self.require_texts(object, &mut causes);
        without_repetition(causes)
    }

    /// Everything wrong with a changed object, forbidden changes included.
    pub fn validate_update(&self, object: &Value, old: &Value, facet: Facet) -> Vec<Cause> {
        if self.strategy.origin == Origin::Custom {
            return custom::validate_update(self, object, old, facet);
        }
        let mut causes = metadata::validate_update(object, old);
        (self.hooks.check_change)(object, old, facet, &mut causes);
        if facet == Facet::Main {
            self.require_texts(object, &mut causes);
        }
        without_repetition(causes)
    }

    /// Reports texts of the spec that must not be empty and that no check of the kind's own has reported.
    fn require_texts(&self, object: &Value, causes: &mut Vec<Cause>) {
        let Some(node) = self.schema.root().properties.get("spec").filter(|_| self.hooks.required_texts) else {
            return;
        };
        let mut missing = Vec::new();
        view::require_texts(&view::View::root(object, "spec"), node, &mut missing);
        missing.retain(|cause| !causes.iter().any(|known| known.field == cause.field));
        causes.extend(missing);
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules {
            namespaced: self.namespaced,
            name: self.name_rule,
            strict_finalizers: self.strategy.origin == Origin::Builtin,
        }
    }

    /// An object in which nothing is set yet.
    pub fn zero(&self) -> Value {
        match self.strategy.origin {
            Origin::Builtin => decode::zero(self.schema.root()),
            Origin::Custom => Value::Object(Map::new()),
        }
    }

    /// Paths that a write through `facet` can not touch: nobody comes to own them that way.
    pub fn reset_fields(&self, facet: Facet) -> &'static [&'static [&'static str]] {
        match facet {
            Facet::Status if self.strategy.graceful_deletion => {
                &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
            }
            Facet::Status => &[&["spec"]],
            Facet::Main | Facet::Scale if self.subresources.status => &[&["status"]],
            Facet::Main | Facet::Scale | Facet::Binding => &[],
        }
    }

    /// From the form that clients of this group see to the stored one.
    pub fn to_storage(&self, object: &mut Value) {
        if let Some(form) = &self.storage {
            (form.to)(object);
            object["apiVersion"] = form.api_version().into();
        }
    }

    /// From the stored form to the one that clients of this group see.
    pub fn from_storage(&self, object: &mut Value) {
        if let Some(form) = &self.storage {
            (form.from)(object);
        }
        if self.storage.is_some() || self.serving.changes {
            object["apiVersion"] = self.api_version().into();
        }
        if self.serving.changes {
            self.schema.prune(object);
            self.schema.default(object);
        }
    }
}

/// Metadata that an update can not change and may leave out.
fn keep_system_metadata(object: &mut Value, old: &Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let before = &old["metadata"];
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match before.get(name) {
            Some(value) => {
                metadata.insert(name.to_owned(), value.clone());
            }
            None => {
                metadata.remove(name);
            }
        }
    }
    let has_uid = metadata.get("uid").and_then(Value::as_str).is_some_and(|uid| !uid.is_empty());
    if let (false, Some(uid)) = (has_uid, before.get("uid")) {
        metadata.insert("uid".to_owned(), uid.clone());
    }
}

fn keep_field(object: &mut Value, old: &Value, name: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    match old.get(name) {
        Some(value) => {
            fields.insert(name.to_owned(), value.clone());
        }
        None => {
            fields.remove(name);
        }
    }
}

fn without_repetition(causes: Vec<Cause>) -> Vec<Cause> {
    let mut known = std::collections::HashSet::new();
    causes.into_iter().filter(|cause| known.insert((cause.field.clone(), cause.message.clone()))).collect()
}

/// The kinds compiled into this server, and those of the definitions that it ships.
pub fn builtin() -> Vec<ResourceDefinition> {
    let mut definitions = catalog::builtin();
    definitions.extend(shipped().iter().flat_map(|shipped| shipped.definitions.iter().cloned()));
    definitions
}

/// The CustomResourceDefinitions that this server ships.
pub(crate) fn shipped() -> &'static [Shipped] {
    sandbox::shipped()
}
