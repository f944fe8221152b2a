"""Tries what code in a sandbox must not be able to do, each attempt in a process of its own.

Prints one line for each: class, name, and `held` or `BROKEN: …`. The same program runs on the machine, as root and in
namespaces of its own where it would do harm otherwise; there every attempt must work, or it proves nothing.

Arguments: the process id, the abstract socket and the private file of a victim on the machine.
"""
import ctypes, fcntl, os, resource, signal, socket, struct, sys, tempfile

victim_pid, victim_socket, victim_file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
cases = []

NEWNS, NEWUTS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x10000000, 0x20000000, 0x40000000


def case(group, name):
    def add(function):
        cases.append((group, name, function))
        return function
    return add


def call(function, *arguments):
    """A function of the C library that must not fail."""
    ctypes.set_errno(0)
    result = function(*arguments)
    if result == -1 or (result == 0xFFFFFFFFFFFFFFFF):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def system_call(number, *arguments):
    libc.syscall.restype = ctypes.c_long
    return call(libc.syscall, ctypes.c_long(number), *map(ctypes.c_long, arguments))


def open_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))


def read_some(path):
    with open(path, "rb", buffering=0) as file:
        data = file.read(64)
    if not data.strip(b"\0\n "):
        raise OSError(0, "nothing there")


# Kernel settings and memory, through /proc and /sys.
for path in ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory",
             "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
             "/sys/kernel/mm/transparent_hugepage/enabled"]:
    case("/proc and /sys", f"opens {path} for writing")(lambda path=path: open_for_writing(path))
for path in ["/proc/kallsyms", "/proc/interrupts", "/proc/key-users"]:
    case("/proc and /sys", f"reads {path}")(lambda path=path: read_some(path))


@case("/proc and /sys", "lists the machine's control groups")
def control_groups():
    if not os.listdir("/sys/fs/cgroup"):
        raise OSError(0, "nothing there")


@case("/proc and /sys", "opens the machine's memory as a file")
def kcore():
    os.close(os.open("/proc/kcore", os.O_RDONLY))


@case("/proc and /sys", "opens the memory of the victim for writing")
def victim_memory():
    os.close(os.open(f"/proc/{victim_pid}/mem", os.O_RDWR))


@case("/proc and /sys", "reads the memory map of the victim")
def victim_maps():
    read_some(f"/proc/{victim_pid}/maps")


@case("/proc and /sys", "reads the environment of the victim")
def victim_environment():
    read_some(f"/proc/{victim_pid}/environ")


@case("/proc and /sys", "reads a private file through the victim's root")
def victim_root():
    read_some(f"/proc/{victim_pid}/root{victim_file}")


@case("container start", "reads a private file by its path")
def private_file():
    read_some(victim_file)


@case("container start", "reads /etc/shadow")
def shadow():
    read_some("/etc/shadow")


@case("container start", "writes into /usr")
def write_usr():
    descriptor, path = tempfile.mkstemp(dir="/usr", prefix=".atoll-it-")
    os.close(descriptor)
    os.unlink(path)


@case("container start", "makes a device file")
def device():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.mknod(directory + "/null", 0o600 | 0o020000, os.makedev(1, 3))


def disk():
    """Name and numbers of the first disk of the machine."""
    with open("/proc/partitions") as lines:
        major, minor, _, name = list(lines)[2].split()
    return name, int(major), int(minor)


@case("container start", "opens the machine's disk")
def open_disk():
    os.close(os.open("/dev/" + disk()[0], os.O_RDONLY))


@case("container start", "makes a device file of the machine's disk, and opens it")
def make_disk():
    _, major, minor = disk()
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.mknod(directory + "/disk", 0o600 | 0o060000, os.makedev(major, minor))
        os.close(os.open(directory + "/disk", os.O_RDONLY))


@case("container start", "opens the kernel's log device")
def kmsg():
    os.close(os.open("/dev/kmsg", os.O_RDONLY))


@case("container start", "inherits a descriptor that leads out")
def descriptors():
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            if target.startswith("/") and not target.startswith("/proc/"):
                return
    raise OSError(0, "none")


# Namespaces.
for name, flag in [("mount", NEWNS), ("host name", NEWUTS), ("user", NEWUSER), ("network", NEWNET), ("process", NEWPID)]:
    case("user namespaces", f"makes a {name} namespace")(lambda flag=flag: call(libc.unshare, flag))


