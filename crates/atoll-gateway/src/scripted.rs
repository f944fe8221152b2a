//! The scripted upstream: a real HTTP server that speaks Chat Completions, with streaming and tool calls, and plays a
//! written conversation. For demonstrations and tests without a model.
//!
//! It keeps no state: which turn is next follows from the request's own history, so that a run that was broken off and
//! taken up again gets the same answers.

mod script;
mod server;
mod turn;

pub use script::{Script, ScriptError};
pub use server::serve;
