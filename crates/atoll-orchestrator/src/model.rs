//! Model calls: Chat Completions over HTTP to the gateway, streamed.

mod answer;

use std::time::Duration;

use atoll_engine::context::ModelRequest;
use atoll_engine::tools::ToolDefinition;
use atoll_engine::{Answer, Message, Outcome, OutcomeName};
use atoll_stdx::chain;
use futures::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::config::GatewayEndpoint;
use answer::{BuildError, Building};

const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// The longest silence within an answer; models think before they speak.
const SILENCE_TIMEOUT_MS: u64 = 300_000;
/// Tries of one call. The gateway tries its upstreams again by itself; this is about the gateway.
const TRIES_MAX: u32 = 4;
const RETRY_PAUSE_MS: u64 = 250;
/// One line of a stream.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What is read of an error's body.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Asks models.
pub(crate) struct ModelClient {
    http: reqwest::Client,
    endpoint: GatewayEndpoint,
}

/// Who asks, for the gateway's own records.
pub(crate) struct Caller<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) traceparent: String,
}

/// One try failed.
enum Failure {
    /// May go better next time.
    Passing(Outcome),
    Final(Outcome),
}

impl ModelClient {
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub(crate) fn new(endpoint: GatewayEndpoint) -> Result<Self, reqwest::Error> {
        atoll_rt::tls::install_crypto_provider();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .read_timeout(Duration::from_millis(SILENCE_TIMEOUT_MS))
            .no_proxy()
            .build()?;
        Ok(Self { http, endpoint })
    }

    /// Asks until there is an answer or no hope of one. `text` takes the answer's text as it comes. The answer's duration
    /// is left for the caller to fill in.
    pub(crate) async fn ask(
        &self,
        request: &ModelRequest,
        caller: &Caller<'_>,
        mut text: impl FnMut(&str) + Send,
    ) -> Result<Answer, Outcome> {
        let body = body(request);
        let mut tries = 1;
        loop {
            match self.try_once(&body, caller, &mut text).await {
                Ok(mut answer) => {
                    for call in &mut answer.calls {
                        call.tool = tool_name(&call.tool, &request.tools);
                    }
                    return Ok(answer);
                }
                Err(Failure::Passing(outcome)) if tries < TRIES_MAX => {
                    tracing::info!(run = caller.run_id, tries, reason = outcome.message, "asking the model again");
                    tokio::time::sleep(Duration::from_millis(RETRY_PAUSE_MS << (tries - 1))).await;
                    tries += 1;
                }
                Err(Failure::Passing(outcome) | Failure::Final(outcome)) => return Err(outcome),
            }
        }
    }

    async fn try_once(
        &self,
        body: &Value,
        caller: &Caller<'_>,
        text: &mut (impl FnMut(&str) + Send),
    ) -> Result<Answer, Failure> {
        let url = format!("{}/v1/chat/completions", self.endpoint.base_url.trim_end_matches('/'));
        let sent = self
            .http
            .post(url)
            .bearer_auth(self.endpoint.token.expose())
            .header("traceparent", &caller.traceparent)
            .header("x-atoll-run", caller.run_id)
            .header("x-atoll-agent", caller.agent)
            .json(body)
            .send()
            .await;
        let response = sent.map_err(|error| Failure::Passing(unreachable(&error)))?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        read_stream(response, text).await
    }
}

fn unreachable(error: &reqwest::Error) -> Outcome {
    Outcome::new(OutcomeName::ModelUnreachable, format!("the model gateway did not answer: {}", chain(error)))
        .hint("see whether the plane runs (`atoll status`)")
}

fn unusable(message: impl Into<String>) -> Failure {
    let outcome = Outcome::new(OutcomeName::ModelUnusable, message);
    Failure::Passing(outcome.hint("the upstream does not speak Chat Completions as expected; try another model"))
}

/// What an error answer means.
async fn refused(response: Response) -> Failure {
    let status = response.status();
    let (message, hint) = error_text(response).await;
    let story = format!("the model gateway answered {}: {message}", status.as_u16());
    let outcome = |name| Outcome { hint: hint.clone(), ..Outcome::new(name, story.clone()) };
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => {
            Failure::Passing(outcome(OutcomeName::ModelUnreachable))
        }
        status if status.is_server_error() => Failure::Passing(outcome(OutcomeName::ModelUnreachable)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::PAYMENT_REQUIRED => {
            Failure::Final(outcome(OutcomeName::ModelUnreachable))
        }
        _ => Failure::Final(outcome(OutcomeName::ModelRefused)),
    }
}

