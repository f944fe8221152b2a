//! Who asks: by client certificate, by bearer token, or as a component of this process.

use std::collections::{BTreeMap, HashMap};

use atoll_rt::listen::PeerCertificate;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};

use crate::accounts::{self, TokenError};
use crate::server::ApiServer;
use crate::status::ApiError;

/// Everyone who is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Who says nothing about who they are, and their group.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// All service accounts, and (with the namespace after a colon) those of one namespace.
const ACCOUNTS: &str = "system:serviceaccounts";
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
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
    /// What else was found out, for instance which Pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user with groups; `system:authenticated` is added.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.to_owned(), groups, uid: String::new(), extra: BTreeMap::new() }
    }

    /// Somebody of whom nothing is known.
    pub(crate) fn anonymous() -> Self {
        let groups = vec![UNAUTHENTICATED.to_owned()];
        Self { name: ANONYMOUS.to_owned(), groups, uid: String::new(), extra: BTreeMap::new() }
    }

    /// A service account.
    pub(crate) fn account(namespace: &str, name: &str) -> Self {
        let groups = account_groups(namespace);
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        Self::new(&account_user(namespace, name), &groups)
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

/// `system:serviceaccount:ns:name`.
pub(crate) fn account_user(namespace: &str, name: &str) -> String {
    format!("{ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The groups of a namespace's service accounts.
pub(crate) fn account_groups(namespace: &str) -> [String; 2] {
    [ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")]
}

/// Namespace and name of a service account, by its user name.
pub(crate) fn split_account_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
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
pub(crate) fn authenticate(parts: &Parts, server: &ApiServer) -> Result<Option<Identity>, ApiError> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(ApiError::unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized());
        }
        let bearer = bearer(server, token.trim(), &[]).map_err(|_| ApiError::unauthorized())?;
        return Ok(Some(bearer.identity));
    }
    let Some(PeerCertificate(Some(der))) = parts.extensions.get() else { return Ok(None) };
    let subject = atoll_rt::tls::peer_subject(der).map_err(|_| ApiError::unauthorized())?;
    let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    Ok(Some(Identity::new(&subject.common_name, &groups)))
}

/// Who bears a token, and for which audiences that holds.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) identity: Identity,
    pub(crate) audiences: Vec<String>,
}

/// Who bears a token that is meant for one of the audiences; without any, for this server.
pub(crate) fn bearer(server: &ApiServer, token: &str, audiences: &[String]) -> Result<Bearer, TokenError> {
    if let Some(identity) = server.tokens().bearer(token) {
        // The tokens of this server's own list are meant for this server.
        let own = vec![accounts::ISSUER.to_owned()];
        if !audiences.is_empty() && !audiences.contains(&own[0]) {
            return Err(TokenError::Audience);
        }
        return Ok(Bearer { identity: identity.clone(), audiences: own });
    }
    accounts::verify(server, token, audiences)
}
