//! Acting as somebody else, by `Impersonate-…` headers: each part of whom is asked for must be allowed.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode};

use crate::authn::{ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED, account_groups, split_account_user};
use crate::authz::{self, Access};
use crate::request::decode;
use crate::server::ApiServer;
use crate::status::ApiError;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Parts of one identity that may be asked for: each is authorised.
const PARTS_MAX: usize = 256;

/// Whom the headers ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    /// `None` if the headers ask for nobody.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut wanted = Self::default();
        let mut parts = 0;
        for (name, value) in headers {
            let name = name.as_str();
            if !name.starts_with("impersonate-") {
                continue;
            }
            let value = value.to_str().map_err(|_| ApiError::bad_request(format!("{name} must be text")))?.to_owned();
            match name {
                USER => wanted.user = value,
                GROUP => wanted.groups.push(value),
                UID => wanted.uid = value,
                name => match name.strip_prefix(EXTRA_PREFIX) {
                    Some(key) => wanted.extra.entry(decode(key).to_lowercase()).or_default().push(value),
                    None => continue,
                },
            }
            parts += 1;
            if parts > PARTS_MAX {
                return Err(ApiError::bad_request("too many impersonation headers"));
            }
        }
        if parts == 0 {
            return Ok(None);
        }
        if wanted.user.is_empty() {
            let message = "requested groups, a UID or extra values without impersonating a user";
            return Err(ApiError::unknown(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        Ok(Some(wanted))
    }

    /// What must be allowed: group, resource, subresource, namespace and name.
    fn parts(&self) -> impl Iterator<Item = Access<'_>> {
        let access = |group, resource, subresource, namespace, name| Access {
            verb: "impersonate",
            group,
            resource,
            subresource,
            namespace,
            name,
        };
        let user = match split_account_user(&self.user) {
            Some((namespace, name)) => access("", "serviceaccounts", "", namespace, name),
            None => access("", "users", "", "", &self.user),
        };
        let groups = self.groups.iter().map(move |group| access("", "groups", "", "", group));
        let uid = (!self.uid.is_empty()).then(|| access(AUTHENTICATION, "uids", "", "", &self.uid));
        let extra = self.extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        let extra = extra.map(move |(key, value)| access(AUTHENTICATION, "userextras", key, "", value));
        [user].into_iter().chain(groups).chain(extra).chain(uid)
    }

    fn identity(self) -> Identity {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = split_account_user(&self.user)
        {
            groups.extend(account_groups(namespace));
        }
        let has = |group: &str| groups.iter().any(|own| own == group);
        let implied = if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !has(implied) && !has(UNAUTHENTICATED) {
            groups.push(implied.to_owned());
        }
        Identity { name: self.user, groups, uid: self.uid, extra: self.extra }
    }
}

/// Who a request is to be judged as: whom it asks for, if its sender may act as them; else its sender.
pub(crate) fn resolve(server: &ApiServer, sender: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let Some(wanted) = Wanted::read(headers)? else { return Ok(sender) };
    for part in wanted.parts() {
        authz::authorize(server, &sender, &part)?;
    }
    let identity = wanted.identity();
    tracing::info!(sender = sender.name, user = identity.name, "acting as somebody else");
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn read(headers: &[(&str, &str)]) -> Result<Option<Identity>, ApiError> {
        let headers = headers.iter().map(|(name, value)| {
            let name: HeaderName = name.to_lowercase().parse().expect("a name");
            (name, value.parse().expect("a value"))
        });
        Wanted::read(&headers.collect()).map(|wanted| wanted.map(Wanted::identity))
    }

    #[test]
    fn headers_name_somebody() {
        let groups = |headers: &[(&str, &str)]| read(headers).expect("sound").expect("somebody").groups;
        assert_eq!(read(&[("Accept", "x")]), Ok(None));
        assert_eq!(groups(&[("Impersonate-User", "jo")]), ["system:authenticated"]);
        assert_eq!(
            groups(&[("Impersonate-User", "jo"), ("Impersonate-Group", "devs")]),
            ["devs", "system:authenticated"]
        );
        assert_eq!(groups(&[("Impersonate-User", "system:anonymous")]), ["system:unauthenticated"]);
        assert_eq!(
            groups(&[("Impersonate-User", "system:serviceaccount:ns:bot")]),
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        let extra = [("Impersonate-User", "jo"), ("Impersonate-Extra-Acme%2FTeam", "a")];
        let extra = read(&extra).expect("sound").expect("somebody").extra;
        assert_eq!(extra["acme/team"], ["a"]);
    }

    #[test]
    fn groups_alone_name_nobody() {
        assert_eq!(read(&[("Impersonate-Group", "devs")]).expect_err("refused").code, 500);
    }
}
