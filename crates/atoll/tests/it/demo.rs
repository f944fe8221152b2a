//! `atoll demo`, from start to end.

use crate::world::{World, skip_without_root};

#[test]
fn the_demo_shows_everything_and_leaves_nothing() {
    if skip_without_root("the_demo_shows_everything_and_leaves_nothing") {
        return;
    }
    demo_shows(&World::new(), &["tier native: available"]);
}

#[test]
fn the_demo_runs_strange_code_in_gvisor_where_it_is_found() {
    let test = "the_demo_runs_strange_code_in_gvisor_where_it_is_found";
    if skip_without_root(test) {
        return;
    }
    let Some(world) = World::with_gvisor(test) else { return };
    demo_shows(&world, &["tier gvisor: available", "template python, tier gvisor", "What gVisor does not stop"]);
}

#[track_caller]
fn demo_shows(world: &World, own: &[&str]) {
    let done = world.atoll(&["demo"]).ok();
    let of_each = [
        "scripted upstream",
        "claim demo → sandbox",
        "✓ cannot gain privileges",
        "✗ refused:",
        "tests pass",
        "git status: ## main",
        "audit chain holds",
        "execute_tool",
        "left behind: 0 processes, 0 cgroups, 0 mounts, 0 network namespaces",
    ];
    for words in own.iter().chain(&of_each) {
        assert!(done.stdout.contains(words), "{words:?} is not in\n{}\n{}", done.stdout, done.stderr);
    }
}
