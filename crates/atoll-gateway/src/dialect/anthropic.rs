//! Anthropic's Messages: requests and answers translated both ways.

mod stream;

pub(crate) use stream::Stream;

use serde_json::{Map, Value, json};

use super::{Nonsense, Outgoing, Tokens};
use crate::config::Upstream;

const API_VERSION: &str = "2023-06-01";
/// Messages wants a limit; used where the caller gives none.
const OUTPUT_TOKENS_DEFAULT: u64 = 8192;
/// Chat Completions goes up to 2, Messages up to this.
const TEMPERATURE_MAX: f64 = 1.0;

pub(crate) fn outgoing(upstream: &Upstream, request: &Value) -> Result<Outgoing, Nonsense> {
    let mut headers = vec![("anthropic-version", API_VERSION.to_owned())];
    if let Some(key) = &upstream.api_key {
        headers.push(("x-api-key", key.expose().clone()));
    }
    Ok(Outgoing { url: format!("{}/v1/messages", upstream.base_url), headers, body: translate_request(request)? })
}

fn translate_request(request: &Value) -> Result<Value, Nonsense> {
    if matches!(request["response_format"]["type"].as_str(), Some("json_schema" | "json_object")) {
        return Err(Nonsense("`response_format` has no counterpart in Messages".to_owned()));
    }
    let (system, mut messages) = translate_messages(request["messages"].as_array().map_or(&[], Vec::as_slice))?;
    if messages.is_empty() {
        return Err(Nonsense("there is no message but instructions".to_owned()));
    }
    // Messages begins with the user; a history that was cut may not.
    if messages[0]["role"] == "assistant" {
        messages.insert(
            0,
            json!({"role": "user", "content": [{"type": "text", "text": "(earlier messages were left out)"}]}),
        );
    }
    let limit = request["max_completion_tokens"].as_u64().or_else(|| request["max_tokens"].as_u64());
    let mut body = json!({
        "model": request["model"],
        "max_tokens": limit.unwrap_or(OUTPUT_TOKENS_DEFAULT),
        "messages": messages,
    });
    let fields = body.as_object_mut().expect("it was made an object");
    if !system.is_empty() {
        // The prefix is the same in every call of an agent: worth caching at the provider.
        let block = json!([{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]);
        fields.insert("system".to_owned(), block);
    }
    for name in ["top_p", "stream"] {
        if !request[name].is_null() {
            fields.insert(name.to_owned(), request[name].clone());
        }
    }
    if let Some(temperature) = request["temperature"].as_f64() {
        fields.insert("temperature".to_owned(), json!(temperature.clamp(0.0, TEMPERATURE_MAX)));
    }
    match &request["stop"] {
        Value::String(stop) => {
            fields.insert("stop_sequences".to_owned(), json!([stop]));
        }
        Value::Array(stops) => {
            fields.insert("stop_sequences".to_owned(), json!(stops));
        }
        _ => {}
    }
    translate_tools(request, fields);
    Ok(body)
}

fn translate_tools(request: &Value, fields: &mut Map<String, Value>) {
    let Some(tools) = request["tools"].as_array().filter(|tools| !tools.is_empty()) else {
        return;
    };
    let tool = |tool: &Value| {
        let function = &tool["function"];
        let schema =
            if function["parameters"].is_object() { function["parameters"].clone() } else { json!({"type": "object"}) };
        let mut tool = json!({"name": function["name"], "input_schema": schema});
        if function["description"].is_string() {
            tool["description"] = function["description"].clone();
        }
        tool
    };
    fields.insert("tools".to_owned(), tools.iter().map(tool).collect());
    let parallel = request["parallel_tool_calls"].as_bool().unwrap_or(true);
    let mut choice = match &request["tool_choice"] {
        Value::String(choice) if choice == "required" => json!({"type": "any"}),
        Value::String(choice) if choice == "none" => json!({"type": "none"}),
        Value::Object(choice) => json!({"type": "tool", "name": choice["function"]["name"]}),
        _ => json!({"type": "auto"}),
    };
    if !parallel && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = true.into();
    }
    fields.insert("tool_choice".to_owned(), choice);
}

/// System text apart; the rest as turns that alternate, as Messages wants them.
fn translate_messages(messages: &[Value]) -> Result<(String, Vec<Value>), Nonsense> {
    let mut system = Vec::new();
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => {
                system.push(plain_text(&message["content"]));
                continue;
            }
            "assistant" => ("assistant", assistant_blocks(message)),
            "tool" => ("user", vec![tool_result(message)]),
            _ => ("user", user_blocks(&message["content"])?),
        };
        if blocks.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((last, earlier)) if *last == role => earlier.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    let turns = turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    Ok((system.join("\n\n"), turns))
}

