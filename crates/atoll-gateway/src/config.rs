//! What a gateway is told: who may call it, and which upstream serves which model.

use std::time::Duration;

use atoll_stdx::Secret;

/// How long connecting to an upstream may take.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// How long an upstream may stay silent before its answer, or within a stream.
pub const SILENCE_TIMEOUT_MS: u64 = 120_000;
/// First pause between two attempts; it doubles.
pub const RETRY_PAUSE_MS: u64 = 250;

/// Everything a [`crate::Gateway`] needs.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Bearer token that callers present.
    pub token: Secret<String>,
    /// Tried in order: the first whose `models` match the request's model serves it.
    pub upstreams: Vec<Upstream>,
    /// Used when a request names no model, or `default`.
    pub default_model: String,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// Time limits towards upstreams.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For connecting.
    pub connect: Duration,
    /// For each silence: before the first byte, and between two pieces of a stream.
    pub silence: Duration,
    /// First pause between attempts; it doubles.
    pub retry_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(CONNECT_TIMEOUT_MS),
            silence: Duration::from_millis(SILENCE_TIMEOUT_MS),
            retry_pause: Duration::from_millis(RETRY_PAUSE_MS),
        }
    }
}

/// One place that serves models.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// For logs, errors and spans, for example `openai`.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// Without a trailing slash. For [`Dialect::OpenAi`] it includes the version, as `OPENAI_BASE_URL` does
    /// (`https://api.openai.com/v1`); for [`Dialect::Anthropic`] it does not (`https://api.anthropic.com`).
    pub base_url: String,
    /// Sent to this upstream and nowhere else.
    pub api_key: Option<Secret<String>>,
    /// Model names, or prefixes that end in `*`; a lone `*` takes every model.
    pub models: Vec<String>,
}

impl Upstream {
    /// Whether this upstream serves the model.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => model.starts_with(prefix),
            None => pattern == model,
        })
    }
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's Chat Completions, and everything compatible.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}
