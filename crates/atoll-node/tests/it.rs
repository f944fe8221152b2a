//! A node with simulated sandboxes against the embedded API server.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "it/plane.rs"]
mod plane;

#[path = "it/init.rs"]
mod init;
#[path = "it/lifecycle.rs"]
mod lifecycle;
#[path = "it/refusals.rs"]
mod refusals;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/volumes.rs"]
mod volumes;
