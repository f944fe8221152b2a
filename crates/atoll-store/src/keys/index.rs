//! What is in memory: the current version of every key, and the recent writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::{Change, Event, ListPage, ListRequest, Record, StoreError, StoreOptions};

/// What one write in the history costs beside its key and value.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// A write within the history.
struct Kept {
    event: Arc<Event>,
    /// When it was made, or read from the disk.
    since: Instant,
}

/// The keyspace and its recent history.
pub(super) struct Index {
    records: BTreeMap<Arc<str>, Arc<Record>>,
    history: VecDeque<Kept>,
    history_bytes: usize,
    revision: u64,
    /// The newest write that the history does not hold any more.
    compacted: u64,
    options: StoreOptions,
}

impl Index {
    pub(super) fn new(compacted: u64, options: StoreOptions) -> Self {
        Self {
            records: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            revision: compacted,
            compacted,
            options,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.records.get(key)
    }

    /// Takes in a write. Those up to the compacted revision change the keyspace alone.
    pub(super) fn apply(&mut self, event: Arc<Event>) {
        let record = &event.record;
        match event.change {
            Change::Put => self.records.insert(Arc::clone(&record.key), Arc::clone(record)),
            Change::Delete => self.records.remove(&record.key),
        };
        self.revision = self.revision.max(record.revision);
        if record.revision > self.compacted {
            self.history_bytes += cost(&event);
            self.history.push_back(Kept { event, since: Instant::now() });
        }
    }

    /// The oldest writes that exceed the history's bounds, at most `events_max`.
    pub(super) fn surplus(&self, events_max: usize) -> Vec<Arc<Event>> {
        let mut events = self.history.len();
        let mut bytes = self.history_bytes;
        let mut surplus = Vec::new();
        let now = Instant::now();
        for Kept { event, since } in self.history.iter().take(events_max) {
            let young = now.duration_since(*since) < self.options.history_age_max;
            let fits = events <= self.options.history_events_max && bytes <= self.options.history_bytes_max;
            // The newest write stays whatever its size and age: it carries the revision over a restart.
            if events == 1 || (fits && young) {
                break;
            }
            events -= 1;
            bytes -= cost(event);
            surplus.push(Arc::clone(event));
        }
        surplus
    }

    /// Forgets the oldest `events` writes.
    pub(super) fn forget(&mut self, events: usize) {
        for Kept { event, .. } in self.history.drain(..events) {
            self.history_bytes -= cost(&event);
            self.compacted = event.revision();
        }
    }

    /// The writes below the prefix after a revision, and the latest revision that was looked at.
    pub(super) fn history(&self, prefix: &str, after: u64) -> Result<(VecDeque<Arc<Event>>, u64), StoreError> {
        let events = self.since(after)?.filter(|event| covers(prefix, &event.record.key)).cloned().collect();
        Ok((events, self.revision))
    }

    fn since(&self, after: u64) -> Result<impl Iterator<Item = &Arc<Event>>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::Compacted { oldest: self.compacted });
        }
        let start = self.history.partition_point(|kept| kept.event.revision() <= after);
        Ok(self.history.range(start..).map(|kept| &kept.event))
    }

    /// Every key's current version, in the order of the keys, and the revision of the latest write.
    pub(super) fn everything(&self) -> (Vec<Arc<Record>>, u64) {
        (self.records.values().cloned().collect(), self.revision)
    }

    pub(super) fn list(&self, request: &ListRequest<'_>) -> Result<ListPage, StoreError> {
        match request.at_revision {
            Some(asked) if asked > self.revision => Err(StoreError::Future { asked, current: self.revision }),
            Some(revision) if revision < self.revision => self.list_past(request, revision),
            Some(_) | None => {
                let records = self.below(request.prefix, request.after_key);
                Ok(page(records, request.limit, self.revision))
            }
        }
    }

    /// The keyspace as it was: the one of now with the later writes undone.
    fn list_past(&self, request: &ListRequest<'_>, revision: u64) -> Result<ListPage, StoreError> {
        let mut before: BTreeMap<&str, Option<&Arc<Record>>> = BTreeMap::new();
        for event in self.since(revision)? {
            let key: &str = &event.record.key;
            if covers(request.prefix, key) && request.after_key.is_none_or(|after| key > after) {
                before.entry(key).or_insert(event.previous.as_ref());
            }
        }
        let untouched =
            self.below(request.prefix, request.after_key).filter(|record| !before.contains_key(&*record.key));
        let mut records: Vec<&Arc<Record>> = untouched.chain(before.values().copied().flatten()).collect();
        records.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        Ok(page(records.into_iter(), request.limit, revision))
    }

    fn below<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Record>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        self.records
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(_, record)| record)
            .take_while(move |record| record.key.starts_with(prefix))
            .filter(move |record| covers(prefix, &record.key))
    }
}

