//! What a repository says to agents: its `AGENTS.md`, agents of its own under `.atoll/agents/`, and the MCP servers of
//! `.atoll/mcp.json`.

use super::{Repo, RepoError};

const NOTES: &str = "AGENTS.md";
const AGENTS: &str = ".atoll/agents/";
const SERVERS: &str = ".atoll/mcp.json";
/// One of these files.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Agents that a repository may bring.
const AGENTS_MAX: usize = 32;

/// The files that speak to agents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProjectFiles {
    pub(crate) notes: Option<String>,
    /// `.atoll/mcp.json`.
    pub(crate) servers: Option<AgentSource>,
    pub(crate) agents: Vec<AgentSource>,
}

/// A file under `.atoll/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AgentSource {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Repo {
    /// Reads them from a commit. Only regular files count; links are passed over.
    pub(crate) async fn project_files(&self, commit: &str) -> Result<ProjectFiles, RepoError> {
        let arguments = ["ls-tree", "-l", "--full-tree", commit, "--", NOTES, SERVERS, AGENTS];
        let listed = self.git.run(&arguments).await.map_err(RepoError::Git)?;
        let mut files = ProjectFiles::default();
        for line in listed.lines() {
            // `<mode> blob <id> <size>\t<path>`; odd names are quoted, and none of ours is odd.
            let Some((head, path)) = line.split_once('\t') else { continue };
            let fields: Vec<&str> = head.split_whitespace().collect();
            let [mode, "blob", id, size] = fields[..] else { continue };
            let wanted = path == NOTES
                || path == SERVERS
                || path.strip_suffix(".md").is_some_and(|path| path.starts_with(AGENTS));
            if !wanted || !mode.starts_with("100") {
                continue;
            }
            if size.parse::<u64>().is_ok_and(|size| size > FILE_BYTES_MAX) || files.agents.len() >= AGENTS_MAX {
                let reason = format!("{path} is too large ({FILE_BYTES_MAX} bytes are taken), or one agent too many");
                return Err(RepoError::Rejected { reason, source: None });
            }
            let text = self.git.run(&["cat-file", "blob", id]).await.map_err(RepoError::Git)?;
            if path == NOTES {
                files.notes = Some(text);
            } else if path == SERVERS {
                files.servers = Some(AgentSource { path: path.to_owned(), text });
            } else {
                files.agents.push(AgentSource { path: path.to_owned(), text });
            }
        }
        Ok(files)
    }
}
