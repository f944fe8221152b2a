//! What a pool's controller remembers between two looks. Nothing in it is needed: after a restart it is as at first.

use std::time::Duration;

use tokio::time::Instant;

/// Remembered about one pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolMemory {
    filled: bool,
    short_since: Option<Instant>,
    differs_since: Option<Instant>,
    status_written: Option<Instant>,
    not_progressing: bool,
}

/// The same, as spans of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recollection {
    /// Whether the pool was complete once.
    pub(crate) filled: bool,
    /// For how long it has not been complete.
    pub(crate) short_for: Duration,
    /// For how long its status has not been what it should be.
    pub(crate) differs_for: Duration,
    /// How long ago its status was written.
    pub(crate) status_written_ago: Option<Duration>,
    /// Whether people were told that it makes no progress.
    pub(crate) not_progressing: bool,
}

impl PoolMemory {
    /// Takes in what is seen, and tells how long it has been so.
    pub(crate) fn note(&mut self, short: bool, complete: bool, differs: bool, now: Instant) -> Recollection {
        self.filled |= complete;
        self.short_since = short.then(|| self.short_since.unwrap_or(now));
        self.differs_since = differs.then(|| self.differs_since.unwrap_or(now));
        let since = |start: Option<Instant>| start.map(|start| now.duration_since(start)).unwrap_or_default();
        Recollection {
            filled: self.filled,
            short_for: since(self.short_since),
            differs_for: since(self.differs_since),
            status_written_ago: self.status_written.map(|written| now.duration_since(written)),
            not_progressing: self.not_progressing,
        }
    }

    /// The status was written.
    pub(crate) fn status_written(&mut self, now: Instant) {
        self.status_written = Some(now);
        self.differs_since = None;
    }

    /// People were told whether the pool makes progress.
    pub(crate) fn told(&mut self, not_progressing: bool) {
        self.not_progressing = not_progressing;
    }
}
