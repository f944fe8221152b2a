//! Terminals for commands.

use std::os::fd::OwnedFd;

use atoll_guest::protocol::{TerminalSize, User};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::identity::{IdentityError, as_user};

/// Both ends of a terminal.
pub(crate) struct Terminal {
    /// The guest's end.
    pub(crate) controller: OwnedFd,
    /// The command's end.
    pub(crate) peer: OwnedFd,
}

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    #[error("no terminal could be made (is /dev/ptmx there?)")]
    Open(#[source] Errno),
    #[error("the terminal could not be made for the user")]
    Identity(#[source] IdentityError),
}

/// A new terminal of the given size, owned by `user`: a device belongs to whoever opened its controller.
pub(crate) fn open(user: &User, size: TerminalSize) -> Result<Terminal, TerminalError> {
    let made = as_user(user, || {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&controller)?;
        let peer = ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        resize(&controller, size)?;
        Ok(Terminal { controller, peer })
    });
    made.map_err(TerminalError::Identity)?.map_err(TerminalError::Open)
}

/// Tells the terminal its size; the foreground processes get SIGWINCH.
pub(crate) fn resize(controller: &OwnedFd, size: TerminalSize) -> rustix::io::Result<()> {
    tcsetwinsize(controller, Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 })
}
