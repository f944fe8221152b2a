//! What `pods/log` can be asked for (PodLogOptions). The API server has refused what makes no sense.

use jiff::Timestamp;

use super::entry::Source;
use crate::streams::StreamRefusal;

/// Which part of a log, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    /// The log of the container's life before this one.
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// Nothing older.
    pub(crate) since: Option<Timestamp>,
    /// Standard output or standard error alone.
    pub(crate) source: Option<Source>,
}

impl LogOptions {
    /// Reads the query.
    pub(crate) fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, StreamRefusal> {
        let get = |name: &str| query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let flag = |name: &str| super::super::is_true(get(name));
        let number = |name: &str| -> Result<Option<u64>, StreamRefusal> {
            let parse = |text: &str| {
                text.parse().map_err(|_| StreamRefusal::bad_request(format!("{name} {text:?} is not a number")))
            };
            get(name).filter(|text| !text.is_empty()).map(parse).transpose()
        };
        let since_seconds = number("sinceSeconds")?.and_then(|seconds| i64::try_from(seconds).ok());
        let since = match (since_seconds, get("sinceTime").filter(|text| !text.is_empty())) {
            (Some(seconds), _) => now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
            (None, Some(text)) => Some(
                text.parse().map_err(|_| StreamRefusal::bad_request(format!("sinceTime {text:?} is not a time")))?,
            ),
            (None, None) => None,
        };
        let source = match get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some(Source::Stdout),
            Some("Stderr") => Some(Source::Stderr),
            Some(other) => return Err(StreamRefusal::bad_request(format!("stream {other:?} is not Stdout or Stderr"))),
        };
        Ok(Self {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
            since,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_is_wanted() {
        let now: Timestamp = "2026-11-22T10:00:10Z".parse().unwrap();
        let parse = |pairs: &[(&str, &str)]| {
            let query: Vec<(String, String)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            LogOptions::parse(&query, now)
        };
        let all = parse(&[
            ("follow", "true"),
            ("previous", "false"),
            ("timestamps", "1"),
            ("tailLines", "5"),
            ("limitBytes", "7"),
            ("sinceSeconds", "10"),
            ("stream", "Stderr"),
        ]);
        let expected = LogOptions {
            follow: true,
            previous: false,
            timestamps: true,
            tail_lines: Some(5),
            limit_bytes: Some(7),
            since: Some("2026-11-22T10:00:00Z".parse().unwrap()),
            source: Some(Source::Stderr),
        };
        assert_eq!(all, Ok(expected));
        assert_eq!(parse(&[]), Ok(LogOptions::default()));
        assert!(parse(&[("tailLines", "many")]).is_err());
        assert!(parse(&[("stream", "Neither")]).is_err());
    }
}
