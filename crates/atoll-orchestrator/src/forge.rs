//! Forges: pull requests through the APIs of GitHub, GitLab and Gitea. Tokens come from the plane's environment and go into
//! headers alone; redirects are not followed.

use std::time::Duration;

use atoll_policy::{Forge, ForgeKind};
use atoll_stdx::{Secret, chain};
use futures::StreamExt;
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

const TIMEOUT_MS: u64 = 30_000;
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const ERROR_CHARS_MAX: usize = 300;

/// Speaks to forges.
#[derive(Debug)]
pub(crate) struct ForgeClient {
    http: Client,
}

/// What is asked of a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    /// `owner/name`; deeper at GitLab.
    pub(crate) project: &'a str,
    /// The branch with the work.
    pub(crate) head: &'a str,
    /// The branch it is to go into.
    pub(crate) base: &'a str,
    pub(crate) title: &'a str,
    pub(crate) body: &'a str,
}

/// A forge did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForgeError {
    #[error("it could not be reached: {0}")]
    Unreachable(String),
    #[error("it answered {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("its answer is not what its API promises: {0}")]
    Lied(String),
}

/// One request to an API.
#[derive(Debug, PartialEq)]
struct Request {
    method: Method,
    url: Url,
    body: Option<Value>,
}

/// Where in an answer a pull request says where it is.
fn url_field(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::GitHub | ForgeKind::Gitea => "html_url",
        ForgeKind::GitLab => "web_url",
    }
}

fn address(forge: &Forge, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
    let wrong = || ForgeError::Lied(format!("{} is no address", forge.api));
    let mut url = Url::parse(&forge.api).map_err(|_| wrong())?;
    url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(parts);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Asks for the open pull requests of a branch.
fn find(forge: &Forge, wanted: &Wanted<'_>) -> Result<Request, ForgeError> {
    let (owner, name) = wanted.project.split_once('/').unwrap_or(("", wanted.project));
    let head = format!("{owner}:{}", wanted.head);
    let url = match forge.kind {
        ForgeKind::GitHub => address(
            forge,
            &["repos", owner, name, "pulls"],
            &[("state", "open"), ("head", &head), ("base", wanted.base)],
        ),
        ForgeKind::Gitea => address(forge, &["repos", owner, name, "pulls"], &[("state", "open"), ("limit", "50")]),
        ForgeKind::GitLab => address(
            forge,
            &["projects", wanted.project, "merge_requests"],
            &[("state", "opened"), ("source_branch", wanted.head), ("target_branch", wanted.base)],
        ),
    };
    Ok(Request { method: Method::GET, url: url?, body: None })
}

/// The address of the one among them that is wanted.
fn found(forge: &Forge, wanted: &Wanted<'_>, listed: &Value) -> Option<String> {
    let fits = |pull: &&Value| match forge.kind {
        ForgeKind::GitHub | ForgeKind::Gitea => {
            pull["head"]["ref"] == wanted.head && pull["base"]["ref"] == wanted.base
        }
        ForgeKind::GitLab => pull["source_branch"] == wanted.head && pull["target_branch"] == wanted.base,
    };
    let pull = listed.as_array()?.iter().find(fits)?;
    pull[url_field(forge.kind)].as_str().map(str::to_owned)
}

/// Asks for a new one.
fn open(forge: &Forge, wanted: &Wanted<'_>) -> Result<Request, ForgeError> {
    let (owner, name) = wanted.project.split_once('/').unwrap_or(("", wanted.project));
    let (url, body) = match forge.kind {
        ForgeKind::GitHub | ForgeKind::Gitea => (
            address(forge, &["repos", owner, name, "pulls"], &[]),
            json!({"title": wanted.title, "body": wanted.body, "head": wanted.head, "base": wanted.base}),
        ),
        ForgeKind::GitLab => (
            address(forge, &["projects", wanted.project, "merge_requests"], &[]),
            json!({
                "title": wanted.title,
                "description": wanted.body,
                "source_branch": wanted.head,
                "target_branch": wanted.base,
            }),
        ),
    };
    Ok(Request { method: Method::POST, url: url?, body: Some(body) })
}

/// What git sends a forge in place of a password.
pub(crate) fn git_authorization(forge: &Forge, token: &Secret<String>) -> String {
    use base64::Engine;
    let user = match forge.kind {
        ForgeKind::GitHub => "x-access-token",
        ForgeKind::GitLab | ForgeKind::Gitea => "oauth2",
    };
    let word = format!("{user}:{}", token.expose());
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(word))
}

