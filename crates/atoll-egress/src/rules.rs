//! Rules by name, as people write them in ConfigMaps: which names (or addresses) a sandbox may reach through the proxy.
//! Pure.
//!
//! ```yaml
//! template: python              # sandboxes of this template; or podSelector: {matchLabels: …}; or neither: all
//! allow:
//! - name: api.github.com        # or "*.example.com"; or address: 203.0.113.7
//!   ports: [443]                # the default
//!   methods: [GET, HEAD]        # any when absent
//!   paths: ["/repos/acme/**"]   # any when absent; `*` within a part, `**` across parts
//!   raw: true                   # any protocol on these ports; else only TLS and HTTP that name the same host
//!   credential: {secret: github, key: token}
//!   onApproval: true            # only while it is granted
//! ```

use atoll_stdx::name_hash;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

use crate::name::NamePattern;
use crate::ranges::RangeSet;
use crate::selector::{Labels, selects};

/// The label, and its value, of ConfigMaps that hold rules.
pub const RULES_LABEL: (&str, &str) = ("atoll.local/egress", "rules");
/// The key of the rules' text.
pub const RULES_KEY: &str = "egress.yaml";
/// Largest text of one ConfigMap's rules.
const TEXT_BYTES_MAX: usize = 256 * 1024;
const ALLOWS_MAX: usize = 1024;
/// On Pods: the hash of the name of the template that they were made from.
pub(crate) const TEMPLATE_LABEL: &str = "agents.x-k8s.io/sandbox-template-ref-hash";

/// One ConfigMap's rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSet {
    /// Only sandboxes of this template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Only sandboxes with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// What they may reach.
    #[serde(default)]
    pub allow: Vec<Allow>,
}

/// One destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// A name, or every name below one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NamePattern>,
    /// An address, or a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Destination ports.
    #[serde(default = "https", skip_serializing_if = "is_https")]
    pub ports: Vec<u16>,
    /// Any protocol; always so for addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// Methods of requests; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Patterns of paths; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What the proxy proves itself with on the sandbox's behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialRef>,
    /// Only while somebody granted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_approval: bool,
}

/// Which credential, and how it goes on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialRef {
    /// A Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// A credential that the administrator gave the node (file, environment or helper).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The Secret's key.
    #[serde(default = "token_key")]
    pub key: String,
    /// The header that carries it.
    #[serde(default = "authorization")]
    pub header: String,
    /// How it is put there.
    #[serde(default)]
    pub scheme: Scheme,
    /// The user, for `basic`.
    #[serde(default = "token_user")]
    pub user: String,
}

/// How a credential is written in its header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// `Bearer TOKEN`.
    #[default]
    Bearer,
    /// `Basic base64(USER:TOKEN)`, as git speaks it.
    Basic,
    /// The token alone.
    Plain,
}

fn https() -> Vec<u16> {
    vec![443]
}

fn is_https(ports: &Vec<u16>) -> bool {
    ports == &[443]
}

fn token_key() -> String {
    "token".to_owned()
}

fn token_user() -> String {
    "x-access-token".to_owned()
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// Rules that are not understood; none of their ConfigMap is in force.
#[derive(Debug, thiserror::Error)]
pub enum BadRules {
    /// Not YAML, or not of this shape.
    #[error("{0}")]
    Text(#[from] serde_yaml_ng::Error),
    /// Understood, and wrong.
    #[error("rule {index}: {problem}")]
    Rule {
        /// Its place in `allow`, from 1.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// Too large.
    #[error("the rules are larger than {TEXT_BYTES_MAX} bytes or more than {ALLOWS_MAX}")]
    TooLarge,
}

impl RuleSet {
    /// Reads a ConfigMap's text.
    ///
    /// # Errors
    /// [`BadRules`].
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadRules::TooLarge);
        }
        let rules: Self = serde_yaml_ng::from_str(text)?;
        if rules.allow.len() > ALLOWS_MAX {
            return Err(BadRules::TooLarge);
        }
        for (index, allow) in (1..).zip(&rules.allow) {
            allow.check().map_err(|problem| BadRules::Rule { index, problem })?;
        }
        Ok(rules)
    }

    /// Whether they are about a Pod with these labels.
    #[must_use]
    pub fn select(&self, labels: &Labels) -> bool {
        let of_template = |template: &String| labels.get(TEMPLATE_LABEL) == Some(&name_hash(template));
        self.template.as_ref().is_none_or(of_template)
            && self.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels))
    }
}

