//! From the guest's start to its end: keeps its output and records how it ended.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use atoll_guest::supervisor::{EXIT_FILE, ExitRecord, oom_kills};

use super::log::{Log, Stream};
use super::message::Assignment;
use super::start::Running;
use super::sys::{Trouble, check, check_io};

const READ_BYTES_MAX: usize = 32 * 1024;
const COUNTERS_BYTES_MAX: u64 = 4096;

/// A running guest and what its end needs.
pub(super) struct Watch {
    pid: Pid,
    pidfd: OwnedFd,
    run_dir: OwnedFd,
    memory_events: File,
    log_bytes_max: u64,
    outputs: [Option<OwnedFd>; 2],
    streams: [Stream; 2],
}

impl Watch {
    /// Everything else of the assignment is closed.
    pub(super) fn new(assignment: Assignment, running: Running) -> Self {
        Self {
            pid: running.pid,
            pidfd: running.pidfd,
            run_dir: assignment.run_dir,
            memory_events: assignment.memory_events,
            log_bytes_max: assignment.plan.log_bytes_max,
            outputs: [Some(running.stdout), Some(running.stderr)],
            streams: [Stream::new("stdout"), Stream::new("stderr")],
        }
    }

    pub(super) fn guest_pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Until the guest has ended.
    pub(super) fn run(mut self) -> Result<(), Trouble> {
        let run_dir = check("keep the run directory", rustix::io::fcntl_dupfd_cloexec(&self.run_dir, 3))?;
        let mut log = Log::new(run_dir, self.log_bytes_max);
        // A disk that takes no log must not stop the workload: what cannot be written is read and dropped.
        let _ = log.open();
        let mut buffer = vec![0; READ_BYTES_MAX];
        while self.wait_for_output()? {
            self.pump(&mut buffer, &mut log);
        }
        // Nobody is left inside to write; what is in the pipes is all there is.
        while self.pump(&mut buffer, &mut log) {}
        self.record_exit()
    }

    /// Whether there is output, now or later: the guest has not ended.
    fn wait_for_output(&self) -> Result<bool, Trouble> {
        let mut polled: Vec<PollFd<'_>> = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        polled.extend(self.outputs.iter().flatten().map(|output| PollFd::new(output, PollFlags::IN)));
        loop {
            match rustix::event::poll(&mut polled, None) {
                Err(Errno::INTR) => {}
                other => {
                    check("wait for the guest", other)?;
                    return Ok(polled[0].revents().is_empty());
                }
            }
        }
    }

    /// Reads once from every output; their descriptors do not block. Returns whether anything was read.
    fn pump(&mut self, buffer: &mut [u8], log: &mut Log) -> bool {
        let mut any = false;
        for (output, stream) in self.outputs.iter_mut().zip(&mut self.streams) {
            let Some(open) = output.as_ref() else { continue };
            match rustix::io::read(open, &mut *buffer) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(0) | Err(_) => {
                    let _ = stream.finish(log);
                    *output = None;
                }
                Ok(count) => {
                    any = true;
                    let _ = stream.write(&buffer[..count], log);
                }
            }
        }
        any
    }

    fn record_exit(&mut self) -> Result<(), Trouble> {
        let status = loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                other => break check("learn how the guest ended", other)?,
            }
        };
        let (code, signal) =
            status.map_or((0, None), |(_, status)| (status.exit_status().unwrap_or(0), status.terminating_signal()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let finished_at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let record = ExitRecord::new(code, signal, self.oom_kills(), finished_at_ms);
        let text = serde_json::to_vec(&record).map_err(|_| Trouble::plain("write the exit record"))?;
        check_io("write the exit record", write_durably(&self.run_dir, EXIT_FILE, &text))
    }

    fn oom_kills(&mut self) -> u64 {
        let mut text = String::new();
        let read = self
            .memory_events
            .rewind()
            .and_then(|()| (&self.memory_events).take(COUNTERS_BYTES_MAX).read_to_string(&mut text));
        // The counter goes with its group when a sandbox is destroyed; then nobody asks for the reason either.
        if read.is_ok() { oom_kills(&text) } else { 0 }
    }
}

/// All or nothing, also across a power cut.
fn write_durably(directory: &OwnedFd, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, temporary.as_str(), flags, Mode::from_raw_mode(0o640))?);
    file.write_all(bytes)?;
    file.sync_all()?;
    rustix::fs::renameat(directory, temporary.as_str(), directory, name)?;
    Ok(rustix::fs::fsync(directory)?)
}
