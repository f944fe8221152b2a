//! Names of images, as people write them and as they are compared. Pure.
//!
//! The rules are those of the distribution project's `reference` package: without a registry `docker.io` is meant,
//! there `library/` where no other owner is named, and without a tag or digest `latest`.

use std::fmt;

use serde::{Deserialize, Serialize};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_OWNER: &str = "library";
const DEFAULT_TAG: &str = "latest";
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// What is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of an image: {reason}")]
pub struct InvalidName {
    name: String,
    reason: &'static str,
}

/// A whole name: registry, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    registry: String,
    repository: String,
    /// With its `:` or `@`.
    version: String,
}

impl ImageName {
    /// Reads a name, and completes it.
    ///
    /// # Errors
    /// [`InvalidName`] with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = |reason| InvalidName { name: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
            None => (rest, None),
        };
        if path.is_empty() || path.len() > NAME_BYTES_MAX {
            return Err(invalid("it must have 1 to 255 characters before its tag"));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, others)) if first.contains(['.', ':']) || first == "localhost" => (first, others.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, path.to_owned()),
            None => (DEFAULT_REGISTRY, format!("{DEFAULT_OWNER}/{path}")),
        };
        let is_host = registry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        if !is_host || !registry.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(invalid("its registry is not a host name"));
        }
        if !repository.split('/').all(is_component) {
            return Err(invalid("its parts are lower-case letters and digits, separated by `.`, `_` or `-`"));
        }
        let version = match (digest, tag) {
            (Some(digest), _) if is_digest(digest) => format!("@{digest}"),
            (Some(_), _) => return Err(invalid("its digest is not `sha256:` and 64 hexadecimal digits")),
            (None, Some(tag)) if is_tag(tag) => format!(":{tag}"),
            (None, Some(_)) => return Err(invalid("its tag is 1 to 128 letters, digits, `_`, `.` or `-`")),
            (None, None) => format!(":{DEFAULT_TAG}"),
        };
        Ok(Self { registry: registry.to_owned(), repository, version })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}{}", self.registry, self.repository, self.version)
    }
}

impl TryFrom<String> for ImageName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|byte| alphanumeric(*byte)) && bytes.last().is_some_and(|b| alphanumeric(*b));
    ends && bytes.iter().all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

/// Whether it is a digest that this crate can check: `sha256:` and 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (text, whole) in [
            ("python", "docker.io/library/python:latest".to_owned()),
            ("python:3.12", "docker.io/library/python:3.12".to_owned()),
            ("me/tool", "docker.io/me/tool:latest".to_owned()),
            ("localhost/tool:1", "localhost/tool:1".to_owned()),
            ("example.com:5000/a/b_c:V1", "example.com:5000/a/b_c:V1".to_owned()),
            (&format!("python:3@{digest}"), format!("docker.io/library/python@{digest}")),
        ] {
            let name = ImageName::parse(text).unwrap();
            assert_eq!(name.to_string(), whole);
            assert_eq!(ImageName::parse(&whole).unwrap(), name);
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in ["", ":tag", "Python", "a//b", "../x", "a/../b", "x:", "x:-", "x@sha256:12", "é", "-a", "a b", "a/"]
        {
            assert!(ImageName::parse(text).is_err(), "{text}");
        }
    }
}
