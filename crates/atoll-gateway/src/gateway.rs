//! The service: Chat Completions in, whatever the upstream speaks out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{Stream, StreamExt};
use serde_json::json;

use crate::config::{GatewayConfig, Upstream};
use crate::counters::{Counters, CountersSnapshot};
use crate::dialect::{StreamTranslator, Tokens, incoming, outgoing};
use crate::failure::Failure;
use crate::request::ChatRequest;
use crate::sse::{EventReader, event};
use crate::upstream::{Sender, read_json};

const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
const DONE: &str = "[DONE]";
/// Names a request in answers, logs and at the upstream; taken from the caller where it gives one.
const REQUEST_ID: &str = "x-request-id";
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Headers of a caller that upstreams see too.
const FORWARDED: [&str; 2] = ["traceparent", REQUEST_ID];

/// A model gateway. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: GatewayConfig,
    sender: Sender,
    counters: Counters,
}

/// A gateway that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
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

impl Gateway {
    /// A gateway with its HTTP client. Plain-HTTP upstreams need no trust anchors; HTTPS upstreams use the machine's.
    /// Without any upstream every request is answered with how to configure one.
    ///
    /// # Errors
    /// An upstream's URL that is none.
    pub fn new(config: GatewayConfig) -> Result<Self, GatewayError> {
        for upstream in &config.upstreams {
            let is_url = reqwest::Url::parse(&upstream.base_url).is_ok_and(|url| url.has_host());
            if !is_url {
                return Err(GatewayError::BadUrl { url: upstream.base_url.clone() });
            }
        }
        let sender = Sender::new(config.timeouts).map_err(GatewayError::Client)?;
        Ok(Self { shared: Arc::new(Shared { config, sender, counters: Counters::default() }) })
    }

    /// `POST /v1/chat/completions`, `GET /v1/models`, `GET /healthz`.
    pub fn service(&self) -> Router {
        let guarded = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .route_layer(from_fn_with_state(self.clone(), authenticate));
        guarded.route("/healthz", get(async || "ok")).layer(from_fn(name_request)).with_state(self.clone())
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CountersSnapshot {
        self.shared.counters.snapshot()
    }

    fn upstream(&self, model: &str) -> Result<&Upstream, Failure> {
        let upstreams = &self.shared.config.upstreams;
        if upstreams.is_empty() {
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_model", "no model is configured").hint(
                "start the plane with OPENAI_BASE_URL, OPENAI_API_KEY or ANTHROPIC_API_KEY set, or with --script FILE",
            ));
        }
        upstreams.iter().find(|upstream| upstream.serves(model)).ok_or_else(|| {
            Failure::new(StatusCode::NOT_FOUND, "model_not_found", format!("no provider serves the model {model:?}"))
                .hint("GET /v1/models lists what is configured")
        })
    }

    async fn answer(&self, request: ChatRequest, headers: &HeaderMap) -> Result<Response, Failure> {
        let upstream = self.upstream(request.model())?.clone();
        let mut outgoing = outgoing(&upstream, &request.body).map_err(|nonsense| Failure::bad_request(nonsense.0))?;
        let forwarded = |name| Some((name, headers.get(name)?.to_str().ok()?.to_owned()));
        outgoing.headers.extend(FORWARDED.into_iter().filter_map(forwarded));
        let retried = || {
            self.shared.counters.retries.fetch_add(1, Ordering::Relaxed);
        };
        let response = self.shared.sender.send(&upstream, &outgoing, retried).await?;
        if request.stream {
            let translator = StreamTranslator::new(upstream.dialect, &request.body);
            return Ok(self.stream(upstream, response, translator));
        }
        let answer = read_json(&upstream, response).await?;
        let (answer, tokens) =
            incoming(upstream.dialect, answer).map_err(|nonsense| Failure::nonsense(&upstream.name, &nonsense.0))?;
        self.count(tokens);
        Ok(Json(answer).into_response())
    }

    fn stream(&self, upstream: Upstream, response: reqwest::Response, translator: StreamTranslator) -> Response {
        let relay = Relay {
            gateway: self.clone(),
            upstream,
            source: Box::pin(response.bytes_stream()),
            reader: EventReader::default(),
            translator,
            ready: VecDeque::new(),
            ended: false,
        };
        let body = Body::from_stream(futures::stream::unfold(relay, Relay::next));
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, body).into_response()
    }

    fn count(&self, tokens: Tokens) {
        self.shared.counters.input_tokens.fetch_add(tokens.input, Ordering::Relaxed);
        self.shared.counters.output_tokens.fetch_add(tokens.output, Ordering::Relaxed);
    }
}

