//! MCP servers: what they list, what they answer, and the messages between (Model Context Protocol, revision 2025-11-25,
//! older revisions from 2024-11-05 on accepted). A server is a stranger: everything it says is bounded and checked, and
//! what it does wrong has a name.

pub(crate) mod http;
pub(crate) mod stdio;

use atoll_engine::tools::{ExternalTool, ServerTools};
use atoll_engine::{ServerTransport, ToolServer, ToolStatus};
use serde_json::{Value, json};

use crate::mcp::http::HttpClient;
use crate::workbench::Bench;
use crate::workspace::AgentFacts;

/// The revision that is offered.
const PROTOCOL_VERSION: &str = "2025-11-25";
/// Pages of a list of tools that are read.
const PAGES_MAX: usize = 8;
/// One message of a server.
pub(crate) const MESSAGE_BYTES_MAX: usize = 900_000;
/// What of an error is told.
const ERROR_CHARS_MAX: usize = 500;
/// How long an answer is waited for when nothing else is said.
pub(crate) const TIMEOUT_MS_DEFAULT: u64 = 30_000;

/// What went wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum McpError {
    #[error("it could not be reached: {0}")]
    Unreachable(String),
    #[error("it may not be called: {0}")]
    Forbidden(String),
    #[error("it did not answer within {seconds} s")]
    Silent { seconds: u64 },
    #[error("it ended: {0}")]
    Ended(String),
    #[error("it broke the protocol: {0}")]
    Lied(String),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("the connection broke after the call was sent: {0}")]
    Broken(String),
}

impl McpError {
    /// How a call ended that came to this.
    pub(crate) fn status(&self) -> ToolStatus {
        match self {
            Self::Silent { .. } => ToolStatus::TimedOut,
            Self::Broken(_) => ToolStatus::OutcomeUnknown,
            _ => ToolStatus::Failed,
        }
    }
}

/// A request, and the name that its answer has to bear.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Request {
    fn new(id: &str, method: &str, params: Value) -> Self {
        let id = format!("atoll-{id}");
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Self { id, body }
    }

    pub(crate) fn initialize(id: &str) -> Self {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "atoll", "version": env!("CARGO_PKG_VERSION")},
        });
        Self::new(&format!("{id}-hello"), "initialize", params)
    }

    pub(crate) fn list(id: &str, cursor: Option<&str>) -> Self {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        Self::new(id, "tools/list", params)
    }

    pub(crate) fn call(id: &str, tool: &str, arguments: &Value) -> Self {
        Self::new(id, "tools/call", json!({"name": tool, "arguments": arguments}))
    }
}

pub(crate) fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

/// The result of a request, out of the message that should be its answer.
pub(crate) fn result(message: &str, id: &str) -> Result<Value, McpError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(McpError::Lied(format!("its answer is longer than {MESSAGE_BYTES_MAX} bytes")));
    }
    let mut message: Value =
        serde_json::from_str(message).map_err(|error| McpError::Lied(format!("its answer is not JSON ({error})")))?;
    if message["jsonrpc"] != "2.0" || message["id"] != id {
        return Err(McpError::Lied("its answer is none to what was asked".to_owned()));
    }
    if let Some(error) = message.get("error") {
        let text = error["message"].as_str().unwrap_or("no reason given");
        return Err(McpError::Refused(short(text)));
    }
    match message["result"].take() {
        result @ Value::Object(_) => Ok(result),
        _ => Err(McpError::Lied("its answer has neither a result nor an error".to_owned())),
    }
}

/// One line of a stranger's text.
pub(crate) fn short(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    plain.trim().chars().take(ERROR_CHARS_MAX).collect()
}

/// The text of a `tools/call` result, and whether the tool says that it failed.
pub(crate) fn text_of(result: &Value) -> (String, bool) {
    let block = |block: &Value| match (block["type"].as_str().unwrap_or("unknown"), block["text"].as_str()) {
        ("text", Some(text)) => text.to_owned(),
        ("resource", _) => match block["resource"]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => "[a resource that is no text is not shown]".to_owned(),
        },
        ("resource_link", _) => format!("[a link to {}]", short(block["uri"].as_str().unwrap_or_default())),
        (kind, _) => format!("[{} of {} bytes is not shown]", short(kind), block.to_string().len()),
    };
    let mut text = result["content"].as_array().into_iter().flatten().map(block).collect::<Vec<_>>().join("\n");
    if text.trim().is_empty() && !result["structuredContent"].is_null() {
        text = result["structuredContent"].to_string();
    }
    (text, result["isError"] == true)
}

