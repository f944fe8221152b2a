//! Making `schemas/protobuf.txt` again from the published Go modules of Kubernetes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment;

/// The release whose field numbers are taken. Numbers never change; later releases only add some.
const RELEASE: &str = "v0.34.4";

/// Downloads the modules through the Go module proxy and runs the generator, which has a workspace of its own.
pub(crate) fn generate() -> Result<bool> {
    let (api, machinery) = (module("k8s.io/api")?, module("k8s.io/apimachinery")?);
    let root = environment::root();
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--manifest-path"])
        .arg(root.join("tools/protogen/Cargo.toml"))
        .arg("--")
        .args([api, machinery, root.join("schemas/protobuf.txt")])
        .env("CARGO_TARGET_DIR", root.join("target/protogen"))
        .status()
        .context("cannot run the generator")?;
    Ok(status.success())
}

/// Where a module's files are.
fn module(name: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{name}@{RELEASE}")])
        .current_dir(std::env::temp_dir())
        .output()
        .context("cannot run go, which fetches the modules: install it from https://go.dev/dl")?;
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("go says nothing about {name}"))?;
    match answer["Dir"].as_str() {
        Some(folder) if output.status.success() => Ok(folder.into()),
        _ => bail!("cannot download {name}: {}", answer["Error"]),
    }
}
