//! A streamed answer of Messages, event by event, as chunks of Chat Completions.

use serde_json::{Value, json};

use super::super::{Nonsense, Tokens};
use super::{finish_reason, tokens, usage};

/// Where a streamed answer stands.
#[derive(Debug)]
pub(crate) struct Stream {
    id: Value,
    model: Value,
    include_usage: bool,
    /// Index of the tool call that a content block is, by the block's index.
    calls: Vec<(u64, usize)>,
    tokens: Tokens,
    complete: bool,
}

impl Stream {
    /// An answer to `request` (Chat Completions).
    pub(crate) fn new(request: &Value) -> Self {
        Self {
            id: Value::Null,
            model: request["model"].clone(),
            include_usage: request["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            calls: Vec::new(),
            tokens: Tokens::default(),
            complete: false,
        }
    }

    pub(crate) fn event(&mut self, data: &str) -> Result<Vec<String>, Nonsense> {
        let event: Value =
            serde_json::from_str(data).map_err(|error| Nonsense(format!("an event is not JSON: {error}")))?;
        let chunk = match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.id = event["message"]["id"].clone();
                self.tokens = tokens(&event["message"]["usage"]);
                Some(self.delta(json!({"role": "assistant", "content": ""})))
            }
            "content_block_start" => self.block_start(&event),
            "content_block_delta" => self.block_delta(&event),
            "message_delta" => {
                self.tokens.output = event["usage"]["output_tokens"].as_u64().unwrap_or(self.tokens.output);
                Some(self.chunk(json!([{
                    "index": 0, "delta": {}, "finish_reason": finish_reason(&event["delta"]["stop_reason"]),
                }])))
            }
            "message_stop" => {
                self.complete = true;
                self.include_usage.then(|| {
                    let mut chunk = self.chunk(json!([]));
                    chunk["usage"] = usage(self.tokens);
                    chunk
                })
            }
            "error" => {
                return Err(Nonsense(
                    event["error"]["message"].as_str().unwrap_or("an error without a message").to_owned(),
                ));
            }
            // Pings, ends of blocks, and what later versions add.
            _ => None,
        };
        Ok(chunk.map(|chunk| chunk.to_string()).into_iter().collect())
    }

    fn block_start(&mut self, event: &Value) -> Option<Value> {
        let block = &event["content_block"];
        if block["type"] != "tool_use" {
            return None;
        }
        let index = self.calls.len();
        self.calls.push((event["index"].as_u64().unwrap_or_default(), index));
        Some(self.delta(json!({"tool_calls": [{
            "index": index, "id": block["id"], "type": "function",
            "function": {"name": block["name"], "arguments": ""},
        }]})))
    }

    fn block_delta(&self, event: &Value) -> Option<Value> {
        let delta = &event["delta"];
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => Some(self.delta(json!({"content": delta["text"]}))),
            "input_json_delta" => {
                let block = event["index"].as_u64().unwrap_or_default();
                let (_, index) = self.calls.iter().find(|(known, _)| *known == block)?;
                Some(self.delta(json!({"tool_calls": [{
                    "index": index, "function": {"arguments": delta["partial_json"]},
                }]})))
            }
            _ => None,
        }
    }

    fn delta(&self, delta: Value) -> Value {
        self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.model, "choices": choices,
        })
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) const fn tokens(&self) -> Tokens {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_a_call_are_streamed() {
        let request = json!({"model": "claude-x", "stream_options": {"include_usage": true}});
        let mut stream = Stream::new(&request);
        let events = [
            json!({"type": "message_start", "message": {"id": "m1", "usage": {"input_tokens": 9, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "ls"}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}),
            json!({"type": "message_stop"}),
        ];
        let chunks: Vec<Value> = events
            .iter()
            .flat_map(|event| stream.event(&event.to_string()).expect("it makes sense"))
            .map(|chunk| serde_json::from_str(&chunk).expect("it is JSON"))
            .collect();
        let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
        assert_eq!(*deltas[1], json!({"content": "Hi"}));
        assert_eq!(deltas[2]["tool_calls"][0]["function"]["name"], "ls");
        assert_eq!(*deltas[3], json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}));
        assert_eq!(chunks[4]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(chunks[5]["usage"], json!({"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}));
        assert!(stream.is_complete());
        assert!(stream.event(r#"{"type":"error","error":{"message":"overloaded"}}"#).is_err());
    }
}