/// `error.message` and a hint of an error body, else the body's beginning.
async fn error_text(response: Response) -> (String, Option<String>) {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(bytes)) = stream.next().await {
        body.extend_from_slice(&bytes);
        if body.len() > ERROR_BYTES_MAX {
            break;
        }
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| json["error"][name].as_str().map(str::to_owned);
    let message = field("message").unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned();
        if text.is_empty() { "no reason given".to_owned() } else { text }
    });
    (message, field("hint"))
}

async fn read_stream(response: Response, text: &mut (impl FnMut(&str) + Send)) -> Result<Answer, Failure> {
    let mut building = Building::default();
    let mut pending: Vec<u8> = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let bytes = piece.map_err(|error| Failure::Passing(unreachable(&error)))?;
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim_start) else { continue };
            if data == "[DONE]" {
                return finish(building);
            }
            match building.take(data) {
                Ok(Some(delta)) => text(&delta),
                Ok(None) => {}
                Err(BuildError::Full) => return finish(building),
                Err(error) => return Err(unusable(chain(&error))),
            }
        }
        if pending.len() > LINE_BYTES_MAX {
            return Err(unusable("the model's answer has a line without an end"));
        }
    }
    finish(building)
}

fn finish(building: Building) -> Result<Answer, Failure> {
    building.finish().map_err(|error| unusable(chain(&error)))
}

/// A tool's name as providers take it: letters, digits, `_` and `-`.
fn wire_name(tool: &str) -> String {
    tool.replace('.', "__")
}

/// The tool that a name on the wire means. One that was not offered keeps its meaning too, for the gate to refuse.
fn tool_name(wire: &str, offered: &[ToolDefinition]) -> String {
    let known = offered.iter().find(|tool| wire_name(&tool.name) == wire);
    match (known, wire.strip_prefix("mcp__").and_then(|rest| rest.split_once("__"))) {
        (Some(tool), _) => tool.name.clone().into_owned(),
        (None, Some((server, name))) => format!("mcp.{server}.{name}"),
        (None, None) => wire.to_owned(),
    }
}

/// The request on the wire. Instructions and tools come first and never change within a run.
fn body(request: &ModelRequest) -> Value {
    let mut messages = vec![json!({"role": "system", "content": request.system})];
    messages.extend(request.messages.iter().map(message));
    let mut body = json!({
        "model": request.model.as_deref().unwrap_or("default"),
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(limit) = request.output_tokens_max {
        body["max_tokens"] = limit.into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &ToolDefinition| {
            json!({
                "type": "function",
                "function": {"name": wire_name(&tool.name), "description": tool.description, "parameters": tool.parameters},
            })
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Tool { call_id, text, .. } => json!({"role": "tool", "tool_call_id": call_id, "content": text}),
        Message::Assistant { text, calls } => {
            // Some providers refuse an empty content, others a missing one; null is accepted beside calls.
            let content = if text.is_empty() { Value::Null } else { json!(text) };
            let mut value = json!({"role": "assistant", "content": content});
            if !calls.is_empty() {
                let call = |call: &atoll_engine::RawCall| {
                    json!({
                        "id": call.id,
                        "type": "function",
                        "function": {"name": wire_name(&call.tool), "arguments": call.arguments},
                    })
                };
                value["tool_calls"] = calls.iter().map(call).collect();
            }
            value
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_engine::RawCall;

    #[test]
    fn a_request_is_on_the_wire_as_providers_expect_it() {
        let call = RawCall { id: "c1".to_owned(), tool: "git_diff".to_owned(), arguments: "{}".to_owned() };
        let request = ModelRequest {
            model: None,
            system: "be good".to_owned(),
            messages: vec![
                Message::User { text: "task".to_owned() },
                Message::Assistant { text: String::new(), calls: vec![call] },
                Message::Tool { call_id: "c1".to_owned(), tool: "git_diff".to_owned(), text: "+1".to_owned() },
            ],
            tools: vec![atoll_engine::tools::definition("git_diff").expect("a tool")],
            output_tokens_max: Some(500),
        };
        let body = body(&request);
        assert_eq!((&body["model"], &body["max_tokens"]), (&json!("default"), &json!(500)));
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "be good"}));
        assert_eq!(
            body["messages"][2],
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "git_diff", "arguments": "{}"}},
            ]})
        );
        assert_eq!(body["messages"][3], json!({"role": "tool", "tool_call_id": "c1", "content": "+1"}));
        assert_eq!(body["tools"][0]["function"]["name"], "git_diff");
    }
}