impl ForgeClient {
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        atoll_rt::tls::install_crypto_provider();
        let http = Client::builder()
            .timeout(Duration::from_millis(TIMEOUT_MS))
            .redirect(Redirects::none())
            .no_proxy()
            .user_agent("atoll")
            .build()?;
        Ok(Self { http })
    }

    /// Opens a pull request, or finds the one that is open already. Asking twice is asking once.
    pub(crate) async fn open(
        &self,
        forge: &Forge,
        token: &Secret<String>,
        wanted: &Wanted<'_>,
    ) -> Result<String, ForgeError> {
        let listed = self.ask(forge, token, find(forge, wanted)?).await?;
        if let Some(url) = found(forge, wanted, &listed) {
            return Ok(url);
        }
        let opened = self.ask(forge, token, open(forge, wanted)?).await?;
        let field = url_field(forge.kind);
        let url = opened[field].as_str().ok_or_else(|| ForgeError::Lied(format!("there is no `{field}` in it")))?;
        Ok(url.to_owned())
    }

    async fn ask(&self, forge: &Forge, token: &Secret<String>, request: Request) -> Result<Value, ForgeError> {
        let mut sending = self.http.request(request.method, request.url);
        sending = match forge.kind {
            ForgeKind::GitHub => sending
                .bearer_auth(token.expose())
                .header("Accept", "application/vnd.github+json")
                .header("X-GitHub-Api-Version", "2022-11-28"),
            ForgeKind::GitLab => sending.header("PRIVATE-TOKEN", token.expose()),
            ForgeKind::Gitea => sending.header("Authorization", format!("token {}", token.expose())),
        };
        if let Some(body) = &request.body {
            sending = sending.json(body);
        }
        let response = sending.send().await.map_err(|error| ForgeError::Unreachable(chain(&error)))?;
        let status = response.status();
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|error| ForgeError::Unreachable(chain(&error)))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(ForgeError::Lied(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            let message: String = match &answer["message"] {
                Value::Null => "no reason given".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let message = message.chars().filter(|letter| !letter.is_control()).take(ERROR_CHARS_MAX).collect();
            return Err(ForgeError::Refused { status, message });
        }
        Ok(answer)
    }
}

/// Host (with its port for HTTP) and project of a remote's address: `https://host/owner/name.git`, `git@host:owner/name`.
pub(crate) fn place(remote: &str) -> Option<(String, String)> {
    let (host, path) = match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let with_port = matches!(scheme, "http" | "https");
            (if with_port { host } else { host.split(':').next().unwrap_or_default() }, path)
        }
        None => {
            let (authority, path) = remote.split_once(':')?;
            (authority.rsplit_once('@').map_or(authority, |(_, host)| host), path)
        }
    };
    let project = path.trim_matches('/').strip_suffix(".git").unwrap_or(path.trim_matches('/'));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
    let parts_fine = project.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let good = !host.is_empty() && project.contains('/') && project.chars().all(plain) && parts_fine;
    good.then(|| (host.to_ascii_lowercase(), project.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_taken_apart() {
        for (remote, expected) in [
            ("https://github.com/acme/tools.git", Some(("github.com", "acme/tools"))),
            ("https://me:secret@git.example:8443/acme/tools", Some(("git.example:8443", "acme/tools"))),
            ("git@GitLab.com:group/sub/tools.git", Some(("gitlab.com", "group/sub/tools"))),
            ("ssh://git@git.example:2222/acme/tools.git", Some(("git.example", "acme/tools"))),
            ("/srv/tools.git", None),
            ("file:///srv/tools.git", Some(("", ""))),
            ("https://git.example/tools.git", None),
            ("https://git.example/a/../b", None),
            ("https://git.example/a/b?x=1", None),
        ] {
            let expected = expected.filter(|(host, _)| !host.is_empty());
            let found = place(remote);
            let found = found.as_ref().map(|(host, project)| (host.as_str(), project.as_str()));
            assert_eq!(found, expected, "{remote}");
        }
    }

    #[test]
    fn a_project_is_one_part_of_the_address_at_gitlab() {
        let forge = Forge {
            kind: ForgeKind::GitLab,
            url: "https://gitlab.com".to_owned(),
            api: "https://gitlab.com/api/v4".to_owned(),
            token_env: "T".to_owned(),
        };
        let wanted = Wanted { project: "group/sub/tools", head: "atoll/1", base: "main", title: "t", body: "b" };
        let request = open(&forge, &wanted).expect("a request");
        assert_eq!(request.url.as_str(), "https://gitlab.com/api/v4/projects/group%2Fsub%2Ftools/merge_requests");
    }
}
