//! Shell commands, taken apart.

pub mod pattern;
