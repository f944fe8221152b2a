//! The scripted upstream: a real HTTP server that speaks Chat Completions and plays a written conversation.

use atoll_rt::{TaskGroup, TaskHandle};
use tokio::net::TcpListener;

/// A written conversation.
#[derive(Debug, Clone)]
pub struct Script {}

/// A conversation file that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ScriptError {
    /// As given to [`Script::parse`].
    pub file: String,
    /// What is wrong, with line and column.
    pub message: String,
}

impl Script {
    /// Reads a conversation file.
    ///
    /// # Errors
    /// YAML that does not parse, unknown keys, turns without content, captures that do not compile.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ScriptError> {
        let _ = (text, file_name);
        unimplemented!()
    }
}

/// Serves the script at `/v1/chat/completions` until the group stops.
pub fn serve(group: &TaskGroup, listener: TcpListener, script: Script) -> TaskHandle<()> {
    let _ = (group, listener, script);
    unimplemented!()
}
