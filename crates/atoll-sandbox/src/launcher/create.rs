//! Making sandboxes: everything up to the supervisor's plan at once, the rest when the supervisor has reported.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Resource;

use atoll_guest::supervisor::Report;

use super::events::Event;
use super::failure::LaunchError;
use super::paths::RUN_DIR;
use super::protocol::Answer;
use super::ranges::Ranges;
use super::recover::check_ownership;
use super::spare::{WaitingSupervisor, end_supervisor};
use super::spawn::{self, Descriptors};
use super::store::{Beginning, Processes, Stored};
use super::{Launcher, Phase, Sandbox, now_unix_ms, process, volumes};
use crate::cgroup::Groups;
use crate::gvisor::{self, runtime};
use crate::native::{self, Surroundings};
use crate::network::Unaddressed;
use crate::share::Share;
use crate::spec::{Image, MountKind, ROUTER_ADDRESS, SandboxSpec, Tier};

/// How long a supervisor may take to report.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest path of a Unix socket, its final zero included.
const SOCKET_PATH_BYTES_MAX: usize = 108;

impl Launcher {
    /// Begins a sandbox. When this fails, nothing of it is left.
    pub(super) fn begin_create(&mut self, request: u64, spec: SandboxSpec) -> Result<(), LaunchError> {
        spec.validate().map_err(LaunchError::Invalid)?;
        self.check_possible(&spec)?;
        self.find_runtime(spec.tier)?;
        let volumes = self.volumes_of(&spec)?;
        if self.sandboxes.contains_key(&spec.id) {
            return Err(LaunchError::AlreadyExists(spec.id));
        }
        self.cgroups.prepare().map_err(LaunchError::Cgroup)?;
        let network = self.take_network()?;
        let supervisor = self.take_supervisor()?;
        let (stored, groups) = match self.make_and_send(&spec, volumes, network, &supervisor.process) {
            Ok(made) => made,
            Err(error) => {
                end_supervisor(supervisor);
                return Err(error);
            }
        };
        let WaitingSupervisor { process: spawn::Supervisor { pid, socket }, handle } = supervisor;
        let id = stored.id.clone();
        let deadline = Instant::now() + START_TIMEOUT;
        let watched = self.events.watch_once(&socket, Event::Report(id.clone()));
        let phase = Phase::Starting { request, socket, supervisor_pid: pid, deadline };
        self.sandboxes.insert(id.clone(), Sandbox { stored, groups, supervisor: Some(handle), phase });
        if let Err(error) = watched {
            self.abort_start(&id, LaunchError::Spawn(error));
        }
        Ok(())
    }

    fn check_possible(&self, spec: &SandboxSpec) -> Result<(), LaunchError> {
        if spec.tier == Tier::Gvisor
            && let Some(bytes) = spec.resources.memory_bytes.filter(|bytes| *bytes < gvisor::MEMORY_BYTES_MIN)
        {
            return Err(LaunchError::Rule {
                what: format!("{bytes} bytes of memory are too few for the tier gvisor"),
                hint: Some(format!(
                    "give it at least {} MiB: its kernel lives in them too",
                    gvisor::MEMORY_BYTES_MIN >> 20
                )),
            });
        }
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
        if let (Some(asked), Some(hard)) = (spec.resources.nofile, hard)
            && asked > hard
        {
            return Err(LaunchError::Unsupported {
                what: format!("{asked} open files for each process are more than the limit of this service, {hard}"),
                remedy: "ask for fewer, or raise the service's limit (LimitNOFILE, `ulimit -Hn`)".to_owned(),
            });
        }
        let socket = self.paths.guest_socket(&spec.id);
        if socket.as_os_str().len() >= SOCKET_PATH_BYTES_MAX {
            return Err(LaunchError::Unsupported {
                what: format!("the path {} is too long for a socket", socket.display()),
                remedy: "choose a state directory with a shorter path".to_owned(),
            });
        }
        Ok(())
    }

    /// What a tier needs besides this machine's kernel; what is missing is named.
    fn find_runtime(&mut self, tier: Tier) -> Result<(), LaunchError> {
        if tier != Tier::Gvisor || self.gvisor.is_some() {
            return Ok(());
        }
        let refused = |source| LaunchError::Tier { tier, source };
        let path = runtime::locate(self.config.runsc.as_deref(), self.paths.root()).map_err(refused)?;
        check_ownership(&path)?;
        let found = runtime::open(path, Path::new(RUN_DIR)).map_err(refused)?;
        tracing::info!(path = %found.path.display(), platform = %found.platform, "gVisor runs here");
        self.gvisor = Some(found);
        Ok(())
    }

