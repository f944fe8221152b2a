//! The policy from outside: files that are refused, actions that are judged.

mod it {
    mod actions;
    mod bash;
    mod files;
    mod shell;
}
