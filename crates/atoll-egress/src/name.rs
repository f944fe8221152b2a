//! Host names, in one form only. Pure.
//!
//! What other parsers might read as something else (an address in any notation, a trailing dot, a user before `@`, a
//! character beyond ASCII) is refused here, never changed into something that is allowed.

use std::fmt;

use serde::{Deserialize, Serialize};

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host name in lower case, without a trailing dot, that no parser takes for an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Text that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Empty, or an empty part of it: two dots in a row, one at the start or at the end.
    #[error("a part of the name is empty")]
    EmptyLabel,
    /// Too long as a whole, or in a part.
    #[error("the name, or a part of it, is too long")]
    TooLong,
    /// Something that host names do not have.
    #[error("the name holds {0:?}")]
    Character(char),
    /// A part that begins or ends with `-`.
    #[error("a part of the name begins or ends with a hyphen")]
    Hyphen,
    /// Some parsers read it as an address.
    #[error("it could be read as an address")]
    Address,
}

impl HostName {
    /// Reads a name; capital letters become small ones.
    ///
    /// # Errors
    /// [`NotAName`].
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NotAName::TooLong);
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAName::Address);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), NotAName> {
    if label.is_empty() {
        return Err(NotAName::EmptyLabel);
    }
    if let Some(wrong) =
        label.chars().find(|character| !character.is_ascii_alphanumeric() && !"-_".contains(*character))
    {
        return Err(NotAName::Character(wrong));
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(NotAName::TooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NotAName::Hyphen);
    }
    Ok(())
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// A name, or every name below one: `*.example.com`, which is not `example.com` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern {
    below: bool,
    name: HostName,
}

impl NamePattern {
    /// Reads a pattern. `*` stands only for whole parts at the start, and needs two parts after it.
    ///
    /// # Errors
    /// [`NotAName`].
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let Some(rest) = text.strip_prefix("*.") else {
            return Ok(Self { below: false, name: HostName::parse(text)? });
        };
        let name = HostName::parse(rest)?;
        if name.as_str().contains('.') { Ok(Self { below: true, name }) } else { Err(NotAName::Character('*')) }
    }

    /// The name, if it means only one.
    #[must_use]
    pub fn exact(&self) -> Option<&HostName> {
        (!self.below).then_some(&self.name)
    }

    /// Whether it means a name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        if !self.below {
            return self.name == *name;
        }
        name.as_str().strip_suffix(self.name.as_str()).is_some_and(|start| start.len() > 1 && start.ends_with('.'))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.to_string()
    }
}

/// A host and a port as in `Host`, `:authority` or `CONNECT`; the port is `default` where there is none.
///
/// # Errors
/// [`NotAName`]: also for addresses, users before `@`, and zones.
pub fn parse_authority(text: &str, default: u16) -> Result<(HostName, u16), NotAName> {
    let Some((name, port)) = text.split_once(':') else { return Ok((HostName::parse(text)?, default)) };
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|number| digits && *number > 0).ok_or(NotAName::Character(':'))?;
    Ok((HostName::parse(name)?, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_in_any_notation_are_no_names() {
        for text in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "0x7F.0x0.0x0.0x1",
            "[::1]",
            "::ffff:127.0.0.1",
            "[::ffff:7f00:1]",
            "fe80::1%eth0",
            "1.2.3.4.",
            "example.com.0x1",
            "example.1",
        ] {
            assert!(HostName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_have_one_form() {
        for (text, expected) in [
            ("API.Example.com", Ok("api.example.com")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("a_b.example", Ok("a_b.example")),
            ("example.com.", Err(NotAName::EmptyLabel)),
            (".example.com", Err(NotAName::EmptyLabel)),
            ("", Err(NotAName::EmptyLabel)),
            ("a..b", Err(NotAName::EmptyLabel)),
            ("user@example.com", Err(NotAName::Character('@'))),
            ("example.com\0.evil.com", Err(NotAName::Character('\0'))),
            ("example.com:443", Err(NotAName::Character(':'))),
            ("bücher.example", Err(NotAName::Character('ü'))),
            ("example.com/", Err(NotAName::Character('/'))),
            ("example。com", Err(NotAName::Character('。'))),
            ("-a.example", Err(NotAName::Hyphen)),
            ("*.example.com", Err(NotAName::Character('*'))),
        ] {
            assert_eq!(HostName::parse(text).as_ref().map(HostName::as_str), expected.as_ref().copied(), "{text}");
        }
        assert_eq!(HostName::parse(&"a".repeat(64)), Err(NotAName::TooLong));
        assert_eq!(HostName::parse(&["a"; 128].join(".")), Err(NotAName::TooLong));
    }

    #[test]
    fn patterns_mean_whole_parts() {
        let name = |text| HostName::parse(text).expect("a name");
        for (pattern, text, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "example.com.evil.org", false),
        ] {
            assert_eq!(
                NamePattern::parse(pattern).expect("a pattern").matches(&name(text)),
                expected,
                "{pattern} {text}"
            );
        }
        for pattern in ["*", "*.com", "a.*.com", "**.example.com", "www*.example.com", "*.10.0.0.1"] {
            assert!(NamePattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn authorities_are_names_with_ports() {
        for (text, expected) in [
            ("example.com", Some(80)),
            ("example.com:8443", Some(8443)),
            ("example.com:", None),
            ("example.com:0", None),
            ("example.com:65536", None),
            ("example.com:+80", None),
            ("example.com:80:80", None),
            ("a@example.com:80", None),
            ("127.0.0.1:80", None),
            ("[::1]:80", None),
        ] {
            assert_eq!(parse_authority(text, 80).ok().map(|(_, port)| port), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_name_stays_one(text in "[a-zA-Z0-9.@:\\[\\]%_x-]{0,24}") {
            if let Ok(name) = HostName::parse(&text) {
                prop_assert_eq!(&HostName::parse(name.as_str()), &Ok(name.clone()));
                prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            }
        }
    }
}
