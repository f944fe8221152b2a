//! Accepting connections and giving each a thread.

use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use atoll_guest::protocol::{CONNECTIONS_MAX, Greeting};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::boot::Door;
use super::{Guest, http};

const STACK_BYTES: usize = 256 * 1024;

/// Threads started in advance. A workload that uses up all the processes it may have leaves none for a new thread:
/// then these take the connections, so that it can still be killed.
const RESERVE_THREADS: usize = 2;

const ACCEPT_RETRY_PAUSE_MS: u64 = 10;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 46\r\n\
                      connection: close\r\n\r\n{\"detail\":\"too many connections to the guest\"}";

type Slot = Arc<Mutex<Option<UnixStream>>>;

/// Starts the thread that accepts, and returns.
pub(crate) fn start(guest: &Arc<Guest>, door: Door) -> io::Result<()> {
    if let Door::Feed(feed) = &door {
        greet(guest, feed)?;
    }
    let active = Arc::new(AtomicUsize::new(0));
    let (reserve, waiting) = sync_channel(RESERVE_THREADS);
    let waiting = Arc::new(Mutex::new(waiting));
    for _ in 0..RESERVE_THREADS {
        let (guest, active, waiting) = (Arc::clone(guest), Arc::clone(&active), Arc::clone(&waiting));
        thread::Builder::new()
            .name("reserve".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || serve_reserved(&guest, &active, &waiting))?;
    }
    let guest = Arc::clone(guest);
    let accepting = move || {
        loop {
            match next(&door) {
                Ok(stream) => take(&guest, &active, &reserve, stream),
                // Out of descriptors or memory: what is served now will end.
                Err(_) => thread::sleep(Duration::from_millis(ACCEPT_RETRY_PAUSE_MS)),
            }
        }
    };
    thread::Builder::new().name("accept".to_owned()).stack_size(STACK_BYTES).spawn(accepting)?;
    Ok(())
}

/// Tells the other end that this guest is there, and where it finds itself.
fn greet(guest: &Guest, feed: &OwnedFd) -> io::Result<()> {
    let greeting = serde_json::to_vec(&Greeting { kernel: guest.kernel }).map_err(io::Error::other)?;
    rustix::io::write(feed, &greeting)?;
    Ok(())
}

/// Waits for the next connection.
fn next(door: &Door) -> io::Result<UnixStream> {
    let feed = match door {
        Door::Listener(listener) => return listener.accept().map(|(stream, _)| stream),
        Door::Feed(feed) => feed,
    };
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(feed, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let brought = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // Without one, whoever brought them is gone, and the sandbox is about to end.
    brought.map(UnixStream::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn take(guest: &Arc<Guest>, active: &Arc<AtomicUsize>, reserve: &SyncSender<UnixStream>, stream: UnixStream) {
    if active.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        refuse(active, &stream);
        return;
    }
    let slot: Slot = Arc::new(Mutex::new(Some(stream)));
    let (guest, counted, handed_over) = (Arc::clone(guest), Arc::clone(active), Arc::clone(&slot));
    let body = move || {
        if let Some(stream) = empty(&handed_over) {
            http::serve(&guest, stream);
        }
        counted.fetch_sub(1, Ordering::AcqRel);
    };
    let started = thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES).spawn(body);
    if started.is_err()
        && let Some(stream) = empty(&slot)
        && let Err(unserved) = reserve.try_send(stream)
    {
        let (std::sync::mpsc::TrySendError::Full(stream) | std::sync::mpsc::TrySendError::Disconnected(stream)) =
            unserved;
        refuse(active, &stream);
    }
}

fn serve_reserved(guest: &Arc<Guest>, active: &AtomicUsize, waiting: &Mutex<Receiver<UnixStream>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(stream) = next else { return };
        http::serve(guest, stream);
        active.fetch_sub(1, Ordering::AcqRel);
    }
}

fn empty(slot: &Slot) -> Option<UnixStream> {
    slot.lock().expect("no panic while a stream is handed over").take()
}

fn refuse(active: &AtomicUsize, mut stream: &UnixStream) {
    // The client may not read, and must not be waited for.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(BUSY));
    active.fetch_sub(1, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_well_formed() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(body.starts_with('{') && body.ends_with('}'));
    }
}
