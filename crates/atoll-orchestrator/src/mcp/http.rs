//! MCP servers over streamable HTTP. The plane makes the calls, so that no sandbox needs a way to them and no token is
//! ever in one. Only addresses of the public network are dialled unless the policy says otherwise for that very server,
//! redirects are not followed, and what a name stands for is looked at when it is dialled, not before.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use atoll_engine::{ServerTransport, ToolServer};
use atoll_stdx::chain;
use futures::StreamExt;
use http::{StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, RequestBuilder, Response, Url};
use serde_json::Value;

use super::{MESSAGE_BYTES_MAX, McpError, PROTOCOL_VERSION, Request, initialized, result, short};

const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// The longest name of a session.
const SESSION_BYTES_MAX: usize = 1024;
const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Speaks to MCP servers over HTTP.
#[derive(Debug)]
pub(crate) struct HttpClient {
    public: Client,
    private: Client,
}

/// Where and as whom a server is called.
struct Endpoint<'a> {
    http: &'a Client,
    url: Url,
    token: Option<String>,
}

/// A session with a server: its name and the protocol's revision.
struct Session {
    name: Option<String>,
    version: String,
}

impl HttpClient {
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        atoll_rt::tls::install_crypto_provider();
        let builder = || {
            Client::builder()
                .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
                .redirect(Redirects::none())
                .no_proxy()
        };
        Ok(Self { public: builder().dns_resolver(Arc::new(PublicNames)).build()?, private: builder().build()? })
    }

    /// Opens a session, puts one request and closes the session. `id` makes the names of requests.
    pub(crate) async fn ask(&self, server: &ToolServer, id: &str, request: &Request) -> Result<Value, McpError> {
        let endpoint = self.endpoint(server)?;
        let limit = Duration::from_millis(server.timeout_ms);
        let silent = McpError::Silent { seconds: server.timeout_ms / 1000 };
        let opened = tokio::time::timeout(limit, endpoint.open(id)).await.map_err(|_elapsed| silent.clone())?;
        let session = opened?;
        let answered = tokio::time::timeout(limit, endpoint.put(&session, request)).await.unwrap_or(Err(silent));
        endpoint.close(&session).await;
        answered
    }

    fn endpoint(&self, server: &ToolServer) -> Result<Endpoint<'_>, McpError> {
        let ServerTransport::Http { url, token_env, private_network } = &server.transport else {
            return Err(McpError::Unreachable("it has no address".to_owned()));
        };
        let url = Url::parse(url).map_err(|error| McpError::Forbidden(format!("its address is none ({error})")))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if let (false, Ok(address)) = (*private_network, host.parse::<IpAddr>())
            && !is_public(address)
        {
            return Err(McpError::Forbidden(format!("{address} is not an address of the public network")));
        }
        let token = match token_env {
            None => None,
            Some(name) => Some(std::env::var(name).map_err(|_unset| {
                McpError::Forbidden(format!("the plane's environment has no {name}, which holds its token"))
            })?),
        };
        Ok(Endpoint { http: if *private_network { &self.private } else { &self.public }, url, token })
    }
}

