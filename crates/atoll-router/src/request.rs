//! Reads the routing headers of a request. Pure.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri};

use crate::refusal::Refusal;

pub(crate) const DEFAULT_NAMESPACE: &str = "default";
pub(crate) const DEFAULT_PORT: u16 = 8888;
/// Ports at which the guest answers, unless the workload itself listens there.
pub(crate) const GUEST_PORTS: [u16; 4] = [8888, 8080, 9090, 49983];
/// Paths that are the guest's alone.
pub(crate) const GUEST_PATH_PREFIX: &str = "/atoll/v1/";

const LABEL_BYTES_MAX: usize = 63;
const UID_BYTES_MAX: usize = 64;
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a client asked to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    /// The Sandbox's name.
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) port: u16,
    /// The address the client believes the sandbox has.
    pub(crate) pod_ip: Option<IpAddr>,
    /// How long the client waits, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
}

impl Target {
    /// Reads the `X-Sandbox-*` headers.
    pub(crate) fn from_headers(headers: &HeaderMap, loopback_pod_ip: bool) -> Result<Self, Refusal> {
        let name = single(headers, "x-sandbox-id", Refusal::InvalidId)?.ok_or(Refusal::MissingId)?;
        if !is_label(name) {
            return Err(Refusal::InvalidId);
        }
        let namespace = single(headers, "x-sandbox-namespace", Refusal::InvalidNamespace)?.unwrap_or(DEFAULT_NAMESPACE);
        if !is_label(namespace) {
            return Err(Refusal::InvalidNamespace);
        }
        let port = match single(headers, "x-sandbox-port", Refusal::InvalidPort)? {
            Some(text) => parse_port(text).ok_or(Refusal::InvalidPort)?,
            None => DEFAULT_PORT,
        };
        let pod_ip = match single(headers, "x-sandbox-pod-ip", Refusal::InvalidTargetIp)? {
            Some(text) => Some(parse_pod_ip(text, loopback_pod_ip).ok_or(Refusal::InvalidTargetIp)?),
            None => None,
        };
        let uid = match single(headers, "x-sandbox-uid", Refusal::InvalidUid)? {
            Some(text) if is_uid(text) => Some(text.to_owned()),
            Some(_) => return Err(Refusal::InvalidUid),
            None => None,
        };
        let timeout_ms = match single(headers, "x-sandbox-timeout", Refusal::InvalidTimeout)? {
            Some(text) => Some(parse_timeout_ms(text).ok_or(Refusal::InvalidTimeout)?),
            None => None,
        };
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid, port, pod_ip, timeout_ms })
    }
}

/// The bearer token of a request.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = single(headers, "authorization", Refusal::TokenInvalid)?.ok_or(Refusal::TokenMissing)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refusal::TokenInvalid)?;
    let token = token.trim();
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|b| b.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case("bearer") && is_token { Ok(token) } else { Err(Refusal::TokenInvalid) }
}

/// Refuses what two parsers could read in two ways.
pub(crate) fn check_form(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::MethodNotSupported);
    }
    let is_chunked = headers.contains_key(http::header::TRANSFER_ENCODING);
    let has_length = headers.contains_key(http::header::CONTENT_LENGTH);
    if is_chunked && has_length || headers.get_all(http::header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::AmbiguousRequest);
    }
    if headers.get_all(http::header::HOST).iter().count() > 1 {
        return Err(Refusal::AmbiguousRequest);
    }
    let path = uri.path();
    if path.starts_with('/') || path == "*" { Ok(()) } else { Err(Refusal::AmbiguousRequest) }
}

/// The header's only value, trimmed. Empty is absent, as clients that always send all headers mean it; more than one
/// is refused, because the next hop may read the other one.
fn single<'h>(headers: &'h HeaderMap, name: &str, refusal: Refusal) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refusal);
    }
    let text = first.to_str().map_err(|_not_ascii| refusal)?.trim();
    Ok(if text.is_empty() { None } else { Some(text) })
}

/// Whether the text is a DNS-1123 label.
fn is_label(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            bytes.len() <= LABEL_BYTES_MAX
                && is_alphanumeric(*first)
                && is_alphanumeric(*last)
                && bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
        }
        _ => false,
    }
}

fn is_uid(text: &str) -> bool {
    text.len() <= UID_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<u16>().ok().filter(|port| *port > 0)
}

fn parse_pod_ip(text: &str, loopback: bool) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let refused =
        address.is_unspecified() || address.is_multicast() || is_link_local || (address.is_loopback() && !loopback);
    if refused { None } else { Some(address) }
}

