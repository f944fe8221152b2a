//! The brain of a run of agents: a pure state machine. No IO, no clock, no randomness.

pub mod tools;
