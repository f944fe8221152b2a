//! The tools an agent can call: names, descriptions and argument schemas, and the check of a call against them.
//!
//! Paths may be relative to the agent's working directory; the orchestrator makes them absolute before policy sees
//! them. The order of [`ALL`] never changes, so that the prompt's prefix stays the same from call to call.

mod external;
mod schema;

use std::borrow::Cow;

use serde_json::{Map, Value, json};

pub use external::{
    DESCRIPTION_BYTES_MAX, ExternalTool, SCHEMA_BYTES_MAX, ServerTools, TOOLS_PER_SERVER_MAX, is_external,
};

pub const FILE_READ: &str = "file_read";
pub const FILE_WRITE: &str = "file_write";
pub const TERMINAL_EXECUTE: &str = "terminal_execute";
pub const GIT_OPERATIONS: &str = "git_operations";
pub const GIT_DIFF: &str = "git_diff";
pub const LINTER_RUN: &str = "linter_run";
pub const SECURITY_SCAN: &str = "security_scan";
pub const FILE_SEARCH: &str = "file_search";
pub const TERMINAL_PROCESS: &str = "terminal_process";
pub const TASK_CREATE: &str = "task_create";
pub const AGENT_DELEGATE: &str = "agent_delegate";
pub const PROGRESS_TRACK: &str = "progress_track";

/// Every tool, in the order in which a model is told of them.
pub const ALL: [&str; 12] = [
    FILE_READ,
    FILE_WRITE,
    TERMINAL_EXECUTE,
    GIT_OPERATIONS,
    GIT_DIFF,
    LINTER_RUN,
    SECURITY_SCAN,
    TASK_CREATE,
    AGENT_DELEGATE,
    PROGRESS_TRACK,
    FILE_SEARCH,
    TERMINAL_PROCESS,
];

/// Tools that change nothing but the run itself; the engine carries them out.
pub const INTERNAL: [&str; 3] = [TASK_CREATE, AGENT_DELEGATE, PROGRESS_TRACK];

/// The longest argument string that a call may carry.
pub const ARGUMENT_BYTES_MAX: usize = 1024 * 1024;

/// The longest text that a running command is given at once: what a pipe takes.
const INPUT_BYTES_MAX: usize = 32 * 1024;

/// What a model is told of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    pub name: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// JSON Schema of the arguments; for the tools of [`ALL`] always an object without additional properties.
    pub parameters: Value,
}

/// The definition of a tool; `None` for a name that is not in [`ALL`].
#[must_use]
pub fn definition(name: &str) -> Option<ToolDefinition> {
    let name = *ALL.iter().find(|known| **known == name)?;
    let (description, parameters) = match name {
        FILE_READ => file_read(),
        FILE_WRITE => file_write(),
        TERMINAL_EXECUTE => terminal_execute(),
        GIT_OPERATIONS => git_operations(),
        GIT_DIFF => git_diff(),
        LINTER_RUN => linter_run(),
        SECURITY_SCAN => security_scan(),
        TASK_CREATE => task_create(),
        AGENT_DELEGATE => agent_delegate(),
        FILE_SEARCH => file_search(),
        TERMINAL_PROCESS => terminal_process(),
        _ => progress_track(),
    };
    Some(ToolDefinition { name: name.into(), description: description.into(), parameters })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn paths(description: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": description})
}

fn file_read() -> (&'static str, Value) {
    (
        "Read a text file. Lines are numbered. Long files are cut; ask for the rest by line range.",
        object(
            &["path"],
            json!({
                "path": {"type": "string", "description": "Absolute, or relative to the working directory."},
                "start_line": {"type": "integer", "minimum": 1, "description": "First line to read, counted from 1."},
                "end_line": {"type": "integer", "minimum": 1, "description": "Last line to read, included."},
            }),
        ),
    )
}

fn file_write() -> (&'static str, Value) {
    (
        "Write a file. Either give `content` to replace the whole file (or create it), or give `old_text` and `new_text` \
         to replace one passage, which must occur exactly once, or give `patch`, a unified diff of this one file whose \
         context must fit. Answers with a diff.",
        object(
            &["path"],
            json!({
                "path": {"type": "string", "description": "Absolute, or relative to the working directory."},
                "content": {"type": "string", "description": "The whole new content."},
                "old_text": {"type": "string", "description": "The exact passage to replace, white space included."},
                "new_text": {"type": "string", "description": "What to put in its place; may be empty."},
                "patch": {"type": "string", "description": "A unified diff: hunks that begin with `@@ -line,count +line,count @@`."},
            }),
        ),
    )
}

fn terminal_execute() -> (&'static str, Value) {
    (
        "Run a shell command in the sandbox and wait for it. Answers with its output and exit code. The sandbox has no \
         network.",
        object(
            &["command"],
            json!({
                "command": {"type": "string", "description": "The command line, for bash."},
                "cwd": {"type": "string", "description": "Directory to run in; default the working directory."},
                "stdin": {"type": "string", "description": "Text given on standard input."},
                "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": 3600},
                "background": {"type": "boolean", "description": "Start it and return at once; look after it with terminal_process."},
            }),
        ),
    )
}

