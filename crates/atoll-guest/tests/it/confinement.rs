//! What a workload can not do, each with a twin that can because the control is off.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use atoll_guest::protocol::{ExecRequest, User};

use super::guest::{Setup, USER_ID, has_python};

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// Makes system calls by number and prints the error number of each, 0 for success.
const CALLS: &str = r#"
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    error = ctypes.get_errno() if result == -1 else 0
    if result == 0 and name.startswith('clone'): os._exit(0)
    print(name, error, flush=True)
NEWUSER = 0x10000000
SIGCHLD = 17
target = os.getppid()
buffer = ctypes.create_string_buffer(256)
class iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
vector = iovec(ctypes.addressof(buffer), 8)
pidfd = os.pidfd_open(os.getpid())
call('clone_newuser', 56, NEWUSER | SIGCHLD, 0, 0, 0, 0)
call('clone_newns', 56, 0x00020000 | NEWUSER | SIGCHLD, 0, 0, 0, 0)
call('clone3', 435, buffer, 8)
call('io_uring_setup', 425, 4, ctypes.create_string_buffer(120))
call('process_vm_readv', 310, os.getpid(), ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0)
call('kcmp', 312, os.getpid(), os.getpid(), 2, 0, 0)
call('pidfd_getfd', 438, pidfd, 0, 0)
call('add_key', 248, b'user', b'name', b'x', 1, -2)
call('keyctl', 250, 0, -2, 1)
call('personality', 135, 0x0400000)
call('socket_alg', 41, 38, 5, 0)
call('socket_netfilter', 41, 16, 3, 12)
call('socketpair_unix', 53, 1, 1, 0, buffer)
call('socket_inet', 41, 2, 1, 0)
call('socket_route', 41, 16, 3, 0)
call('prlimit_other', 302, child, 7, (ctypes.c_ulong * 2)(64, 64), 0) if (child := os.fork()) else __import__('time').sleep(1000)
os.kill(child, 9)
call('name_to_handle_at', 303, -100, b'/', buffer, buffer, 0)
call('get_mempolicy', 239, 0, 0, 0, 0, 0)
call('userfaultfd', 323, 1)
call('unshare_newuser', 272, NEWUSER)
call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)
call('umount2', 166, b'/proc', 2)
call('pivot_root', 155, b'/', b'/')
call('setns', 308, pidfd, 0)
call('bpf', 321, 0, buffer, 64)
call('perf_event_open', 298, buffer, 0, -1, -1, 0)
call('kexec_load', 246, 0, 0, 0, 0)
call('finit_module', 313, -1, b'', 0)
call('reboot', 169, 0, 0, 0, 0)
call('swapon', 167, b'/nope', 0)
call('quotactl', 179, 0, b'/nope', 0, 0)
call('open_by_handle_at', 304, -100, buffer, 0)
call('fsopen', 430, b'tmpfs', 0)
call('open_tree', 428, -100, b'/', 0)
call('x32_getpid', 0x40000000 | 39)
call('unknown', 1023)
# From here on the parent would have to deal with every signal.
call('ptrace_traceme', 101, 0, 0, 0, 0)
os._exit(0)
"#;

fn run_calls(output: &str) -> BTreeMap<String, i32> {
    let pair = |line: &str| line.split_once(' ').map(|(name, error)| (name.to_owned(), error.parse().unwrap()));
    output.lines().filter_map(pair).collect()
}

/// The same program as the same user, without a guest.
fn without_filter(script: &str) -> std::process::Output {
    Command::new("python3").args(["-c", script]).uid(USER_ID).gid(USER_ID).current_dir("/").output().unwrap()
}

#[test]
fn dangerous_system_calls_are_refused() {
    let Some(guest) = Setup::plain().start("dangerous_system_calls") else { return };
    if !has_python() || std::env::consts::ARCH != "x86_64" {
        println!("SKIPPED dangerous_system_calls_are_refused: needs python3 on x86-64");
        return;
    }
    let finished = guest.exec(ExecRequest::new(["python3", "-c", CALLS])).1.finish();
    let filtered = run_calls(&finished.stdout);
    assert_eq!(finished.exit.code, 0, "{finished:?}");
    let allowed = ["socketpair_unix", "socket_inet", "socket_route"];
    let absent = ["clone3", "io_uring_setup", "x32_getpid", "unknown"];
    for (name, error) in &filtered {
        let expected = match name.as_str() {
            name if allowed.contains(&name) => 0,
            name if absent.contains(&name) => ENOSYS,
            _ => EPERM,
        };
        assert_eq!(*error, expected, "{name}");
    }
    assert_eq!(filtered.len(), 37, "every call was tried: {filtered:?}");

    // The twin: the same calls of the same user without the filter.
    let output = without_filter(CALLS);
    let unfiltered = run_calls(&String::from_utf8(output.stdout).unwrap());
    let succeed_everywhere = [
        "ptrace_traceme",
        "process_vm_readv",
        "kcmp",
        "pidfd_getfd",
        "personality",
        "socket_netfilter",
        "prlimit_other",
    ];
    for name in succeed_everywhere {
        assert_eq!(unfiltered.get(name), Some(&0), "{name} succeeds without the filter: {unfiltered:?}");
    }
    // These depend on how the machine is set up; here is what succeeded.
    let also: Vec<&str> =
        ["clone_newuser", "clone_newns", "unshare_newuser", "io_uring_setup", "add_key", "userfaultfd"]
            .into_iter()
            .filter(|name| unfiltered.get(*name) == Some(&0))
            .collect();
    println!("without the filter also: {also:?}");
}

