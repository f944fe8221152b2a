//! Starting a process as the workload's user.
//!
//! The guest has threads, so between `fork` and `execve` only system calls are made and nothing is allocated: all that
//! the child needs is laid out beforehand in [`Prepared`].
#![expect(unsafe_code, reason = "fork and execve, and raw system calls between them")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::ptr;

use atoll_guest::protocol::{ProcessLimits, User};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, getrlimit};

use super::process::Tag;

/// What a child's memory is worth against the guest's when the sandbox runs out: the child goes first.
const OOM_SCORE_ADJUSTMENT: &[u8] = b"500";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Capabilities are numbered below this.
const CAPABILITIES_MAX: libc::c_ulong = 64;

/// Signals are numbered up to this.
const SIGNALS_MAX: libc::c_int = 64;

const SIGNAL_SET_BYTES: usize = 8;

/// What to start, and as whom.
pub(crate) struct Launch<'a> {
    pub(crate) argv: &'a [String],
    /// Whole environment.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: &'a str,
    pub(crate) user: &'a User,
    pub(crate) tag: Tag,
    pub(crate) limits: &'a ProcessLimits,
    /// Descriptors to become 0, 1 and 2.
    pub(crate) stdio: [RawFd; 3],
    /// Whether descriptor 0 is a terminal that shall control the new session.
    pub(crate) is_terminal: bool,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("the command names no program")]
    NoProgram,
    #[error("an argument, variable or directory contains a zero byte")]
    ZeroByte,
    #[error("group {gid} is reserved")]
    ReservedGroup { gid: u32 },
    #[error("the process could not be made")]
    Fork(#[source] Errno),
    #[error("{}: {program}", errno_text(*errno))]
    Program { program: String, errno: Errno },
    #[error("{}: working directory {cwd}", errno_text(*errno))]
    WorkingDirectory { cwd: String, errno: Errno },
    #[error("{step} failed")]
    Step {
        step: &'static str,
        #[source]
        errno: Errno,
    },
}

/// What the C library says for the errors that people meet.
fn errno_text(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "No such file or directory".to_owned(),
        Errno::ACCESS => "Permission denied".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Session = 1,
    Descriptors = 2,
    Terminal = 3,
    Limits = 4,
    Groups = 5,
    Ids = 6,
    Capabilities = 7,
    Privileges = 8,
    WorkingDirectory = 9,
    Program = 10,
}

/// Fills in `PATH` and `HOME` where the environment lacks them.
pub(crate) fn complete_environment(env: &mut std::collections::BTreeMap<String, String>, user: &User) {
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env.entry("HOME".to_owned()).or_insert_with(|| super::accounts::home_of(user.uid));
}

/// Starts a process; returns when the program runs, or why it does not. `register` is called with the process id
/// right after the fork, and may hold a lock from before this call: the child takes none.
pub(crate) fn spawn(launch: &Launch<'_>, register: impl FnOnce(i32)) -> Result<(), SpawnError> {
    let prepared = Prepared::new(launch)?;
    let (failure_read, failure_write) = pipe_with(PipeFlags::CLOEXEC).map_err(SpawnError::Fork)?;
    // SAFETY: the child calls only `run_child`, which makes system calls on memory prepared here, and never returns.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(SpawnError::Fork(last_errno())),
        // SAFETY: this is the child of a fork.
        0 => unsafe { run_child(&prepared, failure_write.as_raw_fd()) },
        pid => {
            register(pid);
            drop(failure_write);
            read_outcome(&failure_read, launch)
        }
    }
}

fn read_outcome(failure_read: &OwnedFd, launch: &Launch<'_>) -> Result<(), SpawnError> {
    let mut report = [0u8; REPORT_BYTES];
    let count = loop {
        match rustix::io::read(failure_read, &mut report) {
            Err(Errno::INTR) => {}
            other => break other.map_err(SpawnError::Fork)?,
        }
    };
    if count < REPORT_BYTES {
        // The pipe closed when the program was executed, or the child was killed before it could be.
        return Ok(());
    }
    let [step, a, b, c, d] = report;
    let errno = Errno::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
    const NAMES: [&str; 9] = [
        "making a session",
        "placing descriptors",
        "taking the terminal",
        "setting resource limits",
        "taking on groups",
        "taking on user and group",
        "dropping capabilities",
        "setting no_new_privs",
        "changing directory",
    ];
    Err(if step == Step::Program as u8 {
        SpawnError::Program { program: launch.argv[0].clone(), errno }
    } else if step == Step::WorkingDirectory as u8 {
        SpawnError::WorkingDirectory { cwd: launch.cwd.to_owned(), errno }
    } else {
        let step = NAMES.get(usize::from(step).wrapping_sub(1)).copied().unwrap_or("starting");
        SpawnError::Step { step, errno }
    })
}

/// One byte of step and an error number.
const REPORT_BYTES: usize = 5;

