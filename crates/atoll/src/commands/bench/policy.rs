//! How long the gate's policy takes for a decision: one with a hundred rules, and one that has to read a command line.

use std::hint::black_box;
use std::time::Instant;

use atoll_policy::{ActionRequest, Policy};
use serde_json::{Value, json};

use super::measure::{Report, Row, Samples};

const RULES: usize = 100;
/// What agents really run: a list, a pipe, a substitution, quotes.
const COMMAND: &str = "cd /workspace/repo && git log --oneline -n 5 | head -n 3; \
                       grep -rn \"note $(date +%Y)\" src/ --include='*.rs' > /workspace/out.txt";

/// Measures; a decision is so short that several are timed together.
pub(super) fn measure(n: u32) -> Report {
    let text = hundred_rules();
    let policy = Policy::parse(&text, "policies.yaml").expect("it is well formed");
    let rules = policy.cedar().matches("@id(").count();
    let read = json!({"path": "/workspace/repo/src/lib.rs"});
    let shell = json!({"command": COMMAND});
    let rows = vec![
        row("decision_100_rules", &policy, "file_read", &read, n),
        row("shell_parse_and_decide", &policy, "terminal_execute", &shell, n),
    ];
    Report::new("policy", None, rows).condition("rules", rules).condition("command_bytes", COMMAND.len())
}

fn row(name: &str, policy: &Policy, tool: &str, input: &Value, n: u32) -> Row {
    let decide = || black_box(policy.decide(&ActionRequest::new("code-writer", tool, black_box(input))));
    for _ in 0..n / 10 {
        decide();
    }
    let mut samples = Samples::default();
    for _ in 0..n {
        let began = Instant::now();
        let decision = decide();
        samples.record(began.elapsed(), decision.is_allowed());
    }
    samples.row_us(name)
}

/// One agent with a hundred rules: tools that it may use, and commands that are blocked.
fn hundred_rules() -> String {
    let blocked: String = (0..RULES - 8).map(|number| format!("      - dangerous-{number} * --force\n")).collect();
    format!(
        "agents:
  code-writer:
    description: writes
    tools: [file_read, file_write, git_operations, terminal_execute]
    sandboxed: true
    allowed_paths: [/workspace/**]
    blocked_commands:
{blocked}governance:
  require_approval_for: [git_push, deploy_to_production, database_write]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_allowed_under_a_hundred_rules() {
        let policy = Policy::parse(&hundred_rules(), "policies.yaml").expect("it is well formed");
        assert!(policy.cedar().matches("@id(").count() >= RULES);
        let input = json!({"command": COMMAND});
        let decision = policy.decide(&ActionRequest::new("code-writer", "terminal_execute", &input));
        assert!(decision.is_allowed(), "{decision:?}");
    }
}
