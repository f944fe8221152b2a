//! The kinds this server knows: names, schema, and the rules that a schema can not say.
//!
//! The order of a write, as in a Kubernetes API server:
//! 1. `decode` (drops unknown fields, checks the types of built-in kinds), 2. `default`,
//! 3. `prepare_for_create` or `prepare_for_update`, 4. `validate_create` or `validate_update`.

use std::sync::Arc;

use serde_json::Value;

use crate::schema::{Cause, StructuralSchema};

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
    /// The group under which objects are stored, where it differs from `group`
    /// (events.k8s.io events are stored as core events).
    pub storage_group: Option<String>,
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
    #[error("{kind} in version {version:?} cannot be handled as a {kind}: {problem}")]
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

    /// Brings a body into shape: drops unknown fields (their paths are returned, for `fieldValidation`)
    /// and, for built-in kinds, drops nulls and refuses wrong types.
    pub fn decode(&self, object: &mut Value) -> Result<Vec<String>, DecodeError> {
        Ok(self.schema.prune(object))
    }

    /// Fills in defaults, the schema's and the kind's own.
    pub fn default(&self, object: &mut Value) {
        self.schema.default(object);
    }

    /// What a create changes before validation: status dropped, generation 1.
    pub fn prepare_for_create(&self, _object: &mut Value) {}

    /// What an update through `facet` changes before validation: parts that this facet can not write are taken
    /// from `old`, generation is counted up when the spec changed.
    pub fn prepare_for_update(&self, _object: &mut Value, _old: &Value, _facet: Facet) {}

    /// Everything wrong with a new object, metadata included.
    pub fn validate_create(&self, object: &Value) -> Vec<Cause> {
        self.schema.validate(object, None)
    }

    /// Everything wrong with a changed object, forbidden changes included.
    pub fn validate_update(&self, object: &Value, old: &Value, _facet: Facet) -> Vec<Cause> {
        self.schema.validate(object, Some(old))
    }
}

/// The kinds compiled into this server.
pub fn builtin() -> Vec<ResourceDefinition> {
    Vec::new()
}
