//! The real clock.

use std::time::{SystemTime, UNIX_EPOCH};

use atoll_stdx::Clock;

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_unix_ms(&self) -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds since the Unix epoch, by the machine's wall clock.
#[must_use]
pub fn now_unix_ms() -> u64 {
    SystemClock.now_unix_ms()
}
