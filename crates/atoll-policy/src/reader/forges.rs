//! `forges`: where pull requests may be opened, and which variable of the plane holds the token.

use std::collections::BTreeMap;

use crate::document::{Forge, ForgeKind};
use crate::yaml::{Kind, Node};

use super::{Outcome, Reader, is_mcp_url};

/// How many forges a policy may have.
const FORGES_MAX: usize = 64;

impl Reader<'_> {
    /// The `forges` section: by host, as it stands in the address of a remote.
    pub(super) fn forges(&self, node: &Node) -> Outcome<BTreeMap<String, Forge>> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, "`forges`", "a mapping of forges by host"));
        };
        if members.len() > FORGES_MAX {
            let message = format!("`forges` has {} forges", members.len());
            return Err(self.error(node.place, message, Some(format!("at most {FORGES_MAX}")), None));
        }
        let mut forges = BTreeMap::new();
        for (host, node) in members {
            let (mut kind, mut url, mut api, mut token_env) = (None, None, None, None);
            for (key, node) in
                self.mapping(node, &format!("the forge `{}`", host.text), &["kind", "url", "api", "token_env"])?
            {
                match key.text.as_str() {
                    "kind" => kind = Some(self.forge_kind(node)?),
                    "url" => url = Some(self.forge_url(node, "url")?),
                    "api" => api = Some(self.forge_url(node, "api")?),
                    _ => token_env = Some(self.text(node, "token_env", "a variable's name")?.to_owned()),
                }
            }
            let (Some(kind), Some(token_env)) = (kind, token_env) else {
                let message = format!("the forge `{}` is not complete", host.text);
                return Err(self.error(host.place, message, Some("`kind` and `token_env`".to_owned()), None));
            };
            let url = url.unwrap_or_else(|| format!("https://{}", host.text));
            let api = api.unwrap_or_else(|| kind.api(&url));
            forges.insert(host.text.to_ascii_lowercase(), Forge { kind, url, api, token_env });
        }
        Ok(forges)
    }

    fn forge_kind(&self, node: &Node) -> Outcome<ForgeKind> {
        let expected = "`github`, `gitlab` or `gitea`";
        match self.text(node, "kind", expected)? {
            "github" => Ok(ForgeKind::GitHub),
            "gitlab" => Ok(ForgeKind::GitLab),
            "gitea" => Ok(ForgeKind::Gitea),
            _ => Err(self.wrong(node, "`kind`", expected)),
        }
    }

    fn forge_url(&self, node: &Node, what: &str) -> Outcome<String> {
        let expected = "an address such as `https://git.example`, without user, password and fragment";
        let url = self.text(node, what, expected)?;
        if is_mcp_url(url) {
            Ok(url.trim_end_matches('/').to_owned())
        } else {
            Err(self.wrong(node, &format!("`{what}`"), expected))
        }
    }
}
