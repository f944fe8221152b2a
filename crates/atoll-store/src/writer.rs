//! One thread that writes: it takes all requests that wait and hands them over together (group commit).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use atoll_rt::TaskGroup;

/// Requests that may wait for the writer.
const QUEUE_REQUESTS_MAX: usize = 1024;
/// Requests that share one commit.
const BATCH_REQUESTS_MAX: usize = 256;
/// Once its group stops, a writer goes on for requests that come within this time of each other, then ends.
const DRAIN_IDLE: Duration = Duration::from_millis(200);

/// A request was not taken. It had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many wait.
    Full,
    /// The writer has ended.
    Closed,
}

/// The way to a writer thread. The thread ends when the last clone is dropped, or soon after its group stops.
pub(crate) struct Queue<R> {
    sender: Arc<SyncSender<Option<R>>>,
}

impl<R> Clone for Queue<R> {
    fn clone(&self) -> Self {
        Self { sender: Arc::clone(&self.sender) }
    }
}

impl<R: Send + 'static> Queue<R> {
    /// Starts the thread. `write` gets what waits, in order, at least one request.
    pub(crate) fn start<W>(group: &TaskGroup, name: &'static str, write: W) -> Self
    where
        W: FnMut(Vec<R>) + Send + 'static,
    {
        let (sender, receiver) = sync_channel(QUEUE_REQUESTS_MAX);
        let sender = Arc::new(sender);
        let draining = Arc::new(AtomicBool::new(false));
        group.spawn_blocking(name, {
            let draining = Arc::clone(&draining);
            move || run(&receiver, &draining, write)
        });
        // Weak, so that this task does not keep the thread alive.
        let waker = Arc::downgrade(&sender);
        let token = group.token();
        group.spawn("store-drain", async move {
            token.cancelled().await;
            draining.store(true, Ordering::Release);
            if let Some(sender) = waker.upgrade() {
                // Full is as good: the thread is awake and will see the flag.
                let _ = sender.try_send(None);
            }
        });
        Self { sender }
    }

    /// Hands a request to the thread.
    pub(crate) fn push(&self, request: R) -> Result<(), Refused> {
        self.sender.try_send(Some(request)).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Closed,
        })
    }
}

fn run<R, W: FnMut(Vec<R>)>(receiver: &Receiver<Option<R>>, draining: &AtomicBool, mut write: W) {
    loop {
        let first = if draining.load(Ordering::Acquire) {
            match receiver.recv_timeout(DRAIN_IDLE) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        } else {
            match receiver.recv() {
                Ok(message) => message,
                Err(_disconnected) => return,
            }
        };
        let mut batch: Vec<R> = first.into_iter().collect();
        while batch.len() < BATCH_REQUESTS_MAX {
            match receiver.try_recv() {
                Ok(message) => batch.extend(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if !batch.is_empty() {
            write(batch);
        }
    }
}
