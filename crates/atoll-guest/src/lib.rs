//! The protocol between Atoll on the machine and the guest (PID 1) inside a sandbox.
//!
//! The library is only the protocol: types and framing, no input or output of its own. The guest itself is the
//! binary `atoll-guest` of this crate.

pub mod protocol;
pub mod supervisor;
