//! The descriptors between a command and the guest.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use atoll_guest::protocol::{TerminalSize, User};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::identity::as_user;
use super::super::pty::{self, Terminal};
use super::ExecError;

/// The guest's ends; all of them do not block.
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) is_terminal: bool,
}

/// The command's ends, closed here once it runs.
pub(super) struct ChildEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    pub(super) is_terminal: bool,
}

impl ChildEnds {
    /// Descriptors to become 0, 1 and 2.
    pub(super) fn stdio(&self) -> [RawFd; 3] {
        let stderr = self.stderr.as_ref().unwrap_or(&self.stdout);
        [self.stdin.as_raw_fd(), self.stdout.as_raw_fd(), stderr.as_raw_fd()]
    }
}

/// Both ends, and the terminal's controller for resizing if there is one.
pub(super) struct Made {
    pub(super) ours: Streams,
    pub(super) child: ChildEnds,
    pub(super) controller: Option<OwnedFd>,
}

/// Makes the descriptors of a command. They belong to its user, who may then open `/dev/stdout` and the like.
pub(super) fn make(user: &User, tty: Option<TerminalSize>, with_stdin: bool) -> Result<Made, ExecError> {
    match tty {
        Some(size) => {
            let terminal = pty::open(user, size).map_err(ExecError::Terminal)?;
            on_terminal(terminal).map_err(ExecError::Descriptors)
        }
        None => as_user(user, || pipes(with_stdin)).map_err(ExecError::Identity)?.map_err(ExecError::Descriptors),
    }
}

fn on_terminal(terminal: Terminal) -> rustix::io::Result<Made> {
    let Terminal { controller, peer } = terminal;
    do_not_block(&controller)?;
    let ours = Streams {
        stdin: Some(fcntl_dupfd_cloexec(&controller, 3)?),
        stdout: fcntl_dupfd_cloexec(&controller, 3)?,
        stderr: None,
        is_terminal: true,
    };
    let child = ChildEnds { stdin: fcntl_dupfd_cloexec(&peer, 3)?, stdout: peer, stderr: None, is_terminal: true };
    Ok(Made { ours, child, controller: Some(controller) })
}

fn pipes(with_stdin: bool) -> rustix::io::Result<Made> {
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let (child_stdin, stdin) = if with_stdin {
        let (child_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        do_not_block(&stdin)?;
        (child_stdin, Some(stdin))
    } else {
        (open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    do_not_block(&stdout)?;
    do_not_block(&stderr)?;
    let ours = Streams { stdin, stdout, stderr: Some(stderr), is_terminal: false };
    let child = ChildEnds { stdin: child_stdin, stdout: child_stdout, stderr: Some(child_stderr), is_terminal: false };
    Ok(Made { ours, child, controller: None })
}

fn do_not_block(fd: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
