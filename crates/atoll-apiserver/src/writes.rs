//! Making, changing and removing objects: the rules that hold for every kind, whoever asks.

use std::sync::Arc;

use atoll_store::{DeleteRequest, Expect, PutRequest, Record, StoreError};
use jiff::Timestamp;
use serde_json::Value;

use crate::accounts;
use crate::admission::{self, Admission};
use crate::apply::{self, ApplyError, Writer};
use crate::definitions::{Facet, Origin};
use crate::namespaces;
use crate::objects::{finalizers, is_deleting, metadata_mut, metadata_text, time_text};
use crate::registry::Resource;
use crate::request::{FieldValidation, WriteOptions};
use crate::schema::Cause;
use crate::server::ApiServer;
use crate::status::ApiError;

/// How often a change is tried anew when somebody else was faster.
const CONFLICT_RETRIES_MAX: usize = 16;
/// How often another name is tried when a generated one exists.
const GENERATED_NAMES_MAX: usize = 8;
const GENERATED_PREFIX_CHARS_MAX: usize = 58;
const GENERATED_SUFFIX_CHARS: usize = 5;
/// The characters of generated names: no vowels, so no words; no look-alikes.
const GENERATED_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What a write came to.
#[derive(Debug)]
pub(crate) enum Written {
    /// The object as it is stored now.
    Stored(Arc<Record>),
    /// The object as it would be stored (dry run).
    Proposed(Value),
    /// The object is gone; its last state.
    Removed(Arc<Record>),
}

/// What a change makes of an object.
pub(crate) struct Proposal {
    pub(crate) object: Value,
    /// The ownership of fields has been worked out already (server-side apply).
    pub(crate) owned: bool,
}

impl Proposal {
    pub(crate) fn untracked(object: Value) -> Self {
        Self { object, owned: false }
    }
}

/// One write, whoever asks for it.
#[derive(Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) resource: &'a Resource,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) options: &'a WriteOptions,
    pub(crate) facet: Facet,
    pub(crate) now: Timestamp,
    /// `None`: the server writes on its own account.
    pub(crate) admission: Option<Admission<'a>>,
}

