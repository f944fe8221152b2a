//! Runtimes that others have made, run as their own programs: from their execution to the first byte of output.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::measure::Samples;
use crate::serve::configured_runsc;

/// One of them.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    program: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs an OCI bundle.
    Oci,
    /// The same, in gVisor.
    Runsc,
    Bubblewrap,
}

pub(super) const ALL: &[Peer] = &[
    Peer { name: "runc", program: "runc", kind: Kind::Oci },
    Peer { name: "crun", program: "crun", kind: Kind::Oci },
    Peer { name: "bubblewrap", program: "bwrap", kind: Kind::Bubblewrap },
    Peer { name: "runsc", program: "runsc", kind: Kind::Runsc },
];

const ECHO: [&str; 2] = ["/bin/echo", "ready"];
/// What of the machine is shown inside, as with the host image.
const SHOWN: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// Starts it `n` times. An error is the reason why it could not be measured.
pub(super) fn measure(peer: &Peer, n: u32, scratch: &Path) -> Result<Samples, String> {
    let program = find(peer).ok_or("not found in PATH")?;
    let bundle = scratch.join(format!("peer-{}", peer.name));
    let made = fs::create_dir_all(bundle.join("rootfs"))
        .and_then(|()| fs::write(bundle.join("config.json"), config().to_string()));
    made.map_err(|error| format!("no bundle: {error}"))?;
    let mut samples = Samples::default();
    for round in 0..=n {
        let mut command = command(peer, &program, &bundle, round);
        let started = Instant::now();
        let outcome = first_byte(&mut command);
        if round == 0 {
            // Whoever does not run at all is not measured.
            outcome?;
        } else {
            samples.record(outcome.as_ref().map_or_else(|_| started.elapsed(), |at| *at - started), outcome.is_ok());
        }
    }
    Ok(samples)
}

fn find(peer: &Peer) -> Option<PathBuf> {
    if peer.kind == Kind::Runsc {
        return atoll_sandbox::gvisor::runtime::locate(configured_runsc().as_deref(), Path::new("/nonexistent")).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(peer.program)).find(|path| path.is_file())
}

fn command(peer: &Peer, program: &Path, bundle: &Path, round: u32) -> Command {
    let mut command = Command::new(program);
    let container = format!("atoll-bench-{}-{round}", std::process::id());
    let state = bundle.join("state");
    match peer.kind {
        Kind::Oci => {
            command.arg("--root").arg(state).arg("run").arg("--bundle").arg(bundle).arg(container);
        }
        Kind::Runsc => {
            command.arg("--root").arg(state).args(["--network=none", "run"]).arg("--bundle").arg(bundle).arg(container);
        }
        Kind::Bubblewrap => {
            command.args(["--unshare-all", "--proc", "/proc", "--dev", "/dev"]);
            for path in SHOWN {
                command.args(["--ro-bind-try", path, path]);
            }
            command.args(ECHO);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// When it said something; its end is waited for.
fn first_byte(command: &mut Command) -> Result<Instant, String> {
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut byte = [0];
    let read = child.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut byte));
    let at = Instant::now();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match read {
        Ok(1) if output.status.success() => Ok(at),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next_back().unwrap_or("it said nothing").to_owned())
        }
    }
}

fn config() -> Value {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
    ];
    mounts.extend(
        SHOWN
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})),
    );
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ECHO,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "mounts": mounts,
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
        ]},
    })
}