fn page<'a>(mut records: impl Iterator<Item = &'a Arc<Record>>, limit: Option<usize>, revision: u64) -> ListPage {
    let taken = records.by_ref().take(limit.unwrap_or(usize::MAX)).cloned().collect();
    ListPage { records: taken, revision, remaining: records.count() }
}

/// Whether a prefix (a whole key, or a folder ending in `/`) covers a key.
pub(super) fn covers(prefix: &str, key: &str) -> bool {
    if prefix.ends_with('/') { key.starts_with(prefix) } else { key == prefix }
}

fn cost(event: &Event) -> usize {
    event.record.key.len() + event.record.value.len() + EVENT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use bytes::Bytes;

    fn write(index: &mut Index, key: &str, value: Option<&str>) {
        let previous = index.get(key).cloned();
        let revision = index.revision() + 1;
        let created = previous.as_ref().map_or(revision, |previous| previous.created_revision);
        let bytes = value
            .map_or_else(|| previous.clone().expect("it exists").value.clone(), |text| Bytes::from(text.to_owned()));
        let record = Arc::new(Record::new(Arc::from(key), bytes, revision, created));
        let change = if value.is_some() { Change::Put } else { Change::Delete };
        index.apply(Arc::new(Event { change, record, previous }));
    }

    fn keys(index: &Index, request: &ListRequest<'_>) -> Vec<String> {
        let page = index.list(request).expect("the moment is known");
        page.records.iter().map(|record| format!("{}={}", record.key, String::from_utf8_lossy(&record.value))).collect()
    }

    #[test]
    fn the_past_is_the_present_with_later_writes_undone() {
        let mut index = Index::new(0, StoreOptions::default());
        write(&mut index, "/a/1", Some("x"));
        write(&mut index, "/a/2", Some("y"));
        write(&mut index, "/b/1", Some("other"));
        let moment = index.revision();
        write(&mut index, "/a/1", Some("changed"));
        write(&mut index, "/a/1", Some("changed again"));
        write(&mut index, "/a/2", None);
        write(&mut index, "/a/0", Some("new"));
        let past = ListRequest { prefix: "/a/", at_revision: Some(moment), ..ListRequest::default() };
        assert_eq!(keys(&index, &past), ["/a/1=x", "/a/2=y"]);
        let second_page = ListRequest { after_key: Some("/a/1"), ..past };
        assert_eq!(keys(&index, &second_page), ["/a/2=y"]);
        let now = ListRequest { prefix: "/a/", ..ListRequest::default() };
        assert_eq!(keys(&index, &now), ["/a/0=new", "/a/1=changed again"]);
        let future = ListRequest { at_revision: Some(99), ..now };
        assert!(matches!(index.list(&future), Err(StoreError::Future { asked: 99, current: 7 })));
    }

    #[test]
    fn a_prefix_is_a_folder_or_a_whole_key() {
        let mut index = Index::new(0, StoreOptions::default());
        for key in ["/a", "/a/x", "/a/x/1", "/a/xy", "/b"] {
            write(&mut index, key, Some(""));
        }
        for (prefix, expected) in
            [("/a/", vec!["/a/x=", "/a/x/1=", "/a/xy="]), ("/a/x", vec!["/a/x="]), ("/c/", vec![])]
        {
            assert_eq!(keys(&index, &ListRequest { prefix, ..ListRequest::default() }), expected, "{prefix}");
        }
    }

    #[test]
    fn a_page_tells_how_many_remain() {
        let mut index = Index::new(0, StoreOptions::default());
        for number in 0..10 {
            write(&mut index, &format!("/k/{number}"), Some(""));
        }
        let request = ListRequest { prefix: "/k/", after_key: Some("/k/2"), limit: Some(3), ..ListRequest::default() };
        let page = index.list(&request).expect("now is known");
        assert_eq!((page.records.len(), page.remaining, &*page.records[0].key), (3, 4, "/k/3"));
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let options = StoreOptions { history_events_max: 3, history_bytes_max: usize::MAX, ..StoreOptions::default() };
        let mut index = Index::new(0, options);
        for number in 0..6 {
            write(&mut index, &format!("/k/{number}"), Some(""));
        }
        assert_eq!(index.surplus(2).len(), 2);
        index.forget(index.surplus(usize::MAX).len());
        assert!(matches!(index.history("/k/", 2), Err(StoreError::Compacted { oldest: 3 })));
        assert_eq!(index.history("/k/", 3).expect("it reaches back to 3").0.len(), 3);
        assert_eq!(index.history("/k/5", 3).expect("it reaches back to 3").0.len(), 1);
    }

    #[test]
    fn old_writes_are_forgotten_however_few_they_are() {
        for (age_max, kept) in [(Duration::ZERO, 1), (Duration::from_secs(3600), 4)] {
            let mut index = Index::new(0, StoreOptions { history_age_max: age_max, ..StoreOptions::default() });
            for number in 0..4 {
                write(&mut index, &format!("/k/{number}"), Some(""));
            }
            index.forget(index.surplus(usize::MAX).len());
            assert_eq!(index.history.len(), kept, "{age_max:?}");
        }
    }
}
