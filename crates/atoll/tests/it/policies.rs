//! Policies at the command line, and the file of a plane that runs.

use std::path::{Path, PathBuf};

use crate::world::{World, eventually, skip_without_root};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../atoll-policy/policies.yaml")
}

#[test]
fn a_policy_is_checked_against_its_table() {
    let world = World::new();
    let file = shipped().display().to_string();
    let done = world.atoll(&["policy", "test", &file]).ok().stdout;
    assert!(done.contains("9 of 9 expectations hold"), "{done}");
    let table = world.path().join("wrong.yaml");
    let wrong = "cases:\n- {agent: planner, tool: terminal_execute, input: {command: ls}, expect: allow}\n";
    std::fs::write(&table, wrong).expect("it is written");
    let done = world.atoll(&["policy", "test", &file, "--expectations", &table.display().to_string()]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.contains("wrong.yaml:2: planner terminal_execute: expected allow"), "{done:?}");
    assert!(done.stdout.contains("it is deny by agents.planner.sandboxed"), "{done:?}");
}

#[test]
fn a_plane_takes_a_changed_policy_and_keeps_the_old_one_when_it_is_broken() {
    if skip_without_root("a_plane_takes_a_changed_policy_and_keeps_the_old_one_when_it_is_broken") {
        return;
    }
    let world = World::new();
    let file = world.path().join("policies.yaml");
    let text = std::fs::read_to_string(shipped()).expect("it is there");
    std::fs::write(&file, &text).expect("it is written");
    world.up(&["--policy", &file.display().to_string()]).ok();
    let status = || world.atoll(&["policy", "show", "--json"]).ok().json();
    let first = status();
    std::fs::write(&file, text.replace("      - reboot\n", "      - reboot\n      - halt\n")).expect("it is written");
    eventually("the new policy is in force", || status()["hash"] != first["hash"]);
    let second = status();
    std::fs::write(&file, text.replace("agents:", "agent:")).expect("it is written");
    eventually("the broken one is named", || status()["rejected"].is_string());
    assert_eq!(status()["hash"], second["hash"], "the old one holds");
    let told = world.atoll(&["policy", "show"]).ok().stdout;
    assert!(told.contains("not taken") && told.contains("policies.yaml:"), "{told}");
}