@case("user namespaces", "clones into a user namespace")
def clone_user():
    SYS_clone = 56
    pid = system_call(SYS_clone, NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@case("user namespaces", "joins a namespace of PID 1")
def join():
    namespace = os.open("/proc/1/ns/uts", os.O_RDONLY)
    call(libc.setns, namespace, NEWUTS)


@case("user namespaces", "mounts a file system")
def mount():
    # Where it works, it must not last.
    libc.unshare(NEWNS)
    libc.mount(None, b"/", None, 0x44000, None)
    call(libc.mount, b"none", b"/mnt", b"tmpfs", 0, None)


@case("user namespaces", "makes a mount the new way")
def fsopen():
    SYS_fsopen = 430
    os.close(system_call(SYS_fsopen, ctypes.cast(b"tmpfs", ctypes.c_void_p).value, 0))


@case("user namespaces", "copies a mount the new way")
def open_tree():
    SYS_open_tree, OPEN_TREE_CLONE = 428, 1
    path = ctypes.create_string_buffer(b"/")
    os.close(system_call(SYS_open_tree, -100, ctypes.addressof(path), OPEN_TREE_CLONE))


@case("user namespaces", "makes the root writable")
def remount():
    MS_REMOUNT, MS_BIND = 0x20, 0x1000
    libc.unshare(NEWNS)
    call(libc.mount, None, b"/", None, MS_REMOUNT | MS_BIND, None)


@case("user namespaces", "unmounts what lies over something else")
def unmount():
    MNT_DETACH = 2
    libc.unshare(NEWNS)
    libc.mount(None, b"/", None, 0x44000, None)
    call(libc.umount2, b"/dev", MNT_DETACH)


@case("user namespaces", "sets the host name")
def host_name():
    name = socket.gethostname().encode()
    call(libc.sethostname, name, len(name))


@case("user namespaces", "changes its root")
def chroot():
    os.chroot("/usr")


# System calls that reach far into the kernel.
@case("seccomp", "loads a BPF map")
def bpf():
    SYS_bpf = 321
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))
    os.close(system_call(SYS_bpf, 0, ctypes.addressof(attributes), 128))


@case("seccomp", "sets up an io_uring")
def io_uring():
    SYS_io_uring_setup = 425
    parameters = ctypes.create_string_buffer(120)
    os.close(system_call(SYS_io_uring_setup, 4, ctypes.addressof(parameters)))


@case("seccomp", "opens a userfaultfd")
def userfaultfd():
    SYS_userfaultfd = 323
    os.close(system_call(SYS_userfaultfd, os.O_CLOEXEC))


@case("seccomp", "adds a key to a key ring")
def add_key():
    SYS_add_key = 248
    name = ctypes.create_string_buffer(b"atoll-it")
    kind = ctypes.create_string_buffer(b"user")
    system_call(SYS_add_key, ctypes.addressof(kind), ctypes.addressof(name), ctypes.addressof(name), 4, -2 & 0xFFFFFFFF)


@case("seccomp", "calls clone3")
def clone3():
    SYS_clone3 = 435
    arguments = ctypes.create_string_buffer(struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0) + bytes(24))
    pid = system_call(SYS_clone3, ctypes.addressof(arguments), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@case("seccomp", "traces a child")
def trace():
    PTRACE_TRACEME = 0
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 else 1)
    if os.waitpid(pid, 0)[1]:
        raise OSError(1, "refused")


@case("seccomp", "gets a handle of a file")
def handle():
    SYS_name_to_handle_at = 303
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    path = ctypes.create_string_buffer(b"/usr")
    identifier = ctypes.c_int()
    system_call(SYS_name_to_handle_at, -100, ctypes.addressof(path), ctypes.addressof(buffer), ctypes.addressof(identifier), 0)


@case("seccomp", "opens a file by its handle")
def open_by_handle():
    SYS_name_to_handle_at, SYS_open_by_handle_at = 303, 304
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    path, identifier = ctypes.create_string_buffer(b"/usr"), ctypes.c_int()
    system_call(SYS_name_to_handle_at, -100, ctypes.addressof(path), ctypes.addressof(buffer), ctypes.addressof(identifier), 0)
    mount = os.open("/", os.O_RDONLY)
    os.close(system_call(SYS_open_by_handle_at, mount, ctypes.addressof(buffer), os.O_RDONLY))


@case("seccomp", "reads the kernel's log by a system call")
def kernel_log():
    SYSLOG_ACTION_READ_ALL = 3
    buffer = ctypes.create_string_buffer(256)
    call(libc.klogctl, SYSLOG_ACTION_READ_ALL, buffer, 256)


@case("seccomp", "counts events of the kernel")
def perf():
    SYS_perf_event_open, TYPE_SOFTWARE = 298, 1
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", TYPE_SOFTWARE, 112, 0) + bytes(96))
    os.close(system_call(SYS_perf_event_open, ctypes.addressof(attributes), 0, -1, -1, 0))


