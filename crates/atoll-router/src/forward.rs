//! The heads that cross the router: what is taken out, what is put in. Pure.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, ORIGIN, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// Headers that concern one connection only (RFC 9110, section 7.6.1), or that the router frames anew.
const CONNECTION_HEADERS: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TRAILER,
    TRANSFER_ENCODING,
];

/// How the client reached the router.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inbound {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) is_tls: bool,
}

/// The protocol a request wants to change to, when it is a well-formed upgrade.
pub(crate) fn wanted_upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    headers.get(UPGRADE).cloned()
}

/// The head of the request as the sandbox gets it: same method, same raw path and query.
pub(crate) fn upstream_head(
    request: &http::request::Parts,
    host: &HeaderValue,
    inbound: &Inbound,
    upgrade: Option<&HeaderValue>,
) -> (Method, Uri, HeaderMap) {
    let uri = match request.uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => Uri::from_static("/"),
    };
    let mut headers = request.headers.clone();
    let original_host = headers
        .get(HOST)
        .cloned()
        .or_else(|| request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()));
    strip_connection_headers(&mut headers);
    for name in [AUTHORIZATION, CONTENT_LENGTH, EXPECT, FORWARDED, TE] {
        headers.remove(name);
    }
    let private: Vec<HeaderName> = headers.keys().filter(|name| is_routers_own(name)).cloned().collect();
    for name in private {
        headers.remove(name);
    }
    join_cookies(&mut headers);
    headers.insert(HOST, host.clone());
    if let Some(host) = original_host {
        headers.insert("x-forwarded-host", host);
    }
    if let Some(peer) = inbound.peer
        && let Ok(value) = HeaderValue::from_str(&peer.to_canonical().to_string())
    {
        headers.insert("x-forwarded-for", value);
    }
    let scheme = if inbound.is_tls { "https" } else { "http" };
    headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
    if let Some(protocol) = upgrade {
        // A server in the sandbox checks it against its own name, which the client does not know.
        headers.remove(ORIGIN);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    (request.method.clone(), uri, headers)
}

/// Makes the head of a sandbox's answer fit for the client's connection.
pub(crate) fn clean_response_head(status: StatusCode, headers: &mut HeaderMap) {
    // With both, the sandbox's own framing was chunked: its length is a lie.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let upgrade = headers.get(UPGRADE).cloned();
    strip_connection_headers(headers);
    if status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(protocol) = upgrade
    {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn strip_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        connection_tokens(headers).filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
    for name in named.iter().chain(&CONNECTION_HEADERS).chain([&UPGRADE]) {
        headers.remove(name);
    }
}

/// Headers that a sandbox must not see or believe. Servers behind CGI-like interfaces read `_` as `-`.
fn is_routers_own(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-sandbox-") || name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// HTTP/2 may split cookies into several headers, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().count() < 2 {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = crumbs.join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn sent(request: Request<()>, upgrade: bool) -> (Method, Uri, HeaderMap) {
        let (parts, ()) = request.into_parts();
        let upgrade = upgrade.then(|| wanted_upgrade(parts.version, &parts.headers).unwrap());
        let inbound = Inbound { peer: Some("192.0.2.7".parse().unwrap()), is_tls: true };
        upstream_head(&parts, &HeaderValue::from_static("10.201.0.9:8888"), &inbound, upgrade.as_ref())
    }

    #[test]
    fn the_raw_path_is_kept() {
        for path in ["/download/a%2Fb%2e%2E", "/a//b/../c?x=%00&y=a%20b", "/?", "/%F0%9F%A6%80"] {
            let (_, uri, _) = sent(Request::get(path).body(()).unwrap(), false);
            assert_eq!(uri.to_string(), path);
        }
        let (_, uri, _) = sent(Request::get("http://evil.example/x?y").body(()).unwrap(), false);
        assert_eq!(uri.to_string(), "/x?y");
    }

    #[test]
    fn credentials_and_routing_headers_stay_here() {
        let request = Request::get("/")
            .header("authorization", "Bearer s3cret")
            .header("x-sandbox-id", "b")
            .header("X_Sandbox_Port", "1")
            .header("x-forwarded-for", "127.0.0.1")
            .header("forwarded", "for=127.0.0.1")
            .header("proxy-authorization", "Basic x")
            .header("connection", "close, X-Secret-Hop")
            .header("x-secret-hop", "1")
            .header("transfer-encoding", "chunked")
            .header("expect", "100-continue")
            .header("accept", "text/html")
            .header("host", "router.example")
            .body(())
            .unwrap();
        let (_, _, headers) = sent(request, false);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
        assert_eq!(headers["host"], "10.201.0.9:8888");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-host"], "router.example");
    }

    #[test]
    fn an_upgrade_keeps_its_two_headers_and_loses_its_origin() {
        let request = Request::get("/ws")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("origin", "https://router.example")
            .header("sec-websocket-key", "k")
            .body(())
            .unwrap();
        let (_, _, headers) = sent(request, true);
        assert_eq!(headers["connection"], "upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["sec-websocket-key"], "k");
        assert!(!headers.contains_key("origin"));
    }

    #[test]
    fn an_upgrade_header_without_the_connection_token_is_none() {
        let headers = HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static("websocket"))]);
        assert_eq!(wanted_upgrade(Version::HTTP_11, &headers), None);
    }

    #[test]
    fn cookies_split_by_http_2_are_joined() {
        let request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        assert_eq!(sent(request, false).2["cookie"], "a=1; b=2");
    }

    #[test]
    fn an_answer_loses_its_connection_headers_and_a_length_that_lies() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean_response_head(StatusCode::OK, &mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }
}
