//! The main thread: it runs the workload, collects every process that ends, and decides when the sandbox is over.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Mutex;

use atoll_guest::protocol::{
    EXIT_CODE_BAD_CONFIG, EXIT_CODE_WORKLOAD_NOT_EXECUTABLE, EXIT_CODE_WORKLOAD_NOT_FOUND, ErrorCode, ErrorReply,
    Workload as WorkloadConfig,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::clock::{monotonic_ms, timespec};
use super::process::ProcessError;
use super::signals::Signals;
use super::spawn::{self, Launch, SpawnError, complete_environment};
use super::{Guest, complain};

/// Exit code of a workload killed because its grace was over.
const EXIT_CODE_KILLED: u8 = 137;

/// The Pod's command.
#[derive(Default)]
pub(crate) struct Workload {
    pid: Mutex<Option<i32>>,
}

impl Workload {
    pub(crate) fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Sends a signal to the workload's own process.
    pub(crate) fn signal(&self, number: i32) -> Result<(), ErrorReply> {
        let error = |code, message: String| ErrorReply { code, message };
        let invalid = || error(ErrorCode::InvalidArgument, format!("{number} is not a signal that can be sent"));
        let signal = Signal::from_named_raw(number).ok_or_else(invalid)?;
        // The lock is held while the process is reaped, too: the id means the workload.
        let pid = self.pid();
        let running = pid.and_then(Pid::from_raw);
        let running = running.ok_or_else(|| error(ErrorCode::NotFound, "no workload runs here".to_owned()))?;
        let sent = kill_process(running, signal);
        drop(pid);
        sent.map_err(|errno| error(ErrorCode::NotFound, format!("the signal was not delivered: {errno}")))
    }

    fn pid(&self) -> std::sync::MutexGuard<'_, Option<i32>> {
        self.pid.lock().expect("no panic while the id is held")
    }
}

/// A client's wish that the sandbox end.
pub(crate) struct Stop {
    wake: OwnedFd,
    grace_ms: Mutex<Option<u64>>,
}

impl Stop {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        Ok(Self { wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, grace_ms: Mutex::default() })
    }

    pub(crate) fn ask(&self, grace_ms: u64) {
        *self.grace_ms.lock().expect("no panic while the wish is noted") = Some(grace_ms);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn take(&self) -> Option<u64> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        self.grace_ms.lock().expect("no panic while the wish is noted").take()
    }
}

/// Runs the sandbox to its end and returns its exit code.
pub(crate) fn run(guest: &Guest, signals: &Signals) -> u8 {
    if let Some(workload) = &guest.config.workload
        && let Err(error) = start_workload(guest, workload)
    {
        complain(&error);
        return exit_code_of(&error);
    }
    let code = wait_for_end(guest, signals);
    // The kernel ends what is left when PID 1 exits; elsewhere this is what ends it.
    let _ = guest.processes.kill_all();
    code
}

fn wait_for_end(guest: &Guest, signals: &Signals) -> u8 {
    let mut kill_at_ms: Option<u64> = None;
    loop {
        if let Some(status) = reap(guest) {
            return exit_code(status);
        }
        let asked = guest.stop.take();
        let signalled = signals.receive().stop.then_some(guest.config.termination_grace_ms);
        if let Some(grace_ms) = asked.or(signalled) {
            let at = monotonic_ms().saturating_add(grace_ms);
            // A second wish can only make it sooner.
            kill_at_ms = Some(kill_at_ms.map_or(at, |earlier| earlier.min(at)));
            ask_to_end(guest);
        }
        let is_idle = guest.config.workload.is_none();
        if let Some(kill_at_ms) = kill_at_ms {
            if is_idle && guest.processes.are_none() {
                return 0;
            }
            if monotonic_ms() >= kill_at_ms {
                return if is_idle { 0 } else { EXIT_CODE_KILLED };
            }
        }
        let timeout_ms = kill_at_ms.map(|at| at.saturating_sub(monotonic_ms()));
        let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(&guest.stop.wake, PollFlags::IN)];
        let _ = poll(&mut fds, timeout_ms.map(timespec).as_ref());
    }
}

/// SIGTERM to the workload, or to everything in an idle sandbox. What does not listen is killed later.
fn ask_to_end(guest: &Guest) {
    if guest.config.workload.is_some() {
        let _ = guest.workload.signal(Signal::TERM.as_raw());
    } else {
        let _ = guest.processes.signal_all(Signal::TERM);
    }
}

/// Collects all processes that ended; returns the workload's status if it is among them.
fn reap(guest: &Guest) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        let mut workload = guest.workload.pid();
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if *workload == Some(pid) {
                    *workload = None;
                    ended = Some(status);
                }
                drop(workload);
                guest.execs.reaped(pid, status);
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Why the workload was not started.
#[derive(Debug, thiserror::Error)]
enum WorkloadError {
    #[error("the workload can not be started")]
    Spawn(#[source] SpawnError),
    #[error("the workload can not be started")]
    Tag(#[source] ProcessError),
    #[error("the workload can not be started without /dev/null")]
    Null(#[source] Errno),
}

fn start_workload(guest: &Guest, workload: &WorkloadConfig) -> Result<(), WorkloadError> {
    let tag = guest.processes.take_tag().map_err(WorkloadError::Tag)?;
    let mut env = workload.env.clone();
    complete_environment(&mut env, &workload.user);
    let cwd = guest.directory(workload.cwd.as_deref());
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(WorkloadError::Null)?;
    let stdin = if workload.stdin { 0 } else { null.as_raw_fd() };
    let launch = Launch {
        argv: &workload.argv,
        env: env.into_iter().collect(),
        cwd: &cwd,
        user: &workload.user,
        tag,
        limits: &guest.config.limits,
        stdio: [stdin, 1, 2],
        is_terminal: false,
    };
    spawn::spawn(&launch, |pid| *guest.workload.pid() = Some(pid)).map_err(WorkloadError::Spawn)
}

/// As shells do.
fn exit_code_of(error: &WorkloadError) -> u8 {
    match error {
        WorkloadError::Spawn(SpawnError::Program { errno: Errno::NOENT | Errno::NOTDIR, .. }) => {
            EXIT_CODE_WORKLOAD_NOT_FOUND
        }
        WorkloadError::Spawn(SpawnError::Program { .. }) => EXIT_CODE_WORKLOAD_NOT_EXECUTABLE,
        _ => EXIT_CODE_BAD_CONFIG,
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code =
        status.terminating_signal().map_or_else(|| status.exit_status().unwrap_or_default(), |signal| 128 + signal);
    u8::try_from(code & 0xff).expect("masked to one byte")
}
