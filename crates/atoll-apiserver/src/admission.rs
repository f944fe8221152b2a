//! What is asked of a write beyond its kind's own rules, depending on who writes and where.

mod amounts;
mod limits;
mod pod_security;
mod quota;

use std::sync::Mutex;

use serde_json::Value;

use crate::authn::Identity;
use crate::definitions::Facet;
use crate::rbac;
use crate::registry::Resource;
use crate::status::{About, ApiError};
use crate::writes::Write;

pub(crate) use quota::{Quotas, Reservation, start as start_quotas};

/// Remarks on one request; more are not told.
const NOTES_MAX: usize = 64;

/// Remarks on a request that its sender is to see.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn add(&self, note: String) {
        let mut notes = self.0.lock().expect("no panic while the notes are locked");
        if notes.len() < NOTES_MAX && !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic while the notes are locked"))
    }
}

/// Who writes, and where remarks go.
#[derive(Clone, Copy)]
pub(crate) struct Admission<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) notes: &'a Notes,
}

fn is_core(resource: &Resource, plural: &str) -> bool {
    resource.definition.group.is_empty() && resource.definition.plural == plural
}

/// Before a new object is checked by its kind's rules: refuses what its writer may not give, and gives what its
/// namespace gives to those that ask for nothing.
pub(crate) fn before_create(write: &Write<'_>, new: &mut Value) -> Result<(), ApiError> {
    let Some(admission) = write.admission else { return Ok(()) };
    if let (true, Some(namespace)) = (is_core(write.resource, "pods"), write.namespace) {
        limits::give_defaults(write.server, namespace, new);
    }
    rbac::check_escalation(write.server, admission.identity, write.resource, None, new)
}

/// Before a changed object (`old`: what it was) is checked by its kind's rules: refuses what its writer may not give.
pub(crate) fn before_update(write: &Write<'_>, old: &Value, new: &Value) -> Result<(), ApiError> {
    let Some(admission) = write.admission else { return Ok(()) };
    rbac::check_escalation(write.server, admission.identity, write.resource, Some(old), new)
}

/// After a new or changed object was found to be sound: refuses what its namespace does not let in or has no room for.
/// The room is kept as long as what is returned.
pub(crate) fn after<'a>(
    write: &Write<'a>,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Reservation<'a>>, ApiError> {
    let Some(admission) = write.admission.filter(|_| write.facet == Facet::Main) else { return Ok(None) };
    if is_core(write.resource, "namespaces") {
        let warnings = pod_security::check_namespace(write.server, old, new)?;
        warnings.into_iter().for_each(|warning| admission.notes.add(warning));
    }
    let Some(namespace) = write.namespace else { return Ok(None) };
    let (pod, claim) = (is_core(write.resource, "pods"), is_core(write.resource, "persistentvolumeclaims"));
    if pod {
        if old.is_none() {
            check_account(write, namespace, new)?;
        }
        let warnings = pod_security::check_pod(write.server, namespace, old, new)?;
        warnings.into_iter().for_each(|warning| admission.notes.add(warning));
    }
    if claim || (pod && old.is_none()) {
        limits::check(write.server, write.resource, namespace, new)?;
    }
    quota::reserve(write.server, write.resource, namespace, new, write.options.dry_run)
}

/// A Pod that names a service account runs as one that exists.
fn check_account(write: &Write<'_>, namespace: &str, pod: &Value) -> Result<(), ApiError> {
    let Some(resource) = write.server.registry().by_path("v1", "serviceaccounts") else { return Ok(()) };
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if account.is_empty() || write.server.store().get(&resource.key(Some(namespace), account)).is_some() {
        return Ok(());
    }
    let problem =
        format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::forbidden(&About { group: "", kind: "pods", name }, &problem))
}
