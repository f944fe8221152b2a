//! The guest in gVisor. `runsc` is executed in a root of its own, in which nothing of the machine is but what the
//! sandbox is made of; it makes the user-space kernel (the *sentry*) and its file server, and ends. What is left is this
//! process, PID 1 of the sandbox's process namespace on the machine: it reaps, passes on the wish to end, and brings
//! accepted connections to the guest, which has no other way to be reached.
//!
//! Kernel and file server run in the sandbox's range of user ids, as processes without any right on the machine.

use std::ffi::CString;
use std::fs::File;
use std::io::{IoSlice, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use atoll_guest::protocol::{GREETING_BYTES_MAX, Greeting, Kernel};
use atoll_guest::supervisor::{RUNSC_ROOTFS, RunscPlan};

use super::filesystem::{self, attach, new_mount};
use super::message::Assignment;
use super::start::{open_null, place_all};
use super::sys::{self, Side, Trouble, check, check_io};
use crate::init::signals::Signals;

/// Descriptors of runsc, by number; those from 3 on have the same number in the guest.
const CONFIG_FD: i32 = 3;
const CONNECTIONS_FD: i32 = 4;
const FIRST_CLOSED_FD: i32 = 5;

const ROOT_BYTES: &str = "16777216";
const ROOT_INODES: &str = "256";
const BUNDLE_CONFIG: &str = "/bundle/config.json";
const PID_FILE: &str = "/state/pid";
const LOG_FILE: &str = "/state/log";
/// Of runsc's log, the end.
const LOG_BYTES_MAX: i64 = 8 * 1024;
/// The container's name; nobody else is in this root.
const CONTAINER: &str = "sandbox";

/// How long a guest may take to greet once its kernel runs.
const GREETING_TIMEOUT: Duration = Duration::from_secs(15);
/// A killed kernel ends with this.
const EXIT_CODE_LOST: i32 = 137;

/// What the guest gets from the supervisor.
pub(super) struct Inherited<'a> {
    pub(super) config: &'a File,
    pub(super) stdout: &'a OwnedFd,
    pub(super) stderr: &'a OwnedFd,
}

/// A guest that runs in gVisor, and says so itself.
pub(super) struct Kept {
    sentry: Pid,
    signals: Signals,
    listener: OwnedFd,
    /// Connections go in.
    feed: OwnedFd,
}

/// Starts the guest. Everything that was started ends with this process.
pub(super) fn start(
    assignment: &Assignment,
    plan: &RunscPlan,
    root: &OwnedFd,
    inherited: &Inherited<'_>,
) -> Result<Kept, Trouble> {
    enclose(plan, root)?;
    let runsc = assignment.runsc.as_ref().ok_or_else(|| Trouble::plain("find runsc"))?;
    let flags = SocketFlags::CLOEXEC;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (feed, theirs) = check("make a socket pair", pair)?;
    let signals = check_io("take signals", Signals::block_and_open())?;
    let maker = match sys::fork("run runsc", 0, None)? {
        Side::Child => {
            let trouble = run_runsc(plan, runsc, &theirs, inherited);
            sys::exit_now(trouble.errno.max(1))
        }
        Side::Parent(maker) => maker,
    };
    drop(theirs);
    let status = wait_for(maker)?;
    if status.exit_status() != Some(0) {
        return Err(Trouble::plain(format!("run runsc: {}", reason(status))));
    }
    let sentry = read_pid()?;
    let mut kept = Kept { sentry, signals, listener: park_listener(assignment)?, feed };
    match kept.await_greeting()?.kernel {
        Kernel::Gvisor => Ok(kept),
        Kernel::Linux => Err(Trouble::plain("find gVisor's kernel inside: the guest sees another")),
    }
}

fn park_listener(assignment: &Assignment) -> Result<OwnedFd, Trouble> {
    let listener = check("keep the listener", rustix::io::fcntl_dupfd_cloexec(&assignment.listener, 3))?;
    check("accept without waiting", rustix::fs::fcntl_setfl(&listener, OFlags::NONBLOCK))?;
    Ok(listener)
}

