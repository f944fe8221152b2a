//! What the guest inherits from the supervisor: a configuration and a listening socket, both as descriptors.
#![expect(unsafe_code, reason = "descriptors are inherited by number, and the environment is cleared")]

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use atoll_guest::protocol::{
    BootProblem, CONFIG_BYTES_MAX, CONFIG_FD_ENV, CONNECTIONS_FD_ENV, GuestConfig, LISTEN_FD_ENV,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Everything inherited.
pub(crate) struct Boot {
    pub(crate) config: GuestConfig,
    pub(crate) door: Door,
}

/// Where connections come from.
pub(crate) enum Door {
    /// They are accepted here.
    Listener(UnixListener),
    /// They are accepted outside and brought here.
    Feed(OwnedFd),
}

/// Why the guest can not boot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("the environment variable {variable} does not hold the number of an open descriptor")]
    Descriptor { variable: &'static str },
    #[error("descriptor {fd} is not a listening Unix stream socket")]
    NotListening { fd: RawFd },
    #[error("the environment names no socket to be reached by")]
    Unreachable,
    #[error("the configuration can not be read")]
    Read(#[source] io::Error),
    #[error("the configuration is not valid")]
    Parse(#[source] serde_json::Error),
    #[error("the configuration can not be used")]
    Use(#[source] BootProblem),
    #[error("descriptors 0, 1 and 2 can not be filled")]
    StandardStreams(#[source] io::Error),
}

impl Boot {
    /// Takes over what the environment names, then clears the environment. Must run before any thread starts.
    pub(crate) fn inherit() -> Result<Self, BootError> {
        fill_standard_streams()?;
        let config_fd = inherited(CONFIG_FD_ENV)?;
        let is_named = |variable| std::env::var_os(variable).is_some();
        let door = match (is_named(LISTEN_FD_ENV), is_named(CONNECTIONS_FD_ENV)) {
            (true, _) => Door::Listener(listening(inherited(LISTEN_FD_ENV)?)?),
            (false, true) => Door::Feed(inherited(CONNECTIONS_FD_ENV)?),
            (false, false) => return Err(BootError::Unreachable),
        };
        // SAFETY: no other thread exists yet that could read the environment.
        unsafe { libc::clearenv() };
        let config = read_config(File::from(config_fd))?;
        Ok(Self { config, door })
    }
}

fn inherited(variable: &'static str) -> Result<OwnedFd, BootError> {
    let missing = || BootError::Descriptor { variable };
    let text = std::env::var(variable).map_err(|_| missing())?;
    let fd: RawFd = text.parse().map_err(|_| missing())?;
    if fd < 3 {
        return Err(missing());
    }
    // SAFETY: F_GETFD and F_SETFD on any number are harmless; a number that is not open is an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).map_err(|_| missing())?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).map_err(|_| missing())?;
    // SAFETY: the descriptor is open, and whoever started this process gave it to us to own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn read_config(file: File) -> Result<GuestConfig, BootError> {
    let mut text = Vec::new();
    file.take(CONFIG_BYTES_MAX).read_to_end(&mut text).map_err(BootError::Read)?;
    let config: GuestConfig = serde_json::from_slice(&text).map_err(BootError::Parse)?;
    config.validate().map_err(BootError::Use)?;
    Ok(config)
}

fn listening(fd: OwnedFd) -> Result<UnixListener, BootError> {
    let socket = fd.as_fd();
    let is_listening = matches!(sockopt::socket_domain(socket), Ok(AddressFamily::UNIX))
        && matches!(sockopt::socket_type(socket), Ok(SocketType::STREAM))
        && matches!(sockopt::socket_acceptconn(socket), Ok(true));
    if !is_listening {
        return Err(BootError::NotListening { fd: std::os::fd::AsRawFd::as_raw_fd(&fd) });
    }
    Ok(UnixListener::from(fd))
}

/// Without this, a descriptor opened later could become someone's standard output.
fn fill_standard_streams() -> Result<(), BootError> {
    loop {
        let fd = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
            .map_err(|errno| BootError::StandardStreams(errno.into()))?;
        if std::os::fd::AsRawFd::as_raw_fd(&fd) > 2 {
            return Ok(());
        }
        std::mem::forget(fd);
    }
}
