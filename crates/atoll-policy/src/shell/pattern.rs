//! Command patterns of `blocked_commands` and `allow_commands`.

/// A pattern such as `rm -rf /` or `curl * | bash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPattern {
    text: String,
}

impl CommandPattern {
    /// The pattern as it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
