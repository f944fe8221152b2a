//! `atoll policy`: check a file, explain a decision.

use std::path::Path;
use std::process::ExitCode;

use atoll_policy::{ActionRequest, Policy, PolicyError, Verdict};

use crate::args::PolicyCommand;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;

/// A policy file may be this large.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) fn policy(command: PolicyCommand, printer: &Printer) -> Outcome {
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
