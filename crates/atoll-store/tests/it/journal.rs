use atoll_store::{AppendBatch, AuditEntry, AuditFilter, Journal, JournalEntry, JournalError, RecordExpect, RecordPut};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::Disk;

fn open(disk: &Disk) -> Journal {
    Journal::open(disk.journal_path(), disk.group()).expect("it opens")
}

fn entry(seq: u64) -> JournalEntry {
    JournalEntry { seq, kind: "step".to_owned(), body: json!({ "number": seq }) }
}

fn audit(action: &str, outcome: &str) -> AuditEntry {
    AuditEntry {
        at_unix_ms: 1,
        actor: "agent/code-writer".to_owned(),
        action: action.to_owned(),
        outcome: outcome.to_owned(),
        run_id: Some("r".to_owned()),
        detail: json!({ "z": 1, "a": [1.5, null, "é"] }),
    }
}

fn batch(run_id: &str, entries: Vec<JournalEntry>) -> AppendBatch {
    AppendBatch { run_id: run_id.to_owned(), entries, ..AppendBatch::default() }
}

fn record(key: &str, body: Option<Value>, expect: RecordExpect) -> RecordPut {
    RecordPut { kind: "approval".to_owned(), key: key.to_owned(), body, expect }
}

#[tokio::test]
async fn entries_come_in_order_and_survive_a_restart() {
    let mut disk = Disk::new();
    let journal = open(&disk);
    journal.append(batch("r", vec![entry(1), entry(2)])).await.expect("it is next");
    journal.append(batch("other", vec![entry(1)])).await.expect("runs are apart");
    drop(journal);
    disk.close().await;
    let journal = open(&disk);
    let gap = journal.append(batch("r", vec![entry(4)])).await.expect_err("3 is next");
    assert!(matches!(gap, JournalError::SeqConflict { expected: 3, found: 4, .. }), "{gap:?}");
    let twice = journal.append(batch("r", vec![entry(3), entry(3)])).await.expect_err("4 is next");
    assert!(matches!(twice, JournalError::SeqConflict { expected: 4, found: 3, .. }), "{twice:?}");
    journal.append(batch("r", vec![entry(3)])).await.expect("nothing of the refused batches was kept");
    assert_eq!(journal.read("r", 2).await.expect("it can be read"), [entry(2), entry(3)]);
    let runs = journal.runs().await.expect("they can be read");
    let runs: Vec<(&str, u64)> = runs.iter().map(|run| (run.run_id.as_str(), run.last_seq)).collect();
    assert_eq!(runs, [("other", 1), ("r", 3)]);
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let disk = Disk::new();
    let journal = open(&disk);
    let blob = b"content".to_vec();
    let hash = hex::encode(Sha256::digest(&blob));
    let whole = AppendBatch {
        audit: vec![audit("tool/x", "allow")],
        blobs: vec![(hash.clone(), blob.clone())],
        records: vec![record("1", Some(json!("pending")), RecordExpect::Absent)],
        ..batch("r", vec![entry(1)])
    };
    journal.append(whole.clone()).await.expect("it is sound");
    let refused = [
        AppendBatch { blobs: vec![("00".repeat(32), blob.clone())], ..batch("r", vec![entry(2)]) },
        AppendBatch {
            audit: vec![audit("tool/y", "allow")],
            records: vec![record("1", Some(json!("again")), RecordExpect::Absent)],
            ..batch("r", vec![entry(2)])
        },
        AppendBatch { audit: vec![audit("tool/z", "allow")], ..batch("r", vec![entry(7)]) },
    ];
    for bad in refused {
        journal.append(bad).await.expect_err("it is refused");
    }
    assert_eq!(journal.read("r", 0).await.expect("it can be read"), [entry(1)]);
    assert_eq!(journal.blob(&hash).await.expect("it can be read"), Some(blob));
    assert_eq!(journal.blob(&"00".repeat(32)).await.expect("it can be read"), None);
    let summary = journal.audit_verify(1).await.expect("it can be read").expect("the chain holds");
    assert_eq!(summary.count, 1);
    journal.append(batch("r", vec![entry(2)])).await.expect("2 is next still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deciders_one_decides() {
    let disk = Disk::new();
    let journal = open(&disk);
    journal.put_record("approval", "1", json!("pending")).await.expect("it is written");
    let deciders: Vec<_> = (0..8)
        .map(|decider| {
            let journal = journal.clone();
            disk.group().spawn("decider", async move {
                let decision = record("1", Some(json!(decider)), RecordExpect::Version(1));
                journal.append(AppendBatch { records: vec![decision], ..AppendBatch::default() }).await.is_ok()
            })
        })
        .collect();
    let mut decided = 0;
    for decider in deciders {
        decided += u32::from(decider.await.expect("it ends"));
    }
    assert_eq!(decided, 1);
    assert_eq!(journal.record("approval", "1").await.expect("it can be read").expect("it is there").version, 2);
}

#[tokio::test]
async fn records_are_listed_by_prefix_and_page() {
    let disk = Disk::new();
    let journal = open(&disk);
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        journal.put_record("span", key, json!({ "key": key })).await.expect("it is written");
    }
    let page = journal.records("span", "a/", None, 2).await.expect("they can be read");
    let keys: Vec<&str> = page.records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!((keys.as_slice(), page.more), (["a/1", "a/2"].as_slice(), true));
    let page = journal.records("span", "a/", Some("a/2"), 2).await.expect("they can be read");
    assert_eq!((page.records.len(), page.more, page.records[0].key.as_str()), (1, false, "a/3"));
    let gone = RecordPut { kind: "span".to_owned(), ..record("a/3", None, RecordExpect::Any) };
    journal.append(AppendBatch { records: vec![gone], ..AppendBatch::default() }).await.expect("it is removed");
    assert_eq!(journal.record("span", "a/3").await.expect("it can be read"), None);
}

