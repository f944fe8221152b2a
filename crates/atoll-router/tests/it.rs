//! A router before servers of all kinds, with the embedded API server behind it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "it/backend.rs"]
mod backend;
#[path = "it/plane.rs"]
mod plane;
#[path = "it/wire.rs"]
mod wire;

#[path = "it/attacks.rs"]
mod attacks;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/passing.rs"]
mod passing;
#[path = "it/resolution.rs"]
mod resolution;
#[path = "it/streaming.rs"]
mod streaming;
