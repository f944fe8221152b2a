//! A queue of keys: each at most once in the queue and at most once being worked on, now or later.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_client::ObjectKey;
use atoll_rt::TaskGroup;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first delay after a failure; it doubles with each further one.
const RETRY_FIRST_MS: u64 = 5;
/// The longest delay after a failure.
const RETRY_MS_MAX: u64 = 30_000;

/// What is to happen with a key next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Wait,
    /// Look again after this time, if nothing changes before.
    After(Duration),
    /// It failed: look again, later each time.
    Retry,
}

/// Looks at one object and does what is to be done. Takes no input but the key.
pub(crate) trait Reconcile: Send + Sync + 'static {
    fn reconcile(&self, key: ObjectKey) -> impl Future<Output = Next> + Send;
}

/// The queue; its length is bounded by the number of objects. Cloning shares it.
#[derive(Clone)]
pub(crate) struct WorkQueue {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    work: Notify,
    timer: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<ObjectKey>,
    queued: HashSet<ObjectKey>,
    /// Keys being worked on, and whether they came up again meanwhile.
    running: HashMap<ObjectKey, bool>,
    later: BTreeMap<(Instant, u64), ObjectKey>,
    later_of: HashMap<ObjectKey, (Instant, u64)>,
    failures: HashMap<ObjectKey, u32>,
    sequence: u64,
}

