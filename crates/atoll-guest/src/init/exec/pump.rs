//! The thread that moves a command's bytes, watches its time, and notices its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use atoll_guest::protocol::FrameKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread, read, write};

use super::super::Guest;
use super::super::clock::{monotonic_ms, timespec};
use super::record::Exec;
use super::streams::Streams;

const STACK_BYTES: usize = 128 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// A terminal whose command has ended is read until nothing came for so long; what it holds can not be asked.
const TERMINAL_SETTLE_MS: u64 = 50;

/// A command for a pump.
pub(super) struct Work {
    pub(super) exec: Arc<Exec>,
    pub(super) streams: Streams,
    pub(super) deadline_ms: Option<u64>,
}

/// Starts the thread before there is a command, so that there is never a command without its thread. The thread ends
/// at once when the sender is dropped.
pub(super) fn start(guest: &Arc<Guest>) -> io::Result<SyncSender<Work>> {
    let (sender, receiver): (_, Receiver<Work>) = sync_channel(1);
    let guest = Arc::clone(guest);
    thread::Builder::new().name("command".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        if let Ok(work) = receiver.recv() {
            Pump::new(guest, work).run();
        }
    })?;
    Ok(sender)
}

struct Pump {
    guest: Arc<Guest>,
    exec: Arc<Exec>,
    stdin: Option<OwnedFd>,
    outputs: Vec<OutputStream>,
    is_terminal: bool,
    deadline_ms: Option<u64>,
    buffer: Vec<u8>,
}

struct OutputStream {
    kind: FrameKind,
    fd: OwnedFd,
    /// Once the leader has ended: bytes it may have written that are still to be read.
    owed_bytes: Option<u64>,
}

/// What polling found.
struct Ready {
    outputs: Vec<bool>,
    stdin: bool,
    nothing: bool,
}

impl Pump {
    fn new(guest: Arc<Guest>, work: Work) -> Self {
        let Streams { stdin, stdout, stderr, is_terminal } = work.streams;
        let mut outputs = vec![OutputStream { kind: FrameKind::Stdout, fd: stdout, owed_bytes: None }];
        outputs.extend(stderr.map(|fd| OutputStream { kind: FrameKind::Stderr, fd, owed_bytes: None }));
        let buffer = vec![0; READ_BYTES];
        Self { guest, exec: work.exec, stdin, outputs, is_terminal, deadline_ms: work.deadline_ms, buffer }
    }

    fn run(mut self) {
        self.serve_until_ended();
        self.stdin = None;
        let (exit, written) = self.exec.finish();
        self.guest.execs.ended(&self.exec, &exit, written);
        self.discard_what_follows();
    }

    fn serve_until_ended(&mut self) {
        loop {
            let outlook = self.exec.outlook();
            if outlook.leader_ended {
                self.note_what_is_owed();
                if self.outputs.iter().all(|output| output.owed_bytes == Some(0)) {
                    return;
                }
            } else if self.deadline_ms.is_some_and(|deadline| monotonic_ms() >= deadline) {
                self.kill_in_time();
                continue;
            }
            if outlook.close_stdin {
                self.close_stdin();
            }
            let settle = outlook.leader_ended && self.is_terminal && outlook.read_output;
            let timeout_ms = if settle {
                Some(TERMINAL_SETTLE_MS)
            } else if outlook.leader_ended {
                None
            } else {
                self.deadline_ms.map(|deadline| deadline.saturating_sub(monotonic_ms()))
            };
            let ready = self.poll(outlook.read_output, outlook.write_stdin, timeout_ms);
            if settle && ready.nothing {
                return;
            }
            if ready.stdin {
                self.write_stdin();
            }
            self.read_outputs(&ready.outputs);
        }
    }

    /// What the leader wrote was in the pipes when it ended; what its children write later is not its output.
    fn note_what_is_owed(&mut self) {
        if self.is_terminal {
            return;
        }
        for output in &mut self.outputs {
            if output.owed_bytes.is_none() {
                output.owed_bytes = Some(ioctl_fionread(&output.fd).unwrap_or(0));
            }
        }
    }

    fn kill_in_time(&mut self) {
        self.deadline_ms = None;
        self.exec.will_be_killed(true);
        // What can not be killed stays known by its id, and the command goes on being served.
        let _ = self.guest.processes.kill_tree(self.exec.tag());
    }

    fn poll(&mut self, read_output: bool, write_stdin: bool, timeout_ms: Option<u64>) -> Ready {
        let mut fds = vec![PollFd::new(self.exec.wake_fd(), PollFlags::IN)];
        let output_count = if read_output { self.outputs.len() } else { 0 };
        fds.extend(self.outputs.iter().take(output_count).map(|output| PollFd::new(&output.fd, PollFlags::IN)));
        let stdin = self.stdin.as_ref().filter(|_| write_stdin);
        fds.extend(stdin.map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        let found = poll(&mut fds, timeout_ms.map(timespec).as_ref());
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let mut outputs: Vec<bool> = fds[1..=output_count].iter().map(is_ready).collect();
        outputs.resize(self.outputs.len(), false);
        let ready =
            Ready { outputs, stdin: fds[1 + output_count..].iter().any(is_ready), nothing: matches!(found, Ok(0)) };
        if is_ready(&fds[0]) {
            let mut count = [0; 8];
            let _ = read(self.exec.wake_fd(), &mut count);
        }
        ready
    }

    fn read_outputs(&mut self, ready: &[bool]) {
        let mut ended = Vec::new();
        for (index, output) in self.outputs.iter_mut().enumerate().filter(|(index, _)| ready[*index]) {
            match read(&output.fd, &mut self.buffer) {
                Ok(0) => ended.push(index),
                Ok(count) => {
                    self.exec.append_output(output.kind, &self.buffer[..count]);
                    if let Some(owed) = &mut output.owed_bytes {
                        *owed = owed.saturating_sub(count as u64);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A terminal without a program on it answers with EIO.
                Err(_) => ended.push(index),
            }
        }
        for index in ended.into_iter().rev() {
            self.outputs.remove(index);
        }
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        let Some(bytes) = self.exec.take_stdin() else { return };
        match write(stdin, &bytes) {
            Ok(count) if count < bytes.len() => self.exec.return_stdin(bytes[count..].to_vec()),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => self.exec.return_stdin(bytes),
            Err(_) => self.close_stdin(),
        }
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
        self.exec.stdin_closed();
    }

    /// Processes left behind may go on writing; without a reader they would be killed by SIGPIPE.
    fn discard_what_follows(&mut self) {
        while !self.outputs.is_empty() {
            let mut fds: Vec<PollFd<'_>> =
                self.outputs.iter().map(|output| PollFd::new(&output.fd, PollFlags::IN)).collect();
            let _ = poll(&mut fds, None);
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut index = 0;
            let buffer = &mut self.buffer;
            self.outputs.retain(|output| {
                let is_ready = ready[index];
                index += 1;
                !is_ready || matches!(read(&output.fd, &mut *buffer), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
            });
        }
    }
}
