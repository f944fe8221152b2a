//! The service: Chat Completions in, whatever the upstream speaks out.

use std::sync::Arc;

use axum::Router;

use crate::config::GatewayConfig;
use crate::counters::{Counters, CountersSnapshot};

/// A model gateway. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: GatewayConfig,
    counters: Counters,
}

impl Gateway {
    /// A gateway with its HTTP client. Plain-HTTP upstreams need no trust anchors; HTTPS upstreams use the machine's.
    ///
    /// # Errors
    /// An upstream's URL that is none, or no upstream at all.
    pub fn new(config: GatewayConfig) -> Result<Self, GatewayError> {
        Ok(Self { shared: Arc::new(Shared { config, counters: Counters::default() }) })
    }

    /// `POST /v1/chat/completions`, `GET /v1/models`, `GET /healthz`.
    pub fn service(&self) -> Router {
        unimplemented!()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CountersSnapshot {
        self.shared.counters.snapshot()
    }
}

/// A gateway that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// There is nothing to send requests to.
    #[error("no upstream is configured")]
    NoUpstream,
    /// An upstream's base URL does not parse.
    #[error("`{url}` is not the URL of an upstream")]
    BadUrl {
        /// As configured.
        url: String,
    },
    /// The HTTP client cannot be built.
    #[error("cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}
