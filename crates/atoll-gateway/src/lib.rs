//! The model gateway: Chat Completions in, OpenAI-compatible or Anthropic upstreams out. Model keys exist here only.

mod config;
mod counters;
mod dialect;
mod failure;
mod gateway;
mod request;
pub mod scripted;
mod sse;
mod upstream;

pub use config::{CONNECT_TIMEOUT_MS, Dialect, GatewayConfig, RETRY_PAUSE_MS, SILENCE_TIMEOUT_MS, Timeouts, Upstream};
pub use counters::CountersSnapshot;
pub use gateway::{Gateway, GatewayError};
