//! What a request asks for: its path, verb and query.

use std::borrow::Cow;

use http::Method;

use crate::schema::{Cause, Reason};
use crate::status::{About, ApiError};

/// The longest name of a field manager.
const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// A path below `/api` or `/apis`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl ResourcePath {
    /// `None` if the path leads to no resource (discovery, health, or nothing at all).
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').skip(1);
        let (group, version) = match parts.next()? {
            "api" => (String::new(), decode(parts.next()?).into_owned()),
            "apis" => (decode(parts.next()?).into_owned(), decode(parts.next()?).into_owned()),
            _ => return None,
        };
        let mut rest: Vec<Cow<'_, str>> = parts.map(decode).collect();
        if rest.last().is_some_and(|part| part.is_empty()) {
            rest.pop();
        }
        if version.is_empty() || rest.is_empty() || rest.iter().any(|part| part.is_empty()) {
            return None;
        }
        let mut info = Self { group, version, ..Self::default() };
        // A namespace itself, `namespaces/x` and `namespaces/x/status`, against what lies in it, `namespaces/x/pods`.
        let in_namespace = rest[0] == "namespaces" && rest.len() > 2 && !matches!(&*rest[2], "status" | "finalize");
        if in_namespace {
            info.namespace = Some(rest[1].to_string());
            rest.drain(..2);
        }
        let mut rest = rest.into_iter().map(Cow::into_owned);
        info.plural = rest.next()?;
        info.name = rest.next();
        info.subresource = rest.next();
        // Deeper paths (the proxies of a real server) are not served.
        if rest.next().is_some() { None } else { Some(info) }
    }

    /// `v1` or `group/version`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What is to be done, in the words of authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb of a request for a resource; `None` if the method is none of the API's.
    pub(crate) fn of(method: &Method, named: bool, watch: bool) -> Option<Self> {
        Some(match (method.as_str(), named) {
            ("GET" | "HEAD", true) => Self::Get,
            ("GET" | "HEAD", false) if watch => Self::Watch,
            ("GET" | "HEAD", false) => Self::List,
            ("POST", _) => Self::Create,
            ("PUT", _) => Self::Update,
            ("PATCH", _) => Self::Patch,
            ("DELETE", true) => Self::Delete,
            ("DELETE", false) => Self::DeleteCollection,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub(crate) fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// The query of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = |text: &str| decode(&text.replace('+', " ")).into_owned();
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decoded(name), decoded(value))
                })
                .collect(),
        )
    }

    /// All parameters, in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// A parameter; `None` if it is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A switch: present, and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        value.is_some_and(|value| !matches!(value, "false" | "False" | "FALSE" | "f" | "F" | "0"))
    }

    /// A switch that may be left open.
    pub(crate) fn choice(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.flag(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| ApiError::bad_request(format!("invalid value {text:?} for query parameter {name}")))
        };
        self.get(name).map(parse).transpose()
    }
}

/// Percent-decoding (RFC 3986). What is no valid escape stays as it is; what is no UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let escape = bytes.get(position + 1..position + 3).filter(|_| bytes[position] == b'%');
        match escape.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|it| u8::from_str_radix(it, 16).ok())
        {
            Some(byte) => {
                decoded.push(byte);
                position += 3;
            }
            None => {
                decoded.push(bytes[position]);
                position += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// What to do about fields that a kind does not have, and fields given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a write is to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    /// The manager was named in the query.
    pub(crate) manager_given: bool,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: Option<bool>,
}

impl WriteOptions {
    /// `options_kind`: `CreateOptions`, `UpdateOptions` or `PatchOptions`, for errors.
    pub(crate) fn parse(query: &Query, user_agent: &str, options_kind: &str) -> Result<Self, ApiError> {
        let given = query.get("fieldManager");
        if given.is_some_and(|manager| manager.len() > FIELD_MANAGER_BYTES_MAX) {
            let message = format!("Too long: may not be more than {FIELD_MANAGER_BYTES_MAX} bytes");
            return Err(invalid_option(options_kind, Reason::FieldValueTooLong, "fieldManager", &message));
        }
        let field_validation = match query.get("fieldValidation") {
            None => FieldValidation::default(),
            Some("Ignore") => FieldValidation::Ignore,
            Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let message =
                    format!(r#"Unsupported value: {other:?}: supported values: "", "Ignore", "Strict", "Warn""#);
                return Err(invalid_option(options_kind, Reason::FieldValueNotSupported, "fieldValidation", &message));
            }
        };
        Ok(Self {
            dry_run: parse_dry_run(query.all("dryRun"), options_kind)?,
            manager: given.map_or_else(|| default_manager(user_agent), str::to_owned),
            manager_given: given.is_some(),
            field_validation,
            force: query.choice("force"),
        })
    }
}

/// `dryRun` may be given several times; its one value is `All`.
pub(crate) fn parse_dry_run<'a>(values: impl Iterator<Item = &'a str>, options_kind: &str) -> Result<bool, ApiError> {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(r#"Unsupported value: [{}]: supported values: "All""#, quoted.join(","));
        return Err(invalid_option(options_kind, Reason::FieldValueNotSupported, "dryRun", &message));
    }
    Ok(!values.is_empty())
}

/// A refusal of a query parameter.
pub(crate) fn invalid_option(options_kind: &str, reason: Reason, field: &str, message: &str) -> ApiError {
    let about = About { group: "meta.k8s.io", kind: options_kind, name: "" };
    ApiError::invalid(&about, &[Cause { reason, field: field.to_owned(), message: message.to_owned() }])
}

/// A client that names no manager is known by the first word of its user agent.
fn default_manager(user_agent: &str) -> String {
    let first = user_agent.split('/').next().unwrap_or_default();
    if first.is_empty() { "unknown".to_owned() } else { first.chars().take(FIELD_MANAGER_BYTES_MAX).collect() }
}

