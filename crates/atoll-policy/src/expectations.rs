//! What a policy is expected to say, as a table in a file beside it.
//!
//! ```yaml
//! cases:
//!   - name: the disk stays as it is
//!     agent: code-writer
//!     tool: terminal_execute
//!     input: {command: rm -rf /}
//!     expect: deny
//!     rule: agents.code-writer.blocked_commands[0]   # optional: one of the rules that say so
//! ```

use serde_json::{Map, Number, Value};

use crate::action::{ActionRequest, Decision, Verdict};
use crate::error::PolicyError;
use crate::policy::Policy;
use crate::reader::{Outcome, Reader};
use crate::yaml::{self, Kind, Node};

const CASE_KEYS: [&str; 8] = ["name", "agent", "tool", "input", "cwd", "approved", "expect", "rule"];
const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::RequireApproval];

/// A table of expectations.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// In the order of the file.
    pub cases: Vec<Expectation>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    pub name: String,
    /// Where it stands in the file, from 1.
    pub line: usize,
    pub agent: String,
    pub tool: String,
    pub input: Value,
    /// Absolute; the default directory when it is not given.
    pub cwd: Option<String>,
    /// Whether a person has said yes already.
    pub approved: bool,
    pub expect: Verdict,
    /// One of the rules that lead to the verdict.
    pub rule: Option<String>,
}

impl Expectations {
    /// Reads a table.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        let reader = Reader { file };
        let root = yaml::parse(text, file)?;
        let members = reader.mapping(&root, "the table", &["cases"])?;
        let Some((_, cases)) = members.first() else {
            let expected = Some("`cases`, a list".to_owned());
            return Err(reader.error(root.place, "`cases` is missing".to_owned(), expected, None));
        };
        let items = reader.items(cases, "cases", "cases")?;
        Ok(Self { cases: items.iter().map(|item| case(&reader, item)).collect::<Result<_, _>>()? })
    }
}

impl Expectation {
    /// What the policy says, and whether that is what is expected.
    #[must_use]
    pub fn check(&self, policy: &Policy) -> (Decision, bool) {
        let mut request = ActionRequest::new(&self.agent, &self.tool, &self.input);
        request.cwd = self.cwd.as_deref();
        request.approved = self.approved;
        let decision = policy.decide(&request);
        let by_rule = self.rule.as_ref().is_none_or(|rule| decision.rule_ids.contains(rule));
        let holds = decision.verdict == self.expect && by_rule;
        (decision, holds)
    }
}

fn case(reader: &Reader<'_>, node: &Node) -> Outcome<Expectation> {
    let members = reader.mapping(node, "a case", &CASE_KEYS)?;
    let find = |wanted: &str| members.iter().find(|(key, _)| key.text == wanted).map(|(_, node)| node);
    let text = |wanted: &str| find(wanted).map(|node| reader.text(node, wanted, "a text")).transpose();
    let needed = |wanted: &str| {
        let missing = || reader.error(node.place, format!("a case has no `{wanted}`"), None, None);
        text(wanted)?.map(str::to_owned).ok_or_else(missing)
    };
    let verdict = needed("expect")?;
    let Some(expect) = VERDICTS.into_iter().find(|known| known.as_str() == verdict) else {
        let place = find("expect").map_or(node.place, |node| node.place);
        let expected = Some("`allow`, `deny` or `require_approval`".to_owned());
        return Err(reader.error(place, format!("there is no verdict `{verdict}`"), expected, None));
    };
    let (agent, tool) = (needed("agent")?, needed("tool")?);
    Ok(Expectation {
        name: text("name")?.map_or_else(|| format!("{agent} {tool}"), str::to_owned),
        line: node.place.line,
        input: find("input").map_or_else(|| Value::Object(Map::new()), to_json),
        cwd: text("cwd")?.map(str::to_owned),
        approved: find("approved").map(|node| reader.boolean(node, "approved")).transpose()?.unwrap_or(false),
        rule: text("rule")?.map(str::to_owned),
        agent,
        tool,
        expect,
    })
}

/// YAML as JSON, by the rules of YAML's JSON schema: only unquoted words can be numbers and the like.
fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Sequence(items) => items.iter().map(to_json).collect(),
        Kind::Mapping(members) => members.iter().map(|(key, node)| (key.text.clone(), to_json(node))).collect(),
        Kind::Scalar { text, plain: false } => Value::String(text.clone()),
        Kind::Scalar { text, plain: true } => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "" | "null" | "~" => Value::Null,
            text => text
                .parse::<i64>()
                .map(Number::from)
                .ok()
                .or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
                .map_or_else(|| Value::String(text.to_owned()), Value::Number),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
cases:
- name: the disk stays
  agent: code-writer
  tool: terminal_execute
  input: {command: rm -rf /}
  expect: deny
  rule: agents.code-writer.blocked_commands[0]
- {agent: code-writer, tool: git_operations, input: {operation: push}, expect: require_approval}
- {agent: code-writer, tool: git_operations, input: {operation: push}, approved: true, expect: allow}
- {agent: code-reviewer, tool: file_read, input: {path: /etc/passwd, start_line: 1}, expect: allow}
";

    #[test]
    fn a_table_says_which_expectations_hold() {
        let table = Expectations::parse(TABLE, "t.yaml").expect("a table");
        assert_eq!(table.cases[3].input, serde_json::json!({"path": "/etc/passwd", "start_line": 1}));
        let policy = Policy::default();
        let holds: Vec<bool> = table.cases.iter().map(|case| case.check(&policy).1).collect();
        assert_eq!(holds, [true, true, true, false]);
        assert_eq!((table.cases[3].line, table.cases[3].name.as_str()), (11, "code-reviewer file_read"));
    }

    #[test]
    fn mistakes_in_a_table_say_where() {
        for (text, expected) in [
            ("case: []", "t.yaml:1:1: unknown key `case`"),
            ("{}", "`cases` is missing"),
            ("cases: [{agent: a, tool: b}]", "a case has no `expect`"),
            ("cases: [{agent: a, tool: b, expect: maybe}]", "t.yaml:1:37: there is no verdict `maybe`"),
        ] {
            let error = Expectations::parse(text, "t.yaml").expect_err(text);
            let shown = format!("{}:{}:{}: {}", error.file, error.line, error.column, error.message);
            assert!(shown.contains(expected), "{text}: {shown}");
        }
    }
}
