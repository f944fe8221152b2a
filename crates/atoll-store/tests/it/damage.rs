use std::path::Path;
use std::process::Command;

use atoll_stdx::Hint;
use atoll_store::{DatabaseError, Expect, Journal, Store, StoreError};

use super::support::{Disk, listed, put, try_put};

fn refused(disk: &Disk) -> (StoreError, String) {
    let error = Store::open(disk.path(), disk.group()).expect_err("it is refused");
    let path = disk.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error} names the file");
    let hint = error.hint().expect("there is a way out");
    (error, hint)
}

/// A store with some content, closed.
async fn filled() -> Disk {
    let mut disk = Disk::new();
    let store = disk.open();
    for number in 0..300 {
        put(&store, &format!("/k/{number}"), &"x".repeat(500)).await;
    }
    drop(store);
    disk.close().await;
    // What is in the log goes into the database.
    let database = rusqlite::Connection::open(disk.path()).expect("it opens");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it is folded in");
    disk
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("it can be read");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("it can be written");
}

#[tokio::test]
async fn an_unharmed_file_opens() {
    let disk = filled().await;
    assert_eq!(listed(&disk.open(), "/k/").len(), 300);
}

#[tokio::test]
async fn a_second_opener_is_told_who_is_in_the_way() {
    let disk = Disk::new();
    let _first = disk.open();
    let (error, hint) = refused(&disk);
    assert!(matches!(error, StoreError::Database(DatabaseError::Locked { .. })), "{error:?}");
    assert!(hint.contains("another state directory"), "{hint}");
    let _journal = Journal::open(disk.journal_path(), disk.group()).expect("it opens");
    Journal::open(disk.journal_path(), disk.group()).expect_err("it is in use");
}

#[tokio::test]
async fn damage_is_found_wherever_it_is() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage); 5] = [
        ("no database at all", |bytes| *bytes = b"this is a letter to my aunt, not a database".repeat(20)),
        ("pages overwritten", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 8192].fill(0xA5);
        }),
        ("pages zeroed", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 8192].fill(0);
        }),
        ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
        ("one byte of a value", |bytes| {
            let value = bytes.windows(16).rposition(|window| window == b"xxxxxxxxxxxxxxxx").expect("values are x");
            bytes[value] = b'y';
        }),
    ];
    for (name, damage) in cases {
        let disk = filled().await;
        change(&disk.path(), damage);
        let (error, hint) = refused(&disk);
        assert!(matches!(error, StoreError::Database(DatabaseError::Damaged { .. })), "{name}: {error:?}");
        assert!(hint.contains("backup"), "{name}: {hint}");
    }
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let disk = filled().await;
    let database = rusqlite::Connection::open(disk.path()).expect("it opens");
    database.pragma_update(None, "user_version", 99).expect("it is set");
    drop(database);
    let before = std::fs::read(disk.path()).expect("it can be read");
    let (error, _) = refused(&disk);
    let newer = matches!(error, StoreError::Database(DatabaseError::NewerVersion { found: 99, supported: 1, .. }));
    assert!(newer, "{error:?}");
    assert_eq!(std::fs::read(disk.path()).expect("it can be read"), before);
}

#[tokio::test]
async fn a_database_of_somebody_else_is_left_alone() {
    let disk = Disk::new();
    let database = rusqlite::Connection::open(disk.path()).expect("it opens");
    database.execute_batch("CREATE TABLE recipes (name TEXT)").expect("it is made");
    drop(database);
    let (error, _) = refused(&disk);
    assert!(matches!(error, StoreError::Database(DatabaseError::Foreign { .. })), "{error:?}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let disk = Disk::new();
    let path = disk.folder.path().join("nowhere").join("control.db");
    let error = Store::open(&path, disk.group()).expect_err("there is no such folder");
    assert!(matches!(error, StoreError::Database(DatabaseError::Unreadable { .. })), "{error:?}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let disk = Disk::new();
    let store = disk.open();
    put(&store, "/secret", "x").await;
    for entry in std::fs::read_dir(disk.folder.path()).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(Disk);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let disk = Disk::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(disk.folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(disk))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg("-l").arg(self.0.folder.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(mut small) = SmallDisk::mount() else {
        println!("SKIPPED a_full_disk_refuses_writes_and_loses_nothing: cannot mount a small file system");
        return;
    };
    let store = small.0.open();
    let mut written = 0;
    let error = loop {
        match try_put(&store, &format!("/k/{written:04}"), &"x".repeat(8000), Expect::Any).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk is small");
    };
    assert!(matches!(error, StoreError::Database(DatabaseError::Full { .. })), "{error:?}");
    assert!(error.hint().expect("there is a way out").contains("space"));
    assert_eq!(listed(&store, "/k/").len(), written, "reading goes on");
    let revision = store.current_revision();
    let grown = Command::new("mount").args(["-o", "remount,size=8m"]).arg(small.0.folder.path()).output();
    assert!(grown.is_ok_and(|output| output.status.success()), "the disk grows");
    assert_eq!(put(&store, "/k/after", "y").await, revision + 1, "writing goes on without a restart");
    drop(store);
    small.0.close().await;
    assert_eq!(listed(&small.0.open(), "/k/").len(), written + 1);
    small.0.close().await;
}
