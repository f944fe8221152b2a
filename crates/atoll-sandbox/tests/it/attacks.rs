//! What a sandbox must not reach. Each probe is a shell script that is also run where the control under test is off
//! (on the machine itself, without the packet filter, with a higher limit) and works there: so no test passes because
//! its attack is broken.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use atoll_sandbox::network::HostNetwork;
use atoll_sandbox::spec::ROUTER_ADDRESS;
use atoll_sandbox::{ExitReason, ExitRecord, Resources, SandboxSpec, SandboxState};

use crate::guest::Guest;
use crate::plane::{Plane, eventually, idle, in_every_tier, of, script, with_plane};

crate::runner::tests![
    listeners_of_the_machine_are_out_of_reach,
    listeners_of_another_sandbox_are_out_of_reach,
    private_files_of_the_machine_are_out_of_reach,
    programs_and_kernel_settings_cannot_be_written,
    processes_of_the_machine_are_out_of_sight,
    namespaces_and_mounts_are_refused,
    memory_is_bounded,
    processes_are_bounded,
    attempts_fail_inside_and_work_outside,
];

const MIB: u64 = 1024 * 1024;

/// A shell script that runs a Python program.
fn python(program: &str) -> String {
    format!("exec /usr/bin/python3 -u - <<'EOF'\n{program}\nEOF\n")
}

