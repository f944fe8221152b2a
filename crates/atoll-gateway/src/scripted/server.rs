//! The HTTP server that plays a conversation.

use std::sync::Arc;
use std::time::Duration;

use atoll_rt::listen::serve_http;
use atoll_rt::{TaskGroup, TaskHandle};
use atoll_stdx::Secret;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::script::{Script, Turn};
use super::turn;
use crate::failure::Failure;
use crate::sse::event;

const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
/// A rough measure, so that sums look like those of a model: so many bytes count as one token.
const BYTES_PER_TOKEN: u64 = 4;
const PIECE_CHARS: usize = 24;

struct Player {
    script: Script,
    token: Secret<String>,
}

/// Serves the script at `/v1/chat/completions` until the group stops, to those who bear the token.
pub fn serve(group: &TaskGroup, listener: TcpListener, script: Script, token: Secret<String>) -> TaskHandle<()> {
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(Arc::new(Player { script, token }));
    serve_http(group, listener, routes)
}

async fn models(State(player): State<Arc<Player>>) -> Response {
    Json(json!({"object": "list", "data": [{"id": player.script.model(), "object": "model"}]})).into_response()
}

async fn chat(State(player): State<Arc<Player>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&player, &headers, &body).unwrap_or_else(IntoResponse::into_response)
}

fn answer(player: &Player, headers: &HeaderMap, body: &[u8]) -> Result<Response, Failure> {
    let bearer = format!("Bearer {}", player.token.expose());
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value.as_bytes() != bearer.as_bytes()) {
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "the key is wrong"));
    }
    let request: Value =
        serde_json::from_slice(body).map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))?;
    let turn = turn::next(&player.script, &request).map_err(|off| Failure::bad_request(off.to_string()))?;
    let answered = answers_so_far(&request);
    let usage = usage(&request, &turn);
    if request["stream"] != true {
        return Ok(Json(whole(player.script.model(), &turn, answered, &usage)).into_response());
    }
    let include_usage = request["stream_options"]["include_usage"] == true;
    let chunks = chunks(player.script.model(), &turn, answered, include_usage.then_some(&usage));
    let delay = Duration::from_millis(player.script.chunk_delay_ms);
    let stream = futures::stream::unfold(chunks.into_iter(), move |mut chunks| async move {
        let chunk = chunks.next()?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Some((Ok::<_, std::convert::Infallible>(chunk), chunks))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}

fn answers_so_far(request: &Value) -> usize {
    request["messages"].as_array().into_iter().flatten().filter(|message| message["role"] == "assistant").count()
}

fn finish_reason(turn: &Turn) -> &'static str {
    if turn.calls.is_empty() { "stop" } else { "tool_calls" }
}

/// The same call has the same id whenever it is asked for.
fn call_id(answered: usize, index: usize) -> String {
    format!("call_{answered}_{index}")
}

fn arguments(call: &super::script::Call) -> String {
    Value::Object(call.arguments.clone()).to_string()
}

fn whole(model: &str, turn: &Turn, answered: usize, usage: &Value) -> Value {
    let calls: Vec<Value> = turn
        .calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            json!({"id": call_id(answered, index), "type": "function", "function": {
                "name": call.tool, "arguments": arguments(call),
            }})
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": turn.text});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({
        "id": format!("scripted-{answered}"), "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(turn)}],
        "usage": usage,
    })
}

fn chunks(model: &str, turn: &Turn, answered: usize, usage: Option<&Value>) -> Vec<Bytes> {
    let chunk = |choices: Value| {
        json!({"id": format!("scripted-{answered}"), "object": "chat.completion.chunk", "created": 0, "model": model,
            "choices": choices})
    };
    let delta = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}))];
    chunks.extend(pieces(&turn.text).into_iter().map(|piece| delta(json!({"content": piece}))));
    for (index, call) in turn.calls.iter().enumerate() {
        chunks.push(delta(json!({"tool_calls": [{
            "index": index, "id": call_id(answered, index), "type": "function",
            "function": {"name": call.tool, "arguments": ""},
        }]})));
        chunks.extend(
            pieces(&arguments(call))
                .into_iter()
                .map(|piece| delta(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))),
        );
    }
    chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish_reason(turn)}])));
    if let Some(usage) = usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage.clone();
        chunks.push(last);
    }
    chunks.iter().map(|chunk| event(&chunk.to_string())).chain([event("[DONE]")]).collect()
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

fn usage(request: &Value, turn: &Turn) -> Value {
    let input = (request["messages"].to_string().len() + request["tools"].to_string().len()) as u64 / BYTES_PER_TOKEN;
    let spoken = turn.text.len() + turn.calls.iter().map(|call| arguments(call).len()).sum::<usize>();
    let output = (spoken as u64 / BYTES_PER_TOKEN).max(1);
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}
