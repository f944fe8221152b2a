//! One command: what its pump, its clients and the reaper share.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use atoll_guest::protocol::{ErrorCode, ErrorReply, ExecSummary, Exit, FrameKind, Started, TerminalSize};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, Signal, WaitStatus, kill_process_group};

use super::super::process::Tag;
use super::super::pty;
use super::output::Output;

/// Standard input that a client may send ahead of the command's reading.
const STDIN_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// End of transmission, as typed on a terminal.
const TERMINAL_EOF: &[u8] = &[4];

/// A command that was started.
pub(crate) struct Exec {
    id: String,
    argv: Vec<String>,
    idempotency_key: Option<String>,
    tag: Tag,
    started_ms: u64,
    pid: AtomicI32,
    /// Wakes the pump.
    wake: OwnedFd,
    state: Mutex<State>,
    /// Something in `state` changed that a client may wait for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    output: Output,
    readers: HashMap<u64, Reader>,
    readers_ever: u64,
    stdin: Stdin,
    /// The guest's end of the command's terminal.
    controller: Option<OwnedFd>,
    status: Option<WaitStatus>,
    killed: bool,
    timed_out: bool,
    /// Set once all output is in `output`.
    exit: Option<Exit>,
}

struct Reader {
    position: u64,
    closed: bool,
}

#[derive(Default)]
struct Stdin {
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// No more will come from clients.
    eof: bool,
    /// The command takes no more.
    closed: bool,
}

/// What the pump should look at next.
pub(super) struct Outlook {
    pub(super) read_output: bool,
    pub(super) write_stdin: bool,
    pub(super) close_stdin: bool,
    pub(super) leader_ended: bool,
}

