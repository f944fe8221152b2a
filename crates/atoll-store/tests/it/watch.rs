use atoll_store::{Change, Expect, Store, StoreError, StoreOptions, Watch, WatchError};

use super::support::{Disk, delete, put, text};

async fn next(watch: &mut Watch) -> String {
    let event = watch.next().await.expect("the watch goes on");
    let sign = if event.change == Change::Put { '+' } else { '-' };
    let previous = event.previous.as_ref().map_or_else(String::new, |previous| text(previous));
    format!("{sign}{}@{} {previous}>{}", event.record.key, event.revision(), text(&event.record))
}

fn ready(watch: &mut Watch) -> usize {
    std::iter::from_fn(|| watch.try_next().expect("the watch goes on")).count()
}

#[tokio::test]
async fn a_watch_sees_its_prefix_in_order_with_what_was_before() {
    let disk = Disk::new();
    let store = disk.open();
    put(&store, "/a/1", "old").await;
    let mut folder = store.watch("/a/", 0).expect("the history reaches back");
    let mut key = store.watch("/a/2", 1).expect("the history reaches back");
    let mut root = store.watch("/", 1).expect("the history reaches back");
    put(&store, "/a/1", "new").await;
    put(&store, "/b/1", "x").await;
    put(&store, "/a/2", "y").await;
    delete(&store, "/a/1", Expect::Any).await.expect("it is removed");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(next(&mut folder).await);
    }
    assert_eq!(seen, ["+/a/1@1 >old", "+/a/1@2 old>new", "+/a/2@4 >y", "-/a/1@5 new>new"]);
    assert_eq!(next(&mut key).await, "+/a/2@4 >y");
    assert_eq!((ready(&mut folder), ready(&mut key), ready(&mut root)), (0, 0, 4));
    assert_eq!(store.published_revision(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_begin_amid_writes_miss_nothing_and_repeat_nothing() {
    const WRITES: u64 = 2000;
    let disk = Disk::new();
    let store = disk.open();
    let writer = disk.group().spawn("writer", {
        let store = store.clone();
        async move {
            for number in 0..WRITES {
                put(&store, &format!("/k/{}", number % 7), "x").await;
            }
        }
    });
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let from = store.current_revision();
        let watch = store.watch("/k/", from).expect("the history reaches back");
        watchers.push(disk.group().spawn("watcher", follow(watch, from, WRITES)));
        tokio::task::yield_now().await;
    }
    writer.await.expect("it ends");
    for watcher in watchers {
        watcher.await.expect("no gap, no repetition");
    }
}

async fn follow(mut watch: Watch, mut seen: u64, last: u64) {
    while seen < last {
        let event = watch.next().await.expect("the watch goes on");
        assert_eq!(event.revision(), seen + 1);
        seen = event.revision();
    }
}

#[tokio::test]
async fn a_slow_watch_ends_and_holds_up_nobody() {
    let disk = Disk::new();
    let store = disk.open();
    let mut slow = store.watch("/k/", 0).expect("the history reaches back");
    let mut quick = store.watch("/k/", 0).expect("the history reaches back");
    let mut read = 0;
    while store.watch_counts().1 == 0 {
        put(&store, "/k/1", "x").await;
        read += ready(&mut quick);
        assert!(read < 100_000, "a watch is bounded");
    }
    let mut last = 0;
    let end = loop {
        match slow.next().await {
            Ok(event) => {
                assert_eq!(event.revision(), last + 1, "what it gave before it ended has no gap");
                last = event.revision();
            }
            Err(end) => break end,
        }
    };
    assert_eq!(end, WatchError::Lagged);
    assert_eq!(u64::try_from(read).expect("few"), store.current_revision());
}

#[tokio::test]
async fn closed_watches_are_forgotten() {
    let disk = Disk::new();
    let store = disk.open();
    let watches: Vec<Watch> =
        (0..100).map(|number| store.watch(&format!("/k/{number}"), 0).expect("it begins")).collect();
    assert_eq!(store.watch_counts().0, 100);
    drop(watches);
    assert_eq!(store.watch_counts().0, 0);
}

fn short_history() -> StoreOptions {
    StoreOptions { history_events_max: 100, ..StoreOptions::default() }
}

async fn churn(store: &Store) {
    for number in 0..400 {
        put(store, &format!("/k/{}", number % 5), &number.to_string()).await;
    }
    put(store, "/gone", "x").await;
    delete(store, "/gone", Expect::Any).await.expect("it is removed");
}

#[tokio::test]
async fn a_watch_resumes_over_a_restart_unless_the_history_is_gone() {
    let mut disk = Disk::new();
    let store = disk.open_with(short_history());
    put(&store, "/old", "never touched again").await;
    churn(&store).await;
    let now = store.current_revision();
    let Err(StoreError::Compacted { oldest }) = store.watch("/", 1) else { panic!("the history is bounded") };
    assert!(now - oldest < 200, "compaction keeps up");
    drop(store);
    disk.close().await;

    let store = disk.open_with(short_history());
    assert_eq!(text(&store.get("/old").expect("it outlives the history")), "never touched again");
    let again = store.watch("/", 1).expect_err("the bound outlives a restart");
    assert!(matches!(again, StoreError::Compacted { oldest: found } if found == oldest), "{again:?}");
    let mut watch = store.watch("/", oldest).expect("the history reaches back to there");
    for expected in oldest + 1..=now {
        let event = watch.next().await.expect("the watch goes on");
        assert_eq!(event.revision(), expected);
        assert!(expected == now - 1 || event.previous.is_some(), "what was before is known still");
    }
    put(&store, "/k/0", "after").await;
    assert_eq!(watch.next().await.expect("the watch goes on").revision(), now + 1);
}

#[tokio::test]
async fn the_database_does_not_grow_with_the_number_of_writes() {
    let mut disk = Disk::new();
    let store = disk.open_with(short_history());
    for _ in 0..5 {
        churn(&store).await;
    }
    let (revision, keys) = (store.current_revision(), 5);
    drop(store);
    disk.close().await;
    let database = rusqlite::Connection::open(disk.path()).expect("it opens");
    let rows: u32 = database.query_row("SELECT count(*) FROM version", [], |row| row.get(0)).expect("a count");
    assert!(rows < 100 + 64 + 2 * keys + 64, "{rows} rows after {revision} writes");
}
