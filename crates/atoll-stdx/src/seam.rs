//! The seams through which time and names enter, so that pure code can be replayed.

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_unix_ms(&self) -> u64;
}

/// Makes names that are never made twice.
pub trait IdGen: Send + Sync {
    /// A new identifier, lower case, sortable by creation time.
    fn next_id(&self) -> String;
}