impl Allow {
    fn check(&self) -> Result<(), String> {
        let narrowed = !self.methods.is_empty() || !self.paths.is_empty() || self.credential.is_some();
        match (&self.name, &self.address) {
            (Some(_), Some(_)) | (None, None) => return Err("either a name or an address".to_owned()),
            (None, Some(address)) => {
                RangeSet::parse(address).map_err(|error| error.to_string())?;
            }
            (Some(_), None) => {}
        }
        if self.ports.is_empty() || self.ports.contains(&0) {
            return Err("ports are numbers from 1 to 65535, and at least one".to_owned());
        }
        if narrowed && (self.raw || self.address.is_some()) {
            return Err(
                "methods, paths and credentials need a name, and a protocol that is understood (no `raw`)".to_owned()
            );
        }
        if let Some(path) = self.paths.iter().find(|path| !path.starts_with('/')) {
            return Err(format!("the path {path:?} does not begin with `/`"));
        }
        if let Some(method) = self.methods.iter().find(|method| !is_method(method)) {
            return Err(format!("{method:?} is no method: they are written in capitals"));
        }
        let one = self.name.as_ref().is_some_and(|pattern| pattern.exact().is_some());
        match &self.credential {
            Some(_) if !one => Err("a credential is for one name, without `*`".to_owned()),
            Some(credential) => credential.check(),
            None => Ok(()),
        }
    }

    /// What it is called in a grant: its name, or its address.
    #[must_use]
    pub fn called(&self) -> String {
        let name = self.name.as_ref().map(ToString::to_string);
        name.or_else(|| self.address.clone()).unwrap_or_default()
    }

    /// Whether requests must be seen, and not only names.
    #[must_use]
    pub fn is_about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty() || self.credential.is_some()
    }

    /// Whether a request is allowed. A path that could be read in two ways is not.
    #[must_use]
    pub fn allows_request(&self, method: &str, path: &str) -> bool {
        let by_method = self.methods.is_empty() || self.methods.iter().any(|allowed| allowed == method);
        let by_path = self.paths.is_empty()
            || (is_plain_path(path) && self.paths.iter().any(|pattern| path_matches(pattern, path)));
        by_method && by_path
    }
}

impl CredentialRef {
    fn check(&self) -> Result<(), String> {
        if self.secret.is_some() == self.node.is_some() {
            return Err("a credential comes from a `secret` or from the `node`".to_owned());
        }
        let header =
            !self.header.is_empty() && self.header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !header
            || ["host", "content-length", "transfer-encoding", "connection", "upgrade"].contains(&self.header.as_str())
        {
            return Err(format!("{:?} is no header for a credential", self.header));
        }
        if self.user.contains(':') || self.user.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("the user of a credential holds `:` or control characters".to_owned());
        }
        Ok(())
    }
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// Whether servers agree on what a path means: no `.` or `..`, no empty part within, nothing encoded that separates.
fn is_plain_path(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2f", "%5c", "%2e", "%00", "%25", "%23", "%3f", "%3b"];
    path.starts_with('/')
        && !path.contains("//")
        && !path.contains(['\\', '\0', ';', '#'])
        && path.split('/').all(|part| part != "." && part != "..")
        && !encoded.iter().any(|code| lower.contains(code))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    parts_match(&pattern, &path)
}

