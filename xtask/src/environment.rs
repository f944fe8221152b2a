//! What tests need and a fresh machine lacks, and what a build must do without.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::say;

/// Programs that neither build nor product may call.
const HIDDEN: &[&str] = &["cmake", "protoc", "nft", "iptables", "pkg-config", "runc", "crun", "docker"];

/// What the Python tests import.
const PYTHON_PACKAGES: &[&str] = &["k8s-agent-sandbox==1.0.8"];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// `PATH` with programs in front that stand for [`HIDDEN`] ones and fail with a word on why.
pub(crate) fn path_without_hidden_tools() -> Result<OsString> {
    let dir = root().join("target/hidden-tools");
    fs::create_dir_all(&dir)?;
    for tool in HIDDEN {
        let path = dir.join(tool);
        let script = format!("#!/bin/sh\necho '{tool} must not be needed' >&2\nexit 127\n");
        if fs::read_to_string(&path).ok().as_deref() != Some(script.as_str()) {
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    let mut path = OsString::from(dir);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    Ok(path)
}

/// A virtual environment with the Python packages of the tests; made once. `None` with a remark where Python cannot
/// make one.
pub(crate) fn python() -> Result<Option<PathBuf>> {
    let dir = root().join("target/venv");
    let python = dir.join("bin/python");
    let stamp = dir.join("packages");
    let wanted = PYTHON_PACKAGES.join("\n");
    if fs::read_to_string(&stamp).ok().as_deref() == Some(wanted.as_str()) {
        return Ok(Some(python));
    }
    say("making a virtual environment for the Python tests");
    let made = Command::new("python3").arg("-m").arg("venv").arg("--clear").arg(&dir).status();
    if !made.is_ok_and(|status| status.success()) {
        say("no virtual environment could be made: the Python tests will be skipped");
        return Ok(None);
    }
    let status = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON_PACKAGES)
        .status()
        .context("cannot run pip")?;
    if !status.success() {
        bail!("pip could not install {}", PYTHON_PACKAGES.join(", "));
    }
    fs::write(stamp, wanted)?;
    Ok(Some(python))
}

/// The client of `tools/client-go`; made when its sources are newer. `None` with a remark where Go is absent, or cannot
/// get the modules.
pub(crate) fn go_client() -> Result<Option<PathBuf>> {
    let sources = root().join("tools/client-go");
    let program = root().join("target/client-go");
    let stamp = root().join("target/client-go.inputs");
    let inputs = ["main.go", "go.mod", "go.sum"].map(|name| fs::read_to_string(sources.join(name)));
    let inputs = inputs.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    if program.exists() && fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == inputs) {
        return Ok(Some(program));
    }
    say("building the Go client of the tests");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    if !go.current_dir(sources).env("CGO_ENABLED", "0").status().is_ok_and(|status| status.success()) {
        say("no Go client could be built: its test will be skipped");
        return Ok(None);
    }
    fs::write(stamp, inputs)?;
    Ok(Some(program))
}

/// gVisor for the tests of its tier: what `ATOLL_RUNSC` names, or what `tools/gvisor/build` makes once for this machine
/// (two minutes or so). `None` with a remark where neither can be had.
pub(crate) fn runsc() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ATOLL_RUNSC").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let skipped = |reason: &str| {
        say(&format!("SKIPPED the tests of gVisor: {reason}; with Go in PATH, tools/gvisor/build makes a runsc"));
        None
    };
    if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
        return skipped("no `go` in PATH");
    }
    say("making sure of gVisor's runsc for the tests");
    let built = Command::new(root().join("tools/gvisor/build")).stdin(Stdio::null()).output();
    match built {
        Ok(output) if output.status.success() => {
            Some(Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("runsc"))
        }
        Ok(output) => {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            skipped(&format!("it could not be built: {}", complaint.lines().last().unwrap_or("no word on why")))
        }
        Err(error) => skipped(&format!("it could not be built: {error}")),
    }
}