impl Endpoint<'_> {
    fn post(&self, session: Option<&Session>, body: &Value) -> RequestBuilder {
        let accepted = "application/json, text/event-stream";
        let mut post = self.http.post(self.url.clone()).header(header::ACCEPT, accepted).json(body);
        if let Some(token) = &self.token {
            post = post.bearer_auth(token);
        }
        if let Some(session) = session {
            post = post.header(VERSION, &session.version);
            if let Some(name) = &session.name {
                post = post.header(SESSION, name);
            }
        }
        post
    }

    async fn open(&self, id: &str) -> Result<Session, McpError> {
        let hello = Request::initialize(id);
        let sent = self.post(None, &hello.body).send().await;
        let response = sent.map_err(|error| McpError::Unreachable(short(&chain(&error))))?;
        let name = response.headers().get(SESSION).and_then(|name| name.to_str().ok()).map(str::to_owned);
        if name.as_ref().is_some_and(|name| name.len() > SESSION_BYTES_MAX) {
            return Err(McpError::Lied("the name of its session is too long".to_owned()));
        }
        let said = answer(response, &hello.id).await?;
        let version = said["protocolVersion"].as_str().unwrap_or(PROTOCOL_VERSION).to_owned();
        let plain = version.len() == 10 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if !plain || *version < *"2024-11-05" || *version > *PROTOCOL_VERSION {
            return Err(McpError::Lied(format!("it speaks the revision {}, which was not offered", short(&version))));
        }
        let session = Session { name, version };
        let sent = self.post(Some(&session), &initialized()).send().await;
        sent.map_err(|error| McpError::Unreachable(short(&chain(&error))))?;
        Ok(session)
    }

    async fn put(&self, session: &Session, request: &Request) -> Result<Value, McpError> {
        let sent = self.post(Some(session), &request.body).send().await;
        let response = sent.map_err(|error| match error.is_connect() {
            true => McpError::Unreachable(short(&chain(&error))),
            false => McpError::Broken(short(&chain(&error))),
        })?;
        answer(response, &request.id).await
    }

    /// Sessions end by themselves too; this is a courtesy.
    async fn close(&self, session: &Session) {
        let Some(name) = &session.name else { return };
        let mut close = self.http.delete(self.url.clone()).header(SESSION, name).header(VERSION, &session.version);
        if let Some(token) = &self.token {
            close = close.bearer_auth(token);
        }
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
        let _told = close.timeout(limit).send().await;
    }
}

/// The answer in a response: its body, or one of the events of its stream.
async fn answer(response: Response, id: &str) -> Result<Value, McpError> {
    let status = response.status();
    if !status.is_success() {
        let what = match status {
            status if status.is_redirection() => "it answered with a redirect, which is not followed".to_owned(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("it wants another token ({status})"),
            status => format!("it answered {status}"),
        };
        return Err(McpError::Refused(what));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_stream = kind.starts_with("text/event-stream");
    let mut pieces = response.bytes_stream();
    let mut body: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(|error| McpError::Broken(short(&chain(&error))))?);
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(McpError::Lied(format!("its answer is longer than {MESSAGE_BYTES_MAX} bytes")));
        }
        // What else comes on the stream before the answer is not for us.
        while is_stream && let Some(event) = next_event(&mut body) {
            if serde_json::from_str::<Value>(&event).is_ok_and(|message| message["id"] == id) {
                return result(&event, id);
            }
        }
    }
    if is_stream {
        Err(McpError::Broken("its stream ended without the answer".to_owned()))
    } else {
        result(&String::from_utf8_lossy(&body), id)
    }
}

/// Takes the data of the next whole event from the beginning of a stream.
fn next_event(body: &mut Vec<u8>) -> Option<String> {
    let ends = |end: &[u8]| body.windows(end.len()).position(|window| window == end).map(|at| at + end.len());
    let end = [ends(b"\n\n"), ends(b"\r\n\r\n")].into_iter().flatten().min()?;
    let event: Vec<u8> = body.drain(..end).collect();
    let event = String::from_utf8_lossy(&event).into_owned();
    let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
    Some(data.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// Names that stand for public addresses alone.
struct PublicNames;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(address) = found.iter().find(|address| !is_public(address.ip())) {
                let text = format!("{} stands for {}, which is not public", name.as_str(), address.ip());
                return Err(text.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public network (IANA special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            // Global unicast is 2000::/3; in it documentation, Teredo and 6to4 lead elsewhere.
            first & 0xe000 == 0x2000
                && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
                && first != 0x2002
                && first != 0x3fff
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for (address, public) in [
            ("93.184.216.34", true),
            ("8.8.8.8", true),
            ("2606:2800:220:1::1", true),
            ("127.0.0.1", false),
            ("10.201.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().expect("an address")), public, "{address}");
        }
    }

    #[test]
    fn events_come_in_pieces() {
        let mut body = b": hi\n\nevent: message\ndata: {\"a\":\ndata: 1}\n\ndata: x".to_vec();
        assert_eq!(next_event(&mut body).as_deref(), Some(""));
        assert_eq!(next_event(&mut body).as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(next_event(&mut body), None);
        assert_eq!(body, b"data: x");
    }
}