impl Write<'_> {
    fn writer(&self) -> Writer<'_> {
        Writer {
            definition: &self.resource.definition,
            manager: &self.options.manager,
            facet: self.facet,
            now: self.now,
        }
    }

    /// Makes an object. `owned`: the ownership of fields has been worked out already.
    pub(crate) async fn create(&self, object: Value, owned: bool) -> Result<Written, ApiError> {
        let mut object = self.begin(object)?;
        let generated = metadata_text(&object, "name").is_empty();
        self.settle_new(&mut object, owned);
        self.note_finalizers(&Value::Null, &object);
        admission::before_create(self, &mut object)?;
        for attempt in 0.. {
            if generated {
                self.generate_name(&mut object);
            }
            let name = metadata_text(&object, "name").to_owned();
            self.check_new(&object, &name)?;
            namespaces::check_open(self.server, self.resource, self.namespace, &name)?;
            let _room = admission::after(self, None, &object)?;
            match self.put_new(&name, &object).await {
                Err(error) if generated && error.reason == "AlreadyExists" && attempt + 1 < GENERATED_NAMES_MAX => {}
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// What a client may not decide is taken out of a new object, and the server's part put in.
    fn begin(&self, mut object: Value) -> Result<Value, ApiError> {
        if !matches!(metadata_text(&object, "resourceVersion"), "" | "0") {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::unknown(http::StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        let (uid, now) = (atoll_rt::ids::uuid(), time_text(self.now));
        let metadata = metadata_mut(&mut object);
        for name in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(name);
        }
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        if let Some(namespace) = self.namespace {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        Ok(object)
    }

    fn settle_new(&self, object: &mut Value, owned: bool) {
        let definition = &self.resource.definition;
        definition.default(object);
        if !owned {
            apply::track_update(None, object, &self.writer());
        }
        definition.prepare_for_create(object);
    }

    fn generate_name(&self, object: &mut Value) {
        let prefix = metadata_text(object, "generateName");
        if prefix.is_empty() {
            return;
        }
        let prefix: String = prefix.chars().take(GENERATED_PREFIX_CHARS_MAX).collect();
        let random = atoll_rt::ids::random_hex(GENERATED_SUFFIX_CHARS * 2);
        let suffix = random.as_bytes().chunks(4).map(|digits| {
            let number = digits.iter().fold(0_usize, |number, digit| number * 16 + usize::from(digit % 16));
            char::from(GENERATED_ALPHABET[number % GENERATED_ALPHABET.len()])
        });
        let name: String = prefix.chars().chain(suffix).collect();
        metadata_mut(object).insert("name".to_owned(), name.into());
    }

    fn check_new(&self, object: &Value, name: &str) -> Result<(), ApiError> {
        let mut causes = self.resource.definition.validate_create(object);
        // A name is a part of a path, here and in the store, whatever rule its kind has for names.
        if causes.is_empty() && (name.contains(['/', '%']) || matches!(name, "" | "." | "..")) {
            let problem = "may not be empty, '.' or '..', nor contain '/' or '%'";
            causes.push(Cause::invalid("metadata.name", name, problem));
        }
        if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(&self.resource.about_kind(name), &causes)) }
    }

    async fn put_new(&self, name: &str, object: &Value) -> Result<Written, ApiError> {
        let key = self.resource.key(self.namespace, name);
        let exists = || {
            let known = self.server.store().get(&key);
            let leaving = known.is_some_and(|record| is_deleting(&self.resource.decode(&record.value)));
            let error = ApiError::already_exists(&self.resource.about(name));
            if leaving { error.prefixed("object is being deleted: ") } else { error }
        };
        if self.options.dry_run {
            let taken = self.server.store().get(&key).is_some();
            return if taken { Err(exists()) } else { Ok(Written::Proposed(object.clone())) };
        }
        let request = PutRequest { key: key.clone(), value: self.resource.encode(object), expect: Expect::Absent };
        match self.server.store().put(request).await {
            Ok(record) => {
                if namespaces::is_namespace(self.resource)
                    && let Err(error) = accounts::ensure_first(self.server, name).await
                {
                    tracing::warn!(namespace = name, cause = %error, "the default service account cannot be made");
                }
                Ok(Written::Stored(record))
            }
            Err(StoreError::Conflict { .. }) => Err(exists()),
            Err(error) => Err(store_error(&error)),
        }
    }

    /// Changes an object: `change` makes the new state out of the current one, and is called again if somebody else
    /// was faster. A change that names a resourceVersion fails then instead.
    pub(crate) async fn update<F>(&self, name: &str, change: F) -> Result<Written, ApiError>
    where
        F: Fn(&Value) -> Result<Proposal, ApiError> + Send + Sync,
    {
        let key = self.resource.key(self.namespace, name);
        for _attempt in 0..CONFLICT_RETRIES_MAX {
            let record =
                self.server.store().get(&key).ok_or_else(|| ApiError::not_found(&self.resource.about(name)))?;
            let old = self.resource.decode(&record.value);
            let new = self.settle(name, &old, change(&old)?)?;
            self.note_finalizers(&old, &new);
            if same_but_for_times(&old, &new) {
                return Ok(Written::Stored(record));
            }
            let _room = admission::after(self, Some(&old), &new)?;
            if self.options.dry_run {
                return Ok(Written::Proposed(new));
            }
            match self.replace(&key, &record, &old, &new).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(store_error(&error)),
                Ok(written) => return Ok(written),
            }
        }
        Err(ApiError::modified(&self.resource.about(name)))
    }

    async fn replace(&self, key: &str, record: &Record, old: &Value, new: &Value) -> Result<Written, StoreError> {
        let expect = Expect::Revision(record.revision);
        let value = self.resource.encode(new);
        if removal_is_due(self.resource, old, new) {
            let request = DeleteRequest { key: key.to_owned(), expect, last_value: Some(value) };
            return self.server.store().delete(request).await.map(Written::Removed);
        }
        self.server.store().put(PutRequest { key: key.to_owned(), value, expect }).await.map(Written::Stored)
    }

    /// The state to store: checked against the old one, with the server's part taken over.
    fn settle(&self, name: &str, old: &Value, proposal: Proposal) -> Result<Value, ApiError> {
        let Proposal { object: mut new, owned } = proposal;
        self.check_identity(name, old, &new)?;
        let metadata = metadata_mut(&mut new);
        metadata.remove("selfLink");
        let fixed = [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "namespace",
        ];
        for member in fixed {
            match old["metadata"].get(member) {
                Some(value) => metadata.insert(member.to_owned(), value.clone()),
                None => metadata.remove(member),
            };
        }
        let definition = &self.resource.definition;
        definition.default(&mut new);
        if !owned {
            apply::track_update(Some(old), &mut new, &self.writer());
        }
        definition.prepare_for_update(&mut new, old, self.facet);
        admission::before_update(self, old, &new)?;
        let causes = definition.validate_update(&new, old, self.facet);
        if causes.is_empty() { Ok(new) } else { Err(ApiError::invalid(&self.resource.about_kind(name), &causes)) }
    }

    fn check_identity(&self, name: &str, old: &Value, new: &Value) -> Result<(), ApiError> {
        let (old_uid, uid) = (metadata_text(old, "uid"), metadata_text(new, "uid"));
        if !uid.is_empty() && uid != old_uid {
            let problem = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
            return Err(ApiError::conflict(&self.resource.about(name), &problem));
        }
        let version = metadata_text(new, "resourceVersion");
        if !matches!(version, "" | "0") && version != metadata_text(old, "resourceVersion") {
            return Err(ApiError::modified(&self.resource.about(name)));
        }
        Ok(())
    }

    /// Makes or changes an object to what `applied` says (server-side apply). Returns whether it was made.
    pub(crate) async fn apply(&self, name: &str, applied: &Value, force: bool) -> Result<(Written, bool), ApiError> {
        let key = self.resource.key(self.namespace, name);
        for _attempt in 0..CONFLICT_RETRIES_MAX {
            if self.server.store().get(&key).is_some() {
                let change = |old: &Value| {
                    let object = apply::apply(Some(old), applied, &self.writer(), force).map_err(apply_error)?;
                    Ok(Proposal { object, owned: true })
                };
                match self.update(name, change).await {
                    Err(error) if error.reason == "NotFound" => continue,
                    result => return result.map(|written| (written, false)),
                }
            }
            if !metadata_text(applied, "resourceVersion").is_empty() || self.facet != Facet::Main {
                return Err(ApiError::not_found(&self.resource.about(name)));
            }
            if !metadata_text(applied, "uid").is_empty() {
                let problem = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    metadata_text(applied, "uid")
                );
                return Err(ApiError::conflict(&self.resource.about(name), &problem));
            }
            let object = apply::apply(None, applied, &self.writer(), force).map_err(apply_error)?;
            match self.create(object, true).await {
                Err(error) if error.reason == "AlreadyExists" => {}
                result => return result.map(|written| (written, true)),
            }
        }
        Err(ApiError::modified(&self.resource.about(name)))
    }

    fn note(&self, note: String) {
        if let Some(admission) = &self.admission {
            admission.notes.add(note);
        }
    }

    /// Remarks on new finalizers of custom resources that anybody else might use, too.
    fn note_finalizers(&self, old: &Value, new: &Value) {
        if self.resource.definition.strategy.origin != Origin::Custom {
            return;
        }
        let known = finalizers(old);
        for name in finalizers(new).iter().filter(|name| !name.contains('/') && !known.contains(name)) {
            self.note(format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with \
                 other finalizer writers"
            ));
        }
    }

    /// Drops what the kind does not know, and reports it as the client wishes.
    pub(crate) fn decode(&self, object: &mut Value, duplicates: &[String]) -> Result<(), ApiError> {
        let unknown =
            self.resource.definition.decode(object).map_err(|error| ApiError::bad_request(error.to_string()))?;
        self.report(&unknown, duplicates)
    }

    /// Reports what was dropped or given twice as the client wishes.
    pub(crate) fn report(&self, unknown: &[String], duplicates: &[String]) -> Result<(), ApiError> {
        let unknown = unknown.iter().map(|path| format!("unknown field \"{path}\""));
        let duplicates = duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
        let problems: Vec<String> = unknown.chain(duplicates).collect();
        let definition = &self.resource.definition;
        match self.options.field_validation {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                problems.into_iter().for_each(|problem| self.note(problem));
                Ok(())
            }
            FieldValidation::Strict if problems.is_empty() => Ok(()),
            FieldValidation::Strict => Err(ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {problems}",
                kind = definition.kind,
                version = definition.version,
                problems = problems.join(", "),
            ))),
        }
    }
}

