//! `atoll bench start`: how long until a sandbox says something.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_rt::TaskGroup;
use atoll_sandbox::driver::SandboxDriver;
use atoll_sandbox::{LauncherConfig, SandboxSpec, Tier, User, Workload};
use atoll_stdx::Hint;

use super::measure::{Report, Row, Samples};
use super::{peers, private_state_dir};
use crate::commands::{block_on, doctor};
use crate::failure::{Exit, Failure};
use crate::plane::require_root;
use crate::printer::Printer;
use crate::serve::{LAUNCHER_ARGUMENT, configured_runsc, guest};
use crate::state::{PLANE_GID, PLANE_UID, StateDir};

/// How long a sandbox may take to say something.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(20);
const OUTPUT_POLL: Duration = Duration::from_micros(50);
/// Long enough for the launcher to make ahead what the next start needs.
const MAKING_AHEAD: Duration = Duration::from_millis(15);
/// Not the network of any other plane's sandbox, unless that has ten thousand.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 201, 250, 2);

/// Measures every tier that this machine has, and then what others have made.
pub(super) fn measure(n: u32, printer: &Printer) -> Result<Report, Failure> {
    require_root()?;
    let dir = private_state_dir("atoll-bench-")?;
    let findings = doctor::findings(dir.path());
    let mut absent = BTreeMap::new();
    let mut rows = block_on(own_rows(n, dir.path(), doctor::is_available(&findings, Tier::Gvisor), printer))?;
    if !doctor::is_available(&findings, Tier::Gvisor) {
        absent.insert("gvisor", "`atoll doctor` tells what is missing".to_owned());
    }
    for peer in peers::ALL {
        match peers::measure(peer, n, dir.path()) {
            Ok(samples) => rows.push(samples.row_of_peer("first_output", peer.name)),
            Err(reason) => drop(absent.insert(peer.name, reason)),
        }
    }
    dir.close().map_err(|error| Failure::because(Exit::Failure, "cannot remove what was measured with", &error))?;
    let absent: Vec<String> = absent.into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    Ok(Report::new("start", None, rows).condition("program", "echo").condition("not_measured", absent.join("; ")))
}

async fn own_rows(n: u32, state_dir: &Path, has_gvisor: bool, printer: &Printer) -> Result<Vec<Row>, Failure> {
    let group = TaskGroup::new("bench");
    let mut rows = Vec::new();
    for (name, tier, make_ahead) in [
        ("native_first_output", Tier::Native, false),
        ("native_fast_first_output", Tier::Native, true),
        ("gvisor_first_output", Tier::Gvisor, true),
    ] {
        if tier == Tier::Gvisor && !has_gvisor {
            continue;
        }
        printer.note(format!("measuring {name}"));
        let mut launcher = Launcher::start(state_dir, make_ahead, &group)?;
        let samples = launcher.measure(n, tier, make_ahead).await;
        launcher.stop();
        rows.push(samples?.row(name));
    }
    group.cancel();
    Ok(rows)
}

/// A launcher for nothing but this.
struct Launcher {
    process: std::process::Child,
    driver: SandboxDriver,
}

impl Launcher {
    fn start(state_dir: &Path, make_ahead: bool, group: &TaskGroup) -> Result<Self, Failure> {
        let config = LauncherConfig {
            state_dir: state_dir.to_owned(),
            guest_binary: guest::install(&StateDir::new(state_dir))?,
            plane_uid: PLANE_UID,
            plane_gid: PLANE_GID,
            runsc: configured_runsc(),
            make_ahead,
        };
        let started = SandboxDriver::spawn_launcher(Path::new("/proc/self/exe"), LAUNCHER_ARGUMENT, &config)
            .and_then(|process| Ok((process.child, SandboxDriver::connect(process.socket, group)?)));
        let (process, driver) = started.map_err(|error| {
            Failure::because(Exit::Machine, "cannot start the launcher", &error).hint_of(error.hint())
        })?;
        Ok(Self { process, driver })
    }

    async fn measure(&mut self, n: u32, tier: Tier, make_ahead: bool) -> Result<Samples, Failure> {
        let mut samples = Samples::default();
        // The first pays for what all share.
        for round in 0..=n {
            if make_ahead {
                tokio::time::sleep(MAKING_AHEAD).await;
            }
            let id = format!("bench-{round}");
            let started = Instant::now();
            let spec = echo(&id, tier);
            let created = self.driver.create(spec).await.map_err(|error| {
                Failure::because(Exit::Machine, "a sandbox does not start", &error).hint_of(error.hint())
            })?;
            let spoke = first_output(&self.driver.logs_path(&created.id));
            if round > 0 {
                samples.record(started.elapsed(), spoke);
            }
            self.driver
                .destroy(&id, 0)
                .await
                .map_err(|error| Failure::because(Exit::Machine, "a sandbox does not end", &error))?;
        }
        Ok(samples)
    }

    /// Its end of the socket is closed with the driver, which ends it.
    fn stop(mut self) {
        drop(self.driver);
        let deadline = Instant::now() + OUTPUT_TIMEOUT;
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(OUTPUT_POLL);
        }
    }
}

fn echo(id: &str, tier: Tier) -> SandboxSpec {
    let workload = Workload {
        argv: vec!["/bin/echo".to_owned(), "ready".to_owned()],
        env: BTreeMap::new(),
        cwd: None,
        user: User::default(),
    };
    SandboxSpec { tier, workload: Some(workload), ..SandboxSpec::idle(id, ADDRESS) }
}

/// Waits for the first byte in a log.
fn first_output(log: &Path) -> bool {
    let deadline = Instant::now() + OUTPUT_TIMEOUT;
    while Instant::now() < deadline {
        if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > 0) {
            return true;
        }
        std::thread::sleep(OUTPUT_POLL);
    }
    false
}
