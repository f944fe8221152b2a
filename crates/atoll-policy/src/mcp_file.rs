//! MCP servers that a repository brings: `.atoll/mcp.json`, in the form that editors use.
//!
//! ```text
//! {"mcpServers": {
//!   "tracker": {"command": "python3", "args": ["tools/tracker.py"], "env": {"MODE": "read"}},
//!   "docs":    {"type": "http", "url": "https://docs.example/mcp"}
//! }}
//! ```
//!
//! A repository is not trusted to grant anything: the policy names the servers that it may define and the addresses that
//! those may have, and which of their tools an agent has is the policy's word alone. No token is ever sent to them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::document::{McpServer, McpTransport};
use crate::error::PolicyError;
use crate::policy::Policy;
use crate::reader::is_mcp_url;

/// The longest word of a command, and the longest value of a variable.
const FIELD_BYTES_MAX: usize = 4096;
/// Words of a command, and variables.
const FIELDS_MAX: usize = 64;

/// The servers of a file that the policy lets a project define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpFile {
    /// By name.
    pub servers: BTreeMap<String, McpServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    url: Option<String>,
}

impl McpFile {
    /// Reads a file. `path` is used in errors.
    ///
    /// # Errors
    /// JSON that does not parse or fit, with line and column; a server that the policy lets no project define, or has
    /// itself; an address that the policy does not name.
    pub fn parse(text: &str, path: &str, policy: &Policy) -> Result<Self, PolicyError> {
        let refused = |line, column, message: String, hint: Option<String>| PolicyError {
            file: path.to_owned(),
            line,
            column,
            message,
            expected: None,
            hint,
        };
        let document: Document = serde_json::from_str(text).map_err(|error| {
            let hint = "`{\"mcpServers\": {NAME: {\"command\": …, \"args\": […], \"env\": {…}} or {\"url\": …}}}`";
            refused(error.line(), error.column(), error.to_string(), Some(hint.to_owned()))
        })?;
        let mut servers = BTreeMap::new();
        for (name, entry) in document.servers {
            let server = server(&name, entry, policy).map_err(|(message, hint)| refused(1, 1, message, Some(hint)))?;
            servers.insert(name, server);
        }
        Ok(Self { servers })
    }
}

fn server(name: &str, entry: Entry, policy: &Policy) -> Result<McpServer, (String, String)> {
    let mcp = policy.mcp();
    if mcp.servers.contains_key(name) {
        let hint = "choose another name; the policy's own servers can not be replaced".to_owned();
        return Err((format!("the policy has an MCP server `{name}` already"), hint));
    }
    if !mcp.project_servers.iter().any(|known| known == name) {
        let hint =
            format!("the policy's `mcp.project_servers` may name it; it names: {}", mcp.project_servers.join(", "));
        return Err((format!("the policy lets no project define the MCP server `{name}`"), hint));
    }
    let bounded = |text: &String| text.len() <= FIELD_BYTES_MAX && !text.contains('\0');
    let words_fit = entry.args.len() < FIELDS_MAX && entry.env.len() <= FIELDS_MAX && entry.args.iter().all(bounded);
    let names_fit = entry.env.keys().all(|key| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    let transport = match (entry.kind.as_deref(), entry.command, entry.url) {
        (None | Some("stdio"), Some(command), None)
            if words_fit && names_fit && !command.is_empty() && entry.env.values().chain([&command]).all(bounded) =>
        {
            let argv = std::iter::once(command).chain(entry.args).collect();
            McpTransport::Stdio { argv, env: entry.env }
        }
        (None | Some("http"), None, Some(url)) if entry.args.is_empty() && entry.env.is_empty() => {
            if !is_mcp_url(&url) || !mcp.project_urls.contains(&url) {
                let hint = "the policy's `mcp.project_urls` may name it".to_owned();
                return Err((format!("the policy allows no project the address of the MCP server `{name}`"), hint));
            }
            McpTransport::Http { url, token_env: None, private_network: false }
        }
        _ => {
            let hint = format!("give `command` (with `args` and `env`, at most {FIELDS_MAX} each), or `url`");
            return Err((format!("the MCP server `{name}` is not complete, or two things at once"), hint));
        }
    };
    Ok(McpServer { transport, timeout: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "agents:\n  a: {tools: [mcp.mine.x], sandboxed: true}\n\
        mcp:\n  servers:\n    ours: {url: 'https://ours.example/mcp'}\n  project_servers: [mine, theirs]\n  \
        project_urls: ['https://docs.example/mcp']\n";

    fn parse(servers: &str) -> Result<McpFile, PolicyError> {
        let policy = Policy::parse(POLICY, "policies.yaml").expect("a policy");
        McpFile::parse(&format!("{{\"mcpServers\": {servers}}}"), ".atoll/mcp.json", &policy)
    }

    #[test]
    fn a_project_defines_what_the_policy_names() {
        let file = parse(
            r#"{"mine": {"command": "python3", "args": ["s.py"]}, "theirs": {"url": "https://docs.example/mcp"}}"#,
        );
        let servers = file.expect("it is well formed").servers;
        let argv = vec!["python3".to_owned(), "s.py".to_owned()];
        assert_eq!(servers["mine"].transport, McpTransport::Stdio { argv, env: BTreeMap::new() });
        let McpTransport::Http { private_network, token_env, .. } = &servers["theirs"].transport else {
            panic!("http")
        };
        assert!(!private_network && token_env.is_none(), "a project opens no private network and names no secret");
    }

    #[test]
    fn everything_else_is_refused() {
        for (servers, expected) in [
            (r#"{"ours": {"command": "x"}}"#, "has an MCP server `ours` already"),
            (r#"{"other": {"command": "x"}}"#, "lets no project define the MCP server `other`"),
            (r#"{"mine": {"url": "https://evil.example/mcp"}}"#, "allows no project the address"),
            (r#"{"mine": {"url": "http://169.254.169.254/"}}"#, "allows no project the address"),
            (r#"{"mine": {"command": "x", "url": "https://docs.example/mcp"}}"#, "two things at once"),
            (r#"{"mine": {}}"#, "is not complete"),
            (r#"{"mine": {"url": "https://docs.example/mcp", "headers": {"a": "b"}}}"#, "unknown field `headers`"),
            (r#"{"mine": {"command": "x", "env": {"A=B": "c"}}}"#, "is not complete"),
            ("[", "expected"),
        ] {
            let error = parse(servers).expect_err(servers);
            assert!(error.message.contains(expected), "{servers}: {error:?}");
        }
    }
}