/// Builds runsc's root around the sandbox's, and enters it.
fn enclose(plan: &RunscPlan, root: &OwnedFd) -> Result<(), Trouble> {
    let options = [("size", ROOT_BYTES), ("nr_inodes", ROOT_INODES), ("mode", "0755")];
    let outer = new_mount("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let at = plan.root_mount_point.as_str();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    check("mount runsc's root", rustix::mount::move_mount(&outer, "", CWD, at, flags))?;
    for name in ["rootfs", "proc", "dev", "tmp", "state", "bundle", "sys"] {
        check(&format!("make /{name}"), rustix::fs::mkdirat(&outer, name, Mode::from_raw_mode(0o755)))?;
    }
    let rootfs = open_inside(&outer, RUNSC_ROOTFS)?;
    attach(root.as_fd(), rootfs.as_fd(), RUNSC_ROOTFS)?;
    let hardened =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attach(new_mount("proc", &[], hardened)?.as_fd(), open_inside(&outer, "/proc")?.as_fd(), "/proc")?;
    let null = ("/dev/null".to_owned(), 1, 3);
    let mask = rustix::process::umask(Mode::empty());
    for (path, major, minor) in [&null].into_iter().chain(&plan.devices) {
        let device = rustix::fs::makedev(*major, *minor);
        let name = path.trim_start_matches('/');
        let made = rustix::fs::mknodat(&outer, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device);
        check(&format!("make {path}"), made)?;
    }
    rustix::process::umask(mask);
    filesystem::enter(&outer)?;
    check_io("write the bundle", std::fs::write(BUNDLE_CONFIG, &plan.bundle_config))
}

fn open_inside(root: &OwnedFd, path: &str) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(root, path.trim_start_matches('/'), flags, Mode::empty());
    check(&format!("open {path}"), opened)
}

/// In a process of its own; returns only when runsc could not be executed.
fn run_runsc(plan: &RunscPlan, runsc: &OwnedFd, connections: &OwnedFd, inherited: &Inherited<'_>) -> Trouble {
    Signals::unblock_all();
    let placed = open_null().and_then(|null| {
        let sources = [
            (null.as_fd(), 0),
            (inherited.stdout.as_fd(), 1),
            (inherited.stderr.as_fd(), 2),
            (inherited.config.as_fd(), CONFIG_FD),
            (connections.as_fd(), CONNECTIONS_FD),
        ];
        let runsc = super::start::park(runsc.as_fd())?;
        place_all(&sources, FIRST_CLOSED_FD)?;
        Ok(runsc)
    });
    let runsc = match placed {
        Ok(runsc) => runsc,
        Err(trouble) => return trouble,
    };
    let arguments: Result<Vec<CString>, _> = arguments(plan).into_iter().map(CString::new).collect();
    let Ok(arguments) = arguments else { return Trouble::plain("give runsc its arguments") };
    let arguments: Vec<_> = arguments.iter().map(CString::as_c_str).collect();
    sys::execute(runsc.as_fd(), &arguments, &[c"PATH=/"])
}

fn arguments(plan: &RunscPlan) -> Vec<String> {
    let own = ["--root=/state".to_owned(), format!("--log={LOG_FILE}"), "--log-format=json".to_owned()];
    let run = [
        "run".to_owned(),
        "--detach".to_owned(),
        "--bundle=/bundle".to_owned(),
        format!("--pid-file={PID_FILE}"),
        format!("--pass-fd={CONFIG_FD}:{CONFIG_FD}"),
        format!("--pass-fd={CONNECTIONS_FD}:{CONNECTIONS_FD}"),
        CONTAINER.to_owned(),
    ];
    ["runsc".to_owned()].into_iter().chain(own).chain(plan.flags.iter().cloned()).chain(run).collect()
}

/// Waits for one child; others that end meanwhile are orphans of its, and collected.
fn wait_for(child: Pid) -> Result<WaitStatus, Trouble> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Trouble::new("wait for runsc", errno)),
        }
    }
}

fn read_pid() -> Result<Pid, Trouble> {
    let text = check_io("read the sentry's process id", std::fs::read_to_string(PID_FILE))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Trouble::plain("understand the sentry's process id"))
}

