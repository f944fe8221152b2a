//! Credentials on their way: what a sandbox may bring to a brokered host, and what the proxy puts in its place. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rules::{CredentialRef, Scheme};
use crate::snapshot::Credential;

/// Headers that prove who somebody is.
const PROOFS: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "private-token",
    "job-token",
    "x-goog-api-key",
    "x-auth-token",
];
/// Parameters of a query that do.
const PROOFS_IN_QUERY: [&str; 8] =
    ["access_token", "api_key", "apikey", "key", "token", "private_token", "x-amz-signature", "sig"];

/// What the sandbox sees of a credential: a name that is of no use anywhere else.
#[must_use]
pub fn placeholder(name: &str) -> String {
    format!("atoll-credential-{name}")
}

/// The header or parameter with a credential that is not the placeholder.
#[must_use]
pub fn foreign(headers: &HeaderMap, query: Option<&str>, rule: &CredentialRef, placeholder: &str) -> Option<String> {
    let own = rule.header.to_ascii_lowercase();
    let names = PROOFS.into_iter().chain(std::iter::once(own.as_str()));
    for name in names {
        if headers.get_all(name).iter().any(|value| !is_placeholder(value.as_bytes(), placeholder)) {
            return Some(name.to_owned());
        }
    }
    let parameters = query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    let mut proofs = parameters.filter(|name| PROOFS_IN_QUERY.contains(&name.to_ascii_lowercase().as_str()));
    proofs.next().map(|name| format!("the parameter {name}"))
}

/// Whether a value is the placeholder, alone or in one of the usual schemes.
fn is_placeholder(value: &[u8], placeholder: &str) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
    if rest == placeholder {
        return true;
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest).ok()).flatten();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    pair.is_some_and(|pair| {
        let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
        password == placeholder || (user == placeholder && password.is_empty())
    })
}

/// The value as it goes on the wire.
#[must_use]
pub fn written(rule: &CredentialRef, token: &str) -> String {
    match rule.scheme {
        Scheme::Bearer => format!("Bearer {token}"),
        Scheme::Basic => format!("Basic {}", STANDARD.encode(format!("{}:{token}", rule.user))),
        Scheme::Plain => token.to_owned(),
    }
}

/// Takes every proof out of a request and puts the real credential in. `None` if there is no token, or one that no
/// header can carry.
#[must_use]
pub fn put(headers: &mut HeaderMap, rule: &CredentialRef, credential: &Credential) -> Option<String> {
    let token = credential.token.as_ref()?.expose();
    let written = written(rule, token);
    let mut value = HeaderValue::from_str(&written).ok()?;
    value.set_sensitive(true);
    let name = HeaderName::from_bytes(rule.header.as_bytes()).ok()?;
    for proof in PROOFS {
        headers.remove(proof);
    }
    headers.insert(name, value);
    Some(written)
}

#[cfg(test)]
mod tests {
    use atoll_stdx::Secret;

    use super::*;

    const PLACEHOLDER: &str = "atoll-credential-github";

    fn rule(scheme: Scheme) -> CredentialRef {
        CredentialRef {
            secret: Some("github".to_owned()),
            node: None,
            key: "token".to_owned(),
            header: "authorization".to_owned(),
            scheme,
            user: "x".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_the_placeholder_may_be_brought() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (name, value, query, expected) in [
            ("accept", "x".to_owned(), None, None),
            ("authorization", PLACEHOLDER.to_owned(), None, None),
            ("authorization", format!("Bearer {PLACEHOLDER}"), None, None),
            ("authorization", basic(&format!("x:{PLACEHOLDER}")), None, None),
            ("authorization", "Bearer attacker".to_owned(), None, Some("authorization")),
            ("authorization", format!("Bearer {PLACEHOLDER} attacker"), None, Some("authorization")),
            ("authorization", basic(&format!("attacker:secret{PLACEHOLDER}")), None, Some("authorization")),
            ("x-api-key", "attacker".to_owned(), None, Some("x-api-key")),
            ("cookie", "session=attacker".to_owned(), None, Some("cookie")),
            ("accept", "x".to_owned(), Some("a=b&access_token=attacker"), Some("the parameter access_token")),
        ] {
            let found = foreign(&headers(&[(name, &value)]), query, &rule(Scheme::Bearer), PLACEHOLDER);
            assert_eq!(found.as_deref(), expected, "{name}: {value} {query:?}");
        }
    }

    #[test]
    fn the_token_takes_the_placeholders_place() {
        let token = Some(Secret::new("real-token".to_owned()));
        let credential = Credential { placeholder: PLACEHOLDER.to_owned(), token };
        for (scheme, expected) in [
            (Scheme::Bearer, "Bearer real-token"),
            (Scheme::Basic, "Basic eDpyZWFsLXRva2Vu"),
            (Scheme::Plain, "real-token"),
        ] {
            let mut sent = headers(&[("authorization", PLACEHOLDER), ("x-api-key", PLACEHOLDER), ("accept", "x")]);
            assert_eq!(put(&mut sent, &rule(scheme), &credential).as_deref(), Some(expected));
            assert_eq!(sent, headers(&[("authorization", expected), ("accept", "x")]));
        }
        let none = Credential { token: None, ..credential };
        assert_eq!(put(&mut HeaderMap::new(), &rule(Scheme::Bearer), &none), None);
    }
}
