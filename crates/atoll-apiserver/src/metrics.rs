//! Counters, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};

/// Distinct series that are counted; what comes after is counted under one.
const SERIES_MAX: usize = 4096;
const OTHERS: &str = "others";

/// One kind of write by one identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteCount {
    /// The user.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The resource, with its group and subresource: `sandboxes.agents.x-k8s.io/status`.
    pub resource: String,
}

/// What the store counts.
pub(crate) struct StoreNumbers {
    /// Open now.
    pub(crate) watches: usize,
    /// Ended because their reader was too slow.
    pub(crate) watches_cut: u64,
    /// Of the latest write.
    pub(crate) revision: u64,
    /// Of the newest write that history has forgotten.
    pub(crate) compacted: u64,
}

/// The server's counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counters: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    writes: BTreeMap<WriteCount, u64>,
    requests: BTreeMap<(&'static str, u16), u64>,
}

impl Metrics {
    /// Counts an answered request for a resource. Writes that changed nothing are counted as well: they were made.
    pub(crate) fn count(&self, user: &str, verb: &'static str, resource: String, code: u16, write: bool) {
        let mut counters = self.lock();
        *counters.requests.entry((verb, code)).or_default() += 1;
        if !write {
            return;
        }
        let mut series = WriteCount { user: user.to_owned(), verb, resource };
        if counters.writes.len() >= SERIES_MAX && !counters.writes.contains_key(&series) {
            series = WriteCount { user: OTHERS.to_owned(), verb, resource: OTHERS.to_owned() };
        }
        *counters.writes.entry(series).or_default() += 1;
    }

    pub(crate) fn writes(&self) -> BTreeMap<WriteCount, u64> {
        self.lock().writes.clone()
    }

    pub(crate) fn render(&self, store: &StoreNumbers) -> String {
        let StoreNumbers { watches, watches_cut, revision, compacted } = store;
        let counters = self.lock();
        let mut text = String::new();
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            text.write_fmt(arguments).expect("writing to a string cannot fail");
            text.push('\n');
        };
        line(format_args!("# TYPE atoll_apiserver_requests_total counter"));
        for ((verb, code), count) in &counters.requests {
            line(format_args!("atoll_apiserver_requests_total{{verb=\"{verb}\",code=\"{code}\"}} {count}"));
        }
        line(format_args!("# TYPE atoll_apiserver_writes_total counter"));
        for (WriteCount { user, verb, resource }, count) in &counters.writes {
            line(format_args!(
                "atoll_apiserver_writes_total{{user={user:?},verb=\"{verb}\",resource={resource:?}}} {count}"
            ));
        }
        line(format_args!("# TYPE atoll_apiserver_watches gauge\natoll_apiserver_watches {watches}"));
        line(format_args!("# TYPE atoll_apiserver_watches_cut_total counter"));
        line(format_args!("atoll_apiserver_watches_cut_total {watches_cut}"));
        line(format_args!("# TYPE atoll_apiserver_revision gauge\natoll_apiserver_revision {revision}"));
        line(format_args!("# TYPE atoll_apiserver_compacted_revision gauge"));
        line(format_args!("atoll_apiserver_compacted_revision {compacted}"));
        text
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().expect("no panic while the counters are locked")
    }
}
