//! What comes of a run.

use std::collections::BTreeMap;
use std::fmt;

/// A run in which every promise was kept.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What people did, by name.
    pub deeds: BTreeMap<&'static str, usize>,
    /// What happened to requests on the way, by name.
    pub faults: BTreeMap<&'static str, usize>,
    /// Writes to the store, each of which was checked.
    pub writes: u64,
    /// Claims that were Ready in the end.
    pub ready_claims: usize,
    /// Simulated time, in seconds.
    pub simulated_s: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} writes in {} simulated seconds, {} claims ready; deeds {:?}; faults {:?}",
            self.writes, self.simulated_s, self.ready_claims, self.deeds, self.faults
        )
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}: {what}")]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// What was broken, with the objects concerned.
    pub what: String,
}
