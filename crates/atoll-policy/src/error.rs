//! Why a policy file was refused, and where.

use std::fmt;

/// A policy file that was refused. Prints `file:line:column: message; expected …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The name that was given to [`crate::Policy::parse`].
    pub file: String,
    /// First line is 1.
    pub line: usize,
    /// In characters; first column is 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would have been right, where that can be said.
    pub expected: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.expected {
            Some(expected) => write!(formatter, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PolicyError {}

impl atoll_stdx::Hint for PolicyError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}
