//! From the plan to a running guest.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use rustix::thread::LinkNameSpaceType;

use atoll_guest::supervisor::RunscPlan;

use super::filesystem;
use super::gvisor;
use super::identity;
use super::message::Assignment;
use super::sys::{self, Side, Trouble, check, check_io};

/// Namespaces that the guest starts in. Its control-group namespace follows once it is in its groups, its network
/// namespace was made before, its user namespace comes last.
const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Descriptors of the guest, by number.
const CONFIG_FD: i32 = 3;
const LISTEN_FD: i32 = 4;
const FIRST_CLOSED_FD: i32 = 5;
/// Above every number that is given out by hand.
const PARKED_FD_MIN: i32 = 16;
const GUEST_ENVIRONMENT: [&CStr; 2] = [c"ATOLL_GUEST_CONFIG_FD=3", c"ATOLL_GUEST_LISTEN_FD=4"];

/// One byte: a core is neither written (files are larger) nor piped to the machine's handler (the kernel takes 1 as a
/// refusal, and 0 not).
const CORE_BYTES: u64 = 1;

/// Largest report of a child that failed.
const FAILURE_BYTES_MAX: u64 = 4096;

/// Of a guest's complaint.
const LAST_WORDS_BYTES_MAX: usize = 1024;

/// A guest that was executed.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts the guest. When this fails, nothing runs.
pub(super) fn start(assignment: &Assignment) -> Result<Running, Trouble> {
    let user_namespace = park(identity::user_namespace(&assignment.plan)?.as_fd())?;
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    let (failure, child_failure) = pipe()?;
    let itself = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let itself = park(check("watch itself", itself)?.as_fd())?;
    let config = guest_config(&assignment.plan.guest_config)?;

    let child = Child {
        assignment,
        user_namespace: &user_namespace,
        config: &config,
        stdout: &child_stdout,
        stderr: &child_stderr,
        supervisor: &itself,
    };
    let pid = match sys::fork("clone into namespaces", NAMESPACES as u64, assignment.unified.as_ref().map(AsFd::as_fd))?
    {
        Side::Child => child.run(child_failure),
        Side::Parent(pid) => pid,
    };
    drop((child_stdout, child_stderr, child_failure));
    for output in [&stdout, &stderr] {
        check("read output without waiting", rustix::fs::fcntl_setfl(output, OFlags::NONBLOCK))?;
    }
    let pidfd = check("watch the guest", rustix::process::pidfd_open(pid, PidfdFlags::empty()))?;
    await_execution(failure, pid).map_err(|trouble| with_last_words(trouble, &stderr))?;
    Ok(Running { pid, pidfd, stdout, stderr })
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Trouble> {
    check("make a pipe", rustix::pipe::pipe_with(PipeFlags::CLOEXEC))
}

fn guest_config(text: &str) -> Result<File, Trouble> {
    let memory = check("make a memory file", rustix::fs::memfd_create("guest-config", MemfdFlags::CLOEXEC))?;
    let mut file = File::from(memory);
    check_io("write the guest's configuration", file.write_all(text.as_bytes()).and_then(|()| file.rewind()))?;
    Ok(file)
}

/// The pipe closes by itself when the guest is executed; before that, it says what went wrong.
fn await_execution(failure: OwnedFd, pid: Pid) -> Result<(), Trouble> {
    let mut text = Vec::new();
    check_io("await the guest's start", File::from(failure).take(FAILURE_BYTES_MAX).read_to_end(&mut text))?;
    if text.is_empty() {
        return Ok(());
    }
    // The child is on its way out; it must not stay as a zombie of a supervisor that reports.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    let text = String::from_utf8_lossy(&text);
    let (errno, attempted) = text.split_once(' ').unwrap_or(("0", &text));
    Err(Trouble { attempted: attempted.to_owned(), errno: errno.parse().unwrap_or(0) })
}

/// Adds what a guest complained of before it ended; the descriptor does not block.
fn with_last_words(mut trouble: Trouble, stderr: &OwnedFd) -> Trouble {
    let mut bytes = [0; LAST_WORDS_BYTES_MAX];
    if let Ok(count @ 1..) = rustix::io::read(stderr, &mut bytes) {
        trouble.attempted.push_str(": ");
        trouble.attempted.push_str(String::from_utf8_lossy(&bytes[..count]).trim());
    }
    trouble
}

/// What the new process starts with; all of it a copy.
struct Child<'a> {
    assignment: &'a Assignment,
    user_namespace: &'a OwnedFd,
    config: &'a File,
    stdout: &'a OwnedFd,
    stderr: &'a OwnedFd,
    supervisor: &'a OwnedFd,
}

