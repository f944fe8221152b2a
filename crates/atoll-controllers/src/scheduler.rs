//! A small scheduler: gives each Pod to a node that has room for what it asks for, and says why when none has.

mod apply;
mod fit;
mod ledger;
mod quantity;
mod requests;

pub(crate) use apply::{Scheduler, Waiting, needs_node};
pub(crate) use ledger::{Ledger, has_ended};
