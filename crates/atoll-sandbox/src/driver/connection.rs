//! Requests and answers over the launcher's socket, many at a time.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use atoll_rt::TaskGroup;

use super::DriverError;
use crate::launcher::protocol::{Answer, Call, FRAME_BYTES_MAX, Refusal, Request, Response};

/// Requests on their way to the launcher; more wait for room.
const REQUESTS_MAX: usize = 256;

type Outcome = Result<Answer, Refusal>;

/// A shared connection.
#[derive(Clone)]
pub(super) struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    requests: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<Waiting>,
    counter: AtomicU64,
}

/// Who waits for which answer.
struct Waiting {
    by_number: HashMap<u64, oneshot::Sender<Outcome>>,
    /// The launcher is gone: nobody will be answered.
    closed: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(socket: StdUnixStream, group: &TaskGroup) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let waiting = Mutex::new(Waiting { by_number: HashMap::new(), closed: false });
        let inner = Arc::new(Inner { requests, waiting, counter: AtomicU64::new(0) });
        group.spawn("sandbox-requests", write_requests(queue, writer, group.token()));
        let connection = Self { inner };
        // The reader does not keep the connection: it ends when the last driver is dropped and the writer with it.
        let shared = Arc::downgrade(&connection.inner);
        let token = group.token();
        group.spawn("sandbox-answers", async move {
            token.run_until_cancelled(read_answers(reader, &shared)).await;
            if let Some(inner) = shared.upgrade() {
                inner.close();
            }
        });
        Ok(connection)
    }

    /// Sends a request and waits for its answer. Dropping the future leaves the request with the launcher.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, DriverError> {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        let frame = serde_json::to_vec(&Request { number, call }).map_err(|_| DriverError::Protocol)?;
        if frame.len() > FRAME_BYTES_MAX {
            return Err(DriverError::Protocol);
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.closed {
                return Err(DriverError::LauncherGone);
            }
            waiting.by_number.insert(number, sender);
        }
        if self.inner.requests.send(frame).await.is_err() {
            self.inner.close();
        }
        let outcome = receiver.await.map_err(|_| DriverError::LauncherGone)?;
        outcome.map_err(DriverError::Refused)
    }
}

impl Inner {
    fn answer(&self, response: Response) {
        let waiter = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.by_number.remove(&response.number)
        };
        if let Some(waiter) = waiter {
            // Whoever asked may have stopped waiting.
            let _ = waiter.send(response.outcome);
        }
    }

    /// Tells everybody who waits that no answer will come.
    fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.by_number.clear();
    }
}

async fn write_requests(
    mut queue: mpsc::Receiver<Vec<u8>>,
    mut writer: OwnedWriteHalf,
    token: tokio_util::sync::CancellationToken,
) {
    let writing = async {
        while let Some(frame) = queue.recv().await {
            let Ok(length) = u32::try_from(frame.len()) else { break };
            if writer.write_all(&length.to_be_bytes()).await.is_err() || writer.write_all(&frame).await.is_err() {
                break;
            }
        }
    };
    token.run_until_cancelled(writing).await;
}

/// Until the launcher is gone.
async fn read_answers(mut reader: OwnedReadHalf, shared: &std::sync::Weak<Inner>) {
    loop {
        let Ok(length) = reader.read_u32().await else { return };
        let length = length as usize;
        if length > FRAME_BYTES_MAX {
            return;
        }
        let mut frame = vec![0; length];
        if reader.read_exact(&mut frame).await.is_err() {
            return;
        }
        let Ok(response) = serde_json::from_slice::<Response>(&frame) else { return };
        let Some(inner) = shared.upgrade() else { return };
        inner.answer(response);
    }
}
