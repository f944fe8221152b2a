//! Named tasks: the only place that spawns. A group knows what runs in it, tells it to stop, and waits for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A set of tasks that are stopped and awaited together. Cloning shares the set.
#[derive(Clone)]
pub struct TaskGroup {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    tracker: TaskTracker,
    token: CancellationToken,
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TaskGroup")
            .field("name", &self.inner.name)
            .field("running", &self.inner.tracker.len())
            .finish()
    }
}

impl TaskGroup {
    /// A group on its own.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with_token(name.to_owned(), CancellationToken::new())
    }

    /// A group that stops with this one, and is drained by its own [`TaskGroup::drain`].
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::with_token(format!("{}/{name}", self.inner.name), self.inner.token.child_token())
    }

    fn with_token(name: String, token: CancellationToken) -> Self {
        Self { inner: Arc::new(Inner { name, tracker: TaskTracker::new(), token }) }
    }

    /// Starts a task. It goes on when the handle is dropped; it is expected to end soon after [`TaskGroup::token`] is
    /// cancelled.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", task = name, group = %self.inner.name);
        TaskHandle(tokio::spawn(self.inner.tracker.track_future(future.instrument(span))))
    }

    /// Runs blocking code on a thread of its own pool.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn_blocking<F, T>(&self, name: &'static str, function: F) -> TaskHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let span = tracing::info_span!("task", task = name, group = %self.inner.name);
        let guard = self.inner.tracker.token();
        TaskHandle(tokio::task::spawn_blocking(move || {
            let _guard = guard;
            span.in_scope(function)
        }))
    }

    /// Cancelled when the group is to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Tells every task to stop, without waiting.
    pub fn cancel(&self) {
        self.inner.token.cancel();
    }

    /// Tells every task to stop and waits for them, at most `deadline`. Returns whether all ended in time.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.inner.token.cancel();
        self.inner.tracker.close();
        tokio::time::timeout(deadline, self.inner.tracker.wait()).await.is_ok()
    }
}

/// The result of a task to come. Dropping it lets the task go on.
#[derive(Debug)]
pub struct TaskHandle<T>(JoinHandle<T>);

/// A task did not return.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The task panicked.
    #[error("a task panicked")]
    Panicked,
    /// The task was aborted.
    #[error("a task was aborted")]
    Aborted,
}

impl<T> TaskHandle<T> {
    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map_err(|error: JoinError| if error.is_panic() { TaskError::Panicked } else { TaskError::Aborted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_that_heed_the_token() {
        let group = TaskGroup::new("test");
        let token = group.token();
        let handle = group.spawn("heeding", async move {
            token.cancelled().await;
            7
        });
        assert!(group.drain(Duration::from_secs(1)).await);
        assert_eq!(handle.await.expect("it returned"), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_gives_up_at_its_deadline() {
        let group = TaskGroup::new("test");
        let _handle = group.spawn("deaf", std::future::pending::<()>());
        assert!(!group.drain(Duration::from_secs(1)).await);
        assert_eq!(group.running(), 1);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_handle_alone() {
        let group = TaskGroup::new("test");
        let handle = group.spawn("panics", async { panic!("as intended") });
        let outcome: Result<(), TaskError> = handle.await;
        assert!(matches!(outcome, Err(TaskError::Panicked)));
    }

    #[tokio::test]
    async fn a_child_stops_with_its_parent() {
        let parent = TaskGroup::new("parent");
        let child = parent.child("child");
        parent.cancel();
        assert!(child.token().is_cancelled());
    }
}