/// Everything the child needs, in the form the kernel wants. Pointers lead into the owned strings beside them.
struct Prepared {
    candidates: Vec<CString>,
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    limits: Vec<(libc::c_int, libc::rlimit)>,
    stdio: [RawFd; 3],
    is_terminal: bool,
}

impl Prepared {
    fn new(launch: &Launch<'_>) -> Result<Self, SpawnError> {
        let program = launch.argv.first().filter(|program| !program.is_empty()).ok_or(SpawnError::NoProgram)?;
        let all_groups = || launch.user.groups.iter().copied();
        if let Some(gid) = all_groups().chain([launch.user.gid]).find(|gid| Tag::is_reserved(*gid)) {
            return Err(SpawnError::ReservedGroup { gid });
        }
        let path = launch.env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
        let candidates = candidates(program, path)?;
        let mut strings = Vec::with_capacity(launch.argv.len() + launch.env.len());
        for argument in launch.argv {
            strings.push(c_string(argument.as_bytes())?);
        }
        for (name, value) in &launch.env {
            strings.push(c_string(format!("{name}={value}").as_bytes())?);
        }
        let (arguments, variables) = strings.split_at(launch.argv.len());
        Ok(Self {
            argv: pointers(arguments),
            envp: pointers(variables),
            candidates,
            cwd: c_string(launch.cwd.as_bytes())?,
            uid: launch.user.uid,
            gid: launch.user.gid,
            groups: all_groups().chain([launch.tag.gid()]).collect(),
            limits: limits(launch.limits),
            stdio: launch.stdio,
            is_terminal: launch.is_terminal,
            _strings: strings,
        })
    }
}

/// Paths to try, in order.
fn candidates(program: &str, path: &str) -> Result<Vec<CString>, SpawnError> {
    if program.contains('/') {
        return Ok(vec![c_string(program.as_bytes())?]);
    }
    let in_directory = |directory: &str| match directory {
        "" => c_string(format!("./{program}").as_bytes()),
        directory => c_string(format!("{directory}/{program}").as_bytes()),
    };
    path.split(':').map(in_directory).collect()
}

fn c_string(bytes: &[u8]) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| SpawnError::ZeroByte)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// A limit above what the guest itself has can not be given and would not be in force: the lower one is set.
fn limits(limits: &ProcessLimits) -> Vec<(libc::c_int, libc::rlimit)> {
    let mut wanted = vec![(libc::RLIMIT_NOFILE, limits.nofile, Resource::Nofile)];
    wanted.extend(limits.nproc.map(|value| (libc::RLIMIT_NPROC, value, Resource::Nproc)));
    wanted.extend(limits.file_size_bytes.map(|value| (libc::RLIMIT_FSIZE, value, Resource::Fsize)));
    let set = |(resource, value, own): (libc::__rlimit_resource_t, u64, Resource)| {
        let ceiling = getrlimit(own).maximum.unwrap_or(u64::MAX);
        let value = value.min(ceiling);
        (resource as libc::c_int, libc::rlimit { rlim_cur: value, rlim_max: value })
    };
    wanted.into_iter().map(set).collect()
}

/// In the child, between fork and exec.
///
/// # Safety
/// Must be called in the child of a fork; `failure` must be open and not one of 0, 1, 2.
unsafe fn run_child(prepared: &Prepared, failure: RawFd) -> ! {
    // SAFETY: as promised by the caller; the steps make system calls only.
    unsafe {
        let (step, errno) = match become_process(prepared) {
            Err(failed) => failed,
            Ok(()) => (Step::Program, execute(prepared)),
        };
        let mut report = [step as u8; REPORT_BYTES];
        report[1..].copy_from_slice(&errno.to_ne_bytes());
        libc::write(failure, report.as_ptr().cast(), REPORT_BYTES);
        libc::_exit(127)
    }
}

type StepResult = Result<(), (Step, i32)>;

/// # Safety
/// Only in the child of a fork.
unsafe fn become_process(prepared: &Prepared) -> StepResult {
    // SAFETY: system calls on prepared memory; they change this process only.
    unsafe {
        reset_signals();
        check(Step::Session, libc::setsid())?;
        place_descriptors(prepared)?;
        prefer_for_oom();
        for (resource, limit) in &prepared.limits {
            let set =
                libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(limit), ptr::null::<libc::rlimit>());
            check(Step::Limits, set as libc::c_int)?;
        }
        take_on_identity(prepared)?;
        let (one, zero): (libc::c_ulong, libc::c_ulong) = (1, 0);
        check(Step::Privileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero))?;
        check(Step::WorkingDirectory, libc::chdir(prepared.cwd.as_ptr()))
    }
}