    /// Names of the volumes that a specification uses; nothing else of the machine can be mounted.
    fn volumes_of(&self, spec: &SandboxSpec) -> Result<Vec<String>, LaunchError> {
        let paths = spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Directory { host_path } => Some(host_path),
            _ => None,
        });
        paths
            .map(|path| {
                volumes::name_of(&self.paths, path).ok_or_else(|| LaunchError::Rule {
                    what: format!("{} is not a volume", path.display()),
                    hint: Some("make a volume and mount what that returned".to_owned()),
                })
            })
            .collect()
    }

    /// The files of the image that a specification names.
    fn kept_image_of(&self, spec: &SandboxSpec) -> Result<Option<PathBuf>, LaunchError> {
        let Image::Kept { id } = &spec.image else { return Ok(None) };
        if spec.tier != Tier::Native {
            return Err(LaunchError::Unsupported {
                what: format!("images other than the host's do not run in the tier {}", spec.tier),
                remedy: "ask for the tier native, or for the image atoll.local/host".to_owned(),
            });
        }
        Ok(Some(self.paths.images().join(id).join(native::IMAGE_FILES)))
    }

    /// Ids of the images that a specification runs on or mounts; all of them are there.
    fn images_of(&self, spec: &SandboxSpec) -> Result<Vec<String>, LaunchError> {
        let own = match &spec.image {
            Image::Host => None,
            Image::Kept { id } => Some(id),
        };
        let mounted = spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image { id } => Some(id),
            _ => None,
        });
        let ids: Vec<String> = own.into_iter().chain(mounted).cloned().collect();
        let is_there = |id: &String| self.paths.images().join(id).join(native::IMAGE_FILES).is_dir();
        match ids.iter().find(|id| !is_there(id)) {
            Some(id) => Err(LaunchError::NotFound { kind: "image", name: id.clone() }),
            None => Ok(ids),
        }
    }

    /// What root shares of what a specification mounts. All of it, or nothing starts.
    fn shares_of(&self, spec: &SandboxSpec) -> Result<BTreeMap<String, Share>, LaunchError> {
        let shares = spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Share { name, pod } => Some((name, pod)),
            _ => None,
        });
        shares
            .map(|(name, pod)| {
                let share = Share::find(self.paths.root(), name).and_then(|share| share.for_pod(name, pod));
                Ok((name.clone(), share.map_err(LaunchError::Share)?))
            })
            .collect()
    }

    fn make_and_send(
        &mut self,
        spec: &SandboxSpec,
        volumes: Vec<String>,
        network: Unaddressed,
        supervisor: &spawn::Supervisor,
    ) -> Result<(Stored, Groups), LaunchError> {
        let stored = self.make_record(spec, volumes, network.link())?;
        let groups = self.cgroups.groups(&spec.id);
        let made = self.make_parts(spec, &stored, network, supervisor);
        if let Err(error) = made {
            if let Err(left) = groups.remove().map_err(LaunchError::Cgroup).and(self.take_back(&stored)) {
                tracing::warn!(error = atoll_stdx::chain(&left), "a failed start left something");
            }
            return Err(error);
        }
        Ok((stored, groups))
    }

    /// The sandbox's directory, ids and record: what must be known to find the rest.
    fn make_record(&mut self, spec: &SandboxSpec, volumes: Vec<String>, link: &str) -> Result<Stored, LaunchError> {
        let images = self.images_of(spec)?;
        let directory = self.paths.sandbox(&spec.id);
        make_directory(&directory, 0o711)?;
        let range = match self.ranges.claim(&directory) {
            Ok(Some(range)) => range,
            other => {
                let _ = fs::remove_dir(&directory);
                return Err(match other {
                    Err(error) => LaunchError::files("claim ids for", &directory)(error),
                    Ok(_) => LaunchError::IdsExhausted,
                });
            }
        };
        let started_at_ms = now_unix_ms();
        // Later lives have larger numbers, also when the clock was set back.
        self.last_incarnation = started_at_ms.max(self.last_incarnation + 1);
        let stored = Stored::new(Beginning {
            id: spec.id.clone(),
            boot_id: self.boot_id.clone(),
            tier: spec.tier,
            address: spec.network.address,
            link: link.to_owned(),
            range,
            incarnation: self.last_incarnation,
            started_at_ms,
            volumes,
            images,
        });
        if let Err(error) = stored.save(&self.paths) {
            let failed = LaunchError::files("record", &directory)(error);
            // What is left of it is found by the next start.
            let _ = self.take_back(&stored);
            return Err(failed);
        }
        Ok(stored)
    }

    fn make_parts(
        &mut self,
        spec: &SandboxSpec,
        stored: &Stored,
        network: Unaddressed,
        supervisor: &spawn::Supervisor,
    ) -> Result<(), LaunchError> {
        let id = stored.id.as_str();
        let id_base = Ranges::base(stored.range);
        self.make_directories(spec, id_base)?;
        let listener = self.make_listener(id)?;
        let gvisor = self.gvisor.as_ref().filter(|_| spec.tier == Tier::Gvisor);
        let limits = gvisor.map_or_else(|| spec.resources.clone(), |_| gvisor::outer_resources(&spec.resources));
        let groups = self.cgroups.create(id, &limits).map_err(LaunchError::Cgroup)?;
        let network = self.network.address(network, stored.address, ROUTER_ADDRESS).map_err(LaunchError::Network)?;
        let run_path = self.paths.run(id);
        let run_dir = File::open(&run_path).map_err(LaunchError::files("open", &run_path))?;
        let memory_events = groups.open_memory_events().map_err(LaunchError::Cgroup)?;
        let unified = groups.open_unified().map_err(LaunchError::Cgroup)?;
        let tasks = groups.open_tasks().map_err(LaunchError::Cgroup)?;

        let directory = self.paths.sandbox(id);
        let shares = self.shares_of(spec)?;
        let (kept_image, images_dir) = (self.kept_image_of(spec)?, self.paths.images());
        let around = Surroundings {
            image: &self.image,
            kept_image: kept_image.as_deref(),
            images_dir: &images_dir,
            shares: &shares,
            sandbox_dir: &directory,
            id_base,
            plane_gid: self.config.plane_gid,
            incarnation: stored.incarnation,
            own_kernel: false,
        };
        let (plan, blobs) = match gvisor {
            Some(runtime) => gvisor::plan(spec, &around, runtime.platform, &self.config.guest_binary),
            None => native::plan(spec, &around),
        };
        let descriptors = Descriptors {
            network: network.as_fd(),
            listener: listener.as_fd(),
            guest: self.guest.as_fd(),
            run_dir: run_dir.as_fd(),
            memory_events: memory_events.as_fd(),
            runsc: gvisor.map(|runtime| runtime.program.as_fd()),
            unified: unified.as_ref().map(AsFd::as_fd),
            tasks: tasks.iter().map(AsFd::as_fd).collect(),
        };
        spawn::send_plan(&supervisor.socket, &plan, &blobs, &descriptors).map_err(LaunchError::Spawn)
    }

    fn make_directories(&self, spec: &SandboxSpec, id_base: u32) -> Result<(), LaunchError> {
        let directory = self.paths.sandbox(&spec.id);
        make_directory(&directory.join("root"), 0o700)?;
        if spec.tier == Tier::Gvisor {
            make_directory(&directory.join(gvisor::RUNSC_DIRECTORY), 0o700)?;
        }
        make_directory(&directory.join("volumes"), 0o700)?;
        let run = self.paths.run(&spec.id);
        make_directory(&run, 0o700)?;
        // The set-group bit gives the plane what the supervisor writes.
        chown(&run, Some(id_base), Some(self.config.plane_gid))
            .and_then(|()| fs::set_permissions(&run, Permissions::from_mode(0o2750)))
            .map_err(LaunchError::files("hand over", &run))?;
        for own in native::own_directories(spec) {
            let path = self.paths.own_volume(&spec.id, &own.name);
            make_directory(&path, 0o700)?;
            chown(&path, Some(own.user.uid), Some(own.user.gid))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(own.mode)))
                .map_err(LaunchError::files("hand over", &path))?;
        }
        Ok(())
    }

    fn make_listener(&self, id: &str) -> Result<UnixListener, LaunchError> {
        let path = self.paths.guest_socket(id);
        let made = || -> io::Result<UnixListener> {
            let listener = UnixListener::bind(&path)?;
            // Closed to all first, then given to the plane.
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            chown(&path, Some(self.config.plane_uid), Some(self.config.plane_gid))?;
            Ok(listener)
        };
        made().map_err(LaunchError::files("make", &path))
    }

    /// The supervisor has reported.
    pub(super) fn finish_start(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        let Phase::Starting { request, socket, supervisor_pid, .. } = &sandbox.phase else { return };
        let (request, supervisor_pid) = (*request, *supervisor_pid);
        let error = match spawn::receive_report(socket) {
            Some(Report::Started { guest_pid }) => match self.record_start(id, supervisor_pid, guest_pid) {
                Ok(answer) => return self.respond(request, Ok(answer)),
                Err(error) => error,
            },
            Some(Report::Failed { attempted, errno }) => LaunchError::start(attempted, errno),
            None => LaunchError::Start { attempted: "run a supervisor".to_owned(), source: None },
        };
        self.abort_start(id, error);
    }

    /// Records the processes, and only then lets them live.
    fn record_start(&mut self, id: &str, supervisor_pid: u32, guest_pid: u32) -> Result<Answer, LaunchError> {
        let gone = || LaunchError::Start { attempted: "find the guest alive".to_owned(), source: None };
        let sandbox = self.sandboxes.get_mut(id).ok_or_else(gone)?;
        sandbox.stored.processes = Some(Processes {
            supervisor_pid,
            supervisor_started_ticks: process::started_ticks(supervisor_pid).ok_or_else(gone)?,
            guest_pid,
            guest_started_ticks: process::started_ticks(guest_pid).ok_or_else(gone)?,
        });
        let supervisor = sandbox.supervisor.as_ref().ok_or_else(gone)?;
        self.events.watch_once(supervisor, Event::SupervisorEnded(id.to_owned())).map_err(LaunchError::Spawn)?;
        sandbox.stored.save_processes(&self.paths).map_err(LaunchError::files("record", &self.paths.sandbox(id)))?;
        if let Phase::Starting { socket, .. } = &sandbox.phase {
            spawn::consent(socket);
        }
        sandbox.phase = Phase::Running;
        self.record(id).map(|record| Answer::Sandbox(Box::new(record))).ok_or_else(gone)
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), LaunchError> {
    DirBuilder::new().mode(mode).create(path).map_err(LaunchError::files("make", path))
}