/// Whether an object that was only held by finalizers is held no more.
fn removal_is_due(resource: &Resource, old: &Value, new: &Value) -> bool {
    is_deleting(old)
        && old["metadata"]["deletionGracePeriodSeconds"].as_i64() == Some(0)
        && finalizers(new).is_empty()
        && namespaces::is_released(resource, new)
}

/// Whether two states differ at most in the times of their managers: then nothing is to be written.
fn same_but_for_times(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    old.len() == new.len()
        && old.iter().all(|(name, member)| match new.get(name) {
            Some(other) if name == "metadata" => same_metadata(member, other),
            Some(other) => member == other,
            None => false,
        })
}

fn same_metadata(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let without = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("time");
        }
        entry
    };
    let same_managers = |left: &Value, right: &Value| match (left.as_array(), right.as_array()) {
        (Some(left), Some(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(one, other)| without(one) == without(other))
        }
        _ => left == right,
    };
    old.len() == new.len()
        && old.iter().all(|(name, member)| match new.get(name) {
            Some(other) if name == "managedFields" => same_managers(member, other),
            Some(other) => member == other,
            None => false,
        })
}

fn apply_error(error: ApplyError) -> ApiError {
    let message = error.to_string();
    match error {
        ApplyError::Conflicts(conflicts) => {
            let causes: Vec<(String, String)> = conflicts
                .into_iter()
                .map(|conflict| (format!("conflict with {}", conflict.manager), conflict.field))
                .collect();
            ApiError::apply_conflict(message, &causes)
        }
        ApplyError::Invalid(_) => ApiError::bad_request(message),
        ApplyError::Untyped { .. } => ApiError::unknown(http::StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

/// A failure of the store, in the words of the API.
pub(crate) fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::Overloaded => ApiError::too_many_requests(),
        StoreError::Closed => ApiError::unavailable("the server is shutting down"),
        StoreError::TooLarge => ApiError::too_large(atoll_store::keys::VALUE_BYTES_MAX),
        StoreError::Compacted { oldest } => ApiError::expired(format!("the history begins at {oldest}")),
        StoreError::Future { asked, current } => ApiError::too_large_resource_version(*asked, *current),
        StoreError::Database(atoll_store::DatabaseError::Full { .. }) => {
            ApiError::unknown(http::StatusCode::INSUFFICIENT_STORAGE, atoll_stdx::chain(error))
        }
        StoreError::Conflict { .. } | StoreError::Database(_) => ApiError::internal(atoll_stdx::chain(error)),
    }
}
