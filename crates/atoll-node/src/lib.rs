//! Plays the kubelet on one machine: watches the Pods bound to this node and makes what runs agree with them.

pub mod config;
pub mod node;

pub use config::{NodeCapacity, NodeConfig};
pub use node::{GuestEndpoint, Node, NodeError};
