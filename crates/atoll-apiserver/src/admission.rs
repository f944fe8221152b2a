//! What is asked of a write beyond its kind's own rules, depending on who writes and where.

use std::sync::Mutex;

use serde_json::Value;

use crate::authn::Identity;
use crate::rbac;
use crate::status::ApiError;
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
