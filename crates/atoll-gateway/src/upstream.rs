//! Sending a request to an upstream: again after a pause where that can help, until the first byte has come.

use std::time::Duration;

use axum::http::StatusCode;
use reqwest::Response;
use serde_json::Value;

use crate::config::{Timeouts, Upstream};
use crate::dialect::{Nonsense, Outgoing};
use crate::failure::Failure;

/// Attempts of one request, the first included.
const ATTEMPTS_MAX: u32 = 4;
/// A provider may ask for a longer pause; this is the longest that a caller is kept waiting.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 10 * 1024 * 1024;
const ERROR_TEXT_CHARS_MAX: usize = 500;

/// The way to upstreams.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    http: reqwest::Client,
    retry_pause: Duration,
}

impl Sender {
    pub(crate) fn new(timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        atoll_rt::tls::install_crypto_provider();
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(timeouts.connect)
                .read_timeout(timeouts.silence)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
        };
        // A machine without any CA certificate still reaches plain-HTTP upstreams; others then have an unknown issuer.
        let http = builder().build().or_else(|error| {
            tracing::warn!(cause = %atoll_stdx::chain(&error), "no CA certificates: HTTPS upstreams cannot be verified");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { http, retry_pause: timeouts.retry_pause })
    }

    /// Sends until there is a successful answer or no hope of one; `retried` is told of every further attempt.
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        outgoing: &Outgoing,
        mut retried: impl FnMut(),
    ) -> Result<Response, Failure> {
        let mut attempt = 1;
        loop {
            let mut request = self.http.post(&outgoing.url).json(&outgoing.body);
            for (name, value) in &outgoing.headers {
                request = request.header(*name, value);
            }
            let (failure, pause) = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let pause = passing(response.status()).then(|| retry_after(&response));
                    (refused(upstream, response).await, pause)
                }
                Err(error) => (Failure::unreachable(&upstream.name, &atoll_stdx::chain(&error)), Some(None)),
            };
            let Some(asked) = pause.filter(|_| attempt < ATTEMPTS_MAX) else {
                return Err(failure);
            };
            let own = self.retry_pause * 2_u32.pow(attempt - 1);
            tokio::time::sleep(asked.unwrap_or(own).min(RETRY_AFTER_MAX)).await;
            attempt += 1;
            retried();
        }
    }
}

/// Whether the same request may go better later. 529 is Anthropic's "overloaded".
fn passing(status: reqwest::StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn refused(upstream: &Upstream, response: Response) -> Failure {
    let status = response.status();
    let text = read_bounded(response).await.unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&text)
        .ok()
        .and_then(|body| body["error"]["message"].as_str().or(body["message"].as_str()).map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned());
    let message: String = message.trim().chars().take(ERROR_TEXT_CHARS_MAX).collect();
    let message = format!("the model provider {} answered {}: {message}", upstream.name, status.as_u16());
    match status.as_u16() {
        401 | 403 => Failure::new(StatusCode::FORBIDDEN, "upstream_unauthorized", message)
            .hint("check the API key that the plane was started with"),
        404 => Failure::new(StatusCode::NOT_FOUND, "upstream_not_found", message)
            .hint("check the model's name (--model) and the address (OPENAI_BASE_URL)"),
        429 => Failure::new(StatusCode::TOO_MANY_REQUESTS, "upstream_rate_limited", message)
            .hint("wait, or raise the limit at the provider"),
        300..=399 => Failure::nonsense(&upstream.name, "it redirects, which an API does not do"),
        400..=499 => Failure::new(StatusCode::BAD_REQUEST, "upstream_refused", message),
        _ => Failure::new(StatusCode::BAD_GATEWAY, "upstream_failed", message).hint("try again later"),
    }
}

/// A whole answer as JSON.
pub(crate) async fn read_json(upstream: &Upstream, response: Response) -> Result<Value, Failure> {
    let body = read_bounded(response).await.map_err(|Nonsense(what)| Failure::nonsense(&upstream.name, &what))?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::nonsense(&upstream.name, &format!("it is not JSON: {error}")))
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, Nonsense> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Nonsense(format!("it broke off: {}", atoll_stdx::chain(&error)))),
        }
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Nonsense(format!("it is larger than {ANSWER_BYTES_MAX} bytes")));
        }
    }
}
