//! Traces: spans taken in and kept, asked for as trees with token sums. What is lost is counted, never silent.

mod http;
mod store;
mod summary;
mod tree;

pub use http::routes;
pub use store::{TraceError, TraceStore};