/// What a script prints on the machine itself, in the test's network.
fn on_machine(script: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a script prints inside, as root there: who can do the most.
fn inside(guest: &Guest, script: &str) -> String {
    guest.sh_as_root(script).stdout
}

fn connect(address: Ipv4Addr, port: u16) -> String {
    python(&format!(
        "import socket
try:
    socket.create_connection(('{address}', {port}), 1)
    print('connected')
except OSError:
    print('refused')"
    ))
}

/// Whether a script prints `connected` inside once the packet filter is gone; the launcher may put it back meanwhile.
fn connects_without_filter(plane: &Plane, guest: &Guest, script: &str) -> bool {
    let mut network = HostNetwork::open(&plane.state_dir().join("run")).unwrap();
    eventually(|| network.remove_filter().is_ok() && inside(guest, script) == "connected\n")
}

fn listeners_of_the_machine_are_out_of_reach() {
    in_every_tier("listeners_of_the_machine_are_out_of_reach", |plane, tier| {
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let sandbox = plane.create(of(tier, idle(2)));
        let at_router = TcpListener::bind((ROUTER_ADDRESS, 0)).unwrap();
        let guest = plane.guest(&sandbox);
        for listener in [&everywhere, &at_router] {
            let probe = connect(ROUTER_ADDRESS, listener.local_addr().unwrap().port());
            assert_eq!(inside(&guest, &probe), "refused\n");
            assert_eq!(on_machine(&probe), "connected\n");
        }
        let probe = connect(ROUTER_ADDRESS, everywhere.local_addr().unwrap().port());
        assert!(connects_without_filter(plane, &guest, &probe));
    });
}

fn listeners_of_another_sandbox_are_out_of_reach() {
    with_plane(|plane| {
        let listen = "import socket
listener = socket.create_server(('0.0.0.0', 7000))
print('listening')
while True:
    listener.accept()";
        let listening = plane.create(script(3, &python(listen)));
        plane.log_with(&listening.id, "listening");
        let attacker = plane.create(idle(2));
        let guest = plane.guest(&attacker);
        let probe = connect(listening.address, 7000);
        assert_eq!(inside(&guest, &probe), "refused\n");
        assert_eq!(on_machine(&probe), "connected\n");
        assert!(connects_without_filter(plane, &guest, &probe));
    });
}

fn private_files_of_the_machine_are_out_of_reach() {
    in_every_tier("private_files_of_the_machine_are_out_of_reach", |plane, tier| {
        let elsewhere = tempfile::tempdir().unwrap();
        let private = [plane.state_dir().join("private"), elsewhere.path().join("private")];
        for path in &private {
            std::fs::write(path, "root:private").unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let sandbox = plane.create(of(tier, idle(2)));
        let guest = plane.guest(&sandbox);
        for path in private.iter().map(std::path::PathBuf::as_path).chain([Path::new("/etc/shadow")]) {
            let path = path.display();
            let probe = format!("for root in '' /proc/1/root /proc/1/cwd/..; do cat $root{path}; done");
            let output = guest.sh(&probe);
            assert_eq!((output.stdout.as_str(), output.code), ("", 1), "{path}");
            assert_eq!(inside(&guest, &probe), "", "{path}");
            assert!(on_machine(&probe).contains("root:"), "{path}");
        }
    });
}

fn programs_and_kernel_settings_cannot_be_written() {
    in_every_tier("programs_and_kernel_settings_cannot_be_written", |plane, tier| {
        let sandbox = plane.create(of(tier, idle(2)));
        let guest = plane.guest(&sandbox);
        let new_program = "file=$(mktemp /usr/.atoll-it-XXXXXX) && rm $file && echo written";
        // Of the test's own network, which has the value already.
        let setting = "echo 0 >/proc/sys/net/ipv4/conf/all/log_martians && echo written";
        for probe in [new_program, setting] {
            assert_eq!(inside(&guest, probe), "", "{probe}");
            assert_eq!(on_machine(probe), "written\n", "{probe}");
        }
    });
}

fn processes_of_the_machine_are_out_of_sight() {
    in_every_tier("processes_of_the_machine_are_out_of_sight", |plane, tier| {
        let sandbox = plane.create(of(tier, idle(2)));
        let guest = plane.guest(&sandbox);
        let duration = format!("60.{}", std::process::id());
        let mut secret = Command::new("/usr/bin/sleep").arg(&duration).spawn().unwrap();
        let probe = python(&format!(
            "import glob
seen = 0
for path in glob.glob('/proc/[0-9]*/cmdline'):
    try:
        seen += b'sleep\\x00{duration}\\x00' in open(path, 'rb').read()
    except OSError:
        pass
print(seen)"
        ));
        let (hidden, seen) = (inside(&guest, &probe), on_machine(&probe));
        let count = "set -- /proc/[0-9]*; echo $#";
        let (few, many) = (inside(&guest, count), on_machine(count));
        secret.kill().unwrap();
        secret.wait().unwrap();
        assert_eq!((hidden.as_str(), seen.as_str()), ("0\n", "1\n"));
        // The guest and the shell.
        assert_eq!(few, "2\n");
        assert!(many.trim().parse::<u32>().unwrap() > 2, "{many}");
    });
}

fn namespaces_and_mounts_are_refused() {
    in_every_tier("namespaces_and_mounts_are_refused", |plane, tier| {
        let sandbox = plane.create(of(tier, idle(2)));
        let guest = plane.guest(&sandbox);
        // On the machine, mounts stay in the new namespace and end with it.
        let probe = python(
            "import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, result):
    print(name, errno.errorcode[ctypes.get_errno()] if result else 'works')
NEWNS, PRIVATE = 0x20000, 0x44000
attempt('unshare', libc.unshare(NEWNS))
attempt('private', libc.mount(None, b'/', None, PRIVATE, None))
attempt('mount', libc.mount(b'none', b'/mnt', b'tmpfs', 0, None))
attempt('umount', libc.umount2(b'/mnt', 0))
attempt('user', libc.unshare(0x10000000))",
        );
        let refused = "unshare EPERM\nprivate EPERM\nmount EPERM\numount EPERM\nuser EPERM\n";
        assert_eq!(inside(&guest, &probe), refused);
        assert_eq!(guest.sh(&probe).stdout, refused);
        assert_eq!(on_machine(&probe), "unshare works\nprivate works\nmount works\numount works\nuser works\n");
    });
}

fn memory_is_bounded() {
    in_every_tier("memory_is_bounded", |plane, tier| {
        let resources = Resources { memory_bytes: Some(64 * MIB), ..Resources::default() };
        let allocate = |number: u8, bytes: u64| {
            let program = python(&format!("held = b'x' * {bytes}"));
            let sandbox =
                plane.create(of(tier, SandboxSpec { resources: resources.clone(), ..script(number, &program) }));
            plane.run(plane.driver.wait(&sandbox.id)).unwrap()
        };
        let killed = allocate(2, 256 * MIB);
        let expected = (ExitReason::OomKilled, true, 137);
        assert_eq!((killed.reason, killed.oom_killed, killed.code), expected);
        let record = plane.run(plane.driver.inspect("sandbox-2")).unwrap();
        assert_eq!(record.state, SandboxState::Exited(killed));
        let ExitRecord { reason, oom_killed, code, .. } = allocate(3, 8 * MIB);
        assert_eq!((reason, oom_killed, code), (ExitReason::Completed, false, 0));
    });
}

fn processes_are_bounded() {
    in_every_tier("processes_are_bounded", |plane, tier| {
        // At most 200, of which none starts another.
        let probe = python(
            "import errno, subprocess
children = []
end = 'all'
for _ in range(200):
    try:
        children.append(subprocess.Popen(['/usr/bin/sleep', '60']))
    except OSError as error:
        end = errno.errorcode[error.errno]
        break
for child in children:
    child.kill()
    child.wait()
print(end, len(children) <= 32)",
        );
        let run = |number: u8, pids_max: u64| {
            let resources = Resources { pids_max: Some(pids_max), ..Resources::default() };
            let sandbox = plane.create(of(tier, SandboxSpec { resources, ..idle(number) }));
            plane.guest(&sandbox).sh(&probe).stdout
        };
        assert_eq!(run(2, 32), "EAGAIN True\n");
        assert_eq!(run(3, 400), "all False\n");
    });
}

/// Many small attempts: class, name and outcome of each.
fn attempts(output: &str) -> Vec<(String, String, String)> {
    let row = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        Some((cells.next()?, cells.next()?, cells.next()?))
    };
    output.lines().map(|line| row(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Something on the machine to be reached: a process with a secret, and a socket without a path.
fn victim(socket: &str) -> std::process::Child {
    let program = "import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind('\\0' + sys.argv[1])
listener.listen()
print('ready', flush=True)
time.sleep(120)";
    let mut victim = Command::new("/usr/bin/python3")
        .args(["-c", program, socket, "victim"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(victim.stdout.as_mut().unwrap(), &mut ready).unwrap();
    victim
}

fn attempts_fail_inside_and_work_outside() {
    const ATTEMPTS: &str = include_str!("attacks/attempts.py");
    in_every_tier("attempts_fail_inside_and_work_outside", |plane, tier| {
        let private = plane.state_dir().join("private");
        std::fs::write(&private, "private").unwrap();
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
        let socket = format!("atoll-it-{}", std::process::id());
        let mut victim = victim(&socket);
        let script = format!(
            "exec 9</etc/passwd; exec /usr/bin/python3 - {} {socket} {} <<'EOF'\n{ATTEMPTS}\nEOF\n",
            victim.id(),
            private.display()
        );
        let outside = attempts(&on_machine(&script));
        let sandbox = plane.create(of(tier, idle(2)));
        let guest = plane.guest(&sandbox);
        // Without the descriptor that the twin is given.
        let script = script.replacen("exec 9</etc/passwd; ", "", 1);
        let inside = [attempts(&guest.sh(&script).stdout), attempts(&inside(&guest, &script))];
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(outside.len() >= 60, "{}", outside.len());
        let useless: Vec<&str> =
            outside.iter().filter(|(.., outcome)| outcome == "held").map(|(_, name, _)| name.as_str()).collect();
        if !useless.is_empty() {
            println!(
                "NOTE attempts in {tier} prove nothing that do not work on this machine either: {}",
                useless.join("; ")
            );
        }
        assert!(outside.len() - useless.len() >= 50, "too few attempts work on this machine: {useless:#?}");
        let broken: Vec<_> = inside.iter().flatten().filter(|(.., outcome)| outcome != "held").collect();
        for (class, name, outcome) in inside[1].iter().filter(|(_, name, _)| !useless.contains(&name.as_str())) {
            crate::runner::report(tier.name(), class, name, outcome);
        }
        assert!(broken.is_empty(), "{tier}: {broken:#?}");
        assert_eq!(inside.map(|rows| rows.len()), [outside.len(); 2]);
    });
}
