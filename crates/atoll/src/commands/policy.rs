//! `atoll policy`: check a file, explain a decision, test a table of expectations, replay past runs.

mod plane;

use std::path::Path;
use std::process::ExitCode;

use atoll_policy::{ActionRequest, Expectations, Policy, PolicyError, Verdict};

use super::block_on;
use crate::args::{GlobalArgs, PolicyCommand};
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;

/// A policy file may be this large.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) fn policy(global: &GlobalArgs, command: PolicyCommand, printer: &Printer) -> Outcome {
    match command {
        PolicyCommand::Check { file } => {
            let policy = load(Some(&file))?;
            let agents: Vec<&str> = policy.agents().map(|(name, _)| name).collect();
            if printer.is_json() {
                printer.json(&serde_json::json!({"ok": true, "hash": policy.hash(), "agents": agents}));
            } else {
                printer.data(format!("{} is well formed: agents {}", file.display(), agents.join(", ")));
            }
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Test { file, expectations } => {
            test(&load(Some(&file))?, &expectations.unwrap_or_else(|| file.with_extension("test.yaml")), printer)
        }
        PolicyCommand::Simulate { file, runs } => {
            // What is wrong with the file is said here, with its name.
            load(Some(&file))?;
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
            block_on(plane::simulate(global, text, &runs, printer))
        }
        PolicyCommand::Show => block_on(plane::show(global, printer)),
        PolicyCommand::Explain { agent, tool, input, file } => {
            explain(&load(file.as_deref())?, &agent, &tool, &input, printer)
        }
    }
}

/// The policy in a file, or the one shipped.
pub(crate) fn load(file: Option<&Path>) -> Result<Policy, Failure> {
    let Some(path) = file else {
        return Policy::parse(atoll_policy::DEFAULT_POLICY_YAML, "policies.yaml").map_err(|error| malformed(&error));
    };
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > POLICY_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{} is larger than a policy may be", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Policy::parse(&text, &path.display().to_string()).map_err(|error| malformed(&error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failure };
    Failure::because(exit, format!("cannot read {}", path.display()), error)
}

fn malformed(error: &PolicyError) -> Failure {
    let expected = error.expected.as_ref().map(|expected| format!("; expected {expected}")).unwrap_or_default();
    Failure::new(Exit::Usage, format!("{}:{}:{}: {}{expected}", error.file, error.line, error.column, error.message))
        .hint_of(error.hint.clone())
}

fn explain(policy: &Policy, agent: &str, tool: &str, input: &str, printer: &Printer) -> Outcome {
    let input: serde_json::Value =
        serde_json::from_str(input).map_err(|error| Failure::because(Exit::Usage, "--input is not JSON", &error))?;
    let decision = policy.decide(&ActionRequest::new(agent, tool, &input));
    let code = match decision.verdict {
        Verdict::Allow => ExitCode::SUCCESS,
        Verdict::Deny | Verdict::RequireApproval => ExitCode::from(Exit::Refused as u8),
    };
    if printer.is_json() {
        printer.json(&serde_json::json!({
            "verdict": decision.verdict.as_str(),
            "rules": decision.rule_ids,
            "reason": decision.reason,
            "hint": decision.hint,
            "effects": decision.effects.iter().map(|effect| effect.as_str()).collect::<Vec<_>>(),
            "policy_hash": decision.policy_hash,
            "input_digest": decision.input_digest,
        }));
        return Ok(code);
    }
    printer.data(format!("{}: {}", decision.verdict.as_str(), decision.reason));
    printer.data(format!("rules: {}", decision.rule_ids.join(", ")));
    if !decision.effects.is_empty() {
        let effects: Vec<&str> = decision.effects.iter().map(|effect| effect.as_str()).collect();
        printer.data(format!("effects: {}", effects.join(", ")));
    }
    if let Some(hint) = &decision.hint {
        printer.data(format!("to change it: {hint}"));
    }
    Ok(code)
}

/// Checks a policy against a table.
fn test(policy: &Policy, table: &Path, printer: &Printer) -> Outcome {
    let text = std::fs::read_to_string(table).map_err(|error| unreadable(table, &error))?;
    let name = table.display().to_string();
    let expectations = Expectations::parse(&text, &name).map_err(|error| malformed(&error))?;
    let checked: Vec<_> = expectations.cases.iter().map(|case| (case, case.check(policy))).collect();
    let failed = checked.iter().filter(|(_, (_, holds))| !holds).count();
    if printer.is_json() {
        let row = |(case, (decision, holds)): &(&atoll_policy::Expectation, (atoll_policy::Decision, bool))| {
            serde_json::json!({
                "name": case.name, "line": case.line, "holds": holds, "expected": case.expect.as_str(),
                "verdict": decision.verdict.as_str(), "rules": decision.rule_ids, "reason": decision.reason,
            })
        };
        let rows: Vec<serde_json::Value> = checked.iter().map(row).collect();
        printer.json(&serde_json::json!({"cases": checked.len(), "failed": failed, "results": rows}));
    } else {
        for (case, (decision, _)) in checked.iter().filter(|(_, (_, holds))| !holds) {
            let rule = case.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
            printer.data(format!("{name}:{}: {}: expected {}{rule}", case.line, case.name, case.expect.as_str()));
            let rules = decision.rule_ids.join(", ");
            printer.data(format!("    it is {} by {rules}: {}", decision.verdict.as_str(), decision.reason));
        }
        printer.data(format!("{} of {} expectations hold", checked.len() - failed, checked.len()));
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::Failure, format!("{failed} of {} expectations do not hold", checked.len())))
}
