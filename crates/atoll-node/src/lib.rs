//! Plays the kubelet on one machine: watches the Pods bound to this node and makes what runs agree with them.
//!
//! What to do is decided by a pure function of what is wanted, what is the case and the time (`converge`); one task
//! owns all state and carries the decisions out.

pub mod config;
pub mod driver_runtime;
pub mod node;
pub mod runtime;
pub mod simulated;
pub mod status;
pub mod streams;
mod tier;

mod addresses;
mod claims;
mod converge;
mod downward;
mod environment;
mod events;
mod hooks;
mod images;
mod init;
mod pod;
mod probe;
mod quantity;
mod register;
mod slot;
mod start;
mod translate;
mod unsupported;
mod volumes;
mod worker;

pub use config::{NodeCapacity, NodeConfig, PartName};
pub use driver_runtime::{DriverRuntime, Furnish};
pub use images::IDLE_ANNOTATION;
pub use node::{Node, NodeError};
pub use runtime::{CheckOutcome, GuestEndpoint, PodRuntime, Question, RuntimeError, RuntimeErrorKind};
pub use simulated::{SimulatedConfig, SimulatedRuntime};
pub use streams::{PlanePart, StreamAnswer, StreamKind, StreamRefusal, StreamRequest};
pub use volumes::{SHARE_ATTRIBUTE, SHARE_DRIVER};