fn file_search() -> (&'static str, Value) {
    (
        "Find text or files in the working directory; what git ignores is left out. Give `pattern`, an extended regular \
         expression, to get the lines that match as path:line:text, or `name`, a glob such as `*.rs`, to get paths, or \
         both to search only files of that name.",
        object(
            &[],
            json!({
                "pattern": {"type": "string", "description": "Extended regular expression, matched line by line."},
                "name": {"type": "string", "description": "Glob that the file's name must match."},
                "paths": paths("Only these files or directories; default the whole project."),
                "ignore_case": {"type": "boolean"},
            }),
        ),
    )
}

fn terminal_process() -> (&'static str, Value) {
    (
        "Look after commands that were started with terminal_execute in the background: `status` lists them, or says how one \
         stands; `output` shows what one has written so far; `write` gives one `text` on its standard input, as it is; \
         `end_input` says that nothing more comes; `kill` ends one with everything it started.",
        object(
            &["operation"],
            json!({
                "operation": {"type": "string", "enum": ["status", "output", "kill", "write", "end_input"]},
                "id": {"type": "string", "description": "As terminal_execute named it."},
                "text": {"type": "string", "description": "For write; end a line with a line feed."},
            }),
        ),
    )
}

fn git_operations() -> (&'static str, Value) {
    (
        "Work with git in the agent's worktree: `status`; `add` (paths); `commit` (message; `all` stages every change \
         first); `log` (limit); `branch` (lists, or creates and switches to `name`); `push` (publishes the branch to \
         the project's remote; needs a person's approval).",
        object(
            &["operation"],
            json!({
                "operation": {"type": "string", "enum": ["status", "add", "commit", "log", "branch", "push"]},
                "paths": paths("For add: files to stage; default every change."),
                "message": {"type": "string", "description": "For commit."},
                "all": {"type": "boolean", "description": "For commit: stage every change first."},
                "name": {"type": "string", "description": "For branch and push: the branch's name."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 200, "description": "For log: how many commits."},
            }),
        ),
    )
}

fn git_diff() -> (&'static str, Value) {
    (
        "Show what changed against the commit that the work started from, uncommitted changes included.",
        object(
            &[],
            json!({
                "base": {"type": "string", "description": "Compare with this commit or branch instead."},
                "paths": paths("Only these files or directories."),
                "stat": {"type": "boolean", "description": "Only file names and line counts."},
            }),
        ),
    )
}

fn linter_run() -> (&'static str, Value) {
    (
        "Run the linters that suit the project and are installed. Answers with their findings, and says which linters \
         were not available.",
        object(&[], json!({"paths": paths("Only these files or directories; default the whole project.")})),
    )
}

fn security_scan() -> (&'static str, Value) {
    (
        "Search the project for committed secrets and dangerous constructs with the scanners that are installed and a \
         built-in one. Answers with findings by file and line.",
        object(&[], json!({"paths": paths("Only these files or directories; default the whole project.")})),
    )
}

fn task_create() -> (&'static str, Value) {
    (
        "Add an item to the run's task list. Answers with the item's number.",
        object(
            &["title"],
            json!({
                "title": {"type": "string", "description": "One line."},
                "detail": {"type": "string"},
                "agent": {"type": "string", "description": "The agent meant to do it."},
            }),
        ),
    )
}

