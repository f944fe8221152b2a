//! Printing errors: each error says its own layer only, and this module joins the layers.

use std::error::Error;
use std::fmt::Write;

/// An error that can tell its reader what to do next.
pub trait Hint {
    /// One sentence in the imperative, without a full stop; `None` where nothing useful can be said.
    fn hint(&self) -> Option<String>;
}

/// The error and all its sources, joined by `: `.
///
/// A layer that repeats the text of its source is printed once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            write!(text, ": {words}").expect("writing to a string cannot fail");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("permission denied")]
    struct Inner;

    #[test]
    fn a_chain_prints_every_layer_once() {
        assert_eq!(chain(&Outer(Inner)), "cannot open the store: permission denied");
        assert_eq!(chain(&Inner), "permission denied");
    }
}
