//! Deleting: preconditions, grace, finalizers, propagation.

use atoll_store::{DeleteRequest, Expect, PutRequest, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::objects::{finalizers, is_deleting, metadata_mut, metadata_text, set_finalizers, time_text};
use crate::registry::Resource;
use crate::request::{Query, invalid_option, parse_dry_run};
use crate::schema::Reason;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Written, store_error};
use crate::{crds, namespaces};

/// Holds an owner until what it owns is gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Holds an owner until what it owned has been let go.
pub(crate) const ORPHAN: &str = "orphan";

const CONFLICT_RETRIES_MAX: usize = 16;
/// How long a pod may take to end if it says nothing about it.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the query and the body (`null` if there is none). The body says more than the query.
    pub(crate) fn parse(query: &Query, body: &Value) -> Result<Self, ApiError> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let in_body: Vec<&str> = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let policy = text(&body["propagationPolicy"]).or_else(|| query.get("propagationPolicy").map(str::to_owned));
        let orphan = body["orphanDependents"].as_bool().or_else(|| query.choice("orphanDependents"));
        if let Some(policy) = policy.as_deref().filter(|_| orphan.is_some()) {
            let message =
                format!("Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set");
            return Err(invalid_option("DeleteOptions", Reason::FieldValueInvalid, "propagationPolicy", &message));
        }
        let propagation = match policy.as_deref() {
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let message = format!(
                    r#"Unsupported value: {other:?}: supported values: "Foreground", "Background", "Orphan", "nil""#
                );
                return Err(invalid_option(
                    "DeleteOptions",
                    Reason::FieldValueNotSupported,
                    "propagationPolicy",
                    &message,
                ));
            }
            None => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
        };
        Ok(Self {
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            grace_period_seconds: body["gracePeriodSeconds"]
                .as_i64()
                .map_or_else(|| query.number("gracePeriodSeconds"), |it| Ok(Some(it)))?,
            propagation,
            dry_run: parse_dry_run(query.all("dryRun").chain(in_body), "DeleteOptions")?,
        })
    }

    fn check(&self, resource: &Resource, name: &str, object: &Value) -> Result<(), ApiError> {
        let checks = [
            ("UID", &self.uid, "uid", "deleted and then recreated"),
            ("ResourceVersion", &self.resource_version, "resourceVersion", "modified"),
        ];
        for (word, wanted, member, perhaps) in checks {
            let found = metadata_text(object, member);
            if let Some(wanted) = wanted
                && wanted != found
            {
                let problem = format!(
                    "the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). The object \
                     might have been {perhaps}"
                );
                return Err(ApiError::conflict(&resource.about_kind(name), &problem));
            }
        }
        Ok(())
    }
}

/// Deletes an object, or begins to: then it is [`Written::Stored`] with its deletion time.
pub(crate) async fn delete(
    server: &ApiServer,
    resource: &Resource,
    namespace: Option<&str>,
    name: &str,
    options: &DeleteOptions,
) -> Result<Written, ApiError> {
    let key = resource.key(namespace, name);
    namespaces::check_deletable(resource, name)?;
    for _attempt in 0..CONFLICT_RETRIES_MAX {
        let record = server.store().get(&key).ok_or_else(|| ApiError::not_found(&resource.about(name)))?;
        let old = resource.decode(&record.value);
        options.check(resource, name, &old)?;
        let expect = Expect::Revision(record.revision);
        let result = match plan(resource, &old, options, server.now()) {
            Step::Nothing => return Ok(Written::Stored(record)),
            Step::Mark(new) | Step::Remove(new) if options.dry_run => return Ok(Written::Proposed(new)),
            Step::Mark(new) => {
                let request = PutRequest { key: key.clone(), value: resource.encode(&new), expect };
                server.store().put(request).await.map(Written::Stored)
            }
            Step::Remove(_) => {
                let last_value = Some(resource.restamp(&record.value));
                let request = DeleteRequest { key: key.clone(), expect, last_value };
                server.store().delete(request).await.map(Written::Removed)
            }
        };
        match result {
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(store_error(&error)),
            Ok(written) => return Ok(written),
        }
    }
    Err(ApiError::modified(&resource.about(name)))
}

/// What a request to delete comes to.
#[derive(Debug, PartialEq)]
enum Step {
    /// Deletion is under way already.
    Nothing,
    /// The object stays for now, in this state.
    Mark(Value),
    /// The object goes at once.
    Remove(Value),
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let mut new = old.clone();
    let mut held = holders(old, options.propagation);
    held.extend(crds::holder(resource, old).map(str::to_owned));
    let waits = !held.is_empty() || !namespaces::is_released(resource, old);
    set_finalizers(&mut new, held);
    let grace = if resource.definition.strategy.graceful_deletion { grace_seconds(old, options) } else { 0 };
    if is_deleting(old) {
        let current = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        // A pending deletion can be made quicker, never slower.
        if options.grace_period_seconds.is_some() && grace < current {
            mark(&mut new, now, grace, Some(current));
        }
        let pending = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        if !waits && !pending {
            return Step::Remove(new);
        }
        return if new == *old { Step::Nothing } else { Step::Mark(new) };
    }
    if grace == 0 && !waits {
        return Step::Remove(new);
    }
    mark(&mut new, now, grace, None);
    namespaces::mark_terminating(resource, &mut new);
    crds::mark_terminating(resource, &mut new, now);
    Step::Mark(new)
}

/// The finalizers that hold the object, the garbage collector's brought up to date.
fn holders(old: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let mut held = finalizers(old);
    let wanted = match propagation {
        None => return held,
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
    };
    held.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
    held.extend(wanted.map(str::to_owned));
    held
}

/// How long whoever runs the object may take.
fn grace_seconds(old: &Value, options: &DeleteOptions) -> i64 {
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(DEFAULT_GRACE_SECONDS);
    let asked = options.grace_period_seconds.unwrap_or(own);
    let nobody_runs_it = old["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let over = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if nobody_runs_it || over {
        return 0;
    }
    // As a real server has it: less than nothing means as soon as possible, but not by force.
    if asked < 0 { 1 } else { asked }
}

/// Sets the time of deletion. `current`: the grace period of the deletion that is pending.
fn mark(object: &mut Value, now: Timestamp, grace: i64, current: Option<i64>) {
    let pending = object["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let start = match (pending, current) {
        (Some(due), Some(current)) => due.checked_sub(SignedDuration::from_secs(current)).unwrap_or(now),
        _ => now,
    };
    let due = start.checked_add(SignedDuration::from_secs(grace)).unwrap_or(start);
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), time_text(due).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}
