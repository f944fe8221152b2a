//! Tests that want a real control plane.

use std::process::Command;

use anyhow::{Context, Result};

use crate::kube::ControlPlane;
use crate::{environment, say};

/// Where tests look for the kubeconfig of a real control plane.
const KUBECONFIG: &str = "ATOLL_TEST_KUBECONFIG";

/// Records what a real server answers, and compares this one with it.
pub(crate) fn differential() -> Result<bool> {
    let Some(plane) = ControlPlane::start(&["--no-fsync"])? else { return Ok(false) };
    say("recording");
    let recorded = test(&plane, "atoll-apiserver", "differential::record")?;
    drop(plane);
    say("comparing");
    let status = cargo_test("atoll-apiserver", "differential::").status().context("cannot run cargo")?;
    Ok(recorded && status.success())
}

fn test(plane: &ControlPlane, package: &str, filter: &str) -> Result<bool> {
    let status =
        cargo_test(package, filter).env(KUBECONFIG, &plane.kubeconfig).status().context("cannot run cargo test")?;
    Ok(status.success())
}

fn cargo_test(package: &str, filter: &str) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command
        .args(["test", "--package", package, "--test", "it", filter, "--", "--show-output", "--test-threads=1"])
        .current_dir(environment::root());
    command
}