/// Seconds, possibly with a fraction, as milliseconds.
fn parse_timeout_ms(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = text.parse::<f64>().ok()?;
    // The cast saturates; a bound is applied by the caller.
    let ms = (seconds * 1000.0).ceil() as u64;
    if ms > 0 { Some(ms) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn parse(pairs: &[(&'static str, &str)]) -> Result<Target, Refusal> {
        Target::from_headers(&headers(pairs), false)
    }

    #[test]
    fn the_defaults_are_the_published_ones() {
        let target = parse(&[("x-sandbox-id", "my-box")]).unwrap();
        let expected = Target {
            namespace: "default".to_owned(),
            name: "my-box".to_owned(),
            uid: None,
            port: 8888,
            pod_ip: None,
            timeout_ms: None,
        };
        assert_eq!(target, expected);
    }

    #[test]
    fn every_header_is_read() {
        let target = parse(&[
            ("x-sandbox-id", "b"),
            ("x-sandbox-namespace", "team-a"),
            ("x-sandbox-port", "3000"),
            ("x-sandbox-uid", "0b9c7ad4-0000-4000-8000-000000000001"),
            ("x-sandbox-pod-ip", "10.201.0.9"),
            ("x-sandbox-timeout", "2.5"),
        ])
        .unwrap();
        assert_eq!(target.namespace, "team-a");
        assert_eq!(target.port, 3000);
        assert_eq!(target.uid.as_deref(), Some("0b9c7ad4-0000-4000-8000-000000000001"));
        assert_eq!(target.pod_ip, Some("10.201.0.9".parse().unwrap()));
        assert_eq!(target.timeout_ms, Some(2500));
    }

    #[test]
    fn malformed_headers_are_refused_in_the_words_clients_know() {
        let long = "a".repeat(64);
        let cases: &[(&'static str, &str, Refusal)] = &[
            ("x-sandbox-id", "", Refusal::MissingId),
            ("x-sandbox-id", "My-Box", Refusal::InvalidId),
            ("x-sandbox-id", "-box", Refusal::InvalidId),
            ("x-sandbox-id", "box-", Refusal::InvalidId),
            ("x-sandbox-id", "a.b", Refusal::InvalidId),
            ("x-sandbox-id", "a/../b", Refusal::InvalidId),
            ("x-sandbox-id", "a b", Refusal::InvalidId),
            ("x-sandbox-id", "a\tb", Refusal::InvalidId),
            ("x-sandbox-id", "bö", Refusal::InvalidId),
            ("x-sandbox-id", &long, Refusal::InvalidId),
            ("x-sandbox-namespace", "kube_system", Refusal::InvalidNamespace),
            ("x-sandbox-namespace", "a/b", Refusal::InvalidNamespace),
            ("x-sandbox-port", "0", Refusal::InvalidPort),
            ("x-sandbox-port", "65536", Refusal::InvalidPort),
            ("x-sandbox-port", "+80", Refusal::InvalidPort),
            ("x-sandbox-port", "-1", Refusal::InvalidPort),
            ("x-sandbox-port", "80 80", Refusal::InvalidPort),
            ("x-sandbox-port", "http", Refusal::InvalidPort),
            ("x-sandbox-pod-ip", "127.0.0.1", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "127.8.8.8", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "::1", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "::ffff:127.0.0.1", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "169.254.169.254", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "fe80::1", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "224.0.0.1", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "0.0.0.0", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "255.255.255.255", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "localhost", Refusal::InvalidTargetIp),
            ("x-sandbox-pod-ip", "10.201.0.9:80", Refusal::InvalidTargetIp),
            ("x-sandbox-uid", "a/b", Refusal::InvalidUid),
            ("x-sandbox-timeout", "0", Refusal::InvalidTimeout),
            ("x-sandbox-timeout", "-1", Refusal::InvalidTimeout),
            ("x-sandbox-timeout", "nan", Refusal::InvalidTimeout),
            ("x-sandbox-timeout", "inf", Refusal::InvalidTimeout),
            ("x-sandbox-timeout", "1e9", Refusal::InvalidTimeout),
        ];
        for (name, value, expected) in cases {
            let mut map = headers(&[("x-sandbox-id", "box")]);
            map.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(Target::from_headers(&map, false).as_ref(), Err(expected), "{name}: {value:?}");
        }
    }

    #[test]
    fn a_header_given_twice_is_refused() {
        for (name, expected) in [
            ("x-sandbox-id", Refusal::InvalidId),
            ("x-sandbox-namespace", Refusal::InvalidNamespace),
            ("x-sandbox-port", Refusal::InvalidPort),
            ("x-sandbox-pod-ip", Refusal::InvalidTargetIp),
            ("x-sandbox-uid", Refusal::InvalidUid),
        ] {
            let mut map = headers(&[("x-sandbox-id", "box")]);
            map.append(HeaderName::from_static(name), HeaderValue::from_static("8"));
            map.append(HeaderName::from_static(name), HeaderValue::from_static("8"));
            assert_eq!(Target::from_headers(&map, false), Err(expected), "{name}");
        }
    }

    #[test]
    fn an_empty_optional_header_means_the_default() {
        let target = parse(&[("x-sandbox-id", "b"), ("x-sandbox-namespace", ""), ("x-sandbox-port", "")]).unwrap();
        assert_eq!((target.namespace.as_str(), target.port), ("default", 8888));
    }

    #[test]
    fn bearer_tokens() {
        assert_eq!(bearer_token(&headers(&[("authorization", "Bearer abc")])), Ok("abc"));
        assert_eq!(bearer_token(&headers(&[("authorization", "bearer  abc ")])), Ok("abc"));
        assert_eq!(bearer_token(&headers(&[])), Err(Refusal::TokenMissing));
        for value in ["Basic abc", "Bearer", "Bearer a b", "abc"] {
            assert_eq!(bearer_token(&headers(&[("authorization", value)])), Err(Refusal::TokenInvalid), "{value}");
        }
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(bearer_token(&twice), Err(Refusal::TokenInvalid));
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let uri = Uri::from_static("/x");
        let both = headers(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert_eq!(check_form(&Method::POST, &uri, &both), Err(Refusal::AmbiguousRequest));
        let lengths = headers(&[("content-length", "3"), ("content-length", "3")]);
        assert_eq!(check_form(&Method::POST, &uri, &lengths), Err(Refusal::AmbiguousRequest));
        let hosts = headers(&[("host", "a"), ("host", "b")]);
        assert_eq!(check_form(&Method::GET, &uri, &hosts), Err(Refusal::AmbiguousRequest));
        assert_eq!(check_form(&Method::CONNECT, &uri, &headers(&[])), Err(Refusal::MethodNotSupported));
        assert_eq!(check_form(&Method::OPTIONS, &Uri::from_static("*"), &headers(&[])), Ok(()));
    }
}