fn agent_delegate() -> (&'static str, Value) {
    (
        "Give a task to another agent and wait for its answer. It knows nothing but what you write here and the \
         repository; the work of earlier agents is in the repository it gets. Delegations of one answer run at the same \
         time, and what they commit is merged.",
        object(
            &["agent", "task"],
            json!({
                "agent": {"type": "string", "description": "Name of the agent."},
                "task": {"type": "string", "description": "What to do, how to check it, and what to report back."},
                "item": {"type": "integer", "minimum": 1, "description": "Number of the task list's item it works on."},
                "max_steps": {"type": "integer", "minimum": 1, "description": "The most model calls it may make."},
                "max_tokens": {"type": "integer", "minimum": 1, "description": "The most tokens it may use."},
            }),
        ),
    )
}

fn progress_track() -> (&'static str, Value) {
    (
        "Set the status of an item of the task list, or without arguments show the list.",
        object(
            &[],
            json!({
                "item": {"type": "integer", "minimum": 1},
                "status": {"type": "string", "enum": ["pending", "in_progress", "done", "failed"]},
                "note": {"type": "string"},
            }),
        ),
    )
}

/// A call that can not be carried out as written. The text is for the model: it says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCall(pub String);

/// Parses and checks the arguments of a call.
///
/// # Errors
/// [`BadCall`] when the tool is unknown, the arguments are no JSON object, or do not fit the tool's schema.
///
/// `servers` has what the agent's MCP servers offer.
pub fn check_call(tool: &str, arguments: &str, servers: &[ServerTools]) -> Result<Value, BadCall> {
    let Some(definition) = definition(tool).or_else(|| external::definition(tool, servers)) else {
        return Err(BadCall(
            external::why_none(tool, servers)
                .unwrap_or_else(|| format!("There is no tool `{tool}`. The tools are: {}.", ALL.join(", "))),
        ));
    };
    if arguments.len() > ARGUMENT_BYTES_MAX {
        return Err(BadCall(format!(
            "The arguments of `{tool}` are {} bytes long; at most {ARGUMENT_BYTES_MAX} are accepted. Split the work.",
            arguments.len()
        )));
    }
    // Some models send nothing at all for a call without arguments.
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        BadCall(format!(
            "The arguments of `{tool}` are not valid JSON ({error}). Send one JSON object that fits this schema: {}",
            definition.parameters
        ))
    })?;
    let problems = match is_external(tool) {
        true => schema::problems(&definition.parameters, &value),
        false => problems(tool, &definition.parameters, &value),
    };
    if problems.is_empty() {
        return Ok(value);
    }
    Err(BadCall(format!(
        "The arguments of `{tool}` do not fit: {}. The schema is: {}",
        problems.join("; "),
        definition.parameters
    )))
}

fn problems(tool: &str, schema: &Value, value: &Value) -> Vec<String> {
    let Some(arguments) = value.as_object() else {
        return vec![format!("they are {}, not an object", type_name(value))];
    };
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let missing = required.iter().filter_map(Value::as_str).filter(|name| !arguments.contains_key(*name));
    let mut found: Vec<String> = missing.map(|name| format!("`{name}` is missing")).collect();
    for (name, argument) in arguments {
        match properties.get(name) {
            None => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                found.push(format!("`{name}` is not known (known: {})", known.join(", ")));
            }
            Some(property) => found.extend(mismatch(name, property, argument)),
        }
    }
    if found.is_empty() {
        found.extend(combination(tool, arguments));
    }
    found
}

fn mismatch(name: &str, schema: &Value, value: &Value) -> Option<String> {
    let expected = schema["type"].as_str().unwrap_or_default();
    let fits = match expected {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        _ => true,
    };
    if !fits {
        let expected = if expected == "array" { "array of strings" } else { expected };
        return Some(format!("`{name}` is {}, expected {expected}", type_name(value)));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        return Some(format!("`{name}` is {value}, expected one of {}", allowed.join(", ")));
    }
    let number = value.as_i64()?;
    let low = schema["minimum"].as_i64().filter(|minimum| number < *minimum);
    let high = schema["maximum"].as_i64().filter(|maximum| number > *maximum);
    low.map(|minimum| format!("`{name}` is {number}, must be at least {minimum}"))
        .or_else(|| high.map(|maximum| format!("`{name}` is {number}, must be at most {maximum}")))
}

