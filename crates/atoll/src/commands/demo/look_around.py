"""Tries what code in a sandbox must not be able to do. Exits 1 if something is possible that must not be."""
import ctypes, os, socket, sys

PR_GET_NO_NEW_PRIVS = 39
leaks = []


def show(what, held, detail):
    print(f"{'✓' if held else '✗'} {what:<42} {detail}")
    if not held:
        leaks.append(what)


def attempt(what, action):
    try:
        result = action()
    except OSError as error:
        show(what, True, f"refused: {error.strerror or error}")
    else:
        show(what, False, f"worked: {result!r}")


def status(field):
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(field + ":"))


def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def connect(host, port):
    with socket.create_connection((host, port), timeout=2):
        return "connected"


processes = [name for name in os.listdir("/proc") if name.isdigit()]
show("sees only its own processes", len(processes) < 10, f"{len(processes)} of them")
show("is nobody special", os.getuid() != 0, f"uid {os.getuid()}, host name {socket.gethostname()}")
show("has no capabilities", not int(status("CapPrm"), 16), f"CapPrm {status('CapPrm')}, CapEff {status('CapEff')}")
show("cannot gain privileges", ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs is set")
show("has its system calls filtered", status("Seccomp") == "2", "seccomp filter in force")
attempt("reads the host's /etc/shadow", lambda: open("/etc/shadow").read())
attempt("looks into the host's /root", lambda: os.listdir("/root"))
attempt("looks for the plane's keys", lambda: os.listdir("/var/lib/atoll"))
attempt("writes to /usr", lambda: open("/usr/x", "w"))
attempt("writes to the root", lambda: open("/x", "w"))
attempt("changes a kernel setting", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("mounts a file system", mount)
attempt("makes a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("reaches the internet (a test address)", lambda: connect("192.0.2.1", 80))
attempt("reaches the cloud's metadata service", lambda: connect("169.254.169.254", 80))
attempt("reaches the host", lambda: connect("10.201.0.1", 22))
with open("/workspace/note.txt", "w") as note:
    note.write("mine")
show("but has a place of its own to work", os.path.exists("/workspace/note.txt"), "/workspace")
sys.exit(1 if leaks else 0)
