//! The unmodified `k8s-agent-sandbox` from PyPI against the plane, with the direct connection and as it is by itself.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kubectl::has_kubectl;
use crate::world::{Done, World, skip_without_root};

/// An interpreter that has the SDK.
fn python(test: &str) -> Option<OsString> {
    let python = std::env::var_os("ATOLL_TEST_PYTHON");
    if python.is_none() {
        println!("SKIPPED {test}: ATOLL_TEST_PYTHON names no interpreter with the SDK (cargo xtask test makes one)");
    }
    python
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk").join(name)
}

#[test]
fn the_sdk_reaches_a_sandbox_through_its_default_tunnel() {
    let test = "the_sdk_reaches_a_sandbox_through_its_default_tunnel";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let Some(python) = python(test) else { return };
    let world = World::with_plane();
    let done: Done = Command::new(python)
        .arg(script("tunnel.py"))
        .env("KUBECONFIG", world.kubeconfig())
        .env("HOME", world.path())
        .output()
        .expect("python runs")
        .into();
    done.ok();
}

#[test]
fn the_sdk_creates_uses_and_ends_a_sandbox() {
    let test = "the_sdk_creates_uses_and_ends_a_sandbox";
    if skip_without_root(test) {
        return;
    }
    let Some(python) = python(test) else { return };
    drive(&python, &World::with_plane(), &[]);
}

#[test]
fn the_sdk_does_the_same_in_gvisor() {
    let test = "the_sdk_does_the_same_in_gvisor";
    if skip_without_root(test) {
        return;
    }
    let (Some(python), Some(world)) = (python(test), World::with_gvisor(test)) else { return };
    world.up(&[]).ok();
    drive(&python, &world, &["--runtime-class", "gvisor"]);
}

fn drive(python: &OsStr, world: &World, more: &[&str]) {
    let plane = world.plane();
    let done: Done = Command::new(python)
        .arg(script("direct.py"))
        .args(more)
        .arg("--kubeconfig")
        .arg(world.kubeconfig())
        .args(["--router-url", plane["router_url"].as_str().expect("it is text")])
        .args(["--token", plane["token"].as_str().expect("it is text")])
        .env("HOME", world.path())
        .output()
        .expect("python runs")
        .into();
    done.ok();
}
