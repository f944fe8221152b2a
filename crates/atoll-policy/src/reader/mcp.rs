//! `mcp`: the MCP servers whose tools agents may be given.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::document::{McpPolicy, McpServer, McpTransport};
use crate::tools;
use crate::yaml::{Key, Kind, Node};

use super::{LIST_ENTRIES_MAX, Outcome, Reader};

const SERVER_KEYS: [&str; 6] = ["command", "env", "url", "token_env", "private_network", "timeout"];
/// How many servers a policy may have.
const SERVERS_MAX: usize = 64;
/// The longest argument, address or value of a server.
const FIELD_BYTES_MAX: usize = 4096;
/// The longest that one answer of a server may be waited for.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// The keys of one server, as they are read.
#[derive(Default)]
struct Parts {
    command: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    url: Option<String>,
    token_env: Option<String>,
    private_network: bool,
    timeout: Option<Duration>,
}

impl Reader<'_> {
    /// The `mcp` section.
    pub(super) fn mcp(&self, node: &Node) -> Outcome<McpPolicy> {
        let mut mcp = McpPolicy::default();
        for (key, node) in self.mapping(node, "`mcp`", &["servers", "project_servers", "project_urls"])? {
            match key.text.as_str() {
                "servers" => mcp.servers = self.mcp_servers(node)?,
                "project_servers" => {
                    for item in self.items(node, "project_servers", "names of servers")? {
                        let name = self.text(item, "project_servers", "a server's name")?;
                        mcp.project_servers.push(name.to_owned());
                    }
                }
                _ => {
                    for item in self.items(node, "project_urls", "addresses")? {
                        mcp.project_urls.push(self.mcp_url(item)?);
                    }
                }
            }
        }
        Ok(mcp)
    }

    fn mcp_servers(&self, node: &Node) -> Outcome<BTreeMap<String, McpServer>> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, "`servers`", "a mapping of MCP servers by name"));
        };
        if members.len() > SERVERS_MAX {
            let message = format!("`servers` has {} servers", members.len());
            return Err(self.error(node.place, message, Some(format!("at most {SERVERS_MAX}")), None));
        }
        let mut servers = BTreeMap::new();
        for (key, node) in members {
            if !tools::is_server_name(&key.text) {
                let message = format!("`{}` is no name for an MCP server", key.text);
                let expected = "letters, digits, `-` and `_`, at most 32".to_owned();
                return Err(self.error(key.place, message, Some(expected), None));
            }
            servers.insert(key.text.clone(), self.mcp_server(key, node)?);
        }
        Ok(servers)
    }

    fn mcp_server(&self, name: &Key, node: &Node) -> Outcome<McpServer> {
        let mut parts = Parts::default();
        for (key, node) in self.mapping(node, &format!("the MCP server `{}`", name.text), &SERVER_KEYS)? {
            match key.text.as_str() {
                "command" => parts.command = Some(self.mcp_command(node)?),
                "env" => parts.env = self.mcp_env(node)?,
                "url" => parts.url = Some(self.mcp_url(node)?),
                "token_env" => parts.token_env = Some(self.text(node, "token_env", "a variable's name")?.to_owned()),
                "private_network" => parts.private_network = self.boolean(node, "private_network")?,
                _ => parts.timeout = Some(self.mcp_timeout(node)?),
            }
        }
        let timeout = parts.timeout;
        let transport = match (parts.command, parts.url) {
            (Some(argv), None) if parts.token_env.is_none() && !parts.private_network => {
                McpTransport::Stdio { argv, env: parts.env }
            }
            (None, Some(url)) if parts.env.is_empty() => {
                if !parts.private_network && !url.starts_with("https://") {
                    let hint =
                        Some("write `https://`, or set `private_network: true` for a server of your own".to_owned());
                    return Err(self.error(name.place, format!("`{url}` is not encrypted"), None, hint));
                }
                let (token_env, private_network) = (parts.token_env, parts.private_network);
                McpTransport::Http { url, token_env, private_network }
            }
            _ => {
                let message = format!("the MCP server `{}` is not complete, or two things at once", name.text);
                let expected = "`command` (with `env`), or `url` (with `token_env`, `private_network`)".to_owned();
                return Err(self.error(name.place, message, Some(expected), None));
            }
        };
        Ok(McpServer { transport, timeout })
    }

    fn mcp_command(&self, node: &Node) -> Outcome<Vec<String>> {
        let mut argv = Vec::new();
        for item in self.items(node, "command", "words, the program first")? {
            argv.push(self.mcp_field(item, "command", "a word")?.to_owned());
        }
        if argv.is_empty() { Err(self.wrong(node, "`command`", "at least a program")) } else { Ok(argv) }
    }

    fn mcp_env(&self, node: &Node) -> Outcome<BTreeMap<String, String>> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, "`env`", "a mapping of variables"));
        };
        let mut env = BTreeMap::new();
        for (key, node) in members.iter().take(LIST_ENTRIES_MAX) {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if key.text.is_empty() || !key.text.chars().all(plain) {
                return Err(self.error(key.place, format!("`{}` is no variable's name", key.text), None, None));
            }
            env.insert(key.text.clone(), self.mcp_field(node, "env", "a text")?.to_owned());
        }
        Ok(env)
    }

    fn mcp_url(&self, node: &Node) -> Outcome<String> {
        let expected = "an address such as `https://tracker.example/mcp`, without user, password and fragment";
        let url = self.mcp_field(node, "url", expected)?;
        if is_mcp_url(url) { Ok(url.to_owned()) } else { Err(self.wrong(node, "`url`", expected)) }
    }

    fn mcp_field<'n>(&self, node: &'n Node, what: &str, expected: &str) -> Outcome<&'n str> {
        let text = self.text(node, what, expected)?;
        let fits = text.len() <= FIELD_BYTES_MAX && !text.contains('\0');
        if fits { Ok(text) } else { Err(self.wrong(node, &format!("`{what}`"), expected)) }
    }

    fn mcp_timeout(&self, node: &Node) -> Outcome<Duration> {
        let timeout = self.duration(node, "timeout")?;
        let expected = format!("at most {} s", TIMEOUT_MAX.as_secs());
        if timeout <= TIMEOUT_MAX { Ok(timeout) } else { Err(self.wrong(node, "`timeout`", &expected)) }
    }

    /// A tool of a server that nobody defines is a mistake of its author. `agents` has been read already.
    pub(super) fn check_servers(&self, agents: &Node, mcp: &McpPolicy) -> Outcome<()> {
        let members = |node: &'_ Node| match &node.kind {
            Kind::Mapping(members) => members.clone(),
            _ => Vec::new(),
        };
        for (_, agent) in members(agents) {
            for (_, tools) in members(&agent).into_iter().filter(|(key, _)| key.text == "tools") {
                for item in self.items(&tools, "tools", "tool names")? {
                    self.check_server(item, mcp)?;
                }
            }
        }
        Ok(())
    }

    fn check_server(&self, item: &Node, mcp: &McpPolicy) -> Outcome<()> {
        let tool = self.text(item, "tools", "a tool's name")?;
        let Some(server) = tools::server_of(tool) else { return Ok(()) };
        if mcp.servers.contains_key(server) || mcp.project_servers.iter().any(|known| known == server) {
            return Ok(());
        }
        let message = format!("`{tool}` is a tool of the MCP server `{server}`, which is not defined");
        let hint = format!("define `mcp.servers.{server}`, or name it in `mcp.project_servers`");
        Err(self.error(item.place, message, None, Some(hint)))
    }
}

/// Whether an address can be one of an MCP server: `http` or `https`, a host, nothing secret in it.
pub(crate) fn is_mcp_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte))
}
