//! Waiting for a process to end, without a thread.
#![expect(unsafe_code, reason = "the runtime wants a promise about the descriptor")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the process has ended. Cancel-safe.
pub(super) async fn ended(process: OwnedFd) -> io::Result<()> {
    // SAFETY: an owned descriptor stays open, and stays the same, as long as it is owned.
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
    watched.readable().await.map(drop)
}
