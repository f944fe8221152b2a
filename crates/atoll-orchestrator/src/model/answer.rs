//! Putting an answer together from the pieces of a stream.

use atoll_engine::{Answer, RawCall, Usage};
use serde::Deserialize;

/// Everything of one answer together; more is cut off.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Tool calls of one answer; the engine takes fewer.
const CALLS_MAX: usize = 128;

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Building {
    text: String,
    calls: Vec<RawCall>,
    finish_reason: Option<String>,
    model: String,
    usage: Usage,
    bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    Full,
    #[error("the model's answer is not what Chat Completions promises")]
    Json(#[source] serde_json::Error),
    #[error("the model reported an error: {0}")]
    Reported(String),
    #[error("the model's answer ended in the middle")]
    Unfinished,
    #[error("the model's answer has more than {CALLS_MAX} tool calls")]
    TooManyCalls,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<ChunkUsage>,
    #[serde(default)]
    error: Option<ChunkError>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct ChunkUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct ChunkError {
    #[serde(default)]
    message: String,
}

impl Building {
    /// Takes one event's data; returns new text, if it brings any.
    pub(super) fn take(&mut self, data: &str) -> Result<Option<String>, BuildError> {
        let chunk: Chunk = serde_json::from_str(data).map_err(BuildError::Json)?;
        if let Some(error) = chunk.error {
            return Err(BuildError::Reported(error.message));
        }
        self.bytes += data.len();
        if self.bytes > ANSWER_BYTES_MAX {
            self.finish_reason = Some("length".to_owned());
            return Err(BuildError::Full);
        }
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            self.model = model;
        }
        if let Some(usage) = chunk.usage {
            self.usage = Usage { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens };
        }
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(None) };
        if choice.finish_reason.is_some() {
            self.finish_reason = choice.finish_reason;
        }
        let delta = choice.delta.unwrap_or_default();
        for call in delta.tool_calls.unwrap_or_default() {
            self.take_call(call)?;
        }
        if delta.refusal.as_ref().is_some_and(|refusal| !refusal.is_empty()) {
            self.finish_reason = Some("refusal".to_owned());
        }
        let text = delta.content.or(delta.refusal).filter(|text| !text.is_empty());
        self.text.push_str(text.as_deref().unwrap_or_default());
        Ok(text)
    }

    fn take_call(&mut self, delta: CallDelta) -> Result<(), BuildError> {
        let named = delta.id.as_ref().is_some_and(|id| !id.is_empty());
        // Without an index, a new id means a new call.
        let index = delta.index.unwrap_or(if named { self.calls.len() } else { self.calls.len().saturating_sub(1) });
        if index >= CALLS_MAX {
            return Err(BuildError::TooManyCalls);
        }
        while self.calls.len() <= index {
            self.calls.push(RawCall { id: String::new(), tool: String::new(), arguments: String::new() });
        }
        let call = &mut self.calls[index];
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        let Some(function) = delta.function else { return Ok(()) };
        call.tool.push_str(function.name.as_deref().unwrap_or_default());
        call.arguments.push_str(function.arguments.as_deref().unwrap_or_default());
        Ok(())
    }

    /// The whole answer.
    pub(super) fn finish(self) -> Result<Answer, BuildError> {
        let finish_reason = self.finish_reason.ok_or(BuildError::Unfinished)?;
        Ok(Answer {
            text: self.text,
            calls: self.calls,
            finish_reason,
            model: self.model,
            usage: self.usage,
            duration_ms: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(chunks: &[&str]) -> Result<Answer, BuildError> {
        let mut building = Building::default();
        for chunk in chunks {
            building.take(chunk)?;
        }
        building.finish()
    }

    #[test]
    fn pieces_become_an_answer() {
        let answer = build(&[
            r#"{"model":"m","choices":[{"delta":{"role":"assistant","content":"Hel"}}]}"#,
            r#"{"choices":[{"delta":{"content":"lo"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"git_diff","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"stat\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":true}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
        ])
        .expect("an answer");
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("Hello", "tool_calls"));
        assert_eq!(
            answer.calls,
            [RawCall { id: "c".to_owned(), tool: "git_diff".to_owned(), arguments: r#"{"stat":true}"#.to_owned() }]
        );
        assert_eq!(answer.usage, Usage { input_tokens: 7, output_tokens: 3 });
    }

    #[test]
    fn calls_without_an_index_are_told_apart_by_their_ids() {
        let answer = build(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"x","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"y","arguments":"{"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"}"}}]},"finish_reason":"tool_calls"}]}"#,
        ])
        .expect("an answer");
        let calls: Vec<_> = answer.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("a", "{}"), ("b", "{}")]);
    }

    #[test]
    fn nonsense_is_named() {
        for (chunks, expected) in [
            (&["<html>"][..], "not what Chat Completions promises"),
            (&[r#"{"error":{"message":"overloaded"}}"#], "the model reported an error: overloaded"),
            (&[r#"{"choices":[{"delta":{"content":"half"}}]}"#], "ended in the middle"),
            (&[r#"{"choices":[{"delta":{"tool_calls":[{"index":5000}]}}]}"#], "more than 128 tool calls"),
        ] {
            let error = build(chunks).expect_err("it is nonsense");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn endless_text_is_cut() {
        let chunk = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(100_000));
        let mut building = Building::default();
        let full = (0..100).any(|_| matches!(building.take(&chunk), Err(BuildError::Full)));
        assert!(full);
        assert_eq!(building.finish().expect("what there is").finish_reason, "length");
    }
}
