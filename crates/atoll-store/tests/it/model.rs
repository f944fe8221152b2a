//! Any sequence of writes, with restarts between, against a map that is simply right.

use std::collections::BTreeMap;

use atoll_store::{Expect, ListRequest, Store, StoreError, StoreOptions};
use proptest::prelude::*;

use super::support::{Disk, delete, text, try_put};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Option<u64>),
    Delete(u8, Option<u64>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let expect = || prop_oneof![Just(None), (0..40_u64).prop_map(Some)];
    prop_oneof![
        12 => (0..6_u8, expect()).prop_map(|(key, expect)| Step::Put(key, expect)),
        5 => (0..6_u8, expect()).prop_map(|(key, expect)| Step::Delete(key, expect)),
        1 => Just(Step::Restart),
    ]
}

type Keyspace = BTreeMap<String, (String, u64)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_with_a_past(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let options = StoreOptions { history_events_max: 20, ..StoreOptions::default() };
    let mut disk = Disk::new();
    let mut store = disk.open_with(options);
    let mut past: Vec<Keyspace> = vec![Keyspace::new()];
    for (number, step) in steps.into_iter().enumerate() {
        let now = past.last().expect("never empty");
        let revision = u64::try_from(past.len()).expect("few");
        match step {
            Step::Restart => {
                drop(store);
                disk.close().await;
                store = disk.open_with(options);
            }
            Step::Put(key, expect) => {
                let key = format!("/k/{key}");
                let holds = expect.is_none_or(|expect| now.get(&key).map_or(0, |(_, revision)| *revision) == expect);
                let result = try_put(&store, &key, &number.to_string(), expectation(expect)).await;
                assert_eq!(result.is_ok(), holds);
                if holds {
                    let mut next = now.clone();
                    next.insert(key, (number.to_string(), revision));
                    past.push(next);
                }
            }
            Step::Delete(key, expect) => {
                let key = format!("/k/{key}");
                let current = now.get(&key).map(|(_, revision)| *revision);
                let holds = current.is_some() && expect.is_none_or(|expect| current == Some(expect));
                let result = delete(&store, &key, expectation(expect)).await;
                assert_eq!(result.is_ok(), holds);
                if holds {
                    let mut next = now.clone();
                    next.remove(&key);
                    past.push(next);
                }
            }
        }
        check(&store, &past);
    }
}

fn expectation(expect: Option<u64>) -> Expect {
    match expect {
        None => Expect::Any,
        Some(0) => Expect::Absent,
        Some(revision) => Expect::Revision(revision),
    }
}

/// Every moment that the store still knows is as it was.
fn check(store: &Store, past: &[Keyspace]) {
    assert_eq!(store.current_revision(), u64::try_from(past.len() - 1).expect("few"));
    for (revision, expected) in past.iter().enumerate().rev() {
        let at_revision = Some(u64::try_from(revision).expect("few"));
        match store.list(&ListRequest { prefix: "/k/", at_revision, ..ListRequest::default() }) {
            Ok(page) => {
                let found: Keyspace = page
                    .records
                    .iter()
                    .map(|record| (record.key.to_string(), (text(record), record.revision)))
                    .collect();
                assert_eq!(&found, expected, "at {revision}");
            }
            Err(StoreError::Compacted { oldest }) => {
                assert!(at_revision < Some(oldest) && past.len() > 20);
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
