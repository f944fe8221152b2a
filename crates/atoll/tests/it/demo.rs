//! `atoll demo`, from start to end.

use crate::world::{World, skip_without_root};

#[test]
fn the_demo_shows_everything_and_leaves_nothing() {
    if skip_without_root("the_demo_shows_everything_and_leaves_nothing") {
        return;
    }
    let world = World::new();
    let done = world.atoll(&["demo"]).ok();
    for words in [
        "tier native: available",
        "scripted upstream",
        "claim demo → sandbox",
        "✓ cannot gain privileges",
        "✗ refused:",
        "tests pass",
        "git status: ## main",
        "audit chain holds",
        "execute_tool",
        "left behind: 0 processes, 0 cgroups, 0 mounts, 0 network namespaces",
    ] {
        assert!(done.stdout.contains(words), "{words:?} is not in\n{}\n{}", done.stdout, done.stderr);
    }
}
