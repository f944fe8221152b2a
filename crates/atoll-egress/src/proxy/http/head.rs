//! Heads of requests and responses: what they name, and how they go on.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{HTTP_PORT, HTTPS_PORT, Judged, ResponseBody};
use crate::credential;
use crate::name::{HostName, parse_authority};
use crate::proxy::session::Target;
use crate::verdict::Refusal;

/// Headers that are about one connection, and not passed on.
const OF_ONE_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade", "expect"];

pub(super) fn authority(bytes: &[u8], default: u16) -> Result<(HostName, u16), Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Ambiguous("its host is no text"))?;
    parse_authority(text, default).map_err(|_| Refusal::Ambiguous("its host is no host name"))
}

/// A name or an address in its usual form, with a port.
pub(super) fn connect_target(text: &str) -> Result<Target, Refusal> {
    if let Some((address, port)) = text.split_once(':')
        && let (Ok(address), Ok(port)) = (address.parse(), port.parse())
    {
        return Ok(Target::Address(address, port));
    }
    let wrong = Refusal::Ambiguous("its target is neither a host name nor an IPv4 address, with a port");
    match parse_authority(text, 0) {
        Ok((name, port)) if port > 0 => Ok(Target::Name(name, port)),
        _ => Err(wrong),
    }
}

pub(super) fn mismatch(expected: &(HostName, u16), found: &(HostName, u16)) -> Refusal {
    let told = |(name, port): &(HostName, u16)| format!("{name}:{port}");
    Refusal::Mismatch { expected: told(expected), found: told(found) }
}

/// The request as it goes out, and the protocol that it wants to change to.
pub(super) fn rewritten(
    mut request: Request<Incoming>,
    judged: &Judged,
) -> Result<(Request<Incoming>, Option<HeaderValue>), Refusal> {
    let upgrade = wanted_upgrade(request.headers());
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| Refusal::Ambiguous("its target is no path"))?;
    *request.version_mut() = Version::HTTP_11;
    strip(request.headers_mut());
    let default = if judged.tls { HTTPS_PORT } else { HTTP_PORT };
    let host =
        if judged.port == default { judged.name.to_string() } else { format!("{}:{}", judged.name, judged.port) };
    let host = HeaderValue::from_str(&host).map_err(|_| Refusal::Ambiguous("its host is no host name"))?;
    request.headers_mut().insert(HOST, host);
    if let Some(protocol) = &upgrade {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, protocol.clone());
    }
    let brokered = judged
        .active
        .as_ref()
        .and_then(|active| Some((active.allow.credential.as_ref()?, active.credential.as_ref()?)));
    if let Some((rule, credential)) = brokered {
        credential::put(request.headers_mut(), rule, credential)
            .ok_or_else(|| Refusal::NoCredential(judged.name.clone()))?;
        // What is compressed could hide the token.
        request.headers_mut().insert("accept-encoding", HeaderValue::from_static("identity"));
    }
    Ok((request, upgrade))
}

fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(CONNECTION)?.to_str().ok()?;
    let asked = connection.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    // HTTP/2 in the clear would carry names that nobody compares.
    headers.get(UPGRADE).filter(|protocol| asked && protocol.as_bytes().eq_ignore_ascii_case(b"websocket")).cloned()
}

fn strip(headers: &mut HeaderMap) {
    let named = headers.get(CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    for name in named.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        // Framing is not the client's to leave out.
        if !["host", "content-length", "transfer-encoding", "authorization"].contains(&name.as_str()) {
            headers.remove(name);
        }
    }
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

/// The response as the sandbox gets it.
pub(super) fn answered(mut response: Response<Incoming>, judged: Judged) -> Result<Response<ResponseBody>, Refusal> {
    strip(response.headers_mut());
    let Some(redactor) = judged.redactor else { return Ok(response.map(BodyExt::boxed)) };
    if response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() != b"identity") {
        let why = "it compresses what must be looked through".to_owned();
        return Err(Refusal::Unreachable(judged.name.to_string(), why));
    }
    for value in response.headers_mut().values_mut() {
        let seen = redactor.whole(value.as_bytes());
        *value = HeaderValue::from_bytes(&seen).unwrap_or_else(|_| HeaderValue::from_static("*"));
    }
    Ok(response.map(|incoming| super::body::Redacted::new(incoming, redactor).boxed()))
}

pub(super) fn switched(response: Response<Incoming>, protocol: &HeaderValue) -> Response<ResponseBody> {
    let (mut parts, _body) = response.into_parts();
    strip(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol.clone());
    Response::from_parts(parts, empty())
}

pub(super) fn empty() -> ResponseBody {
    Full::default().map_err(|never: Infallible| match never {}).boxed()
}

pub(super) fn plain(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