impl Child<'_> {
    /// `reporting` is closed by the time that the guest runs; the supervisor waits for that.
    fn run(&self, reporting: OwnedFd) -> ! {
        // Out of the way of the guest's own descriptors.
        let Ok(failure) = park(reporting.as_fd()) else { sys::exit_now(1) };
        drop(reporting);
        let trouble = match (&self.assignment.plan.runsc, self.enter()) {
            (_, Err(trouble)) => trouble,
            (None, Ok(root)) => match self.become_guest(&root) {
                Ok(guest) => sys::execute(guest.as_fd(), &[c"atoll-guest", c"init"], &GUEST_ENVIRONMENT),
                Err(trouble) => trouble,
            },
            (Some(runsc), Ok(root)) => match self.keep(runsc, &root) {
                Ok(kept) => {
                    // Closed without a word, as by an execution.
                    drop(failure);
                    sys::exit_now(kept.until_it_ends())
                }
                Err(trouble) => trouble,
            },
        };
        let text = format!("{} {}", trouble.errno, trouble.attempted);
        // If even this fails, the supervisor sees a guest that ended at once.
        let _ = rustix::io::write(&failure, text.as_bytes());
        sys::exit_now(1)
    }

    /// Everything that is the same whichever kernel the guest runs on; returns the sandbox's root, still outside of it.
    fn enter(&self) -> Result<OwnedFd, Trouble> {
        let plan = &self.assignment.plan;
        self.follow_supervisor()?;
        for tasks in &self.assignment.tasks {
            check("join the control groups", rustix::io::write(tasks, b"0"))?;
        }
        sys::own_cgroup_namespace()?;
        check(
            "enter the network namespace",
            rustix::thread::move_into_link_name_space(
                self.assignment.network.as_fd(),
                Some(LinkNameSpaceType::Network),
            ),
        )?;
        check("set the host name", rustix::system::sethostname(plan.hostname.as_bytes()))?;
        let root = filesystem::build(self.assignment, self.user_namespace)?;
        sys::new_keyring()?;
        check("start a session", rustix::process::setsid().map(drop))?;
        let core = Rlimit { current: Some(CORE_BYTES), maximum: Some(CORE_BYTES) };
        check("forbid core dumps", rustix::process::setrlimit(Resource::Core, core))?;
        Ok(root)
    }

    /// Starts the guest in gVisor and becomes what looks after it.
    fn keep(&self, runsc: &RunscPlan, root: &OwnedFd) -> Result<gvisor::Kept, Trouble> {
        let inherited = gvisor::Inherited { config: self.config, stdout: self.stdout, stderr: self.stderr };
        let kept = gvisor::start(self.assignment, runsc, root, &inherited)?;
        identity::become_keeper(&self.assignment.plan)?;
        self.follow_supervisor()?;
        Ok(kept)
    }

    /// In the sandbox's root; returns the guest's binary.
    fn become_guest(&self, root: &OwnedFd) -> Result<OwnedFd, Trouble> {
        filesystem::enter(root)?;
        let guest = self.place_descriptors()?;
        identity::become_guest(self.user_namespace)?;
        // Changing ids undid it.
        self.follow_supervisor()?;
        Ok(guest)
    }

    /// Ends with the supervisor from now on, also when that has ended already.
    fn follow_supervisor(&self) -> Result<(), Trouble> {
        check("follow the supervisor", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
        let mut poll = [rustix::event::PollFd::new(self.supervisor, rustix::event::PollFlags::IN)];
        let ended =
            check("look at the supervisor", rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default())))?;
        if ended == 0 { Ok(()) } else { Err(Trouble::plain("follow a supervisor that is gone")) }
    }

    /// Descriptors 0 to 4 as the guest expects them; everything else closes on execution.
    fn place_descriptors(&self) -> Result<OwnedFd, Trouble> {
        let null = open_null()?;
        let sources = [
            (null.as_fd(), 0),
            (self.stdout.as_fd(), 1),
            (self.stderr.as_fd(), 2),
            (self.config.as_fd(), CONFIG_FD),
            (self.assignment.listener.as_fd(), LISTEN_FD),
        ];
        let guest = park(self.assignment.guest.as_fd())?;
        place_all(&sources, FIRST_CLOSED_FD)?;
        debug_assert!(guest.as_raw_fd() >= PARKED_FD_MIN, "parked descriptors are not overwritten");
        Ok(guest)
    }
}

pub(super) fn open_null() -> Result<OwnedFd, Trouble> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    check("open the null device", rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()))
}

/// Gives descriptors their numbers; all from `first_closed` on close on execution.
pub(super) fn place_all(sources: &[(BorrowedFd<'_>, i32)], first_closed: i32) -> Result<(), Trouble> {
    let parked = sources.iter().map(|(fd, _)| park(*fd)).collect::<Result<Vec<_>, _>>()?;
    for (fd, (_, number)) in parked.iter().zip(sources) {
        sys::place_fd(fd.as_fd(), *number)?;
    }
    sys::close_from_on_exec(first_closed)
}

/// A copy out of the way of the numbers that are given out by hand.
pub(super) fn park(fd: BorrowedFd<'_>) -> Result<OwnedFd, Trouble> {
    check("park a descriptor", rustix::io::fcntl_dupfd_cloexec(fd, PARKED_FD_MIN))
}
