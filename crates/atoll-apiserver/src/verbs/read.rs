//! get, list and watch.

use std::sync::Arc;
use std::time::Duration;

use atoll_store::{ListPage, ListRequest, Record, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use crate::body::ResponseBody;
use crate::reply::{JSON, ListReply, Reply};
use crate::request::{ListOptions, VersionMatch};
use crate::status::ApiError;
use crate::watch::{Beginning, Filter, WatchPlan, WatchStream, error_line};
use crate::writes::store_error;

use super::Call;

/// A watch that sets no limit ends after this time at the earliest, after twice this time at the latest.
const WATCH_TIMEOUT_S: u64 = 1800;
/// The longest that a client may ask for.
const WATCH_TIMEOUT_S_MAX: u64 = 24 * 3600;
/// In a continue token: go on with what is there now.
const INCONSISTENT: i64 = -1;

impl Call {
    pub(super) fn get(&self) -> Result<Reply, ApiError> {
        let key = self.resource.key(self.namespace(), self.name());
        let about = self.resource.about(self.name());
        if let Some(version) = self.query.get("resourceVersion")
            && version.parse::<u64>().is_err()
        {
            let message = format!(
                "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
            );
            return Err(ApiError::unknown(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        let record = self.server.store().get(&key).ok_or_else(|| ApiError::not_found(&about))?;
        Ok(Reply::record(StatusCode::OK, self.form, &self.resource, &record, self.server.now()))
    }

    /// Where to look for what a filter selects: a single key if it names one.
    fn place(&self, filter: &Filter) -> String {
        match (filter.fields.name(), self.path.name.as_deref(), self.namespace()) {
            (None, None, namespace) => self.resource.prefix(namespace),
            (Some(name), _, namespace) | (None, Some(name), namespace)
                if namespace.is_some() || !self.resource.definition.namespaced =>
            {
                self.resource.key(namespace, name)
            }
            (_, _, namespace) => self.resource.prefix(namespace),
        }
    }

    pub(super) fn list(&self) -> Result<Reply, ApiError> {
        let options = ListOptions::parse(&self.query, false)?;
        let filter = self.filter()?;
        let prefix = self.place(&filter);
        let resumed = options.continue_token.as_deref().map(|token| Continuation::parse(token, &prefix)).transpose()?;
        if resumed.is_some() && options.resource_version.is_some_and(|version| version != 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let at_revision = match &resumed {
            Some(continuation) => continuation.revision,
            None => moment(&options, self.server.store().current_revision())?,
        };
        // As a real server does: "any version" is answered whole, from memory.
        let whole = resumed.is_none()
            && options.resource_version == Some(0)
            && options.version_match != Some(VersionMatch::Exact);
        let limit = options.limit.filter(|_| !whole);
        let after_key = resumed.map(|continuation| continuation.after_key);
        let page = self.page(&filter, &prefix, after_key, limit, at_revision)?;
        let token =
            page.next.map(|after| Continuation { revision: Some(page.revision), after_key: after }.to_token(&prefix));
        let list = ListReply {
            resource: &self.resource,
            revision: page.revision,
            remaining: if token.is_some() && filter.is_open() { Some(page.remaining) } else { None },
            continue_token: token,
            now: self.server.now(),
        };
        Ok(list.reply(self.form, &page.records))
    }

    fn page(
        &self,
        filter: &Filter,
        prefix: &str,
        mut after_key: Option<String>,
        limit: Option<usize>,
        mut at_revision: Option<u64>,
    ) -> Result<Page, ApiError> {
        let mut records: Vec<Arc<Record>> = Vec::new();
        loop {
            let missing = limit.map(|limit| limit - records.len());
            let request = ListRequest { prefix, after_key: after_key.as_deref(), limit: missing, at_revision };
            let ListPage { records: found, revision, remaining } =
                self.server.store().list(&request).map_err(|error| list_error(&error, prefix, after_key.as_deref()))?;
            // What comes after belongs to the same moment.
            at_revision = Some(revision);
            let last = found.last().map(|record| record.key.to_string());
            records.extend(found.into_iter().filter(|record| filter.matches(record)));
            let full = limit.is_some_and(|limit| records.len() == limit);
            if remaining == 0 || full {
                let next = last.filter(|_| remaining > 0);
                return Ok(Page { records, revision, next, remaining });
            }
            after_key = last;
        }
    }

    pub(super) fn watch(&self) -> Result<Reply, ApiError> {
        let options = ListOptions::parse(&self.query, true)?;
        let filter = self.filter()?;
        let prefix = self.place(&filter);
        let store = self.server.store();
        let from_list = options.send_initial_events != Some(false) && options.resource_version.unwrap_or(0) == 0;
        let with_list = from_list || options.send_initial_events == Some(true);
        let (from_revision, records) = if with_list {
            let asked = options.resource_version.unwrap_or(0);
            let page = store
                .list(&ListRequest { prefix: &prefix, ..ListRequest::default() })
                .map_err(|it| store_error(&it))?;
            if asked > page.revision {
                return Err(ApiError::too_large_resource_version(asked, page.revision));
            }
            (page.revision, page.records.into_iter().filter(|record| filter.matches(record)).collect())
        } else {
            let now = store.current_revision();
            (options.resource_version.filter(|version| *version > 0).unwrap_or(now), Vec::new())
        };
        let watch = match store.watch(&prefix, from_revision) {
            Ok(watch) => watch,
            Err(StoreError::Compacted { oldest }) => {
                let message = format!("too old resource version: {from_revision} ({oldest})");
                let line = error_line(&ApiError::expired(message));
                return Ok(Reply::body(StatusCode::OK, JSON, ResponseBody::whole(line)));
            }
            Err(error) => return Err(store_error(&error)),
        };
        let told = options.send_initial_events == Some(true) && options.bookmarks;
        let plan = WatchPlan {
            filter,
            form: self.form,
            beginning: Beginning { records, end_bookmark: told.then_some(from_revision) },
            bookmarks: options.bookmarks,
            from_revision,
            timeout: watch_timeout(options.timeout_seconds, from_revision),
            stopping: self.server.stopping(),
            retired: self.resource.retired.clone(),
        };
        let stream = WatchStream::new(&self.server, watch, plan);
        Ok(Reply::body(StatusCode::OK, JSON, ResponseBody::watch(stream)))
    }
}

struct Page {
    records: Vec<Arc<Record>>,
    revision: u64,
    /// The last key of this page, if there is more.
    next: Option<String>,
    remaining: usize,
}

/// Spread, so that clients that began together do not all come back together.
fn watch_timeout(asked: Option<u64>, spread: u64) -> Duration {
    Duration::from_secs(asked.unwrap_or(WATCH_TIMEOUT_S + spread % WATCH_TIMEOUT_S).min(WATCH_TIMEOUT_S_MAX))
}

/// The moment that a list is to show; `None`: now.
fn moment(options: &ListOptions, current: u64) -> Result<Option<u64>, ApiError> {
    match (options.resource_version, options.version_match) {
        (None | Some(0), _) => Ok(None),
        (Some(asked), _) if asked > current => Err(ApiError::too_large_resource_version(asked, current)),
        (Some(asked), Some(VersionMatch::Exact)) => Ok(Some(asked)),
        // Without a match, a limit asks for the exact moment, as a real server has it.
        (Some(asked), None) if options.limit.is_some() => Ok(Some(asked)),
        (Some(_), _) => Ok(None),
    }
}

fn list_error(error: &StoreError, prefix: &str, after_key: Option<&str>) -> ApiError {
    match (error, after_key) {
        (StoreError::Compacted { .. }, Some(after)) => {
            let token = Continuation { revision: None, after_key: after.to_owned() }.to_token(prefix);
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter, or use the continue token in this response to retrieve the \
                 remainder of the results. Continuing with the provided token results in an inconsistent list - \
                 objects that were created, modified, or deleted between the time the first chunk was returned and \
                 now may show up in the list.",
            )
            .with_continue(token)
        }
        (StoreError::Compacted { oldest }, None) => {
            ApiError::expired(format!("The resourceVersion for the provided list is too old ({oldest})."))
        }
        _ => store_error(error),
    }
}

/// Reads a token from a client, for fuzzers.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_continue_token(token: &str) {
    if let Ok(place) = Continuation::parse(token, "/registry/core/pods/") {
        let _again = place.to_token("/registry/core/pods/");
    }
}

/// Where the next page of a list begins.
#[derive(Debug, PartialEq, Eq)]
struct Continuation {
    /// The moment of the first page; `None`: now.
    revision: Option<u64>,
    after_key: String,
}

impl Continuation {
    fn to_token(&self, prefix: &str) -> String {
        let revision = self.revision.map_or(INCONSISTENT, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let start = self.after_key.strip_prefix(prefix).unwrap_or_default();
        // The smallest key after the last one of the page.
        let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": format!("{start}\0") });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(token: &str, prefix: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("continue key is not valid: illegal continue token");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let (Some("meta.k8s.io/v1"), Some(revision), Some(start)) =
            (token["v"].as_str(), token["rv"].as_i64(), token["start"].as_str())
        else {
            return Err(invalid());
        };
        let start = start.strip_suffix('\0').filter(|start| !start.is_empty()).ok_or_else(invalid)?;
        let revision = match revision {
            INCONSISTENT => None,
            revision => Some(u64::try_from(revision).ok().filter(|it| *it > 0).ok_or_else(invalid)?),
        };
        Ok(Self { revision, after_key: format!("{prefix}{start}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_place() {
        for revision in [Some(42), None] {
            let place = Continuation { revision, after_key: "/registry/core/pods/ns/a".to_owned() };
            let token = place.to_token("/registry/core/pods/");
            assert_eq!(Continuation::parse(&token, "/registry/core/pods/").expect("it parses"), place);
        }
        for token in
            ["", "x", "e30", "!!!!", &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a\u0000"}"#)]
        {
            assert_eq!(Continuation::parse(token, "/").expect_err(token).code.as_u16(), 400, "{token}");
        }
    }
}