@case("seccomp", "watches a whole file system")
def fanotify():
    SYS_fanotify_init = 300
    os.close(system_call(SYS_fanotify_init, 0, os.O_RDONLY))


@case("seccomp", "takes a descriptor out of the victim")
def steal():
    SYS_pidfd_getfd = 438
    os.close(system_call(SYS_pidfd_getfd, os.pidfd_open(victim_pid), 1, 0))


@case("seccomp", "reads the memory of the victim by a system call")
def read_memory():
    SYS_process_vm_readv = 310
    with open(f"/proc/{victim_pid}/maps") as lines:
        start = int(next(line for line in lines if " r-" in line or " rw" in line).split("-")[0], 16)
    buffer = ctypes.create_string_buffer(16)
    ours = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buffer), 16))
    theirs = ctypes.create_string_buffer(struct.pack("QQ", start, 16))
    system_call(SYS_process_vm_readv, victim_pid, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)


@case("seccomp", "types into its own terminal")
def terminal():
    TIOCSTI = 0x5412
    primary, secondary = os.openpty()
    os.setsid()
    fcntl.ioctl(secondary, 0x540E, 0)
    fcntl.ioctl(secondary, TIOCSTI, b"x")


# Privileges.
@case("privileges", "has a capability")
def capabilities():
    with open("/proc/self/status") as lines:
        sets = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    if not any(sets.values()):
        raise OSError(0, "none, not even in the bounding set")


@case("privileges", "takes on another user's id")
def setuid():
    os.setresuid(12345, 12345, 12345)


@case("privileges", "drops the groups that it is known by")
def setgroups():
    os.setgroups([])


@case("privileges", "gives a file away")
def chown():
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        os.chown(file.name, 12345, 12345)


@case("privileges", "becomes root by a set-user-id program")
def setuid_program():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = directory + "/id"
        with open("/usr/bin/id", "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        os.chmod(directory, 0o755)
        os.chmod(path, 0o4755)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(write, 1)
                if os.getuid() == 0:
                    # Where that works; root inside of a sandbox cannot either.
                    os.setresuid(12345, 12345, 12345)
                os.execv(path, ["id", "-u"])
            finally:
                os._exit(1)
        os.close(write)
        answer = os.read(read, 64)
        os.waitpid(pid, 0)
        if answer.strip() != b"0" or os.getuid() != 0:
            raise OSError(1, "not root")


@case("privileges", "gives a program a capability")
def file_capability():
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        os.setxattr(file.name, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))


@case("privileges", "raises its own priority")
def priority():
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@case("privileges", "becomes a real-time process")
def realtime():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@case("privileges", "raises a hard limit of its own")
def hard_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_NOFILE, (65, 65))


# Out of the network namespace.
for name, family, kind, protocol in [
    ("raw", socket.AF_INET, socket.SOCK_RAW, 1),
    ("packet", socket.AF_PACKET, socket.SOCK_RAW, 0),
    ("packet filter", socket.AF_NETLINK, socket.SOCK_RAW, 12),
    ("kernel crypto", 38, socket.SOCK_SEQPACKET, 0),
    ("virtual machine", 40, socket.SOCK_STREAM, 0),
    ("audit", socket.AF_NETLINK, socket.SOCK_RAW, 9),
    ("device event", socket.AF_NETLINK, socket.SOCK_RAW, 15),
]:
    case("network", f"opens a {name} socket")(
        lambda family=family, kind=kind, protocol=protocol: socket.socket(family, kind, protocol).close())


@case("network", "changes a network interface")
def interface():
    SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        request = fcntl.ioctl(opened, SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(opened, SIOCSIFFLAGS, request)


@case("network", "connects to an abstract socket of the machine")
def abstract_socket():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(2)
    connection.connect("\0" + victim_socket)


@case("resource exhaustion", "signals a process of the machine")
def signal_victim():
    os.kill(victim_pid, 0)
    with open(f"/proc/{victim_pid}/cmdline", "rb") as file:
        if b"victim" not in file.read():
            raise OSError(0, "another process of that number")


def run(function):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            function()
            text = "BROKEN: it worked"
        except (OSError, ValueError):
            text = "held"
        except BaseException as error:
            text = f"BROKEN: {type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    answer = b"".join(iter(lambda: os.read(read, 4096), b""))
    os.close(read)
    os.waitpid(pid, 0)
    return answer.decode() or "held"


for group, name, function in cases:
    print(group, name, run(function), sep="\t", flush=True)
