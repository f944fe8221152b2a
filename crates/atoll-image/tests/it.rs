//! Images of every form and of bad will, unpacked in temporary directories. Nothing here needs root or a network.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/maker.rs"]
mod maker;
#[path = "it/sources.rs"]
mod sources;
#[path = "it/stacking.rs"]
mod stacking;
