//! Making `schemas/` again from the types of `k8s-openapi`.

use std::process::Command;

use anyhow::{Context, Result};

use crate::environment;

/// Runs the generator, which has a workspace of its own: nothing else needs what it needs.
pub(crate) fn generate() -> Result<bool> {
    let root = environment::root();
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--manifest-path"])
        .arg(root.join("tools/schemagen/Cargo.toml"))
        .arg("--")
        .arg(root.join("schemas"))
        .env("CARGO_TARGET_DIR", root.join("target/schemagen"))
        .status()
        .context("cannot run the schema generator")?;
    Ok(status.success())
}
