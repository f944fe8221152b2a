//! Traces and the audit trail: spans taken in and kept, asked for as trees with token sums; the audit chain read and
//! checked. What is lost is counted, never silent.

mod audit;
mod http;
mod store;
mod summary;
mod tree;

pub use http::routes;
pub use store::{TraceError, TraceStore};
