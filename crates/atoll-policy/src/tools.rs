//! The tools that policies know, and what kind of thing each does.

/// Every tool by name; tools of MCP servers are `mcp.<server>.<tool>`.
pub(crate) const ALL: [&str; 12] = [
    "file_read",
    "file_write",
    "git_operations",
    "terminal_execute",
    "git_diff",
    "linter_run",
    "security_scan",
    "task_create",
    "agent_delegate",
    "progress_track",
    "file_search",
    "terminal_process",
];

/// What kind of thing a tool does, whatever its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nature {
    /// It can change something beyond the run's own list of tasks.
    pub(crate) changes: bool,
    /// It works on files or runs programs, so it needs a sandbox.
    pub(crate) touches_machine: bool,
}

pub(crate) fn nature(tool: &str) -> Nature {
    match tool {
        "task_create" | "agent_delegate" | "progress_track" => Nature { changes: false, touches_machine: false },
        "file_read" | "file_search" | "git_diff" | "linter_run" | "security_scan" => {
            Nature { changes: false, touches_machine: true }
        }
        _ => Nature { changes: true, touches_machine: true },
    }
}

pub(crate) fn is_known(tool: &str) -> bool {
    ALL.contains(&tool) || is_external(tool)
}

/// The longest name of an MCP server.
const SERVER_NAME_BYTES_MAX: usize = 32;

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
}

/// Whether an MCP server can have this name.
pub(crate) fn is_server_name(name: &str) -> bool {
    is_plain(name) && name.len() <= SERVER_NAME_BYTES_MAX
}

/// The MCP server that a tool belongs to; `None` for tools of Atoll's own and for names that are none.
pub(crate) fn server_of(tool: &str) -> Option<&str> {
    let (server, name) = tool.strip_prefix("mcp.")?.split_once('.')?;
    (is_server_name(server) && name.split('.').all(is_plain)).then_some(server)
}

/// Whether it is a tool of an MCP server.
pub(crate) fn is_external(tool: &str) -> bool {
    server_of(tool).is_some()
}
