//! Conversation files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

const MODEL_DEFAULT: &str = "scripted";
/// Pause between two pieces of a streamed answer.
const CHUNK_DELAY_MS_MAX: u64 = 10_000;

/// A written conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The model's name in answers.
    #[serde(default = "default_model")]
    pub(super) model: String,
    /// Milliseconds between two pieces of an answer.
    #[serde(default)]
    pub(super) chunk_delay_ms: u64,
    pub(super) agents: Vec<Part>,
}

/// What one agent says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Its name, as its instructions say it: `You are "NAME"`.
    pub(super) agent: String,
    /// Words of the task that this part answers; without any it answers every task.
    #[serde(default)]
    pub(super) task_contains: Option<String>,
    pub(super) turns: Vec<Turn>,
}

/// One answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    /// Words that what came since the last answer must hold; otherwise the conversation has gone another way.
    #[serde(default)]
    pub(super) expect: Vec<String>,
    /// Names for parts of what came since the last answer; `${NAME}` stands for them in this turn and later ones.
    #[serde(default)]
    pub(super) capture: BTreeMap<String, Capture>,
    #[serde(default)]
    pub(super) text: String,
    #[serde(default)]
    pub(super) calls: Vec<Call>,
}

/// Where a captured part begins and ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    /// It begins after the first occurrence of this.
    pub(super) after: String,
    /// It ends before this; at the end of the line without it.
    #[serde(default)]
    pub(super) until: Option<String>,
}

/// One tool call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) tool: String,
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
}

/// A conversation file that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ScriptError {
    /// As given to [`Script::parse`].
    pub file: String,
    /// What is wrong, with line and column where there is one.
    pub message: String,
}

fn default_model() -> String {
    MODEL_DEFAULT.to_owned()
}

impl Script {
    /// Reads a conversation file.
    ///
    /// # Errors
    /// YAML that does not parse, unknown keys, agents without turns, turns without content.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ScriptError> {
        let refuse = |message: String| ScriptError { file: file_name.to_owned(), message };
        let script: Self = serde_yaml_ng::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if script.agents.is_empty() {
            return Err(refuse("`agents` is empty".to_owned()));
        }
        if script.chunk_delay_ms > CHUNK_DELAY_MS_MAX {
            return Err(refuse(format!("`chunk_delay_ms` is at most {CHUNK_DELAY_MS_MAX}")));
        }
        for part in &script.agents {
            if part.turns.is_empty() {
                return Err(refuse(format!("agent {:?} has no turns", part.agent)));
            }
            for (index, turn) in part.turns.iter().enumerate() {
                if turn.text.is_empty() && turn.calls.is_empty() {
                    return Err(refuse(format!("turn {} of {:?} has neither text nor calls", index + 1, part.agent)));
                }
            }
        }
        Ok(script)
    }

    /// The model's name in answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_refused_with_the_place() {
        for (text, complaint) in [
            ("agents: []", "`agents` is empty"),
            ("agents:\n- agent: a\n  turns: []", "has no turns"),
            ("agents:\n- agent: a\n  turns:\n  - expect: [x]", "neither text nor calls"),
            ("agents:\n- agent: a\n  turnz: []", "line 3"),
            ("agents: {", "line"),
        ] {
            let error = Script::parse(text, "talk.yaml").expect_err(text).to_string();
            assert!(error.starts_with("talk.yaml: ") && error.contains(complaint), "{error}");
        }
    }
}
