//! The static binary inside (and, as supervisor, beside) every sandbox.
fn main() {}