/// Rules between arguments, which the schema can not say in words that every model understands.
fn combination(tool: &str, arguments: &Map<String, Value>) -> Option<String> {
    let has = |name: &str| arguments.contains_key(name);
    let is_blank = |name: &str| arguments.get(name).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty());
    match tool {
        FILE_WRITE if has("patch") => {
            let alone = !has("content") && !has("old_text") && !has("new_text");
            (!alone).then(|| "give `patch` alone, or another way to write".to_owned())
        }
        FILE_WRITE => match (has("content"), has("old_text"), has("new_text")) {
            (true, false, false) => None,
            (false, true, true) if arguments["old_text"] == "" => {
                Some("`old_text` is empty; to create or replace a whole file give `content`".to_owned())
            }
            (false, true, true) => None,
            _ => Some("give either `content` alone, or `old_text` and `new_text` together, or `patch`".to_owned()),
        },
        FILE_READ => {
            let line = |name: &str| arguments.get(name).and_then(Value::as_i64);
            let backwards = line("start_line").zip(line("end_line")).is_some_and(|(start, end)| start > end);
            backwards.then(|| "`start_line` is after `end_line`".to_owned())
        }
        TERMINAL_EXECUTE if is_blank("command") => Some("`command` is empty".to_owned()),
        GIT_OPERATIONS if arguments["operation"] == "commit" && (!has("message") || is_blank("message")) => {
            Some("`commit` needs a `message`".to_owned())
        }
        PROGRESS_TRACK if has("item") != has("status") => {
            Some("give `item` and `status` together, or nothing to see the list".to_owned())
        }
        FILE_SEARCH if !has("pattern") && !has("name") => Some("give `pattern`, `name`, or both".to_owned()),
        FILE_SEARCH if is_blank("pattern") || is_blank("name") => Some("`pattern` or `name` is empty".to_owned()),
        TERMINAL_PROCESS if arguments["operation"] != "status" && !has("id") => Some("`id` is missing".to_owned()),
        TERMINAL_PROCESS if (arguments["operation"] == "write") != has("text") => {
            Some("`text` goes with `write`, and `write` with `text`".to_owned())
        }
        TERMINAL_PROCESS
            if arguments.get("text").and_then(Value::as_str).is_some_and(|it| it.len() > INPUT_BYTES_MAX) =>
        {
            Some(format!("`text` is longer than {INPUT_BYTES_MAX} bytes; write it in pieces"))
        }
        TERMINAL_PROCESS if arguments.get("id").and_then(Value::as_str).is_some_and(|id| !is_process_id(id)) => {
            Some("`id` is none that terminal_execute gives".to_owned())
        }
        TASK_CREATE if is_blank("title") => Some("`title` is empty".to_owned()),
        AGENT_DELEGATE if is_blank("task") => Some("`task` is empty".to_owned()),
        _ => None,
    }
}

/// Names of background commands: the call that started them.
fn is_process_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The longest one-line summary of a call, in characters.
const SUMMARY_CHARS_MAX: usize = 160;

