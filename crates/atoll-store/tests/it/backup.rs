//! Copies: whole, at one moment, made while writes go on, and never made over something else.

use std::os::unix::fs::PermissionsExt;

use atoll_store::{AppendBatch, AuditEntry, DatabaseError, Expect, Journal, JournalEntry, Store, StoreError};
use serde_json::json;

use super::support::{Disk, delete, listed, put};

#[tokio::test]
async fn a_copy_has_everything_and_begins_its_own_history() {
    let mut disk = Disk::new();
    let store = disk.open();
    for number in 0..50 {
        put(&store, &format!("/k/{number}"), "first").await;
    }
    put(&store, "/k/7", "second").await;
    delete(&store, "/k/8", Expect::Any).await.expect("it is there");
    let copy = disk.folder.path().join("copy.db");
    let made = store.backup(&copy).expect("it is written");
    assert_eq!((made.keys, made.revision), (49, 52));
    put(&store, "/k/later", "not in the copy").await;
    let mut before = listed(&store, "/k/");
    before.sort();
    drop(store);
    disk.close().await;

    assert_eq!(std::fs::metadata(&copy).expect("it is there").permissions().mode() & 0o777, 0o600);
    let beside: Vec<_> = std::fs::read_dir(disk.folder.path())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with("copy.db") && name != "copy.db")
        .collect();
    assert_eq!(beside, [""; 0], "all is in one file");
    assert_eq!(Store::verify(&copy).expect("it is sound"), made);
    Store::advance(&copy, 1000).expect("it can be changed");
    std::fs::copy(&copy, disk.path()).expect("it is put in place");
    for name in ["control.db-wal", "control.db-shm"] {
        let _ = std::fs::remove_file(disk.folder.path().join(name));
    }
    let store = disk.open();
    let mut after = listed(&store, "/k/");
    after.push("/k/later=not in the copy".to_owned());
    after.sort();
    assert_eq!(after, before);
    assert_eq!(store.current_revision(), 1052);
    assert!(matches!(store.watch("/k/", 52), Err(StoreError::Compacted { oldest: 1052 })));
    assert_eq!(put(&store, "/k/new", "").await, 1053);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_moment_while_writes_go_on() {
    let disk = Disk::new();
    let store = disk.open();
    let writer = {
        let store = store.clone();
        disk.group().spawn("writer", async move {
            // Two keys, always written in this order: a moment never has the second ahead of the first.
            for number in 0..400 {
                put(&store, "/a", &number.to_string()).await;
                put(&store, "/b", &number.to_string()).await;
            }
        })
    };
    for round in 0..5 {
        let copy = disk.folder.path().join(format!("copy-{round}.db"));
        let revision = store.backup(&copy).expect("it is written").revision;
        assert_eq!(Store::verify(&copy).expect("it is sound").revision, revision);
        let opened = Store::open(&copy, disk.group()).expect("it opens");
        let number = |key: &str| -> i64 {
            opened.get(key).map_or(-1, |record| super::support::text(&record).parse().expect("a number"))
        };
        let (first, second) = (number("/a"), number("/b"));
        assert!(first == second || first == second + 1, "{first} {second}");
    }
    writer.await.expect("it ends");
}

#[tokio::test]
async fn nothing_is_written_over_and_damage_is_seen() {
    let disk = Disk::new();
    let store = disk.open();
    put(&store, "/k", "value").await;
    let copy = disk.folder.path().join("copy.db");
    store.backup(&copy).expect("it is written");
    let again = store.backup(&copy).expect_err("it is there");
    assert!(matches!(again, StoreError::Database(DatabaseError::Unreadable { .. })), "{again:?}");
    let mut bytes = std::fs::read(&copy).expect("it can be read");
    let at = bytes.windows(5).rposition(|window| window == b"value").expect("it is in there");
    bytes[at] = b'V';
    std::fs::write(&copy, bytes).expect("it can be written");
    let damaged = Store::verify(&copy).expect_err("it is damaged");
    assert!(matches!(damaged, StoreError::Database(DatabaseError::Damaged { .. })), "{damaged:?}");
}

#[tokio::test]
async fn a_journal_is_copied_with_its_chain() {
    let disk = Disk::new();
    let journal = Journal::open(disk.journal_path(), disk.group()).expect("it opens");
    for seq in 1..=20 {
        let entry = JournalEntry { seq, kind: "step".to_owned(), body: json!(seq) };
        let audit = AuditEntry {
            at_unix_ms: 0,
            actor: "a".to_owned(),
            action: "step".to_owned(),
            outcome: "allow".to_owned(),
            run_id: Some("run".to_owned()),
            detail: json!(seq),
        };
        let batch = AppendBatch {
            run_id: "run".to_owned(),
            entries: vec![entry],
            audit: vec![audit],
            ..AppendBatch::default()
        };
        journal.append(batch).await.expect("it is next");
    }
    let copy = disk.folder.path().join("copy.db");
    journal.backup(&copy).expect("it is written");
    assert_eq!(Journal::verify(&copy).expect("it is sound").count, 20);
    let opened = Journal::open(&copy, disk.group()).expect("it opens");
    assert_eq!(opened.read("run", 0).await.expect("it can be read").len(), 20);
    drop(opened);

    let forged = disk.folder.path().join("forged.db");
    journal.backup(&forged).expect("it is written");
    let database = rusqlite::Connection::open(&forged).expect("it opens");
    database.execute("DELETE FROM audit WHERE seq = 7", []).expect("it is removed");
    drop(database);
    let broken = Journal::verify(&forged).expect_err("a record is missing");
    assert!(broken.to_string().contains("audit record 7"), "{broken}");
}
