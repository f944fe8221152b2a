//! Reaching a guest: connect, upgrade, and hand over the raw stream.

use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::Duration;

use atoll_guest::protocol::{SESSION_PATH, UPGRADE_TOKEN};
use atoll_stdx::Secret;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::SandboxError;

/// From the first byte sent to the answer to the upgrade; a router may wake the sandbox meanwhile.
const HANDSHAKE_TIMEOUT_MS: u64 = 60_000;

/// Largest error answer that is read for its text.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

const HTTP_PORT: u16 = 80;

/// The upgraded stream.
pub(super) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// A router and the right to use it.
#[derive(Debug, Clone)]
pub struct RouterEndpoint {
    /// `http://HOST:PORT`.
    pub base_url: String,
    /// Bearer token.
    pub token: Secret<String>,
}

/// A sandbox as the router knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SandboxRef {
    /// Namespace of the Sandbox object.
    pub namespace: String,
    /// Name of the Sandbox object.
    pub name: String,
    /// UID of the Sandbox object; when given, another sandbox that later took the name is refused.
    pub uid: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Dialer {
    Router { endpoint: RouterEndpoint, sandbox: SandboxRef },
    Unix { path: PathBuf },
}

impl Dialer {
    /// Connects and upgrades.
    pub(super) async fn dial(&self) -> Result<Upgraded, SandboxError> {
        let target = self.target();
        let attempt = async {
            match self {
                Self::Unix { path } => {
                    let stream = UnixStream::connect(path)
                        .await
                        .map_err(|source| SandboxError::Dial { target: target.clone(), source })?;
                    upgrade(stream, self.request("localhost")?, &target).await
                }
                Self::Router { endpoint, .. } => {
                    let authority = authority(&endpoint.base_url)?;
                    let stream = TcpStream::connect(&authority)
                        .await
                        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
                        .map_err(|source| SandboxError::Dial { target: target.clone(), source })?;
                    upgrade(stream, self.request(&authority)?, &target).await
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), attempt)
            .await
            .unwrap_or_else(|_| Err(SandboxError::Timeout { target: target.clone(), waited_ms: HANDSHAKE_TIMEOUT_MS }))
    }

    fn target(&self) -> String {
        match self {
            Self::Unix { path } => path.display().to_string(),
            Self::Router { endpoint, .. } => endpoint.base_url.clone(),
        }
    }

    fn request(&self, host: &str) -> Result<Request<Empty<Bytes>>, SandboxError> {
        let mut request = Request::get(SESSION_PATH)
            .header(header::HOST, host)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE_TOKEN);
        if let Self::Router { endpoint, sandbox } = self {
            request = request
                .header("x-sandbox-id", &sandbox.name)
                .header("x-sandbox-namespace", &sandbox.namespace)
                .header(header::AUTHORIZATION, format!("Bearer {}", endpoint.token.expose()));
            if let Some(uid) = &sandbox.uid {
                request = request.header("x-sandbox-uid", uid);
            }
        }
        request.body(Empty::new()).map_err(|_| SandboxError::Refused {
            status: StatusCode::BAD_REQUEST,
            detail: "sandbox name, namespace, UID or token contain characters that no HTTP header can carry".to_owned(),
        })
    }
}

/// `HOST:PORT` of `http://HOST:PORT`.
fn authority(base_url: &str) -> Result<String, SandboxError> {
    let wrong = || SandboxError::Address { address: base_url.to_owned() };
    let uri: Uri = base_url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(HTTP_PORT)))
}

async fn upgrade<S>(stream: S, request: Request<Empty<Bytes>>, target: &str) -> Result<Upgraded, SandboxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source| SandboxError::Handshake { target: target.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut connection = Driven { connection: Some(pin!(connection.with_upgrades())) };
    let response = connection.run(pin!(sender.send_request(request))).await.map_err(failed)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = connection.run(pin!(hyper::upgrade::on(response))).await.map_err(failed)?;
        return Ok(TokioIo::new(upgraded));
    }
    let status = response.status();
    let detail = connection.run(pin!(refusal_detail(response))).await;
    Err(SandboxError::Refused { status, detail })
}

/// A hyper connection that makes progress while something that depends on it is awaited, without a task of its own.
struct Driven<'a, C> {
    connection: Option<Pin<&'a mut C>>,
}

impl<C: Future> Driven<'_, C> {
    async fn run<F: Future>(&mut self, mut wanted: Pin<&mut F>) -> F::Output {
        loop {
            let Some(connection) = &mut self.connection else {
                return wanted.await;
            };
            tokio::select! {
                biased;
                output = &mut wanted => return output,
                // Its failure, if it is one, also fails what is wanted.
                _ = connection => self.connection = None,
            }
        }
    }
}

/// The text of an error answer: `detail` or `message` of a JSON object, else the body itself.
async fn refusal_detail(response: Response<Incoming>) -> String {
    let Ok(body) = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await else {
        return "no readable reason".to_owned();
    };
    let body = body.to_bytes();
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let named = json.as_ref().and_then(|json| json.get("detail").or_else(|| json.get("message"))?.as_str());
    named.map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_addresses() {
        for (given, expected) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://router/", Some("router:80")),
            ("http://[::1]:9", Some("[::1]:9")),
            ("https://router:443", None),
            ("router:80", None),
            ("http://router/path", None),
            ("", None),
        ] {
            assert_eq!(authority(given).ok().as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let endpoint = RouterEndpoint { base_url: "http://a:1".into(), token: Secret::new("hunter2".to_owned()) };
        let sandbox = SandboxRef { namespace: "default".into(), name: "s".into(), uid: None };
        assert!(!format!("{:?}", Dialer::Router { endpoint, sandbox }).contains("hunter2"));
    }
}
