//! The policy from outside: files that are refused, actions that are judged.

mod it {
    mod actions;
    mod files;
    mod shell;
}