impl WorkQueue {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(Inner { state: Mutex::default(), work: Notify::new(), timer: Notify::new() }) }
    }

    /// Has a key looked at as soon as possible.
    pub(crate) fn add(&self, key: ObjectKey) {
        if self.lock().add(key) {
            self.inner.work.notify_one();
        }
    }

    /// Has a key looked at after a moment, so that one look sees all that changes meanwhile.
    pub(crate) fn add_after(&self, key: ObjectKey, delay: Duration) {
        if self.lock().add_later(key, Instant::now() + delay) {
            self.inner.timer.notify_one();
        }
    }

    /// Starts `workers` tasks that take keys from the queue, until the group stops.
    pub(crate) fn start<R: Reconcile>(&self, workers: usize, reconciler: R, group: &TaskGroup) {
        let reconciler = Arc::new(reconciler);
        for _ in 0..workers {
            let (queue, reconciler, stop) = (self.clone(), Arc::clone(&reconciler), group.token());
            group.spawn("controller", async move {
                loop {
                    let key = tokio::select! {
                        key = queue.next() => key,
                        () = stop.cancelled() => return,
                    };
                    let next = reconciler.reconcile(key.clone()).await;
                    queue.done(key, next);
                }
            });
        }
        let (queue, stop) = (self.clone(), group.token());
        group.spawn("controller-timer", async move {
            tokio::select! {
                () = queue.run_timer() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// The next key. Cancel-safe.
    async fn next(&self) -> ObjectKey {
        loop {
            let mut notified = std::pin::pin!(self.inner.work.notified());
            notified.as_mut().enable();
            if let Some(key) = self.lock().take() {
                return key;
            }
            notified.await;
        }
    }

    fn done(&self, key: ObjectKey, next: Next) {
        let (again, later) = self.lock().done(key, next);
        if again {
            self.inner.work.notify_one();
        }
        if later {
            self.inner.timer.notify_one();
        }
    }

    async fn run_timer(&self) {
        loop {
            let mut notified = std::pin::pin!(self.inner.timer.notified());
            notified.as_mut().enable();
            let (woken, next_due) = self.lock().take_due(Instant::now());
            for _ in 0..woken {
                self.inner.work.notify_one();
            }
            match next_due {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = notified => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a worker is to be woken.
    fn add(&mut self, key: ObjectKey) -> bool {
        if let Some(again) = self.running.get_mut(&key) {
            *again = true;
            return false;
        }
        if !self.queued.insert(key.clone()) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Whether the timer is to be set anew.
    fn add_later(&mut self, key: ObjectKey, due: Instant) -> bool {
        if let Some(slot) = self.later_of.get(&key).copied() {
            if slot.0 <= due {
                return false;
            }
            self.later.remove(&slot);
        }
        self.sequence += 1;
        let slot = (due, self.sequence);
        self.later.insert(slot, key.clone());
        self.later_of.insert(key, slot);
        self.later.first_key_value().is_some_and(|(first, _)| *first == slot)
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone(), false);
        if let Some(slot) = self.later_of.remove(&key) {
            self.later.remove(&slot);
        }
        Some(key)
    }

    /// Whether a worker is to be woken, and whether the timer is to be set anew.
    fn done(&mut self, key: ObjectKey, next: Next) -> (bool, bool) {
        let again = self.running.remove(&key).unwrap_or(false);
        let later = match next {
            Next::Wait => {
                self.failures.remove(&key);
                false
            }
            Next::After(delay) => {
                self.failures.remove(&key);
                self.add_later(key.clone(), Instant::now() + delay)
            }
            Next::Retry => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                let delay = retry_delay(*failures);
                self.add_later(key.clone(), Instant::now() + delay)
            }
        };
        (again && self.add(key), later)
    }

    fn take_due(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let mut woken = 0;
        while let Some((&slot, _)) = self.later.first_key_value() {
            if slot.0 > now {
                return (woken, Some(slot.0));
            }
            if let Some(key) = self.later.remove(&slot) {
                self.later_of.remove(&key);
                woken += usize::from(self.add(key));
            }
        }
        (woken, None)
    }
}

fn retry_delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    Duration::from_millis((RETRY_FIRST_MS << doublings).min(RETRY_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    #[test]
    fn a_key_waits_once_and_runs_once() {
        let mut state = State::default();
        assert!(state.add(key("a")));
        assert!(!state.add(key("a")), "it waits already");
        assert_eq!(state.take(), Some(key("a")));
        assert!(!state.add(key("a")), "it runs");
        assert_eq!(state.take(), None);
        assert_eq!(state.done(key("a"), Next::Wait), (true, false));
        assert_eq!(state.take(), Some(key("a")), "it came up while it ran");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_time_counts() {
        let mut state = State::default();
        let now = Instant::now();
        assert!(state.add_later(key("a"), now + Duration::from_secs(5)));
        assert!(!state.add_later(key("a"), now + Duration::from_secs(9)));
        assert!(state.add_later(key("a"), now + Duration::from_secs(1)));
        assert_eq!(state.take_due(now), (0, Some(now + Duration::from_secs(1))));
        assert_eq!(state.take_due(now + Duration::from_secs(1)), (1, None));
        assert_eq!(state.take(), Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn looking_at_a_key_forgets_its_time() {
        let mut state = State::default();
        let now = Instant::now();
        state.add_later(key("a"), now + Duration::from_secs(1));
        state.add(key("a"));
        state.take();
        assert_eq!(state.take_due(now + Duration::from_secs(2)), (0, None));
    }

    #[test]
    fn retries_slow_down_up_to_a_bound() {
        let delays: Vec<u64> = [1, 2, 3, 13, 14, 1000]
            .map(|failures| u64::try_from(retry_delay(failures).as_millis()).expect("small"))
            .into();
        assert_eq!(delays, [5, 10, 20, 20_480, 30_000, 30_000]);
    }

    /// Tells what it looks at, and answers the first look at each key in one way and all others in another.
    struct Recorder {
        looks: tokio::sync::mpsc::Sender<String>,
        first: Next,
        seen: Mutex<HashSet<ObjectKey>>,
        then: Next,
    }

    impl Reconcile for Recorder {
        async fn reconcile(&self, key: ObjectKey) -> Next {
            let first = self.seen.lock().expect("nothing panicked").insert(key.clone());
            self.looks.send(key.name).await.expect("the test listens");
            if first { self.first } else { self.then }
        }
    }

    fn recorder(first: Next, then: Next) -> (Recorder, tokio::sync::mpsc::Receiver<String>) {
        let (looks, receiver) = tokio::sync::mpsc::channel(16);
        (Recorder { looks, first, seen: Mutex::default(), then }, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn workers_take_keys_now_and_later() {
        let group = TaskGroup::new("test");
        let (recorder, mut looks) = recorder(Next::After(Duration::from_secs(60)), Next::Wait);
        let queue = WorkQueue::new();
        queue.start(2, recorder, &group);
        queue.add(key("a"));
        assert_eq!(looks.recv().await.as_deref(), Some("a"));
        let before = Instant::now();
        assert_eq!(looks.recv().await.as_deref(), Some("a"));
        assert!(before.elapsed() >= Duration::from_secs(60), "on the paused clock");
        assert!(group.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_a_moment_are_looked_at_once() {
        let group = TaskGroup::new("test");
        let (recorder, mut looks) = recorder(Next::Wait, Next::Wait);
        let queue = WorkQueue::new();
        queue.start(2, recorder, &group);
        for _ in 0..100 {
            queue.add_after(key("a"), Duration::from_millis(10));
        }
        queue.add_after(key("b"), Duration::from_millis(20));
        assert_eq!(looks.recv().await.as_deref(), Some("a"));
        assert_eq!(looks.recv().await.as_deref(), Some("b"), "and not the first once more");
        assert!(group.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back() {
        let group = TaskGroup::new("test");
        let (recorder, mut looks) = recorder(Next::Retry, Next::Retry);
        let queue = WorkQueue::new();
        queue.start(1, recorder, &group);
        queue.add(key("a"));
        for _ in 0..4 {
            assert_eq!(looks.recv().await.as_deref(), Some("a"));
        }
        assert!(group.drain(Duration::from_secs(1)).await);
    }
}