async fn audited(disk: &mut Disk) {
    let journal = open(disk);
    for number in 0..10 {
        let outcome = if number % 2 == 0 { "allow" } else { "deny" };
        let audit = vec![audit(&format!("tool/{number}"), outcome)];
        journal.append(AppendBatch { audit, ..AppendBatch::default() }).await.expect("it is written");
    }
    drop(journal);
    disk.close().await;
}

#[tokio::test]
async fn a_sound_chain_verifies_from_anywhere() {
    let mut disk = Disk::new();
    audited(&mut disk).await;
    let journal = open(&disk);
    for (from, count) in [(0, 10), (1, 10), (4, 7), (10, 1), (11, 0)] {
        let summary = journal.audit_verify(from).await.expect("it can be read").expect("the chain holds");
        assert_eq!(summary.count, count, "from {from}");
    }
    let denied =
        AuditFilter { outcome: Some("deny".to_owned()), from_seq: 3, limit: Some(2), ..AuditFilter::default() };
    let records = journal.audit_list(denied).await.expect("it can be read");
    let actions: Vec<&str> = records.iter().map(|record| record.entry.action.as_str()).collect();
    assert_eq!(actions, ["tool/3", "tool/5"]);
    // The hash can be worked out by anybody, as it is documented.
    let all = journal.audit_list(AuditFilter::default()).await.expect("it can be read");
    let mut value = serde_json::to_value(&all[4].entry).expect("it is JSON");
    value["seq"] = 5.into();
    let text = atoll_store::canonical_json(&value);
    let hash = hex::encode(Sha256::new().chain_update(&all[3].hash).chain_update(text).finalize());
    assert_eq!((&all[4].hash, &all[4].previous_hash), (&hash, &all[3].hash));
}

#[tokio::test]
async fn any_change_to_the_chain_is_found() {
    let cases = [
        ("UPDATE audit SET record = replace(record, 'deny', 'allow') WHERE seq = 4", 4),
        ("UPDATE audit SET outcome = 'allow' WHERE seq = 4", 4),
        ("UPDATE audit SET run_id = 'x' WHERE seq = 6", 6),
        ("DELETE FROM audit WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq = 10", 10),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("UPDATE audit SET seq = seq + 100 WHERE seq > 7", 8),
        ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 3", 3),
        ("INSERT INTO audit SELECT 11, run_id, outcome, record, hash FROM audit WHERE seq = 10", 11),
    ];
    for (tampering, expected) in cases {
        let mut disk = Disk::new();
        audited(&mut disk).await;
        let database = rusqlite::Connection::open(disk.journal_path()).expect("it opens");
        database.execute_batch(tampering).expect("it is done");
        drop(database);
        let broken = open(&disk).audit_verify(1).await.expect("it can be read").expect_err("the chain is broken");
        assert_eq!(broken.seq, expected, "{tampering}: {broken}");
    }
}
