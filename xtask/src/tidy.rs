//! Rules that no compiler knows: layers, names, lints. Each rule is a function from facts to complaints.

mod layers;
mod sources;

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{environment, say};

/// Checks everything; true when there is nothing to complain of.
pub(crate) fn run() -> Result<bool> {
    say("tidy");
    let mut complaints = layers::check(&metadata()?);
    complaints.extend(sources::check(&environment::root())?);
    complaints.extend(formatting()?);
    for complaint in &complaints {
        say(&format!("  {complaint}"));
    }
    Ok(complaints.is_empty())
}

fn metadata() -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .current_dir(environment::root())
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")
}

fn formatting() -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["fmt", "--all", "--", "--check", "-l"])
        .current_dir(environment::root())
        .output()
        .context("cannot run cargo fmt")?;
    let files = String::from_utf8_lossy(&output.stdout);
    let complaints: Vec<String> = files.lines().map(|file| format!("{file}: not formatted (cargo fmt)")).collect();
    if complaints.is_empty() && !output.status.success() {
        return Ok(vec![format!("cargo fmt: {}", String::from_utf8_lossy(&output.stderr).trim())]);
    }
    Ok(complaints)
}