/// `getpid` by the 32-bit entrance of the kernel.
const INT80: &str = r"
import ctypes, mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print('pid', function() > 0)
";

#[test]
fn another_architecture_s_calls_kill() {
    let Some(guest) = Setup::plain().start("another_architecture_s_calls_kill") else { return };
    if !has_python() || std::env::consts::ARCH != "x86_64" {
        println!("SKIPPED another_architecture_s_calls_kill: needs python3 on x86-64");
        return;
    }
    let finished = guest.exec(ExecRequest::new(["python3", "-c", INT80])).1.finish();
    let twin = without_filter(INT80);
    if twin.stdout != b"pid True\n" {
        println!("SKIPPED another_architecture_s_calls_kill: this kernel has no 32-bit calls");
        return;
    }
    assert_eq!(finished.exit.signal, Some(libc::SIGSYS), "{finished:?}");
}

fn status(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    value.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
}

#[test]
fn workloads_have_no_capability_and_can_gain_none() {
    let Some(guest) = Setup::plain().start("workloads_have_no_capability") else { return };
    for uid in [USER_ID, 0] {
        let user = Some(User { uid, gid: uid, groups: vec![] });
        let request = ExecRequest { user, ..ExecRequest::new(["cat", "/proc/self/status"]) };
        let seen = guest.exec(request).1.finish().stdout;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(&seen, set), "0000000000000000", "{set} of uid {uid}");
        }
        assert_eq!((status(&seen, "NoNewPrivs"), status(&seen, "Seccomp")), ("1".into(), "2".into()));
        assert_eq!(status(&seen, "Seccomp_filters"), "3");
    }
}

#[test]
fn root_inside_is_no_more_than_any_other_user() {
    let Some(guest) = Setup::plain().start("root_inside_is_no_more") else { return };
    if !has_python() {
        println!("SKIPPED root_inside_is_no_more_than_any_other_user: needs python3");
        return;
    }
    let script = "import os\nfor attempt in (lambda: os.setuid(1), lambda: os.setgroups([]), lambda: os.chown('/', 1, 1), \
                  lambda: os.kill(os.getppid(), 0) or os.chroot('/')):\n try:\n  attempt(); print('did')\n except PermissionError: print('refused')";
    let user = || Some(User { uid: 0, gid: 0, groups: vec![] });
    let request = ExecRequest { user: user(), ..ExecRequest::new(["python3", "-c", script]) };
    assert_eq!(guest.exec(request).1.finish().stdout, "refused\n".repeat(4));
    // In particular it can not drop the group by which its processes are found.
    let (started, mut session) = guest.exec(ExecRequest { user: user(), ..ExecRequest::new(["sleep", "1000"]) });
    guest.ask(&atoll_guest::protocol::Request::Kill { exec_id: started.exec_id });
    assert_eq!(session.finish().exit.signal, Some(9));
}

#[test]
fn the_guest_keeps_four_capabilities_and_a_filter() {
    for setup in [Setup::plain(), Setup::pid_1()] {
        let Some(guest) = setup.start("the_guest_keeps_four") else { return };
        guest.get("/");
        let seen = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
        for (name, expected) in [
            ("CapPrm", "00000000000001e0"),
            ("CapEff", "00000000000001e0"),
            ("CapBnd", "00000000000001e0"),
            ("CapInh", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            assert_eq!(status(&seen, name), expected, "{name}");
        }
    }
}

#[test]
fn nothing_of_the_guest_is_inherited() {
    let mut setup = Setup::plain();
    setup.environment.insert("SECRET_OF_THE_HOST".into(), "hunter2".into());
    let Some(guest) = setup.start("nothing_of_the_guest_is_inherited") else { return };
    let seen = guest.shell("ls /proc/self/fd | wc -l; env | sort | cut -d= -f1; umask");
    // 0, 1, 2, and the descriptor of ls itself.
    assert_eq!(seen.stdout, "4\nHOME\nPATH\nPWD\n0022\n", "{seen:?}");
    let signals = guest.shell("grep -E '^(SigBlk|SigIgn)' /proc/self/status");
    assert_eq!(signals.stdout, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn the_guest_can_not_be_signalled_or_traced() {
    let Some(mut guest) = Setup::pid_1().start("the_guest_can_not_be_signalled") else { return };
    let seen = guest.shell("for s in KILL TERM STOP INT; do kill -$s 1 && echo sent; done; true");
    assert_eq!((seen.stdout.as_str(), seen.stderr.matches("not permitted").count()), ("", 4), "{seen:?}");
    // Root inside may send, and the kernel lets PID 1 ignore all that would end it without its consent.
    let user = Some(User { uid: 0, gid: 0, groups: vec![] });
    let request = ExecRequest { user, ..ExecRequest::new(["sh", "-c", "kill -KILL 1; kill -STOP 1; kill -SEGV 1"]) };
    guest.exec(request).1.finish();
    assert!(guest.is_running() && guest.get("/").status == 200);
}

#[test]
fn cores_stay_off_whatever_a_program_sets() {
    let Some(guest) = Setup::plain().start("cores_stay_off") else { return };
    let before = guest.shell("ulimit -Hc; ulimit -Sc").stdout;
    let after = guest.shell("ulimit -c 0; ulimit -Hc; ulimit -Sc");
    assert_eq!((after.stdout, after.exit.code), (before, 0));
}
