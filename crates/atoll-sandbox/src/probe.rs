//! What this machine can do, each finding with its evidence and its remedy.

use serde::{Deserialize, Serialize};

use crate::spec::Tier;

/// One finding about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, for example `user namespaces`.
    pub name: String,
    /// Whether it is as needed.
    pub ok: bool,
    /// What was seen.
    pub evidence: String,
    /// What to do about it; `None` when `ok`.
    pub remedy: Option<String>,
    /// The tiers that cannot be had without it; empty when it is only worth knowing.
    pub needed_for: Vec<Tier>,
}

/// Looks at the machine. Takes some milliseconds.
pub fn probe(_config: &crate::launcher::LauncherConfig) -> Vec<Finding> {
    Vec::new()
}
