//! The SandboxClaim controller: gives each claim a Sandbox, one of its pool's if it can, and ends it in time.
//!
//! Which claim a pool member belongs to is decided by one write: the change of the member's controller, made only if
//! nobody has changed the member since it was seen. Everything after it follows from that and can be repeated.

mod apply;
mod candidates;
mod env;
mod expiry;
mod metadata;
mod observe;
mod parking;
mod plan;
mod refusal;
mod sandbox;
pub(crate) mod shadow;
mod shelf;
mod status;
mod volumes;
mod waiting;

pub(crate) use apply::ClaimController;
pub(crate) use parking::Parking;
pub(crate) use shelf::Shelves;
