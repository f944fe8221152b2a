//! The unmodified `k8s-agent-sandbox` from PyPI against the plane, with the direct connection.

use std::path::Path;
use std::process::Command;

use crate::world::{Done, World, skip_without_root};

#[test]
fn the_sdk_creates_uses_and_ends_a_sandbox() {
    let test = "the_sdk_creates_uses_and_ends_a_sandbox";
    if skip_without_root(test) {
        return;
    }
    let Some(python) = std::env::var_os("ATOLL_TEST_PYTHON") else {
        println!("SKIPPED {test}: ATOLL_TEST_PYTHON names no interpreter with the SDK (cargo xtask test makes one)");
        return;
    };
    let world = World::with_plane();
    let plane = world.plane();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk/direct.py");
    let done: Done = Command::new(python)
        .arg(script)
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
