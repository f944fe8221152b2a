//! One node of a structural schema.

/// One node of a structural schema.
#[derive(Debug, Default)]
pub struct Node {}
