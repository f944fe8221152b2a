//! Starting the launcher: what earlier ones left is taken over or taken away.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Resource;

use atoll_guest::supervisor::{ExitReason, ExitRecord};

use super::events::{Event, Events};
use super::failure::LaunchError;
use super::paths::{Paths, RUN_DIR};
use super::ranges::Ranges;
use super::spare::Spares;
use super::store::Stored;
use super::trash::Trash;
use super::{Launcher, LauncherConfig, Phase, Sandbox, now_unix_ms, process};
use crate::cgroup::{Cgroups, Groups, Layout};
use crate::image::HostImage;
use crate::network::HostNetwork;
use crate::spec::check_id;

/// How long processes of half-made sandboxes may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const END_POLL: Duration = Duration::from_millis(1);

impl Launcher {
    /// Prepares the state directory and takes over what runs.
    pub(super) fn start(config: LauncherConfig, socket: UnixStream) -> Result<Self, LaunchError> {
        raise_open_files();
        let root = fs::canonicalize(&config.state_dir).map_err(LaunchError::files("find", &config.state_dir))?;
        let paths = Paths::new(&root);
        check_ownership(&root)?;
        check_ownership(&config.guest_binary)?;
        let guest_binary = fs::canonicalize(&config.guest_binary);
        let guest_binary = guest_binary.map_err(LaunchError::files("find", &config.guest_binary))?;
        let config = LauncherConfig { guest_binary, ..config };
        for (path, mode) in [(paths.sandboxes(), 0o711), (paths.trash(), 0o700), (paths.volumes(), 0o700)] {
            make_directory(&path, mode)?;
        }
        let guest = File::open(&config.guest_binary).map_err(LaunchError::files("open", &config.guest_binary))?;
        let run_dir = Path::new(RUN_DIR);
        let ranges = Ranges::open(run_dir).map_err(LaunchError::files("prepare", run_dir))?;
        let cgroups = Cgroups::new(Layout::detect(), &paths.cgroup());
        let mut events = Events::new().map_err(LaunchError::files("wait below", &root))?;
        events.watch(&socket, Event::Request).map_err(LaunchError::files("serve", &root))?;
        let mut launcher = Self {
            guest,
            gvisor: None,
            image: HostImage::prepare(&paths.host_image()).map_err(LaunchError::Image)?,
            cgroups,
            network: HostNetwork::open(run_dir).map_err(LaunchError::Network)?,
            ranges,
            trash: Trash::open(&paths.trash()),
            spares: Spares::default(),
            boot_id: process::boot_id(),
            last_incarnation: 0,
            sandboxes: BTreeMap::new(),
            events,
            socket: Some(socket),
            filter_checked: Instant::now(),
            config,
            paths,
        };
        launcher.take_over()?;
        Ok(launcher)
    }

    fn take_over(&mut self) -> Result<(), LaunchError> {
        let directory = self.paths.sandboxes();
        let entries = fs::read_dir(&directory).map_err(LaunchError::files("list", &directory))?;
        let ids: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_id(name).is_ok())
            .collect();
        for id in ids {
            match Stored::load(&self.paths, &id).filter(|stored| stored.processes.is_some()) {
                Some(stored) => self.adopt(stored),
                None => self.take_away(&id)?,
            }
        }
        for name in self.cgroups.sandboxes() {
            if !self.sandboxes.contains_key(&name) {
                end_processes(&self.cgroups.groups(&name));
                self.remove_groups(&name);
            }
        }
        self.ranges.collect().map_err(LaunchError::files("tidy", Path::new(RUN_DIR)))?;
        if !self.sandboxes.is_empty() {
            self.network.ensure_filter().map_err(LaunchError::Network)?;
        }
        self.network.collect().map_err(LaunchError::Network)?;
        Ok(())
    }

    fn adopt(&mut self, stored: Stored) {
        let id = stored.id.clone();
        self.last_incarnation = self.last_incarnation.max(stored.incarnation);
        let groups = self.cgroups.groups(&id);
        let same_boot = stored.boot_id == self.boot_id;
        let supervisor = stored
            .processes
            .filter(|_| same_boot)
            .and_then(|known| process::open(known.supervisor_pid, known.supervisor_started_ticks))
            .filter(|handle| !process::has_ended(handle));
        let phase = match &supervisor {
            Some(handle) => match self.events.watch_once(handle, Event::SupervisorEnded(id.clone())) {
                Ok(()) => Phase::Running,
                // Unwatched, its end would go unnoticed.
                Err(_) => Phase::Exited(self.settle(&id, &groups, ExitReason::SupervisorLost)),
            },
            None => {
                let reason = if same_boot { ExitReason::SupervisorLost } else { ExitReason::MachineRestarted };
                Phase::Exited(self.settle(&id, &groups, reason))
            }
        };
        tracing::info!(sandbox = id, running = matches!(phase, Phase::Running), "found a sandbox again");
        self.sandboxes.insert(id, Sandbox { stored, groups, supervisor, phase });
    }

    /// How a sandbox ended whose supervisor is gone: by its record, or by `reason`, which is recorded then.
    pub(super) fn settle(&self, id: &str, groups: &Groups, reason: ExitReason) -> ExitRecord {
        // A supervisor that was killed took the guest with it; this makes sure.
        groups.kill();
        let path = self.paths.exit(id);
        if let Some(record) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return record;
        }
        ExitRecord::lost(reason, now_unix_ms())
    }

    /// Removes a sandbox that was never finished, of which only the id is known.
    fn take_away(&mut self, id: &str) -> Result<(), LaunchError> {
        tracing::info!(sandbox = id, "removing a sandbox that was not finished");
        if let Some(stored) = Stored::load(&self.paths, id) {
            self.network.release(&stored.link, stored.address).map_err(LaunchError::Network)?;
            self.ranges.release(stored.range, &self.paths.sandbox(id));
        }
        end_processes(&self.cgroups.groups(id));
        self.remove_groups(id);
        let directory = self.paths.sandbox(id);
        self.trash.discard(&directory).map_err(LaunchError::files("discard", &directory))
    }

    fn remove_groups(&self, name: &str) {
        if let Err(error) = self.cgroups.groups(name).remove() {
            tracing::warn!(error = atoll_stdx::chain(&error), "a control group stays");
        }
    }
}

/// Ends whatever is in the groups and waits for it.
fn end_processes(groups: &Groups) {
    groups.kill();
    let deadline = Instant::now() + END_TIMEOUT;
    while !groups.processes().is_empty() && Instant::now() < deadline {
        std::thread::sleep(END_POLL);
        groups.kill();
    }
}

/// Each sandbox takes a descriptor or two; the usual limit is for programs that use `select`.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // At worst, fewer sandboxes fit.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// What root executes and trusts must be root's alone to change.
pub(super) fn check_ownership(path: &Path) -> Result<(), LaunchError> {
    let metadata = fs::metadata(path).map_err(LaunchError::files("look at", path))?;
    if metadata.uid() == 0 && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(LaunchError::Rule {
        what: format!("{} can be changed by others than root", path.display()),
        hint: Some(format!("chown root {0} && chmod go-w {0}", path.display())),
    })
}

fn make_directory(path: &Path, mode: u32) -> Result<(), LaunchError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(LaunchError::files("make", path))
}
