//! The role `supervise`: one small process per sandbox that starts the guest in namespaces of its own, keeps its
//! output, and records how it ended. It outlives the plane.
//!
//! Single-threaded: it clones without executing, which is unsafe in any other process. It is root until the guest
//! runs, and then nobody: the sandbox's own root id, without any capability on the machine.

mod filesystem;
mod gvisor;
mod identity;
mod log;
mod message;
mod start;
mod sys;
mod watch;

use std::process::ExitCode;

use atoll_guest::supervisor::{Report, SUPERVISOR_SOCKET_FD};

use sys::Trouble;

/// After standard input, output and error.
const FIRST_OTHER_FD: i32 = 3;

/// The role's `main`.
pub(crate) fn main() -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// Errors have been reported to the launcher, where it still listens; there is nobody else to tell.
fn supervise() -> Result<(), ()> {
    let socket = sys::claim_fd(SUPERVISOR_SOCKET_FD);
    let prepared = prepare().and_then(|()| message::receive(&socket));
    let assignment = report_trouble(&socket, prepared)?;
    let running = report_trouble(&socket, start::start(&assignment))?;
    report_trouble(&socket, identity::become_supervisor(&assignment.plan))?;
    let watch = watch::Watch::new(assignment, running);

    message::report(&socket, &Report::Started { guest_pid: watch.guest_pid() }).map_err(drop)?;
    // Without the launcher's consent the guest ends with this process.
    message::await_consent(&socket).map_err(drop)?;
    drop(socket);
    watch.run().map_err(drop)
}

/// A session of its own, so that no terminal's signal reaches it, and no descriptor but the socket.
fn prepare() -> Result<(), Trouble> {
    sys::close_from(FIRST_OTHER_FD)?;
    sys::check("setsid", rustix::process::setsid().map(drop))?;
    sys::check("chdir /", rustix::process::chdir("/"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

fn report_trouble<T>(socket: &std::os::fd::OwnedFd, outcome: Result<T, Trouble>) -> Result<T, ()> {
    outcome.map_err(|trouble| {
        let report = Report::Failed { attempted: trouble.attempted, errno: trouble.errno };
        // A launcher that no longer listens undoes everything by itself.
        let _ = message::report(socket, &report);
    })
}
