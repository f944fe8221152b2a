//! Tools of MCP servers. What a server says of them is untrusted: it is bounded, and it is text for a model, never a rule.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ToolDefinition;
use crate::bounded::bounded;

/// Tools that are taken from one server.
pub const TOOLS_PER_SERVER_MAX: usize = 64;
/// What a model is told of one tool.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// The schema of one tool's arguments.
pub const SCHEMA_BYTES_MAX: usize = 16 * 1024;
/// The longest full name: providers take 64 bytes.
const NAME_BYTES_MAX: usize = 60;

/// What one MCP server offers to an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerTools {
    pub name: String,
    pub tools: Vec<ExternalTool>,
    /// Why it offers nothing, or less than it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A tool as its server describes it, brought into bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalTool {
    /// As the server knows it.
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

impl ServerTools {
    /// A server that can not be used.
    #[must_use]
    pub fn in_trouble(name: &str, trouble: impl Into<String>) -> Self {
        Self { name: name.to_owned(), tools: Vec::new(), trouble: Some(trouble.into()) }
    }

    /// Takes what a server lists, in the order of the names, as far as it is acceptable; says in `trouble` what was not.
    #[must_use]
    pub fn listed(name: &str, listed: impl IntoIterator<Item = ExternalTool>) -> Self {
        let mut server = Self { name: name.to_owned(), ..Self::default() };
        let mut refused = 0_usize;
        for tool in listed {
            let twice = server.tools.iter().any(|known| known.name == tool.name);
            match accepted(name, tool) {
                Some(tool) if !twice && server.tools.len() < TOOLS_PER_SERVER_MAX => server.tools.push(tool),
                _ => refused += 1,
            }
        }
        server.tools.sort_by(|a, b| a.name.cmp(&b.name));
        server.trouble = (refused > 0).then(|| format!("{refused} of the tools that it lists were not acceptable."));
        server
    }

    /// Its tools under their full names.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = ToolDefinition> {
        self.tools.iter().map(|tool| ToolDefinition {
            name: full_name(&self.name, &tool.name).into(),
            description: tool.description.clone().into(),
            parameters: tool.parameters.clone(),
        })
    }
}

fn full_name(server: &str, tool: &str) -> String {
    format!("mcp.{server}.{tool}")
}

/// Whether a name is one of an MCP server's tool.
#[must_use]
pub fn is_external(tool: &str) -> bool {
    tool.starts_with("mcp.")
}

fn accepted(server: &str, tool: ExternalTool) -> Option<ExternalTool> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let parts = tool.name.split('.').all(|part| !part.is_empty() && part.chars().all(plain));
    let schema = tool.parameters["type"] == "object" && tool.parameters.to_string().len() <= SCHEMA_BYTES_MAX;
    // On the wire to a model every dot takes two bytes.
    let dots = tool.name.matches('.').count();
    if !parts || !schema || full_name(server, &tool.name).len() + dots > NAME_BYTES_MAX {
        return None;
    }
    let clean: String = tool.description.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let description = bounded(clean.trim(), DESCRIPTION_BYTES_MAX, "").text;
    Some(ExternalTool { description, ..tool })
}

pub(super) fn definition(tool: &str, servers: &[ServerTools]) -> Option<ToolDefinition> {
    servers.iter().flat_map(ServerTools::definitions).find(|known| known.name == tool)
}

/// What to say of an MCP server's tool that is not there.
pub(super) fn why_none(tool: &str, servers: &[ServerTools]) -> Option<String> {
    let (name, _) = tool.strip_prefix("mcp.")?.split_once('.')?;
    let Some(server) = servers.iter().find(|server| server.name == name) else {
        return Some(format!("There is no tool `{tool}`: you have no MCP server `{name}`."));
    };
    let known: Vec<String> = server.definitions().map(|known| known.name.into_owned()).collect();
    let trouble = server.trouble.as_deref().map(|trouble| format!(" {trouble}")).unwrap_or_default();
    Some(format!("There is no tool `{tool}`. Its server offers: {}.{trouble}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::check_call;
    use serde_json::json;

    fn tool(name: &str, description: &str, parameters: Value) -> ExternalTool {
        ExternalTool { name: name.to_owned(), description: description.to_owned(), parameters }
    }

    fn schema() -> Value {
        json!({"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})
    }

    #[test]
    fn what_a_server_says_is_brought_into_bounds() {
        let huge = json!({"type": "object", "description": "x".repeat(SCHEMA_BYTES_MAX)});
        let listed = ServerTools::listed(
            "s",
            [
                tool("find", &format!("Finds.\u{1b}[31m\n\n{}", "x".repeat(5000)), schema()),
                tool("find", "a second time", schema()),
                tool("../file_write", "", schema()),
                tool("a..b", "", schema()),
                tool("", "", schema()),
                tool(&"n".repeat(64), "", schema()),
                tool("huge", "", huge),
                tool("text", "", json!({"type": "string"})),
            ],
        );
        assert_eq!(listed.tools.len(), 1, "{listed:?}");
        let description = &listed.tools[0].description;
        assert!(description.len() <= DESCRIPTION_BYTES_MAX + 200 && !description.contains('\u{1b}'), "{description}");
        assert_eq!(listed.trouble.as_deref(), Some("7 of the tools that it lists were not acceptable."));
        let many = ServerTools::listed("s", (0..100).map(|number| tool(&format!("t{number}"), "", schema())));
        assert_eq!(many.tools.len(), TOOLS_PER_SERVER_MAX);
    }

    #[test]
    fn calls_are_checked_against_the_servers_schema() {
        let servers = [
            ServerTools::listed("docs", [tool("find", "", schema())]),
            ServerTools::in_trouble("slow", "It did not answer within 30 s."),
        ];
        assert!(check_call("mcp.docs.find", r#"{"query":"x"}"#, &servers).is_ok());
        for (name, arguments, expected) in [
            ("mcp.docs.find", "{}", "`query` is missing"),
            ("mcp.docs.find", r#"{"query":1}"#, "`query` is a number, expected string"),
            ("mcp.docs.gone", "{}", "Its server offers: mcp.docs.find"),
            ("mcp.slow.find", "{}", "It did not answer within 30 s."),
            ("mcp.other.find", "{}", "you have no MCP server `other`"),
        ] {
            let error = check_call(name, arguments, &servers).expect_err(name);
            assert!(error.0.contains(expected), "{name} {arguments}: {error}");
        }
    }
}