/// How a list's or watch's resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// The parameters of a list or watch that are not selectors.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOptions {
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: Option<String>,
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|it| *it > 0);
        let version = |text: &str| {
            text.parse()
                .map_err(|_| ApiError::bad_request(format!("Invalid value: {text:?}: invalid resource version")))
        };
        let options = Self {
            limit: positive(query.number("limit")?).and_then(|limit| usize::try_from(limit).ok()),
            continue_token: query.get("continue").map(str::to_owned),
            resource_version: query.get("resourceVersion").map(version).transpose()?,
            version_match: match query.get("resourceVersionMatch") {
                None => None,
                Some("Exact") => Some(VersionMatch::Exact),
                Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
                Some(other) => {
                    let message =
                        format!(r#"Unsupported value: {other:?}: supported values: "Exact", "NotOlderThan", """#);
                    return Err(invalid_list("resourceVersionMatch", Reason::FieldValueNotSupported, &message));
                }
            },
            timeout_seconds: positive(query.number("timeoutSeconds")?),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.choice("sendInitialEvents"),
        };
        if watch {
            options.check_watch()?
        } else {
            options.check_list()?
        }
        Ok(options)
    }

    fn check_watch(&self) -> Result<(), ApiError> {
        let forbidden = |field: &str, problem: &str| {
            Err(invalid_list(field, Reason::FieldValueForbidden, &format!("Forbidden: {problem}")))
        };
        match (self.send_initial_events, self.version_match) {
            (None, Some(_)) => forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (Some(_), None) => forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (Some(_), Some(VersionMatch::Exact)) => Err(invalid_list(
                "resourceVersionMatch",
                Reason::FieldValueNotSupported,
                r#"Unsupported value: "Exact": supported values: "NotOlderThan""#,
            )),
            (None, None) | (Some(_), Some(VersionMatch::NotOlderThan)) => Ok(()),
        }
    }

    fn check_list(&self) -> Result<(), ApiError> {
        let forbidden = |field: &str, problem: &str| {
            Err(invalid_list(field, Reason::FieldValueForbidden, &format!("Forbidden: {problem}")))
        };
        if self.send_initial_events.is_some() {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if self.version_match.is_some() && self.resource_version.is_none() {
            return forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if self.version_match.is_some() && self.continue_token.is_some() {
            return forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
        }
        if self.version_match == Some(VersionMatch::Exact) && self.resource_version == Some(0) {
            return forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        Ok(())
    }
}

fn invalid_list(field: &str, reason: Reason, message: &str) -> ApiError {
    invalid_option("ListOptions", reason, field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version, namespace, plural, name, subresource.
    type Parts = (String, Option<String>, String, Option<String>, Option<String>);

    fn path(text: &str) -> Option<Parts> {
        ResourcePath::parse(text).map(|it| (it.api_version(), it.namespace, it.plural, it.name, it.subresource))
    }

    #[test]
    fn paths_are_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            ("/api/v1/pods", Some(("v1", None, "pods", None, None))),
            ("/api/v1/namespaces", Some(("v1", None, "namespaces", None, None))),
            ("/api/v1/namespaces/a", Some(("v1", None, "namespaces", some("a"), None))),
            ("/api/v1/namespaces/a/status", Some(("v1", None, "namespaces", some("a"), some("status")))),
            ("/api/v1/namespaces/a/finalize", Some(("v1", None, "namespaces", some("a"), some("finalize")))),
            ("/api/v1/namespaces/a/pods", Some(("v1", some("a"), "pods", None, None))),
            ("/api/v1/namespaces/a/pods/b/binding", Some(("v1", some("a"), "pods", some("b"), some("binding")))),
            ("/apis/g.io/v1/things/a%2Fb", Some(("g.io/v1", None, "things", some("a/b"), None))),
            ("/apis/g.io/v1/namespaces/a/things/", Some(("g.io/v1", some("a"), "things", None, None))),
            ("/apis/g.io/v1", None),
            ("/apis", None),
            ("/api/v1", None),
            ("/api/v1/", None),
            ("/api/v1//pods", None),
            ("/api/v1/pods/a/b/c", None),
            ("/healthz", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(version, namespace, plural, name, sub)| {
                (version.to_owned(), namespace, plural.to_owned(), name, sub)
            });
            assert_eq!(path(text), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("watch=1&fieldSelector=metadata.name%3Dx&a=b+c&empty=&dryRun=All&bad=%zz"));
        assert!(query.flag("watch"));
        assert!(!query.flag("absent"));
        assert_eq!(query.get("fieldSelector"), Some("metadata.name=x"));
        assert_eq!(query.get("a"), Some("b c"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(WriteOptions::parse(&query, "kubectl/v1", "CreateOptions").expect("it is sound").dry_run);
        assert!(WriteOptions::parse(&Query::parse(Some("dryRun=x")), "", "CreateOptions").is_err());
    }

    #[test]
    fn contradictory_list_options_are_refused() {
        let cases = [
            ("resourceVersionMatch=Exact", false, false),
            ("resourceVersionMatch=Exact&resourceVersion=0", false, false),
            ("resourceVersionMatch=Exact&resourceVersion=5", false, true),
            ("resourceVersion=x", false, false),
            ("sendInitialEvents=true", false, false),
            ("sendInitialEvents=true", true, false),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, true),
            ("resourceVersionMatch=NotOlderThan", true, false),
            ("limit=x", false, false),
        ];
        for (text, watch, accepted) in cases {
            assert_eq!(ListOptions::parse(&Query::parse(Some(text)), watch).is_ok(), accepted, "{text}");
        }
    }
}
