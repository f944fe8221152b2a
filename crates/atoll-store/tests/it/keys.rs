use atoll_store::{DeleteRequest, Expect, PutRequest, StoreError, Value};

use super::support::{Disk, delete, listed, put, text, try_put};

#[tokio::test]
async fn conditions_decide_writes() {
    let disk = Disk::new();
    let store = disk.open();
    let first = try_put(&store, "/a", "1", Expect::Absent).await.expect("it is absent");
    assert_eq!((first.revision, first.created_revision), (1, 1));
    let again = try_put(&store, "/a", "2", Expect::Absent).await.expect_err("it exists");
    assert!(matches!(again, StoreError::Conflict { current: Some(1) }), "{again:?}");
    let stale = try_put(&store, "/a", "2", Expect::Revision(7)).await.expect_err("it has another revision");
    assert!(matches!(stale, StoreError::Conflict { current: Some(1) }), "{stale:?}");
    let second = try_put(&store, "/a", "2", Expect::Revision(1)).await.expect("it has this revision");
    assert_eq!((second.revision, second.created_revision), (2, 1));
    let absent = delete(&store, "/b", Expect::Any).await.expect_err("it is absent");
    assert!(matches!(absent, StoreError::Conflict { current: None }), "{absent:?}");
    delete(&store, "/a", Expect::Revision(2)).await.expect("it has this revision");
    assert!(store.get("/a").is_none());
    let anew = try_put(&store, "/a", "3", Expect::Absent).await.expect("it is absent again");
    assert_eq!((anew.revision, anew.created_revision), (4, 4));
}

#[tokio::test]
async fn the_revision_is_put_into_the_value() {
    let disk = Disk::new();
    let store = disk.open();
    put(&store, "/other", "x").await;
    let value = Value { bytes: b"<>".to_vec(), revision_at: Some(1) };
    let request = PutRequest { key: "/a".to_owned(), value: value.clone(), expect: Expect::Any };
    assert_eq!(text(&store.put(request).await.expect("it is written")), "<2>");
    let last = DeleteRequest { key: "/a".to_owned(), expect: Expect::Any, last_value: Some(value) };
    assert_eq!(text(&store.delete(last).await.expect("it is removed")), "<3>");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut disk = Disk::new();
    let store = disk.open();
    for number in 0..50 {
        put(&store, &format!("/k/{number:02}"), &number.to_string()).await;
    }
    for number in (0..50).step_by(2) {
        delete(&store, &format!("/k/{number:02}"), Expect::Any).await.expect("it is removed");
    }
    let before = (listed(&store, "/k/"), store.current_revision());
    drop(store);
    disk.close().await;
    let store = disk.open();
    assert_eq!((listed(&store, "/k/"), store.current_revision()), before);
    assert_eq!(put(&store, "/k/new", "").await, before.1 + 1, "revisions are not used twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits_and_never_a_revision() {
    const WRITERS: u64 = 64;
    const WRITES: u64 = 20;
    let disk = Disk::new();
    let store = disk.open();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            disk.group().spawn("writer", async move {
                let mut revisions = Vec::new();
                for number in 0..WRITES {
                    revisions.push(put(&store, &format!("/{writer}/{number}"), "x").await);
                }
                revisions
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.extend(writer.await.expect("it ends"));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=WRITERS * WRITES).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_wins_a_race() {
    let disk = Disk::new();
    let store = disk.open();
    let revision = put(&store, "/prize", "nobody").await;
    let racers: Vec<_> = (0..32)
        .map(|racer| {
            let store = store.clone();
            disk.group().spawn("racer", async move {
                try_put(&store, "/prize", &racer.to_string(), Expect::Revision(revision)).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += u32::from(racer.await.expect("it ends"));
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let disk = Disk::new();
    let store = disk.open();
    let large = "x".repeat(atoll_store::keys::VALUE_BYTES_MAX + 1);
    let refused = try_put(&store, "/a", &large, Expect::Any).await.expect_err("it is too large");
    assert!(matches!(refused, StoreError::TooLarge), "{refused:?}");
    assert_eq!(store.current_revision(), 0);
}
