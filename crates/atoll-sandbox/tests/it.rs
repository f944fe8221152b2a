//! Sandboxes on a real machine: as root, with everything that the tests need started by themselves.
//!
//! A program of its own instead of the usual harness, since a launcher must be a fresh process with one thread: this
//! program is executed again for it.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "it/runner.rs"]
mod runner;

#[path = "it/guest.rs"]
mod guest;
#[path = "it/plane.rs"]
mod plane;

#[path = "it/attacks.rs"]
mod attacks;
#[path = "it/gvisor.rs"]
mod gvisor;
#[path = "it/images.rs"]
mod images;
#[path = "it/latency.rs"]
mod latency;
#[path = "it/lifecycle.rs"]
mod lifecycle;
#[path = "it/network.rs"]
mod network;
#[path = "it/recovery.rs"]
mod recovery;
#[path = "it/shares.rs"]
mod shares;

use std::process::ExitCode;

const LAUNCHER_ARGUMENT: &str = "__launcher";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(LAUNCHER_ARGUMENT) {
        return atoll_sandbox::launcher::run_launcher();
    }
    let mut tests: Vec<runner::Test> = Vec::new();
    tests.extend(lifecycle::TESTS);
    tests.extend(attacks::TESTS);
    tests.extend(network::TESTS);
    tests.extend(gvisor::TESTS);
    tests.extend(recovery::TESTS);
    tests.extend(images::TESTS);
    tests.extend(shares::TESTS);
    tests.extend(latency::TESTS);
    runner::run(&tests)
}