/// A call in one line, for people: `terminal_execute: python3 -m unittest`.
#[must_use]
pub fn summary(tool: &str, input: &Value) -> String {
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let detail = match tool {
        FILE_READ | FILE_WRITE => text("path").to_owned(),
        TERMINAL_EXECUTE => text("command").to_owned(),
        GIT_OPERATIONS => [text("operation"), text("name"), text("message")].join(" "),
        GIT_DIFF => text("base").to_owned(),
        TASK_CREATE => text("title").to_owned(),
        AGENT_DELEGATE => format!("{}: {}", text("agent"), text("task")),
        FILE_SEARCH => [text("pattern"), text("name")].join(" "),
        TERMINAL_PROCESS => [text("operation"), text("id")].join(" "),
        tool if is_external(tool) => input.to_string(),
        PROGRESS_TRACK => input.get("item").map(|item| format!("#{item} {}", text("status"))).unwrap_or_default(),
        _ => String::new(),
    };
    let line = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return tool.to_owned();
    }
    let mut short: String = line.chars().take(SUMMARY_CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("{tool}: {short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_schema_that_takes_no_surprises() {
        for name in ALL {
            let tool = definition(name).expect("it is defined");
            assert_eq!(tool.name, name);
            assert_eq!(tool.parameters["additionalProperties"], false, "{name}");
            assert!(!tool.description.is_empty(), "{name}");
        }
        assert!(definition("file_delete").is_none());
    }

    #[test]
    fn good_calls_pass() {
        for (tool, arguments) in [
            (FILE_READ, r#"{"path":"a","start_line":2,"end_line":2}"#),
            (FILE_WRITE, r#"{"path":"a","content":""}"#),
            (FILE_WRITE, r#"{"path":"a","patch":"@@ -1 +1 @@\n-a\n+b\n"}"#),
            (FILE_SEARCH, r#"{"pattern":"x"}"#),
            (TERMINAL_PROCESS, r#"{"operation":"status"}"#),
            (FILE_WRITE, r#"{"path":"a","old_text":"x","new_text":""}"#),
            (TERMINAL_EXECUTE, r#"{"command":"ls"}"#),
            (GIT_OPERATIONS, r#"{"operation":"commit","message":"m","all":true}"#),
            (GIT_DIFF, ""),
            (PROGRESS_TRACK, " {} "),
        ] {
            check_call(tool, arguments, &[]).unwrap_or_else(|error| panic!("{tool} {arguments}: {error}"));
        }
    }

    #[test]
    fn bad_calls_say_what_to_change() {
        for (tool, arguments, expected) in [
            ("rm", "{}", "There is no tool `rm`"),
            (FILE_READ, "{", "not valid JSON"),
            (FILE_READ, "[]", "they are an array, not an object"),
            (FILE_READ, "{}", "`path` is missing"),
            (FILE_READ, r#"{"path":3}"#, "`path` is a number, expected string"),
            (FILE_READ, r#"{"path":"a","start_line":0}"#, "must be at least 1"),
            (FILE_READ, r#"{"path":"a","start_line":3,"end_line":2}"#, "`start_line` is after `end_line`"),
            (FILE_READ, r#"{"path":"a","file":"b"}"#, "`file` is not known (known: path, start_line, end_line)"),
            (FILE_WRITE, r#"{"path":"a"}"#, "give either `content` alone"),
            (FILE_WRITE, r#"{"path":"a","content":"x","patch":"y"}"#, "give `patch` alone"),
            (FILE_SEARCH, "{}", "give `pattern`, `name`, or both"),
            (TERMINAL_PROCESS, r#"{"operation":"kill"}"#, "`id` is missing"),
            (TERMINAL_PROCESS, r#"{"operation":"write","id":"a1s1c0"}"#, "`write` with `text`"),
            (TERMINAL_PROCESS, r#"{"operation":"kill","id":"../x"}"#, "`id` is none"),
            (FILE_WRITE, r#"{"path":"a","old_text":"","new_text":"b"}"#, "`old_text` is empty"),
            (GIT_OPERATIONS, r#"{"operation":"rebase"}"#, "expected one of status, add, commit, log, branch, push"),
            (GIT_OPERATIONS, r#"{"operation":"commit"}"#, "`commit` needs a `message`"),
            (GIT_DIFF, r#"{"paths":[1]}"#, "expected array of strings"),
            (TERMINAL_EXECUTE, r#"{"command":" "}"#, "`command` is empty"),
            (TERMINAL_EXECUTE, r#"{"command":"x","timeout_seconds":99999}"#, "must be at most 3600"),
            (PROGRESS_TRACK, r#"{"item":1}"#, "give `item` and `status` together"),
        ] {
            let error = check_call(tool, arguments, &[]).expect_err(arguments);
            assert!(error.0.contains(expected), "{tool} {arguments}: {error}");
        }
    }

    #[test]
    fn an_oversized_call_is_refused() {
        let arguments = format!(r#"{{"path":"a","content":"{}"}}"#, "x".repeat(ARGUMENT_BYTES_MAX));
        assert!(check_call(FILE_WRITE, &arguments, &[]).expect_err("too long").0.contains("Split the work"));
    }

    #[test]
    fn summaries_are_one_short_line() {
        assert_eq!(summary(TERMINAL_EXECUTE, &json!({"command": "a\n  b"})), "terminal_execute: a b");
        assert_eq!(summary(GIT_DIFF, &json!({})), "git_diff");
        assert_eq!(summary(PROGRESS_TRACK, &json!({"item": 2, "status": "done"})), "progress_track: #2 done");
        let long = summary(TERMINAL_EXECUTE, &json!({"command": "é".repeat(1000)}));
        assert!(long.ends_with('…') && long.chars().count() < 200);
    }
}
