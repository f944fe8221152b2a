//! Credentials that the administrator gives the node, in a file that only root can write:
//!
//! ```yaml
//! github:
//!   hosts: [github.com, api.github.com]   # the only places where it goes
//!   file: /etc/atoll/github.token         # or environment: GITHUB_TOKEN, or exec: [/usr/local/bin/token, github]
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_stdx::Secret;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use crate::name::{HostName, NamePattern};
use crate::redact::TOKEN_BYTES_MIN;

const TOKEN_BYTES_MAX: u64 = 16 * 1024;
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a helper's token is used before it is asked again.
const HELPER_INTERVAL: Duration = Duration::from_secs(300);
const HELPER_RETRY: Duration = Duration::from_secs(10);

/// One credential as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    hosts: Vec<NamePattern>,
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    exec: Option<Vec<String>>,
}

/// The file, or what it names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCredentials {
    /// The file is not understood.
    #[error("{0}")]
    Text(#[from] serde_yaml_ng::Error),
    /// A credential has no source, or more than one.
    #[error("the credential {0} needs one of file, environment and exec")]
    Source(String),
    /// A credential's token cannot be read.
    #[error("the token of the credential {name} cannot be read")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A token that is empty, too short to be recognised in answers, or no text.
    #[error("the token of the credential {0} is shorter than {TOKEN_BYTES_MIN} bytes, or no line of text")]
    Token(String),
}

/// One credential.
#[derive(Debug)]
struct Known {
    hosts: Vec<NamePattern>,
    helper: Option<Vec<String>>,
    token: RwLock<Option<Secret<String>>>,
}

/// All of them. Clones share them.
#[derive(Debug, Clone)]
pub struct NodeCredentials {
    known: Arc<BTreeMap<String, Known>>,
    changed: watch::Sender<u64>,
}

impl Default for NodeCredentials {
    fn default() -> Self {
        Self { known: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl NodeCredentials {
    /// Reads the file's text, and the tokens in files and in the environment: to be called while that is possible.
    ///
    /// # Errors
    /// [`BadCredentials`].
    pub fn read(text: &str) -> Result<Self, BadCredentials> {
        let written: BTreeMap<String, Written> = serde_yaml_ng::from_str(text)?;
        let mut known = BTreeMap::new();
        for (name, written) in written {
            let (token, helper) = match (written.file, written.environment, written.exec) {
                (Some(path), None, None) => (Some(read_file(&name, &path)?), None),
                (None, Some(variable), None) => (Some(read_environment(&name, &variable)?), None),
                (None, None, Some(argv)) if !argv.is_empty() => (None, Some(argv)),
                _ => return Err(BadCredentials::Source(name)),
            };
            let token = token.map(|text| checked(&name, &text)).transpose()?;
            known.insert(name, Known { hosts: written.hosts, helper, token: RwLock::new(token) });
        }
        Ok(Self { known: Arc::new(known), changed: watch::Sender::new(0) })
    }

    /// The token of a credential, for a host that it is bound to.
    #[must_use]
    pub fn token(&self, name: &str, host: &HostName) -> Option<Secret<String>> {
        let known = self.known.get(name)?;
        let bound = known.hosts.iter().any(|pattern| pattern.matches(host));
        if !bound {
            return None;
        }
        known.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Asks helpers for their tokens, again and again, until the group stops.
    pub fn ask_helpers(&self, group: &TaskGroup) {
        for (name, known) in self.known.iter() {
            let Some(argv) = known.helper.clone() else { continue };
            let (name, credentials, stop) = (name.clone(), self.clone(), group.token());
            group.spawn("egress-credential", async move {
                let _stopped = stop.run_until_cancelled(credentials.keep_asking(&name, &argv)).await;
            });
        }
    }

    async fn keep_asking(&self, name: &str, argv: &[String]) {
        loop {
            let asked = ask(argv).await.and_then(|text| checked(name, &text).map_err(io::Error::other));
            let wait = if asked.is_ok() { HELPER_INTERVAL } else { HELPER_RETRY };
            match asked {
                Ok(token) => {
                    if let Some(known) = self.known.get(name) {
                        *known.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
                    }
                    self.changed.send_modify(|version| *version += 1);
                }
                // The token before is used until the helper answers again.
                Err(error) => tracing::warn!(credential = name, %error, "a credential's helper gives no token"),
            }
            tokio::time::sleep(wait).await;
        }
    }
}

fn read_file(name: &str, path: &Path) -> Result<String, BadCredentials> {
    use std::io::Read;
    let read = || -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| BadCredentials::Read { name: name.to_owned(), source })
}

fn read_environment(name: &str, variable: &str) -> Result<String, BadCredentials> {
    std::env::var(variable)
        .map_err(|source| BadCredentials::Read { name: name.to_owned(), source: io::Error::other(source) })
}

fn checked(name: &str, text: &str) -> Result<Secret<String>, BadCredentials> {
    let token = text.trim();
    let plain = token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    if plain { Ok(Secret::new(token.to_owned())) } else { Err(BadCredentials::Token(name.to_owned())) }
}

/// What a helper prints.
async fn ask(argv: &[String]) -> io::Result<String> {
    let mut child = tokio::process::Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take();
    let answer = async {
        let mut text = String::new();
        if let Some(output) = output {
            output.take(TOKEN_BYTES_MAX).read_to_string(&mut text).await?;
        }
        let status = child.wait().await?;
        if status.success() { Ok(text) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    };
    tokio::time::timeout(HELPER_TIMEOUT, answer).await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        HostName::parse(text).expect("a name")
    }

    #[test]
    fn a_token_goes_only_where_it_is_bound() {
        let directory = std::env::temp_dir().join(format!("atoll-egress-{}", std::process::id()));
        std::fs::write(&directory, "file-token-1\n").expect("it is written");
        let text = format!("a: {{hosts: [a.example, '*.b.example'], file: {}}}", directory.display());
        let credentials = NodeCredentials::read(&text).expect("credentials");
        std::fs::remove_file(&directory).expect("it is removed");
        let token = |name: &str, at: &str| credentials.token(name, &host(at)).map(|token| token.expose().clone());
        assert_eq!(token("a", "a.example").as_deref(), Some("file-token-1"));
        assert_eq!(token("a", "x.b.example").as_deref(), Some("file-token-1"));
        assert_eq!((token("a", "evil.example"), token("none", "a.example")), (None, None));
    }

    #[test]
    fn bad_credentials_are_refused() {
        for (text, reason) in [
            ("a: {hosts: [a.example]}", "needs one of"),
            ("a: {hosts: [a.example], environment: A, exec: [x]}", "needs one of"),
            ("a: {hosts: [1.2.3.4], environment: A}", "could be read as an address"),
            ("a: {hosts: [a.example], environment: ATOLL_NO_SUCH_VARIABLE}", "cannot be read"),
            ("a: {hosts: [a.example], file: /dev/null}", "shorter than"),
            ("a: {hosts: [], files: x}", "unknown field"),
        ] {
            let error = NodeCredentials::read(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked() {
        let text = "a: {hosts: [a.example], exec: [/bin/sh, -c, 'echo helper-token']}\nb: {hosts: [a.example], exec: [/bin/false]}";
        let credentials = NodeCredentials::read(text).expect("credentials");
        let group = TaskGroup::new("test");
        let mut changes = credentials.changes();
        credentials.ask_helpers(&group);
        tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.expect("in time").expect("it changes");
        let token = credentials.token("a", &host("a.example")).expect("a token");
        assert_eq!(token.expose(), "helper-token");
        assert!(credentials.token("b", &host("a.example")).is_none());
        group.cancel();
    }
}