fn parts_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", [])), rest) => rest.is_some(),
        (Some((&"**", rest)), _) => (0..=path.len()).any(|skipped| parts_match(rest, &path[skipped..])),
        (Some((part, rest)), Some((first, remaining))) => part_matches(part, first) && parts_match(rest, remaining),
        _ => false,
    }
}

/// `*` stands for anything within a part.
fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == part };
    let Some(mut remaining) = part.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match remaining.find(piece) {
            Some(at) => remaining = &remaining[at + piece.len()..],
            None => return false,
        }
    }
    remaining.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rules = RuleSet::parse(
            "template: python\nallow:\n- name: API.github.com\n- name: '*.pypi.org'\n  ports: [80, 443]\n- address: 203.0.113.7\n  ports: [5432]\n",
        )
        .expect("rules");
        assert_eq!(rules.allow.len(), 3);
        assert_eq!(rules.allow[0].ports, [443]);
        let hash = |template: &str| [(TEMPLATE_LABEL.to_owned(), name_hash(template))].into();
        assert!(rules.select(&hash("python")) && !rules.select(&hash("other")) && !rules.select(&Labels::new()));
        assert!(RuleSet::parse("allow: []").expect("no rules").select(&Labels::new()));
    }

    #[test]
    fn bad_rules_are_refused_with_a_reason() {
        for (text, reason) in [
            ("allow: [{}]", "rule 1: either a name or an address"),
            ("allow: [{name: a.example, address: 1.2.3.4}]", "rule 1: either a name or an address"),
            ("allow: [{name: 1.2.3.4}]", "could be read as an address"),
            ("allow: [{name: '*'}]", "the name holds '*'"),
            ("allow: [{address: a.example}]", "no IPv4 network"),
            ("allow: [{name: a.example}, {name: b.example, ports: []}]", "rule 2: ports"),
            ("allow: [{name: a.example, port: 443}]", "unknown field `port`"),
            ("allow: [{name: a.example, paths: [x]}]", "does not begin with `/`"),
            ("allow: [{name: a.example, methods: [get]}]", "no method"),
            ("allow: [{name: a.example, raw: true, methods: [GET]}]", "no `raw`"),
            ("allow: [{name: a.example, credential: {}}]", "from a `secret` or from the `node`"),
            ("allow: [{name: '*.a.example', credential: {secret: s}}]", "for one name"),
            ("allow: [{name: a.example, credential: {secret: s, header: host}}]", "no header for a credential"),
            ("allow: 7", "invalid type"),
        ] {
            let error = RuleSet::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn requests_are_limited_by_method_and_path() {
        let allow = |methods: &[&str], paths: &[&str]| Allow {
            methods: methods.iter().map(|text| (*text).to_owned()).collect(),
            paths: paths.iter().map(|text| (*text).to_owned()).collect(),
            ..Allow::default()
        };
        for (rule, method, path, expected) in [
            (allow(&[], &[]), "DELETE", "/../x", true),
            (allow(&["GET"], &[]), "GET", "/x", true),
            (allow(&["GET"], &[]), "get", "/x", false),
            (allow(&["GET"], &[]), "POST", "/x", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme/a/b?c=d", true),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme2/x", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme/../other/x", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme/%2e%2e/other", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme/..%2fother", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme//x", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "/repos/acme/..;/x", false),
            (allow(&[], &["/repos/acme/**"]), "GET", "http://evil/repos/acme/x", false),
            (allow(&[], &["/*/info"]), "GET", "/a/info", true),
            (allow(&[], &["/*/info"]), "GET", "/a/b/info", false),
            (allow(&[], &["/**/info/refs"]), "GET", "/a/b/info/refs?service=git-upload-pack", true),
            (allow(&[], &["/v*/x-*.json"]), "GET", "/v12/x-y.json", true),
            (allow(&[], &["/v*/x-*.json"]), "GET", "/v12/x-y.jsonx", false),
        ] {
            assert_eq!(rule.allows_request(method, path), expected, "{rule:?} {method} {path}");
        }
    }
}