/// # Safety
/// Only in the child of a fork.
unsafe fn reset_signals() {
    // SAFETY: a zeroed sigset is empty; restoring defaults has no preconditions. Some signals can not be set: no matter.
    unsafe {
        // The kernel's own structure, all zero, means the default. The C library would leave its own two signals out.
        let default = [0u64; 4];
        for signal in 1..=SIGNALS_MAX {
            let none = ptr::null::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, SIGNAL_SET_BYTES);
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// # Safety
/// Only in the child of a fork.
unsafe fn place_descriptors(prepared: &Prepared) -> StepResult {
    // SAFETY: descriptor numbers are prepared; a closed one is an error.
    unsafe {
        for (target, source) in (0..).zip(prepared.stdio) {
            check(Step::Descriptors, libc::dup2(source, target))?;
        }
        // Everything else closes at exec; the guest opens all with that flag, this is for what it does not know of.
        let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
        libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC);
        if prepared.is_terminal {
            check(Step::Terminal, libc::ioctl(0, libc::TIOCSCTTY, 0))?;
        }
    }
    Ok(())
}

/// Best effort: without it the kernel may choose the guest when the sandbox is out of memory.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn prefer_for_oom() {
    // SAFETY: the path is a C string, the buffer is valid for its length.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, OOM_SCORE_ADJUSTMENT.as_ptr().cast(), OOM_SCORE_ADJUSTMENT.len());
            libc::close(fd);
        }
    }
}

/// # Safety
/// Only in the child of a fork.
unsafe fn take_on_identity(prepared: &Prepared) -> StepResult {
    // SAFETY: raw system calls, because the C library's versions would signal threads that this child does not have.
    unsafe {
        let zero: libc::c_ulong = 0;
        for capability in 0..CAPABILITIES_MAX {
            let dropped = libc::prctl(libc::PR_CAPBSET_DROP, capability, zero, zero, zero);
            // A capability that this kernel does not know cannot be had.
            if dropped < 0 && last_errno() != Errno::INVAL {
                check(Step::Capabilities, dropped)?;
            }
        }
        let count = prepared.groups.len();
        check(Step::Groups, libc::syscall(libc::SYS_setgroups, count, prepared.groups.as_ptr()) as libc::c_int)?;
        let gid = prepared.gid;
        check(Step::Ids, libc::syscall(libc::SYS_setresgid, gid, gid, gid) as libc::c_int)?;
        let uid = prepared.uid;
        check(Step::Ids, libc::syscall(libc::SYS_setresuid, uid, uid, uid) as libc::c_int)?;
        // For uid 0 the change of ids drops nothing.
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
        let cleared = libc::prctl(libc::PR_CAP_AMBIENT, clear, zero, zero, zero);
        // A kernel without this set (gVisor's) has nothing to clear.
        if cleared < 0 && last_errno() != Errno::INVAL {
            check(Step::Capabilities, cleared)?;
        }
        let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
        let empty = [[0u32; 3]; 2];
        check(Step::Capabilities, libc::syscall(libc::SYS_capset, &raw const header, empty.as_ptr()) as libc::c_int)
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Tries the candidates; returns the error number to report. As shells do, a program that exists but may not be
/// executed is what is reported even when later directories lack it.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn execute(prepared: &Prepared) -> i32 {
    let mut reported = libc::ENOENT;
    for candidate in &prepared.candidates {
        let candidate: &CStr = candidate;
        // SAFETY: all three are C strings or null-terminated arrays of them.
        unsafe { libc::execve(candidate.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr()) };
        match last_errno().raw_os_error() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => reported = libc::EACCES,
            other => return other,
        }
    }
    reported
}

fn check(step: Step, result: libc::c_int) -> StepResult {
    if result < 0 { Err((step, last_errno().raw_os_error())) } else { Ok(()) }
}

fn last_errno() -> Errno {
    // SAFETY: the C library's error number of this thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_searched_as_shells_do() {
        let cases: [(&str, &str, &[&str]); 4] = [
            ("sh", "/usr/bin:/bin", &["/usr/bin/sh", "/bin/sh"]),
            ("sh", ":/bin", &["./sh", "/bin/sh"]),
            ("./sh", "/bin", &["./sh"]),
            ("/bin/sh", "", &["/bin/sh"]),
        ];
        for (program, path, expected) in cases {
            let found = candidates(program, path).unwrap();
            let found: Vec<&str> = found.iter().map(|path| path.to_str().unwrap()).collect();
            assert_eq!(found, expected, "{program} in {path:?}");
        }
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        let processes = crate::init::process::Processes::open().unwrap();
        let tag = processes.take_tag().unwrap();
        let limits = ProcessLimits::default();
        let check = |argv: &[&str], groups: Vec<u32>, expected: &str| {
            let argv: Vec<String> = argv.iter().map(|argument| (*argument).to_owned()).collect();
            let user = User { groups, ..User::default() };
            let launch = Launch {
                argv: &argv,
                env: vec![],
                cwd: "/",
                user: &user,
                tag,
                limits: &limits,
                stdio: [0, 1, 2],
                is_terminal: false,
            };
            assert_eq!(Prepared::new(&launch).err().unwrap().to_string(), expected);
        };
        check(&[], vec![], "the command names no program");
        check(&[""], vec![], "the command names no program");
        check(&["a\0b"], vec![], "an argument, variable or directory contains a zero byte");
        check(&["true"], vec![60_000], "group 60000 is reserved");
    }
}
