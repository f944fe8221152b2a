//! The `format` keyword: what texts of a format look like. Unknown formats accept everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

/// Whether `text` is of the format.
pub(crate) fn is_valid(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text),
        "duration" => is_duration(text),
        "hostname" => text.len() <= HOSTNAME_BYTES_MAX && HOSTNAME.is_match(text),
        "email" => text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && HOSTNAME.is_match(host)),
        "uri" => URI.is_match(text),
        "mac" => MAC.is_match(text),
        _ => true,
    }
}

const HOSTNAME_BYTES_MAX: usize = 255;

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a constant expression")
}

static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$")
});
static URI: LazyLock<Regex> = LazyLock::new(|| expression(r"^([A-Za-z][A-Za-z0-9+.-]*:|/)[^\s]*$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| expression(r"^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"));
static DATE_TIME: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$")
});
static DURATION: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"));

/// RFC 3339.
pub(crate) fn is_date_time(text: &str) -> bool {
    DATE_TIME.is_match(text) && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let length_max = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().is_ok_and(|length| length <= length_max)
}

fn is_uuid(text: &str) -> bool {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn is_duration(text: &str) -> bool {
    DURATION.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn formats_accept_what_they_should() {
        let cases = [
            ("date-time", "2026-01-02T03:04:05Z", true),
            ("date-time", "2026-01-02T03:04:05.123456+02:00", true),
            ("date-time", "2026-01-02", false),
            ("date-time", "2026-13-02T03:04:05Z", false),
            ("date-time", "tomorrow", false),
            ("date", "2026-02-30", false),
            ("date", "2026-02-28", true),
            ("byte", "aGk=", true),
            ("byte", "a?", false),
            ("ipv4", "10.0.0.1", true),
            ("ipv4", "10.0.0.256", false),
            ("ipv6", "fe80::1", true),
            ("cidr", "10.0.0.0/8", true),
            ("cidr", "10.0.0.0/33", false),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", true),
            ("uuid", "123", false),
            ("duration", "1h30m", true),
            ("duration", "soon", false),
            ("hostname", "a.example", true),
            ("hostname", "-a", false),
            ("made-up", "anything", true),
        ];
        for (format, text, expected) in cases {
            assert_eq!(is_valid(format, text), expected, "{format} {text}");
        }
    }
}