/// A streamed answer on its way through.
struct Relay {
    gateway: Gateway,
    upstream: Upstream,
    source: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    reader: EventReader,
    translator: StreamTranslator,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Relay {
    /// The next event for the caller. A stream that fails half-way ends with an error event and without its end mark.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some((Ok(ready), self));
            }
            if self.ended {
                return None;
            }
            if let Err(failure) = self.advance().await {
                self.ended = true;
                self.gateway.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
                self.ready.push_back(event(&failure.body().to_string()));
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Failure> {
        let name = self.upstream.name.clone();
        let events = match self.source.next().await {
            Some(Ok(piece)) => {
                self.reader.push(&piece).map_err(|_| Failure::nonsense(&name, "an event without an end"))?
            }
            Some(Err(error)) => {
                return Err(Failure::unreachable(
                    &name,
                    &format!("the answer broke off: {}", atoll_stdx::chain(&error)),
                ));
            }
            None => {
                self.ended = true;
                self.reader.finish().into_iter().collect()
            }
        };
        for data in events {
            let chunks = self.translator.event(&data).map_err(|nonsense| Failure::nonsense(&name, &nonsense.0))?;
            self.ready.extend(chunks.iter().map(|chunk| event(chunk)));
        }
        if self.ended {
            if !self.translator.is_complete() {
                return Err(Failure::nonsense(&name, "the answer ended in the middle"));
            }
            self.gateway.count(self.translator.tokens());
            self.ready.push_back(event(DONE));
        }
        Ok(())
    }
}

async fn chat(State(gateway): State<Gateway>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    gateway.shared.counters.requests.fetch_add(1, Ordering::Relaxed);
    let answered = match body {
        Ok(body) => match ChatRequest::parse(&body, &gateway.shared.config.default_model) {
            Ok(request) => gateway.answer(request, &headers).await,
            Err(failure) => Err(failure),
        },
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Failure::too_large(REQUEST_BYTES_MAX))
        }
        Err(rejection) => Err(Failure::bad_request(rejection.body_text())),
    };
    answered.unwrap_or_else(|failure| {
        gateway.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
        let request = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        tracing::warn!(request, code = failure.code, message = failure.message, "model call failed");
        failure.into_response()
    })
}

/// Sees that request and answer bear an id.
async fn name_request(mut request: Request, next: Next) -> Response {
    let is_usable =
        |id: &&HeaderValue| id.len() <= REQUEST_ID_BYTES_MAX && id.to_str().is_ok_and(|text| !text.is_empty());
    let id = request.headers().get(REQUEST_ID).filter(is_usable).cloned();
    let id = id.unwrap_or_else(|| HeaderValue::from_str(&atoll_rt::ids::ulid()).expect("it is plain text"));
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn models(State(gateway): State<Gateway>) -> Response {
    let config = &gateway.shared.config;
    let patterns = config.upstreams.iter().flat_map(|upstream| {
        upstream.models.iter().map(|model| json!({"id": model, "object": "model", "owned_by": upstream.name}))
    });
    let default = (!config.upstreams.is_empty())
        .then(|| json!({"id": config.default_model, "object": "model", "owned_by": "default"}));
    Json(json!({"object": "list", "data": default.into_iter().chain(patterns).collect::<Vec<_>>()})).into_response()
}

async fn authenticate(State(gateway): State<Gateway>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if !same(token.as_bytes(), gateway.shared.config.token.expose().as_bytes()) {
        return Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is wanted").into_response();
    }
    next.run(request).await
}

/// Compares in a time that does not tell where two tokens differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
