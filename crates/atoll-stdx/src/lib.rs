//! What the standard library should have had for us: secrets that cannot be printed, error chains, hints, the
//! clock and id seams, and the name hash of the sandbox API. No IO, no clock, no async runtime.

mod error;
mod hash;
mod seam;
mod secret;

pub use error::{Hint, chain};
pub use hash::name_hash;
pub use seam::{Clock, IdGen};
pub use secret::Secret;
