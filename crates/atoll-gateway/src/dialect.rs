//! What upstreams speak, as pure translations: a Chat Completions request into theirs, their answer back.

pub(crate) mod anthropic;
pub(crate) mod openai;

use serde_json::Value;

use crate::config::{Dialect, Upstream};

/// A request to an upstream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

/// An answer cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Nonsense(pub(crate) String);

/// Tokens that an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// Translates the events of one streamed answer.
pub(crate) enum StreamTranslator {
    OpenAi(openai::Stream),
    Anthropic(Box<anthropic::Stream>),
}

impl StreamTranslator {
    pub(crate) fn new(dialect: Dialect, request: &Value) -> Self {
        match dialect {
            Dialect::OpenAi => Self::OpenAi(openai::Stream::default()),
            Dialect::Anthropic => Self::Anthropic(Box::new(anthropic::Stream::new(request))),
        }
    }

    /// The chunks that an upstream's event becomes.
    pub(crate) fn event(&mut self, data: &str) -> Result<Vec<String>, Nonsense> {
        match self {
            Self::OpenAi(stream) => stream.event(data),
            Self::Anthropic(stream) => stream.event(data),
        }
    }

    /// Whether the answer was complete when the stream ended.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::OpenAi(stream) => stream.is_complete(),
            Self::Anthropic(stream) => stream.is_complete(),
        }
    }

    pub(crate) fn tokens(&self) -> Tokens {
        match self {
            Self::OpenAi(stream) => stream.tokens(),
            Self::Anthropic(stream) => stream.tokens(),
        }
    }
}

/// The request as this upstream wants it.
pub(crate) fn outgoing(upstream: &Upstream, request: &Value) -> Result<Outgoing, Nonsense> {
    match upstream.dialect {
        Dialect::OpenAi => Ok(openai::outgoing(upstream, request)),
        Dialect::Anthropic => anthropic::outgoing(upstream, request),
    }
}

/// A whole answer as a Chat Completions response.
pub(crate) fn incoming(dialect: Dialect, answer: Value) -> Result<(Value, Tokens), Nonsense> {
    match dialect {
        Dialect::OpenAi => openai::incoming(answer),
        Dialect::Anthropic => anthropic::incoming(&answer),
    }
}
