//! What callers ask: a Chat Completions request, checked before anything is sent on.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::failure::Failure;

const MESSAGES_MAX: usize = 10_000;
const TOOLS_MAX: usize = 1024;
/// Fields by which a request asks the provider itself to search, browse or run code.
const SERVER_SIDE_FIELDS: [&str; 4] = ["web_search_options", "plugins", "mcp_servers", "container"];
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// A checked request.
#[derive(Debug, Clone)]
pub(crate) struct ChatRequest {
    /// As it came, with the model's real name.
    pub(crate) body: Value,
    pub(crate) stream: bool,
}

impl ChatRequest {
    /// Reads and checks a body; `default_model` replaces a missing model or `default`.
    pub(crate) fn parse(bytes: &[u8], default_model: &str) -> Result<Self, Failure> {
        let mut body: Value = serde_json::from_slice(bytes)
            .map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))?;
        let Some(fields) = body.as_object_mut() else {
            return Err(Failure::bad_request("the body is not a JSON object"));
        };
        match fields.get("model") {
            None | Some(Value::Null) => {
                fields.insert("model".to_owned(), default_model.into());
            }
            Some(Value::String(model)) if model == "default" || model.is_empty() => {
                fields.insert("model".to_owned(), default_model.into());
            }
            Some(Value::String(_)) => {}
            Some(_) => return Err(Failure::bad_request("`model` is not a string")),
        }
        check_messages(fields.get("messages"))?;
        check_tools(fields)?;
        let stream = fields.get("stream").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { body, stream })
    }

    pub(crate) fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }
}

fn check_messages(messages: Option<&Value>) -> Result<(), Failure> {
    let Some(messages) = messages.and_then(Value::as_array) else {
        return Err(Failure::bad_request("`messages` is not an array"));
    };
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(Failure::bad_request(format!("`messages` holds between 1 and {MESSAGES_MAX} messages")));
    }
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !ROLES.contains(&role) {
            return Err(Failure::bad_request(format!(
                "`messages[{index}].role` is {role:?}: one of {}",
                ROLES.join(", ")
            )));
        }
    }
    Ok(())
}

/// Tools run in sandboxes behind the gate. What a provider would run by itself passes neither, and is refused.
fn check_tools(fields: &Map<String, Value>) -> Result<(), Failure> {
    let refuse = |what: &str| {
        let message = format!("{what} would run at the model provider, out of reach of policy and audit");
        Failure::new(StatusCode::BAD_REQUEST, "server_side_tool_refused", message)
            .hint("use tools of type \"function\" only")
    };
    if let Some(field) =
        SERVER_SIDE_FIELDS.iter().find(|field| fields.get(**field).is_some_and(|value| !value.is_null()))
    {
        return Err(refuse(&format!("`{field}`")));
    }
    let Some(tools) = fields.get("tools").filter(|tools| !tools.is_null()) else { return Ok(()) };
    let Some(tools) = tools.as_array() else {
        return Err(Failure::bad_request("`tools` is not an array"));
    };
    if tools.len() > TOOLS_MAX {
        return Err(Failure::bad_request(format!("`tools` holds at most {TOOLS_MAX} tools")));
    }
    for (index, tool) in tools.iter().enumerate() {
        if tool["type"] != "function" {
            return Err(refuse(&format!("`tools[{index}]` of type {}", tool["type"])));
        }
        if tool["function"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(Failure::bad_request(format!("`tools[{index}].function.name` is missing")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked() {
        for (body, complaint) in [
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            ("{}", "`messages` is not an array"),
            (r#"{"messages":[]}"#, "between 1 and"),
            (r#"{"messages":[{"role":"king"}]}"#, "messages[0].role"),
            (r#"{"model":7,"messages":[{"role":"user"}]}"#, "`model`"),
            (r#"{"messages":[{"role":"user"}],"tools":{}}"#, "`tools` is not an array"),
            (r#"{"messages":[{"role":"user"}],"tools":[{"type":"web_search"}]}"#, "would run at the model provider"),
            (r#"{"messages":[{"role":"user"}],"tools":[{"type":"function"}]}"#, "tools[0].function.name"),
            (r#"{"messages":[{"role":"user"}],"web_search_options":{}}"#, "`web_search_options`"),
        ] {
            let failure = ChatRequest::parse(body.as_bytes(), "m").expect_err(body);
            assert!(failure.message.contains(complaint), "{}", failure.message);
        }
    }

    #[test]
    fn the_default_model_stands_in() {
        for model in ["", r#""model":"default","#, r#""model":null,"#] {
            let body = format!(r#"{{{model}"messages":[{{"role":"user","content":"hi"}}]}}"#);
            assert_eq!(ChatRequest::parse(body.as_bytes(), "m").expect("it is fine").model(), "m");
        }
    }
}
