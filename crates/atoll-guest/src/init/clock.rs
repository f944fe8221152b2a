//! Time since the machine started; the guest needs no calendar.

use rustix::event::Timespec;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of the monotonic clock.
pub(crate) fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("the monotonic clock does not run below zero");
    let millis = u64::try_from(now.tv_nsec).expect("nanoseconds are not negative") / 1_000_000;
    seconds * 1_000 + millis
}

/// A duration as the kernel wants it.
pub(crate) fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1_000).expect("below a thousand") * 1_000_000,
    }
}
