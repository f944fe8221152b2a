//! The only way to the API for everyone above it: clients in process and over the network, caches that follow a
//! kind, and connections into sandboxes.

pub mod cache;
pub mod connect;
pub mod sandbox;
pub mod wire;

pub use cache::{Cache, CacheBuilder, Change, ObjectKey};
pub use connect::{ConnectError, from_kubeconfig, in_process};
