//! A seeded simulation: API server, controllers and a fake node in one process, on a clock of its own, with a network
//! and people that do their worst.
//!
//! The seed decides what people ask for, which requests are lost, delayed, doubled or refused, when watches close, which
//! lists are stale, and what crashes when. Names and the order in which tasks run are not the seed's: the same seed is
//! the same weather, not the same instant. Meanwhile every write is checked as it happens, and in the end, after the
//! weather has cleared, everything that was promised must have come true.

mod clock;
mod dice;
mod history;
mod network;
mod node;
mod outcome;
mod people;
mod world;

use std::time::Duration;

pub use outcome::{Report, Violation};

use dice::Dice;
use world::World;

/// How much happens in one run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What people do, one thing after the other.
    pub deeds: usize,
    /// Requests out of a thousand to which something happens on the way.
    pub faults_per_mille: u32,
    /// Times that controllers or API server are killed and started again.
    pub crashes: usize,
    /// How long everything has to come true after the last deed, in simulated time.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deeds: 60, faults_per_mille: 80, crashes: 3, patience: Duration::from_secs(240) }
    }
}

/// Runs one simulation. Blocks, on a runtime of its own.
///
/// # Errors
/// What was violated, with the seed to see it again.
///
/// # Panics
/// If the machine can not do what any machine can: make a runtime and a temporary directory.
pub fn simulate(seed: u64, settings: &Settings) -> Result<Report, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    let outcome = runtime.block_on(run(seed, settings));
    // Threads that write to the disk end by themselves soon.
    runtime.shutdown_background();
    outcome.map_err(|what| Violation { seed, what })
}

async fn run(seed: u64, settings: &Settings) -> Result<Report, String> {
    let dice = Dice::new(seed);
    let world = World::start(&dice, settings.faults_per_mille).await;
    let outcome = people::live(&world, &dice, settings).await;
    world.stop();
    outcome
}
