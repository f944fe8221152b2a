//! Service accounts: signed tokens that are bound to what they were made for, and the account that every namespace has.
//!
//! A token is a JWT (RFC 7519) signed with ES256. It is good as long as it has not expired, its account (and the Pod,
//! Secret or Node that it is bound to) still is the one of then, and its audience is asked for.

mod first;
mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::authn::{Bearer, Identity};
use crate::objects::View;
use crate::server::ApiServer;

pub(crate) use first::{ensure as ensure_first, start as start_first};
pub(crate) use keys::Keys;

/// Who signs the tokens, and the audience that means this server.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Signatures that were checked are remembered for so many tokens.
const CHECKED_MAX: usize = 1024;
/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A token is good from this long before its time on: clocks differ.
const LEEWAY_S: i64 = 60;

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("invalid bearer token")]
    Unknown,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    Early,
    #[error("token audiences are not those that were asked for")]
    Audience,
    #[error("what the token was made for has been deleted")]
    Gone,
}

/// A thing that a token names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What a token says about its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Named,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
}

/// What a token says. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) account: Account,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// Makes and checks tokens.
pub(crate) struct AccountTokens {
    keys: Keys,
    checked: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl AccountTokens {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, checked: Mutex::default() }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        self.keys.sign(claims)
    }

    /// The claims of a token with a good signature.
    fn claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(TokenError::Unknown);
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let locked = || self.checked.lock().expect("no panic while the checked tokens are locked");
        if let Some(claims) = locked().get(&hash) {
            return Ok(Arc::clone(claims));
        }
        let claims = Arc::new(self.keys.verify(token).ok_or(TokenError::Unknown)?);
        let mut checked = locked();
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(hash, Arc::clone(&claims));
        Ok(claims)
    }
}

/// Who bears a token of a service account.
pub(crate) fn verify(server: &ApiServer, token: &str, audiences: &[String]) -> Result<Bearer, TokenError> {
    let claims = server.account_tokens().claims(token)?;
    check_time(&claims, server.now())?;
    let own = [ISSUER.to_owned()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    let audiences: Vec<String> = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        return Err(TokenError::Audience);
    }
    if !is_alive(server, &claims.account) {
        return Err(TokenError::Gone);
    }
    Ok(Bearer { identity: identity(&claims), audiences })
}

fn check_time(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    if now >= claims.exp {
        return Err(TokenError::Expired);
    }
    if now < claims.nbf - LEEWAY_S {
        return Err(TokenError::Early);
    }
    Ok(())
}

/// Whether the account, and what the token is bound to, are still those for which the token was made.
fn is_alive(server: &ApiServer, account: &Account) -> bool {
    let namespace = Some(account.namespace.as_str());
    let things = [
        ("serviceaccounts", namespace, Some(&account.serviceaccount)),
        ("pods", namespace, account.pod.as_ref()),
        ("secrets", namespace, account.secret.as_ref()),
        // A token for a Pod names the Pod's node too, which may go first.
        ("nodes", None, account.node.as_ref().filter(|_| account.pod.is_none())),
    ];
    things.into_iter().all(|(plural, namespace, named)| {
        let Some(named) = named else { return true };
        let Some(resource) = server.registry().by_path("v1", plural) else { return false };
        let record = server.store().get(&resource.key(namespace, &named.name));
        record.is_some_and(|record| {
            let view = View::of(&record, &resource);
            *view.uid == *named.uid && !(plural == "serviceaccounts" && view.deleting)
        })
    })
}

fn identity(claims: &Claims) -> Identity {
    let account = &claims.account;
    let mut identity = Identity::account(&account.namespace, &account.serviceaccount.name);
    identity.uid.clone_from(&account.serviceaccount.uid);
    let mut tell = |name: &str, value: String| {
        identity.extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value]);
    };
    tell("credential-id", format!("JTI={}", claims.jti));
    for (kind, named) in [("pod", &account.pod), ("node", &account.node)] {
        if let Some(named) = named {
            tell(&format!("{kind}-name"), named.name.clone());
            tell(&format!("{kind}-uid"), named.uid.clone());
        }
    }
    identity
}