fn assistant_blocks(message: &Value) -> Vec<Value> {
    let mut blocks = Vec::new();
    let text = plain_text(&message["content"]);
    if !text.trim().is_empty() {
        blocks.push(json!({"type": "text", "text": text}));
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or("{}");
        // A call that was not valid JSON has been answered with an error; the record of it must still be an object.
        let input = serde_json::from_str::<Value>(arguments).ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
        blocks.push(json!({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input}));
    }
    blocks
}

fn tool_result(message: &Value) -> Value {
    json!({
        "type": "tool_result",
        "tool_use_id": message["tool_call_id"],
        "content": plain_text(&message["content"]),
    })
}

fn user_blocks(content: &Value) -> Result<Vec<Value>, Nonsense> {
    let Some(parts) = content.as_array() else {
        let text = plain_text(content);
        return Ok(if text.is_empty() { Vec::new() } else { vec![json!({"type": "text", "text": text})] });
    };
    parts.iter().map(user_block).collect()
}

fn user_block(part: &Value) -> Result<Value, Nonsense> {
    match part["type"].as_str() {
        Some("text") => Ok(json!({"type": "text", "text": part["text"]})),
        Some("image_url") => Ok(json!({"type": "image", "source": image_source(&part["image_url"]["url"])})),
        other => {
            Err(Nonsense(format!("a message part of type {} has no counterpart in Messages", other.unwrap_or("none"))))
        }
    }
}

fn image_source(url: &Value) -> Value {
    let text = url.as_str().unwrap_or_default();
    match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, data)) => json!({"type": "base64", "media_type": media_type, "data": data}),
        None => json!({"type": "url", "url": url}),
    }
}

fn plain_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

pub(crate) fn incoming(answer: &Value) -> Result<(Value, Tokens), Nonsense> {
    let blocks = answer["content"].as_array().ok_or_else(|| Nonsense("it has no `content`".to_owned()))?;
    let text: String =
        blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect();
    let calls: Vec<Value> = blocks.iter().filter(|block| block["type"] == "tool_use").map(tool_call).collect();
    let mut message = json!({"role": "assistant", "content": if text.is_empty() { Value::Null } else { text.into() }});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let tokens = tokens(&answer["usage"]);
    let response = json!({
        "id": answer["id"],
        "object": "chat.completion",
        "created": 0,
        "model": answer["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(&answer["stop_reason"])}],
        "usage": usage(tokens),
    });
    Ok((response, tokens))
}

fn tool_call(block: &Value) -> Value {
    json!({"id": block["id"], "type": "function", "function": {
        "name": block["name"], "arguments": block["input"].to_string(),
    }})
}

fn finish_reason(stop_reason: &Value) -> &'static str {
    match stop_reason.as_str() {
        Some("tool_use") => "tool_calls",
        Some("max_tokens") => "length",
        Some("refusal") => "content_filter",
        _ => "stop",
    }
}

/// Messages counts cached input apart; Chat Completions counts it in.
fn tokens(usage: &Value) -> Tokens {
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    Tokens {
        input: count("input_tokens") + count("cache_read_input_tokens") + count("cache_creation_input_tokens"),
        output: count("output_tokens"),
    }
}

fn usage(tokens: Tokens) -> Value {
    json!({
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_with_tools_is_translated() {
        let request = json!({
            "model": "claude-x",
            "stream": true,
            "max_tokens": 100,
            "stop": "END",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "List the files."},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{\"path\":\".\"}"}},
                    {"id": "c2", "type": "function", "function": {"name": "ls", "arguments": "broken"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
                {"role": "tool", "tool_call_id": "c2", "content": "not JSON"},
                {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
            ],
            "tools": [{"type": "function", "function": {"name": "ls", "description": "Lists.", "parameters": {"type": "object"}}}],
            "tool_choice": "required",
            "parallel_tool_calls": false,
        });
        let expected = json!({
            "model": "claude-x",
            "max_tokens": 100,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "List the files."}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c1", "name": "ls", "input": {"path": "."}},
                    {"type": "tool_use", "id": "c2", "name": "ls", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "a.txt"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "not JSON"},
                    {"type": "text", "text": "And now?"},
                ]},
            ],
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "stream": true,
            "stop_sequences": ["END"],
            "tools": [{"name": "ls", "description": "Lists.", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        });
        assert_eq!(translate_request(&request).expect("it has a counterpart"), expected);
    }

    #[test]
    fn an_answer_is_translated() {
        let answer = json!({
            "id": "msg_1", "model": "claude-x", "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "."}},
            ],
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 7},
        });
        let (response, tokens) = incoming(&answer).expect("it makes sense");
        assert_eq!(tokens, Tokens { input: 15, output: 7 });
        assert_eq!(response["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(response["choices"][0]["message"]["content"], "Looking.");
        assert_eq!(response["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], r#"{"path":"."}"#);
        assert!(incoming(&json!({"type": "error"})).is_err());
    }

    #[test]
    fn a_part_without_counterpart_is_refused() {
        let request = json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]});
        assert!(translate_request(&request).is_err());
    }
}
