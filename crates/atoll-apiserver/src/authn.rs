//! Who asks: by client certificate, by bearer token, or as a component of this process.

use std::collections::HashMap;

use atoll_rt::listen::PeerCertificate;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};

use crate::status::ApiError;

/// Everyone who is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// May do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// Who asks. In process it travels as a request extension, which no listener takes over from a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user, for instance `system:node:one`.
    pub name: String,
    /// The groups, for instance `system:nodes`.
    pub groups: Vec<String>,
    /// Tells users of one name apart in time. May be empty.
    pub uid: String,
}

impl Identity {
    /// A user with groups; `system:authenticated` is added.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.to_owned(), groups, uid: String::new() }
    }

    /// A user who may do everything.
    #[must_use]
    pub fn administrator(name: &str) -> Self {
        Self::new(name, &[MASTERS])
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// A bearer token, known by its hash alone.
#[derive(Debug, Clone)]
pub struct TokenIdentity {
    /// SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// Who bears it.
    pub identity: Identity,
}

impl TokenIdentity {
    /// The entry for a token.
    #[must_use]
    pub fn new(token: &str, identity: Identity) -> Self {
        Self { sha256: Sha256::digest(token).into(), identity }
    }
}

/// The tokens that are good.
#[derive(Debug, Default)]
pub(crate) struct Tokens(HashMap<[u8; 32], Identity>);

impl Tokens {
    pub(crate) fn new(tokens: Vec<TokenIdentity>) -> Self {
        Self(tokens.into_iter().map(|token| (token.sha256, token.identity)).collect())
    }

    /// Who bears a token. Looked up by hash, so that the time it takes says nothing about the tokens that exist.
    pub(crate) fn bearer(&self, token: &str) -> Option<&Identity> {
        self.0.get(&<[u8; 32]>::from(Sha256::digest(token)))
    }
}

/// Who a request from the network comes from; `None` if it says nothing about it.
pub(crate) fn authenticate(parts: &Parts, tokens: &Tokens) -> Result<Option<Identity>, ApiError> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(ApiError::unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized());
        }
        return tokens.bearer(token.trim()).cloned().map(Some).ok_or_else(ApiError::unauthorized);
    }
    let Some(PeerCertificate(Some(der))) = parts.extensions.get() else { return Ok(None) };
    let subject = atoll_rt::tls::peer_subject(der).map_err(|_| ApiError::unauthorized())?;
    let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    Ok(Some(Identity::new(&subject.common_name, &groups)))
}
