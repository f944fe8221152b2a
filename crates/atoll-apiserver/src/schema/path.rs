//! Where in an object something is: `spec.containers[0].name`.

use std::fmt::{self, Write as _};

/// A path that grows and shrinks as a walk goes down and up.
#[derive(Clone, Debug, Default)]
pub struct FieldPath {
    text: String,
}

impl FieldPath {
    /// A path from dotted text.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// Runs `inner` with `.name` appended.
    pub fn within_field<T>(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.text.len();
        if length > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        let result = inner(self);
        self.text.truncate(length);
        result
    }

    /// Runs `inner` with `[index]` appended.
    pub fn within_index<T>(&mut self, index: usize, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.text.len();
        write!(self.text, "[{index}]").expect("writing to a string");
        let result = inner(self);
        self.text.truncate(length);
        result
    }

    /// The path with `.name` appended.
    pub fn field(&self, name: &str) -> Self {
        let mut path = self.clone();
        if !path.text.is_empty() {
            path.text.push('.');
        }
        path.text.push_str(name);
        path
    }

    /// The path with `[index]` appended.
    pub fn index(&self, index: usize) -> Self {
        Self { text: format!("{}[{index}]", self.text) }
    }

    /// The path with `[key]` appended, as for entries of maps.
    pub fn key(&self, key: &str) -> Self {
        Self { text: format!("{}[{key}]", self.text) }
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
