//! One node of a structural schema.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

use crate::cel::Program;

/// One node of a structural schema. Equal scalar nodes and everything behind a reference are shared.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The value's type.
    pub value_type: ValueType,
    /// Known fields of an object.
    pub properties: BTreeMap<Box<str>, Arc<Node>>,
    /// Fields of an object beyond `properties`.
    pub additional: Additional,
    /// Items of an array.
    pub items: Option<Arc<Node>>,
    /// Filled in where the value is absent.
    pub default: Option<Value>,
    /// Whether this node or one below has a default.
    pub has_defaults: bool,
    /// Null is a value.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`: unknown fields stay.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: the value is an object with apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// Absent and zero differ (built-in kinds only).
    pub presence: bool,
    /// What a built-in kind writes when nothing is known.
    pub zero: Option<Value>,
    /// The whole map has one owner (`x-kubernetes-map-type: atomic`).
    pub atomic_map: bool,
    /// How items of an array are told apart.
    pub list: ListType,
    /// How a strategic merge patch treats the field.
    pub patch: Option<PatchStrategy>,
    /// What values must satisfy.
    pub rules: Option<Box<Rules>>,
    /// For people.
    pub description: Option<Box<str>>,
    /// Name of the definition that this node is, or is a variant of.
    pub definition: Option<Arc<str>>,
}

/// `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueType {
    /// No type: anything.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

impl ValueType {
    /// The schema keyword's value; None for the two that have none.
    pub fn keyword(self) -> Option<&'static str> {
        match self {
            Self::Any | Self::IntOrString => None,
            Self::Object => Some("object"),
            Self::Array => Some("array"),
            Self::String => Some("string"),
            Self::Integer => Some("integer"),
            Self::Number => Some("number"),
            Self::Boolean => Some("boolean"),
        }
    }
}

/// Fields of an object beyond the known ones.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// None: they are dropped.
    #[default]
    None,
    /// Any.
    Anything,
    /// All of one schema: the object is a map.
    Schema(Arc<Node>),
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// One owner for the whole list.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Objects told apart by these fields.
    Map(Box<[Box<str>]>),
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists: merge instead of replace.
    pub merge: bool,
    /// Objects: a patch names the fields to keep.
    pub retain_keys: bool,
    /// Objects: replace instead of merge.
    pub replace: bool,
    /// Lists of objects: the field that tells items apart.
    pub merge_key: Option<Box<str>>,
}

/// What values must satisfy beyond their type.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub required: Box<[Box<str>]>,
    pub allowed: Box<[Value]>,
    pub format: Option<Box<str>>,
    pub pattern: Option<Pattern>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub all_of: Box<[Arc<Node>]>,
    pub any_of: Box<[Arc<Node>]>,
    pub one_of: Box<[Arc<Node>]>,
    pub not: Option<Arc<Node>>,
    pub validations: Box<[Rule]>,
}

/// A limit of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The CEL expression.
    pub rule: Box<str>,
    /// Said when it is broken. May be empty.
    pub message: Box<str>,
    /// Makes what is said when it is broken. May be empty.
    pub message_expression: Box<str>,
    /// `FieldValueForbidden` and the like. May be empty.
    pub reason: Box<str>,
    /// The field that is reported, below the one that has the rule: `.a.b`. May be empty.
    pub field_path: Box<str>,
    /// `oldSelf` is an optional value; without, a rule with `oldSelf` is about changes only.
    pub optional_old_self: bool,
    /// Parsed when it is first needed: the rule, and the message's expression.
    pub(super) programs: Arc<OnceLock<[ParsedProgram; 2]>>,
}

pub(super) type ParsedProgram = Result<Arc<Program>, String>;

impl Rule {
    fn programs(&self) -> &[ParsedProgram; 2] {
        self.programs.get_or_init(|| [Program::parse(&self.rule), Program::parse(&self.message_expression)])
    }

    /// The rule, ready to be evaluated.
    pub(crate) fn program(&self) -> &ParsedProgram {
        &self.programs()[0]
    }

    /// What makes the message, where something does.
    pub(crate) fn message_program(&self) -> Option<&ParsedProgram> {
        (!self.message_expression.is_empty()).then(|| &self.programs()[1])
    }
}

/// A regular expression, compiled when it is first needed.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: Arc<OnceLock<Option<Regex>>>,
}

impl Pattern {
    /// Keeps the text; it is compiled at the first match.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: Arc::default() }
    }

    /// The expression as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression occurs in `candidate`. One that can not be compiled matches nothing.
    pub fn is_match(&self, candidate: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(candidate))
    }
}

impl Node {
    /// The schema of the field `name`, known or not; None when such a field is dropped or not described.
    pub fn field(&self, name: &str) -> Option<&Arc<Node>> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::None | Additional::Anything => None,
        })
    }

    /// Whether fields beyond `properties` stay.
    pub fn keeps_unknown(&self) -> bool {
        self.preserve_unknown || matches!(self.additional, Additional::Anything) || self.is_free_form()
    }

    /// Neither typed nor described: anything goes, and nothing is known of what is inside.
    pub fn is_free_form(&self) -> bool {
        self.value_type == ValueType::Any && self.properties.is_empty() && self.items.is_none()
    }

    /// Names of fields that must be there.
    pub fn required(&self) -> &[Box<str>] {
        self.rules.as_ref().map_or(&[], |rules| &rules.required)
    }

    /// Whether `name` must be there.
    pub fn requires(&self, name: &str) -> bool {
        self.required().iter().any(|required| &**required == name)
    }
}
