//! Time as the simulation has it.

use std::time::Duration;

use atoll_stdx::Clock;
use tokio::time::Instant;

use crate::network::Wire;

/// When every simulation begins: 2026-01-01T00:00:00Z.
const BEGINNING_UNIX_MS: u64 = 1_767_225_600_000;
/// How far time moves at once.
const STEP: Duration = Duration::from_millis(10);
/// Turns that everybody gets before time moves on.
const TURNS: usize = 8;
/// How long to wait, in real time, for a thread that writes to the disk.
const DISK_WAIT: Duration = Duration::from_micros(50);

/// The wall clock of the simulation.
pub(crate) struct SimulatedClock {
    beginning: Instant,
}

impl SimulatedClock {
    pub(crate) fn new() -> Self {
        Self { beginning: Instant::now() }
    }
}

impl Clock for SimulatedClock {
    fn now_unix_ms(&self) -> u64 {
        BEGINNING_UNIX_MS + u64::try_from(self.beginning.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Moves time on whenever nothing is under way: no request is being answered. (The runtime would do so by itself if no
/// thread of its own wrote to the disk.)
pub(crate) async fn run(wire: &Wire) {
    loop {
        let mut turns = 0;
        while turns < TURNS {
            tokio::task::yield_now().await;
            if wire.is_busy() {
                turns = 0;
                std::thread::sleep(DISK_WAIT);
            } else {
                turns += 1;
            }
        }
        tokio::time::advance(STEP).await;
    }
}