impl Exec {
    pub(super) fn new(
        id: String,
        argv: Vec<String>,
        idempotency_key: Option<String>,
        tag: Tag,
        started_ms: u64,
    ) -> rustix::io::Result<Self> {
        Ok(Self {
            id,
            argv,
            idempotency_key,
            tag,
            started_ms,
            pid: AtomicI32::new(0),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    pub(super) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    pub(super) fn set_pid(&self, pid: i32) {
        self.pid.store(pid, Ordering::Release);
    }

    pub(super) fn set_controller(&self, controller: Option<OwnedFd>) {
        self.state().controller = controller;
    }

    pub(super) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }

    pub(super) fn summary(&self) -> ExecSummary {
        let state = self.state();
        ExecSummary {
            exec_id: self.id.clone(),
            argv: self.argv.clone(),
            pid: self.pid.load(Ordering::Acquire),
            started_ms: self.started_ms,
            exit: state.exit.clone(),
            attached: u32::try_from(state.readers.values().filter(|reader| !reader.closed).count()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn kept_bytes_if_ended(&self) -> Option<usize> {
        let state = self.state();
        state.exit.as_ref().map(|_| state.output.kept_bytes())
    }

    /// Called by the reaper.
    pub(super) fn leader_ended(&self, status: WaitStatus) {
        self.state().status = Some(status);
        self.wake_pump();
    }

    /// The guest is about to kill the command; its SIGKILL is then no sign of lack of memory.
    pub(super) fn will_be_killed(&self, timed_out: bool) {
        let mut state = self.state();
        if state.status.is_none() {
            state.killed = true;
            state.timed_out |= timed_out;
        }
    }

    /// Adds standard input. Waits while too much is queued; what a command that ended would have read is dropped.
    pub(crate) fn push_stdin(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        while state.stdin.bytes > STDIN_QUEUE_BYTES_MAX && !state.stdin.closed && state.exit.is_none() {
            state = self.changed.wait(state).expect("no panic while a command's state is held");
        }
        if state.stdin.closed || state.stdin.eof || state.exit.is_some() {
            return;
        }
        state.stdin.bytes += bytes.len();
        state.stdin.queue.push_back(bytes);
        drop(state);
        self.wake_pump();
    }

    /// Ends standard input.
    pub(crate) fn end_stdin(&self) {
        let mut state = self.state();
        if state.controller.is_some() {
            state.stdin.bytes += TERMINAL_EOF.len();
            state.stdin.queue.push_back(TERMINAL_EOF.to_vec());
        } else {
            state.stdin.eof = true;
        }
        drop(state);
        self.wake_pump();
    }

    /// Signals the command's process group.
    pub(crate) fn signal(&self, number: i32) -> Result<(), ErrorReply> {
        let invalid = || error(ErrorCode::InvalidArgument, format!("{number} is not a signal that can be sent"));
        let signal = Signal::from_named_raw(number).ok_or_else(invalid)?;
        let state = self.state();
        if state.status.is_some() {
            return Err(error(ErrorCode::NotFound, "the command has ended".to_owned()));
        }
        // The leader has not been reaped (its status would be here), so the id still means its group.
        let group = Pid::from_raw(self.pid.load(Ordering::Acquire)).ok_or_else(invalid)?;
        let sent = kill_process_group(group, signal);
        drop(state);
        sent.map_err(|errno| error(ErrorCode::NotFound, format!("the signal was not delivered: {errno}")))
    }

    /// Tells the command's terminal its size.
    pub(crate) fn resize(&self, size: TerminalSize) -> Result<(), ErrorReply> {
        match &self.state().controller {
            Some(controller) => pty::resize(controller, size)
                .map_err(|errno| error(ErrorCode::Internal, format!("the terminal was not resized: {errno}"))),
            None => Err(error(ErrorCode::InvalidArgument, "the command has no terminal".to_owned())),
        }
    }

    pub(super) fn outlook(&self) -> Outlook {
        let mut state = self.state();
        // A reader that went away no longer holds the command up.
        state.readers.retain(|_, reader| !reader.closed);
        let slowest = state.readers.values().map(|reader| reader.position).min();
        Outlook {
            read_output: !slowest.is_some_and(|position| state.output.is_far_ahead_of(position)),
            write_stdin: !state.stdin.queue.is_empty(),
            close_stdin: state.stdin.eof && state.stdin.queue.is_empty(),
            leader_ended: state.status.is_some(),
        }
    }

    pub(super) fn append_output(&self, kind: FrameKind, bytes: &[u8]) {
        self.state().output.append(kind, bytes);
        self.changed.notify_all();
    }

    /// Next bytes for standard input; what could not be written is given back with [`Exec::return_stdin`].
    pub(super) fn take_stdin(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        let bytes = state.stdin.queue.pop_front()?;
        state.stdin.bytes -= bytes.len();
        drop(state);
        self.changed.notify_all();
        Some(bytes)
    }

    pub(super) fn return_stdin(&self, rest: Vec<u8>) {
        let mut state = self.state();
        state.stdin.bytes += rest.len();
        state.stdin.queue.push_front(rest);
    }

    pub(super) fn stdin_closed(&self) {
        let mut state = self.state();
        state.stdin = Stdin { closed: true, ..Stdin::default() };
        drop(state);
        self.changed.notify_all();
    }

    /// All output is in: the end is told to whoever waits. Returns it with the number of bytes ever written.
    pub(super) fn finish(&self) -> (Exit, u64) {
        let mut state = self.state();
        let status = state.status.expect("a command is finished after its leader ended");
        let signal = status.terminating_signal();
        let exit = Exit {
            code: signal.map_or_else(|| status.exit_status().unwrap_or_default(), |signal| 128 + signal),
            signal,
            timed_out: state.timed_out,
            oom_suspected: signal == Some(Signal::KILL.as_raw()) && !state.killed,
        };
        state.exit = Some(exit.clone());
        state.controller = None;
        state.stdin = Stdin { closed: true, ..Stdin::default() };
        let written = state.output.end();
        drop(state);
        self.changed.notify_all();
        (exit, written)
    }

    fn wake_pump(&self) {
        // Full means that it is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while a command's state is held")
    }
}

fn error(code: ErrorCode, message: String) -> ErrorReply {
    ErrorReply { code, message }
}

/// What an attached client gets next.
pub(crate) enum Next {
    Output(FrameKind, Vec<u8>),
    Exited(Exit),
    /// The client went away.
    Closed,
}

/// A client's place in a command's output. While it is there, output that it has not read is not dropped: the command
/// waits instead. Dropping it detaches.
pub(crate) struct Attachment {
    exec: Arc<Exec>,
    reader: u64,
    dropped_bytes: u64,
}

impl Attachment {
    pub(super) fn new(exec: Arc<Exec>) -> Self {
        let mut state = exec.state();
        let (reader, position) = (state.readers_ever, state.output.start());
        state.readers_ever += 1;
        state.readers.insert(reader, Reader { position, closed: false });
        drop(state);
        Self { exec, reader, dropped_bytes: position }
    }

    pub(crate) fn exec(&self) -> &Arc<Exec> {
        &self.exec
    }

    /// The reply that begins the session.
    pub(crate) fn started(&self, replayed: bool) -> Started {
        Started { exec_id: self.exec.id.clone(), replayed, dropped_bytes: self.dropped_bytes }
    }

    /// Waits for output, the end, or [`Closer::close`].
    pub(crate) fn next(&mut self) -> Next {
        let mut state = self.exec.state();
        loop {
            let Some(reader) = state.readers.get(&self.reader).filter(|reader| !reader.closed) else {
                return Next::Closed;
            };
            let position = reader.position;
            if let Some((kind, bytes, next)) = state.output.read_from(position) {
                let was_held_up = state.output.is_far_ahead_of(position);
                if let Some(reader) = state.readers.get_mut(&self.reader) {
                    reader.position = next;
                }
                drop(state);
                if was_held_up {
                    self.exec.wake_pump();
                }
                return Next::Output(kind, bytes);
            }
            if let Some(exit) = &state.exit {
                return Next::Exited(exit.clone());
            }
            state = self.exec.changed.wait(state).expect("no panic while a command's state is held");
        }
    }

    /// A handle that ends [`Attachment::next`] from another thread.
    pub(crate) fn closer(&self) -> Closer {
        Closer { exec: Arc::clone(&self.exec), reader: self.reader }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.closer().close();
    }
}

/// See [`Attachment::closer`].
pub(crate) struct Closer {
    exec: Arc<Exec>,
    reader: u64,
}

impl Closer {
    pub(crate) fn close(&self) {
        if let Some(reader) = self.exec.state().readers.get_mut(&self.reader) {
            reader.closed = true;
        }
        self.exec.changed.notify_all();
        self.exec.wake_pump();
    }
}
