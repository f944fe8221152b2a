//! Handing writes to those who watch them. A write is looked up by its key's folders, so that its cost does not grow with
//! watches of other keys.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

use super::{Event, Shared};

/// Writes that may wait for one watch's reader.
const WATCH_EVENTS_MAX: usize = 4096;

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Its reader was too slow: writes were left out after the last one it gave.
    #[error("the watch was too slow")]
    Lagged,
    /// The store is gone.
    #[error("the store is shutting down")]
    Closed,
}

/// Who watches what.
pub(super) struct Hub {
    slots: Mutex<HashMap<Box<str>, Vec<Slot>>>,
    next_id: AtomicU64,
    open: AtomicU64,
    lagged: AtomicU64,
    published: AtomicU64,
}

struct Slot {
    id: u64,
    sender: mpsc::Sender<Arc<Event>>,
    lagged: Arc<AtomicBool>,
}

impl Hub {
    pub(super) fn new(revision: u64) -> Self {
        Self {
            slots: Mutex::default(),
            next_id: AtomicU64::new(0),
            open: AtomicU64::new(0),
            lagged: AtomicU64::new(0),
            published: AtomicU64::new(revision),
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(super) fn counts(&self) -> (usize, u64) {
        let open = self.open.load(Ordering::Relaxed);
        (usize::try_from(open).unwrap_or(usize::MAX), self.lagged.load(Ordering::Relaxed))
    }

    /// Opens a watch, which gets writes from now on.
    pub(super) fn register(shared: &Arc<Shared>, prefix: &str) -> Registered {
        let hub = &shared.hub;
        let id = hub.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS_MAX);
        let lagged = Arc::new(AtomicBool::new(false));
        let slot = Slot { id, sender, lagged: Arc::clone(&lagged) };
        hub.slots().entry(prefix.into()).or_default().push(slot);
        hub.open.fetch_add(1, Ordering::Relaxed);
        let registration = Registration { shared: Arc::clone(shared), prefix: prefix.into(), id };
        Registered { receiver, lagged, registration }
    }

    /// Hands out writes that are durable and in the index.
    pub(super) fn publish(&self, events: &[Arc<Event>]) {
        let Some(latest) = events.last() else { return };
        {
            let mut slots = self.slots();
            for event in events {
                let key = &*event.record.key;
                self.send(&mut slots, key, event);
                for (position, _) in key.match_indices('/') {
                    self.send(&mut slots, &key[..=position], event);
                }
            }
        }
        self.published.store(latest.revision(), Ordering::Release);
    }

    fn send(&self, slots: &mut HashMap<Box<str>, Vec<Slot>>, prefix: &str, event: &Arc<Event>) {
        let Some(watching) = slots.get_mut(prefix) else { return };
        watching.retain(|slot| match slot.sender.try_send(Arc::clone(event)) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                slot.lagged.store(true, Ordering::Release);
                self.lagged.fetch_add(1, Ordering::Relaxed);
                false
            }
        });
        if watching.is_empty() {
            slots.remove(prefix);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<Slot>>> {
        self.slots.lock().expect("no panic while the watches are locked")
    }
}

/// A watch that already collects writes, but does not know yet where it begins.
pub(super) struct Registered {
    receiver: mpsc::Receiver<Arc<Event>>,
    lagged: Arc<AtomicBool>,
    registration: Registration,
}

impl Registered {
    /// `backlog`: the writes before the registration that concern it, complete up to revision `seen`.
    pub(super) fn begin(self, backlog: VecDeque<Arc<Event>>, seen: u64) -> Watch {
        let Self { receiver, lagged, registration } = self;
        Watch { backlog, seen, receiver, lagged, _registration: registration }
    }
}

/// Closes the watch when dropped.
struct Registration {
    shared: Arc<Shared>,
    prefix: Box<str>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let hub = &self.shared.hub;
        let mut slots = hub.slots();
        if let Some(watching) = slots.get_mut(&self.prefix) {
            watching.retain(|slot| slot.id != self.id);
            if watching.is_empty() {
                slots.remove(&self.prefix);
            }
        }
        hub.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes as they happen: in order, without gaps, each once.
pub struct Watch {
    backlog: VecDeque<Arc<Event>>,
    seen: u64,
    receiver: mpsc::Receiver<Arc<Event>>,
    lagged: Arc<AtomicBool>,
    _registration: Registration,
}

impl Watch {
    /// The next write. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`WatchError::Lagged`] after the last write before the gap; [`WatchError::Closed`].
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Watch::next`], for hand-written futures.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<Event>, WatchError>> {
        if let Some(event) = self.backlog.pop_front() {
            return Poll::Ready(Ok(event));
        }
        loop {
            match std::task::ready!(self.receiver.poll_recv(context)) {
                Some(event) if event.revision() <= self.seen => {}
                Some(event) => {
                    self.seen = event.revision();
                    return Poll::Ready(Ok(event));
                }
                None => return Poll::Ready(Err(self.ended())),
            }
        }
    }

    /// The next write if it is there already.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchError> {
        if let Some(event) = self.backlog.pop_front() {
            return Ok(Some(event));
        }
        loop {
            // Not by polling: a task that has used up its share of the runtime would find nothing.
            match self.receiver.try_recv() {
                Ok(event) if event.revision() <= self.seen => {}
                Ok(event) => {
                    self.seen = event.revision();
                    return Ok(Some(event));
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Whether no write waits to be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty() && self.receiver.is_empty()
    }

    fn ended(&self) -> WatchError {
        if self.lagged.load(Ordering::Acquire) { WatchError::Lagged } else { WatchError::Closed }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").field("seen", &self.seen).finish_non_exhaustive()
    }
}
