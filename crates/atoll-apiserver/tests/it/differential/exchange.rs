//! Requests as data, and what is kept of their answers.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Transcript;

/// Longer bodies are not kept in transcripts.
const BODY_SHOWN_BYTES: usize = 10_000;

/// A sequence of requests in a namespace of its own.
///
/// In paths and bodies `$rv:NAME$`, `$uid:NAME$` stand for what the last answer about that object said, `$continue$` for
/// the last continue token, `$ns$` for the namespace.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// What has to be there first: paths and bodies.
    pub(crate) before: Vec<(String, Value)>,
    pub(crate) steps: Vec<Step>,
}

/// One request.
pub(crate) struct Step {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) content_type: Option<String>,
    pub(crate) accept: Option<&'static str>,
    pub(crate) body: String,
}

impl Step {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), content_type: None, accept: None, body: String::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// What happened since a version, until the server ends the watch.
    pub(crate) fn watch(path: &str, query: &str) -> Self {
        Self::new("GET", format!("{path}?watch=true&timeoutSeconds=1&{query}"))
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path).json(body)
    }

    pub(crate) fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new("PUT", path).json(body)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    pub(crate) fn patch(path: impl Into<String>, kind: &str, body: Value) -> Self {
        let content_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            "json" => "application/json-patch+json".to_owned(),
            "merge" => "application/merge-patch+json".to_owned(),
            "strategic" => "application/strategic-merge-patch+json".to_owned(),
            other => other.to_owned(),
        };
        Self { content_type: Some(content_type), body: body.to_string(), ..Self::new("PATCH", path) }
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.text("application/json", body.to_string())
    }

    pub(crate) fn text(self, content_type: &str, body: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.to_owned()), body: body.into(), ..self }
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept: Some(accept), ..self }
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// The request in one line, with its placeholders.
    pub(crate) fn describe(&self) -> String {
        let mut line = format!("{} {}", self.method, self.path);
        for (name, value) in [("as", self.content_type.as_deref()), ("for", self.accept)] {
            if let Some(value) = value.filter(|value| *value != "application/json") {
                write!(line, " {name} {value}").expect("strings can be written to");
            }
        }
        if self.body.len() > BODY_SHOWN_BYTES {
            write!(line, " ({} bytes)", self.body.len()).expect("strings can be written to");
        } else if !self.body.is_empty() {
            write!(line, " {}", self.body).expect("strings can be written to");
        }
        line
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) request: String,
    pub(crate) answer: Value,
}

impl Recorded {
    pub(crate) fn new(step: &Step, code: u16, media_type: &str, warnings: &[String], body: Value) -> Self {
        let mut answer = json!({ "code": code, "type": media_type, "body": body });
        if !warnings.is_empty() {
            answer["warnings"] = json!(warnings);
        }
        Self { request: step.describe(), answer }
    }
}

/// One exchange a line: what changed between two recordings is seen in a diff.
pub(crate) fn to_text(transcript: &Transcript) -> String {
    let mut text = String::from("{");
    for (index, (name, exchanges)) in transcript.iter().enumerate() {
        let lines: Vec<String> =
            exchanges.iter().map(|exchange| serde_json::to_string(exchange).expect("it is JSON")).collect();
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\n{}: [\n{}\n]", json!(name), lines.join(",\n")).expect("strings can be written to");
    }
    text.push_str("\n}\n");
    text
}
