//! Agents that a repository brings: Markdown files with a head of YAML, as `.atoll/agents/NAME.md`.
//!
//! ```text
//! ---
//! description: Knows the parser
//! base: code-writer          # the policy's agent whose rules hold; default: the one of the same name
//! tools: [file_read, file_write]   # a part of the base's tools; default: all of them
//! model: gpt-5
//! read_only: true
//! ---
//! You know the parser of this project. …
//! ```
//!
//! A repository is not trusted to grant anything: such an agent can only be narrower than its base.

use crate::error::PolicyError;
use crate::policy::Policy;
use crate::reader::{Outcome, Reader, is_agent_name};
use crate::tools;
use crate::yaml::{self, Key, Node, Place};

const FENCE: &str = "---";
const TOP: Place = Place { line: 1, column: 1 };

/// An agent as a file describes it, checked against the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    pub name: String,
    pub description: String,
    /// Name of the policy's agent that it narrows.
    pub base: String,
    /// A part of the base's tools, in the base's order.
    pub tools: Vec<String>,
    pub model: Option<String>,
    pub read_only: bool,
    /// What the agent is told about itself; `None` leaves it to its base's role.
    pub instructions: Option<String>,
}

impl AgentFile {
    /// Reads a file. `path` is used for the agent's name (`…/NAME.md`) and in errors.
    ///
    /// # Errors
    /// With line and column: a head that is missing or no YAML, an unknown key, a name that is none, a base that the
    /// policy does not have, a tool that the base does not have or that contradicts `read_only`.
    pub fn parse(text: &str, path: &str, policy: &Policy) -> Result<Self, PolicyError> {
        let reader = Reader { file: path };
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".md");
        if !is_agent_name(name) {
            let expected = "lower-case letters, digits and `-`, at most 63, beginning with a letter, then `.md`";
            let message = format!("`{name}` is no name for an agent");
            return Err(reader.error(TOP, message, Some(expected.to_owned()), None));
        }
        let text = text.replace("\r\n", "\n");
        let parts = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---"));
        let Some((head, body)) = parts else {
            let expected = Some(format!("a head of YAML between two lines `{FENCE}`"));
            return Err(reader.error(TOP, "the file has no head".to_owned(), expected, None));
        };
        // The line before keeps the numbers of lines as they are in the file.
        let root = yaml::parse(&format!("\n{head}\n"), path)?;
        let members = reader.mapping(&root, "the agent", &["description", "base", "tools", "model", "read_only"])?;
        let instructions = body.trim_start_matches('-').trim();
        let instructions = (!instructions.is_empty()).then(|| instructions.to_owned());
        from_head(&reader, name, members, instructions, policy)
    }
}

fn from_head(
    reader: &Reader<'_>,
    name: &str,
    members: &[(Key, Node)],
    instructions: Option<String>,
    policy: &Policy,
) -> Outcome<AgentFile> {
    let find = |wanted: &str| members.iter().find(|(key, _)| key.text == wanted).map(|(_, node)| node);
    let (base, base_place) = match find("base") {
        Some(node) => (reader.text(node, "base", "an agent of the policy")?, node.place),
        None => (name, TOP),
    };
    let Some(of_policy) = policy.agent(base) else {
        let known: Vec<&str> = policy.agents().map(|(name, _)| name).collect();
        let message = format!("the policy has no agent `{base}`");
        let expected = Some(format!("`base`, one of {}", known.join(", ")));
        return Err(reader.error(base_place, message, expected, None));
    };
    let read_only = match find("read_only") {
        Some(node) => reader.boolean(node, "read_only")? || of_policy.read_only,
        None => of_policy.read_only,
    };
    let mut tools = of_policy.tools.clone();
    if let Some(node) = find("tools") {
        let (listed, places) = reader.tools(node)?;
        if let Some((tool, place)) = listed.iter().zip(&places).find(|(tool, _)| !of_policy.tools.contains(tool)) {
            let message = format!("`{base}` does not have the tool `{tool}`, so `{name}` can not have it");
            return Err(reader.error(*place, message, Some(format!("one of {}", of_policy.tools.join(", "))), None));
        }
        tools.retain(|tool| listed.contains(tool));
    }
    if read_only && let Some(tool) = tools.iter().find(|tool| tools::nature(tool).changes) {
        let hint = Some(format!("list its `tools` without `{tool}`, or remove read_only"));
        let message = format!("`{name}` is read_only, and `{tool}` changes things");
        return Err(reader.error(find("tools").map_or(TOP, |node| node.place), message, None, hint));
    }
    let described = find("description").map(|node| reader.text(node, "description", "a sentence")).transpose()?;
    let model = find("model").map(|node| reader.text(node, "model", "a model's name")).transpose()?;
    Ok(AgentFile {
        name: name.to_owned(),
        description: described.map_or_else(|| of_policy.description.clone(), str::to_owned),
        base: base.to_owned(),
        tools,
        model: model.map(str::to_owned),
        read_only,
        instructions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentFile, PolicyError> {
        AgentFile::parse(text, ".atoll/agents/parser-expert.md", &Policy::default())
    }

    #[test]
    fn a_file_narrows_an_agent_of_the_policy() {
        let agent =
            parse("---\nbase: code-writer\ntools: [terminal_execute, file_read]\nmodel: m\n---\n\nYou parse.\n");
        let agent = agent.expect("it is well formed");
        assert_eq!((agent.name.as_str(), agent.base.as_str()), ("parser-expert", "code-writer"));
        assert_eq!(agent.tools, ["file_read", "terminal_execute"]);
        assert_eq!(agent.instructions.as_deref(), Some("You parse."));
        assert_eq!(agent.model.as_deref(), Some("m"));
    }

    #[test]
    fn bad_files_say_where_and_what() {
        for (text, line, expected) in [
            ("You parse.", 1, "no head"),
            ("---\nbase: painter\n---\n", 2, "no agent `painter`"),
            ("---\ndescription: x\n---\n", 1, "no agent `parser-expert`"),
            ("---\nbase: code-writer\ncolour: red\n---\n", 3, "unknown key `colour`"),
            ("---\nbase: code-reviewer\ntools:\n- file_write\n---\n", 4, "does not have the tool `file_write`"),
            ("---\nbase: code-writer\nread_only: true\n---\n", 1, "read_only, and `file_write` changes things"),
            ("---\nbase: [\n---\n", 4, "not YAML"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error:?}");
            assert!(error.line == line || expected == "not YAML", "{text}: {error:?}");
        }
        let named = AgentFile::parse("", "a/Bad Name.md", &Policy::default()).expect_err("a bad name");
        assert!(named.message.contains("no name for an agent"));
    }
}
