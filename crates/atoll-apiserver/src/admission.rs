//! What is asked of a write beyond its kind's own rules, depending on who writes and where.

mod pod_security;

use std::sync::Mutex;

use serde_json::Value;

use crate::authn::Identity;
use crate::definitions::Facet;
use crate::rbac;
use crate::status::{About, ApiError};
use crate::writes::Write;

/// Remarks on a request that its sender is to see.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn add(&self, note: String) {
        let mut notes = self.0.lock().expect("no panic while the notes are locked");
        if !notes.contains(&note) {
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

/// Before a new or changed object (`old`: what it was) is checked by its kind's rules: refuses what its writer may not
/// give.
pub(crate) fn before(write: &Write<'_>, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let Some(admission) = write.admission else { return Ok(()) };
    rbac::check_escalation(write.server, admission.identity, write.resource, old, new)
}

/// After a new or changed object was found to be sound: refuses what its namespace does not let in.
pub(crate) fn after(write: &Write<'_>, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let Some(admission) = write.admission else { return Ok(()) };
    let definition = &write.resource.definition;
    if write.facet != Facet::Main || !definition.group.is_empty() {
        return Ok(());
    }
    let warnings = match (definition.plural.as_str(), write.namespace) {
        ("pods", Some(namespace)) => {
            if old.is_none() {
                check_account(write, namespace, new)?;
            }
            pod_security::check_pod(write.server, namespace, old, new)?
        }
        ("namespaces", _) => pod_security::check_namespace(write.server, old, new)?,
        _ => return Ok(()),
    };
    warnings.into_iter().for_each(|warning| admission.notes.add(warning));
    Ok(())
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
