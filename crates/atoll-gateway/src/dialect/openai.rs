//! OpenAI's Chat Completions and everything compatible: passed on as it is, after a look at its shape.

use serde_json::Value;

use super::{Nonsense, Outgoing, Tokens};
use crate::config::Upstream;

const DONE: &str = "[DONE]";

pub(crate) fn outgoing(upstream: &Upstream, request: &Value) -> Outgoing {
    let mut headers = Vec::new();
    if let Some(key) = &upstream.api_key {
        headers.push(("authorization", format!("Bearer {}", key.expose())));
    }
    Outgoing { url: format!("{}/chat/completions", upstream.base_url), headers, body: request.clone() }
}

pub(crate) fn incoming(answer: Value) -> Result<(Value, Tokens), Nonsense> {
    let choices = answer["choices"].as_array().ok_or_else(|| Nonsense("it has no `choices`".to_owned()))?;
    if !choices.iter().all(|choice| choice["message"].is_object()) || choices.is_empty() {
        return Err(Nonsense("a choice has no `message`".to_owned()));
    }
    let tokens = tokens(&answer["usage"]);
    Ok((answer, tokens))
}

/// One streamed answer.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    finished: bool,
    tokens: Tokens,
}

impl Stream {
    pub(crate) fn event(&mut self, data: &str) -> Result<Vec<String>, Nonsense> {
        if data.trim() == DONE {
            self.finished = true;
            return Ok(Vec::new());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|error| Nonsense(format!("a chunk is not JSON: {error}")))?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            return Err(Nonsense(message.to_owned()));
        }
        let choices = chunk["choices"].as_array().ok_or_else(|| Nonsense("a chunk has no `choices`".to_owned()))?;
        self.finished |= choices.iter().any(|choice| choice["finish_reason"].is_string());
        if chunk["usage"].is_object() {
            self.tokens = tokens(&chunk["usage"]);
        }
        Ok(vec![chunk.to_string()])
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.finished
    }

    pub(crate) const fn tokens(&self) -> Tokens {
        self.tokens
    }
}

fn tokens(usage: &Value) -> Tokens {
    Tokens {
        input: usage["prompt_tokens"].as_u64().unwrap_or(0),
        output: usage["completion_tokens"].as_u64().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_looked_at() {
        for (answer, good) in [
            (json!({"choices": [{"message": {"content": "hi"}}]}), true),
            (json!({"choices": []}), false),
            (json!({"choices": [{}]}), false),
            (json!({"hello": "world"}), false),
            (json!("<html>"), false),
        ] {
            assert_eq!(incoming(answer.clone()).is_ok(), good, "{answer}");
        }
    }

    #[test]
    fn a_stream_is_complete_with_a_finish_reason_or_its_end_mark() {
        let mut stream = Stream::default();
        stream.event(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#).expect("a chunk");
        assert!(!stream.is_complete());
        stream.event(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#).expect("a chunk");
        assert!(stream.is_complete());
        stream.event(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#).expect("a chunk");
        assert_eq!(stream.tokens(), Tokens { input: 3, output: 4 });
        assert!(stream.event("<html>").is_err());
        assert!(stream.event(r#"{"error":{"message":"overloaded"}}"#).is_err());
    }
}
