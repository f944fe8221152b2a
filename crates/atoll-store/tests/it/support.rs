use std::sync::Arc;

use atoll_rt::TaskGroup;
use atoll_store::{DeleteRequest, Expect, ListRequest, PutRequest, Record, Store, StoreError, StoreOptions, Value};

/// A folder with a store in it, which can be closed and opened again.
pub(crate) struct Disk {
    pub(crate) folder: tempfile::TempDir,
    group: TaskGroup,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("atoll-store-").tempdir().expect("a temporary folder");
        Self { folder, group: TaskGroup::new("test") }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("control.db")
    }

    pub(crate) fn journal_path(&self) -> std::path::PathBuf {
        self.folder.path().join("runs.db")
    }

    pub(crate) fn group(&self) -> &TaskGroup {
        &self.group
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.path(), &self.group).expect("it opens")
    }

    pub(crate) fn open_with(&self, options: StoreOptions) -> Store {
        Store::open_with(self.path(), &self.group, options).expect("it opens")
    }

    /// Stops everything that was opened here; the files can be opened again then.
    pub(crate) async fn close(&mut self) {
        let stopped = std::mem::replace(&mut self.group, TaskGroup::new("test"));
        assert!(stopped.drain(std::time::Duration::from_secs(20)).await, "the writers end");
    }
}

pub(crate) async fn put(store: &Store, key: &str, value: &str) -> u64 {
    try_put(store, key, value, Expect::Any).await.expect("it is written").revision
}

pub(crate) async fn try_put(store: &Store, key: &str, value: &str, expect: Expect) -> Result<Arc<Record>, StoreError> {
    store.put(PutRequest { key: key.to_owned(), value: Value::plain(value), expect }).await
}

pub(crate) async fn delete(store: &Store, key: &str, expect: Expect) -> Result<Arc<Record>, StoreError> {
    store.delete(DeleteRequest { key: key.to_owned(), expect, last_value: None }).await
}

pub(crate) fn text(record: &Record) -> String {
    String::from_utf8(record.value.to_vec()).expect("tests store text")
}

pub(crate) fn listed(store: &Store, prefix: &str) -> Vec<String> {
    let page = store.list(&ListRequest { prefix, ..ListRequest::default() }).expect("now is known");
    page.records.iter().map(|record| format!("{}={}", record.key, text(record))).collect()
}