/// Why runsc failed: the last that its log says.
fn reason(status: WaitStatus) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(LOG_FILE)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-LOG_BYTES_MAX.min(length)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let said = read().ok().and_then(|text| last_message(&text));
    said.unwrap_or_else(|| format!("it ended with code {}", exit_code(status)))
}

fn last_message(log: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        msg: String,
    }
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.map(|line| line.msg.trim().to_owned()).find(|text| !text.is_empty())
}

fn exit_code(status: WaitStatus) -> i32 {
    status.terminating_signal().map_or_else(|| status.exit_status().unwrap_or(EXIT_CODE_LOST), |signal| 128 + signal)
}

impl Kept {
    /// The first that the guest says, unless it ends before.
    fn await_greeting(&mut self) -> Result<Greeting, Trouble> {
        let deadline = Instant::now() + GREETING_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(&self.feed, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            poll(&mut polled, Some(left))?;
            let (greeted, signalled) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if greeted {
                let mut bytes = [0; GREETING_BYTES_MAX];
                let received = rustix::net::recv(&self.feed, &mut bytes[..], RecvFlags::DONTWAIT);
                let (count, _) = check("hear the guest", received)?;
                if count == 0 {
                    // It is about to end; that says more.
                    return Err(Trouble::plain(format!("hear the guest: it ended with code {}", self.await_end())));
                }
                return serde_json::from_slice(&bytes[..count]).map_err(|_| Trouble::plain("hear the guest"));
            }
            if signalled && let Some(status) = self.reap() {
                let code = exit_code(status);
                return Err(Trouble::plain(format!("hear the guest: gVisor ended with code {code}")));
            }
            if left.is_zero() {
                return Err(Trouble::plain("hear the guest in time"));
            }
        }
    }

    fn await_end(&mut self) -> i32 {
        wait_for(self.sentry).map_or(EXIT_CODE_LOST, exit_code)
    }

    /// Looks after the guest; returns its exit code.
    pub(super) fn until_it_ends(mut self) -> i32 {
        loop {
            // A guest that takes no connections lets them wait where they are.
            let mut feed = [PollFd::new(&self.feed, PollFlags::OUT)];
            let has_room = matches!(rustix::event::poll(&mut feed, Some(&Timespec::default())), Ok(1));
            let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
            polled.push(if has_room {
                PollFd::new(&self.listener, PollFlags::IN)
            } else {
                PollFd::new(&self.feed, PollFlags::OUT)
            });
            if poll(&mut polled, None).is_err() {
                return EXIT_CODE_LOST;
            }
            let (signalled, other) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if signalled {
                if let Some(status) = self.reap() {
                    return exit_code(status);
                }
            } else if other && has_room {
                self.bring_connection();
            }
        }
    }

    /// Follows signals: collects what ended, and passes on the wish to end. Returns the sentry's status once it has
    /// ended.
    fn reap(&mut self) -> Option<WaitStatus> {
        if self.signals.receive().stop {
            // gVisor passes it on to the guest.
            let _ = rustix::process::kill_process(self.sentry, Signal::TERM);
        }
        let mut ended = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.sentry {
                ended = Some(status);
            }
        }
        ended
    }

    fn bring_connection(&self) {
        let Ok(connection) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        let descriptors = [connection.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        // One that cannot be brought is closed, which its maker sees.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::sendmsg(&self.feed, &[IoSlice::new(b"+")], &mut ancillary, flags);
    }
}

fn poll(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Trouble> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(polled, timeout.as_ref()) {
        Err(Errno::INTR) | Ok(_) => Ok(()),
        Err(errno) => Err(Trouble::new("wait for the guest", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_log_is_the_reason() {
        let log = "{\"msg\":\"first\",\"level\":\"info\"}\n{\"msg\":\"creating container: no\\n\",\"level\":\"error\"}\n\
                   not json\n";
        assert_eq!(last_message(log).as_deref(), Some("creating container: no"));
        assert_eq!(last_message("nothing"), None);
    }
}
