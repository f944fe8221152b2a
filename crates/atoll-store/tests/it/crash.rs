//! A process that writes is killed in the middle, over and over. Whatever it was told is durable must be there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_store::{AppendBatch, AuditEntry, Journal, JournalEntry, Store};
use serde_json::json;

use super::support::{Disk, put, text};

const ROUNDS: u64 = 25;
/// When there is time.
const ROUNDS_SOAK: u64 = 500;
const WRITERS: u64 = 8;
const FOLDER: &str = "ATOLL_STORE_CRASH_FOLDER";

/// Not a test: what the test below starts and kills.
#[test]
#[ignore = "started by the crash test"]
fn crash_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(write_for_ever(Path::new(&folder)));
}

async fn write_for_ever(folder: &Path) {
    let group = TaskGroup::new("child");
    let store = Store::open(folder.join("control.db"), &group).expect("it opens after every crash");
    let journal = Journal::open(folder.join("runs.db"), &group).expect("it opens after every crash");
    // The test program has begun a line of its own.
    say("and now\nthe writing begins");
    for writer in 0..WRITERS {
        let (store, journal) = (store.clone(), journal.clone());
        group.spawn("writer", async move {
            let run_id = format!("run-{writer}");
            let key = format!("/k/{writer}");
            let mut seq = journal.read(&run_id, 0).await.expect("it can be read").len() as u64;
            let mut counter: u64 = store.get(&key).map_or(0, |record| text(&record).parse().expect("a number"));
            loop {
                counter += 1;
                let revision = put(&store, &key, &counter.to_string()).await;
                say(&format!("key {key} {counter} {revision}"));
                seq += 1;
                let entries = vec![JournalEntry { seq, kind: "step".to_owned(), body: json!(seq) }];
                let audit = vec![AuditEntry {
                    at_unix_ms: 0,
                    actor: run_id.clone(),
                    action: "step".to_owned(),
                    outcome: "allow".to_owned(),
                    run_id: Some(run_id.clone()),
                    detail: json!(seq),
                }];
                let batch = AppendBatch { run_id: run_id.clone(), entries, audit, ..AppendBatch::default() };
                journal.append(batch).await.expect("it is next");
                say(&format!("run {run_id} {seq}"));
            }
        });
    }
    std::future::pending::<()>().await;
}

/// One line, in one write, so that a kill does not cut it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("ack {line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent reads");
}

#[derive(Default)]
struct Acknowledged {
    keys: BTreeMap<String, (u64, u64)>,
    runs: BTreeMap<String, u64>,
    writes: u64,
}

impl Acknowledged {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match words.as_slice() {
            ["ack", "key", key, counter, revision] => {
                self.keys.insert((*key).to_owned(), (number(counter), number(revision)));
                self.writes += 1;
            }
            ["ack", "run", run_id, seq] => {
                self.runs.insert((*run_id).to_owned(), number(seq));
                self.writes += 1;
            }
            _ => {}
        }
    }
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "it::crash::crash_child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts")
}

/// Runs a child until it has been acknowledged `writes` writes, waits a little, and kills it.
fn crash(folder: &Path, writes: u64, pause: Duration, acknowledged: &mut Acknowledged) {
    let mut child = start(folder);
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let enough = acknowledged.writes + writes;
    while acknowledged.writes < enough {
        let line = lines.next().expect("the child goes on").expect("it is text");
        acknowledged.take(&line);
    }
    std::thread::sleep(pause);
    child.kill().expect("it is there");
    child.wait().expect("it is there");
    // What it said before it died counts.
    for line in lines {
        acknowledged.take(&line.expect("it is text"));
    }
}

#[tokio::test]
async fn every_acknowledged_write_survives_kill_9() {
    let mut disk = Disk::new();
    let mut acknowledged = Acknowledged::default();
    let mut seen = 0;
    let soak = std::env::var_os("ATOLL_SOAK").is_some();
    let rounds = if soak { ROUNDS_SOAK } else { ROUNDS };
    for round in 0..rounds {
        // Different numbers, the same in every run.
        let mix = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        crash(disk.folder.path(), 1 + mix % 60, Duration::from_micros(mix % 7000), &mut acknowledged);
        let store = disk.open();
        for (key, (counter, revision)) in &mut acknowledged.keys {
            let record = store.get(key).unwrap_or_else(|| panic!("round {round}: {key} is lost"));
            let found: u64 = text(&record).parse().expect("a number");
            let kept = found >= *counter && record.revision >= *revision;
            assert!(kept, "round {round}: {key} is {found}, not {counter}");
            // One write may have been under way; none is made twice.
            assert!(found <= *counter + 1, "round {round}: {key} is {found}, not {counter}");
            // What has been seen on the disk must stay there as well.
            (*counter, *revision) = (found, record.revision);
        }
        let mut watch = store.watch("/", seen).expect("the history reaches back");
        for expected in seen + 1..=store.current_revision() {
            let event = watch.try_next().expect("the watch goes on").expect("no gap");
            assert_eq!(event.revision(), expected);
        }
        seen = store.current_revision();
        drop(store);
        check_journal(&disk, &acknowledged, round).await;
        disk.close().await;
    }
    assert!(acknowledged.writes > rounds, "the children wrote");
    let mark = if soak { "SOAK " } else { "" };
    println!("{mark}{} acknowledged writes over {rounds} kills of the store", acknowledged.writes);
}

async fn check_journal(disk: &Disk, acknowledged: &Acknowledged, round: u64) {
    let journal = Journal::open(disk.journal_path(), disk.group()).expect("it opens");
    let mut entries = 0;
    for (run_id, seq) in &acknowledged.runs {
        let found = journal.read(run_id, 0).await.expect("it can be read");
        assert!(found.len() as u64 >= *seq, "round {round}: {run_id} has {} entries of {seq}", found.len());
        entries += found.len() as u64;
    }
    let summary = journal.audit_verify(1).await.expect("it can be read").expect("the chain holds");
    assert!(summary.count >= entries, "round {round}: every entry has its audit record");
}
