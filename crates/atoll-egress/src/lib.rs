//! What sandboxes may reach: NetworkPolicies and the administrator's floor, compiled to rules for the machine's packet
//! filter; and the proxy through which connections to the outside go, name by name.
//!
//! Begin reading at [`policy`] and [`verdict`]: they are pure. [`controller`] watches objects and puts what it yields in
//! force; [`proxy`] carries connections.

pub mod controller;
pub mod credential;
pub mod dns;
pub mod floor;
pub mod grants;
pub mod hello;
pub mod link;
pub mod lookup;
pub mod name;
pub mod node_credentials;
pub mod policy;
pub mod proxy;
pub mod ranges;
pub mod record;
pub mod redact;
pub mod rules;
mod selector;
pub mod snapshot;
pub mod synthetic;
pub mod verdict;

pub use controller::{EgressConfig, EgressController, Enforcer};
pub use floor::Floor;
pub use snapshot::Snapshot;