/// Reads one page of a list of tools; returns where the next begins.
fn page(result: &Value, tools: &mut Vec<ExternalTool>) -> Result<Option<String>, McpError> {
    let listed = result["tools"].as_array().ok_or_else(|| McpError::Lied("it lists no `tools`".to_owned()))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    tools.extend(listed.iter().map(|tool| ExternalTool {
        name: text(&tool["name"]),
        description: text(&tool["description"]),
        parameters: tool["inputSchema"].clone(),
    }));
    Ok(result["nextCursor"].as_str().map(str::to_owned))
}

/// The full name of a tool taken apart: the server of the run, and the tool as the server knows it.
pub(crate) fn find<'a, 't>(servers: &'a [ToolServer], tool: &'t str) -> Option<(&'a ToolServer, &'t str)> {
    let (server, name) = tool.strip_prefix("mcp.")?.split_once('.')?;
    servers.iter().find(|known| known.name == server).map(|server| (server, name))
}

/// Asks every server that an agent has tools of what it offers. A server that can not say does not keep the agent from
/// its work. `key` names the making of the workspace.
pub(crate) async fn discover(http: &HttpClient, bench: &dyn Bench, agent: &AgentFacts, key: &str) -> Vec<ServerTools> {
    let mut found = Vec::new();
    for server in &agent.servers {
        let prefix = format!("mcp.{}.", server.name);
        if !agent.profile.tools.iter().any(|tool| tool.starts_with(&prefix)) {
            continue;
        }
        found.push(match list(http, bench, agent, server, key).await {
            Ok(tools) => ServerTools::listed(&server.name, tools),
            Err(error) => ServerTools::in_trouble(&server.name, format!("{error}.")),
        });
    }
    found
}

async fn list(
    http: &HttpClient,
    bench: &dyn Bench,
    agent: &AgentFacts,
    server: &ToolServer,
    key: &str,
) -> Result<Vec<ExternalTool>, McpError> {
    let mut tools = Vec::new();
    let mut cursor: Option<String> = None;
    for number in 0..PAGES_MAX {
        let id = format!("a{}-list-{number}", agent.id);
        let request = Request::list(&id, cursor.as_deref());
        let answered = match &server.transport {
            ServerTransport::Http { .. } => http.ask(server, &id, &request).await?,
            ServerTransport::Stdio { .. } => {
                stdio::ask(bench, server, &request, format!("{key}/mcp/{}/{number}", server.name)).await?
            }
        };
        cursor = page(&answered, &mut tools)?;
        if cursor.is_none() {
            break;
        }
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_believed_only_when_they_are_answers() {
        for (message, expected) in [
            (r#"{"jsonrpc":"2.0","id":"atoll-1","result":{"a":1}}"#, Ok(json!({"a": 1}))),
            (
                r#"{"jsonrpc":"2.0","id":"atoll-1","error":{"code":-1,"message":"no\u001b[2J"}}"#,
                Err("it refused: no [2J"),
            ),
            (r#"{"jsonrpc":"2.0","id":"atoll-2","result":{}}"#, Err("its answer is none to what was asked")),
            (r#"{"id":"atoll-1","result":{}}"#, Err("its answer is none to what was asked")),
            (r#"{"jsonrpc":"2.0","id":"atoll-1"}"#, Err("neither a result nor an error")),
            (r#"{"jsonrpc":"2.0","id":"atoll-1","result":7}"#, Err("neither a result nor an error")),
            ("atoll-1", Err("is not JSON")),
        ] {
            match (result(message, "atoll-1"), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{message}: {error}"),
                (found, _) => panic!("{message}: {found:?}"),
            }
        }
    }

    #[test]
    fn results_become_text() {
        for (result, expected) in [
            (json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), ("a\nb", false)),
            (json!({"content": [{"type": "text", "text": "no"}], "isError": true}), ("no", true)),
            (json!({"content": [], "structuredContent": {"n": 1}}), (r#"{"n":1}"#, false)),
            (json!({"content": [{"type": "resource_link", "uri": "file:///x"}]}), ("[a link to file:///x]", false)),
        ] {
            assert_eq!(text_of(&result), (expected.0.to_owned(), expected.1));
        }
        assert!(text_of(&json!({"content": [{"type": "image", "data": "AAAA"}]})).0.contains("is not shown"));
    }
}
