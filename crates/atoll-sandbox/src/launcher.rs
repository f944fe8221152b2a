//! The privileged half: a single-threaded process without secrets that makes and unmakes sandboxes for one plane.
//!
//! One loop waits for requests, for supervisors' reports and for ends of processes. Nothing in it waits for a sandbox,
//! so that starts and ends of many overlap.

mod clone;
mod create;
mod end;
mod events;
mod failure;
pub(crate) mod paths;
pub(crate) mod process;
pub mod protocol;
mod ranges;
mod recover;
mod spare;
mod spawn;
mod store;
mod trash;
mod volumes;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroups, Groups};
use crate::gvisor::runtime::Runtime;
use crate::image::HostImage;
use crate::network::HostNetwork;
use crate::network::rules::NetworkRules;
use crate::record::{ExitRecord, SandboxRecord, SandboxState};
use events::{Event, Events};
use failure::LaunchError;
use paths::Paths;
use protocol::{Answer, Call, FRAME_BYTES_MAX, Greeting, Request, Response};
use ranges::Ranges;
use spare::Spares;
use store::Stored;
use trash::Trash;

pub(crate) use ranges::claims_below;
pub use store::user_of_image;

/// What the launcher is told once, before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherConfig {
    /// The plane's state directory, absolute; sandboxes and volumes are kept below it.
    pub state_dir: PathBuf,
    /// The static guest binary.
    pub guest_binary: PathBuf,
    /// Who may connect to guests and read logs.
    pub plane_uid: u32,
    /// The plane's group.
    pub plane_gid: u32,
    /// `runsc`, for the tier `gvisor`; looked for in the state directory's `bin` and in `PATH` when `None`.
    pub runsc: Option<PathBuf>,
    /// Whether what every start needs is made while nothing else is to be done.
    pub make_ahead: bool,
}

/// How often the packet filter is looked after, while there are sandboxes.
const FILTER_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the launcher stays to finish what was begun when its plane is gone.
const FAREWELL: Duration = Duration::from_secs(10);
/// Entries deleted between two looks at the socket.
const TRASH_PORTION: usize = 256;

/// The launcher's `main`: serves its socket until the other side closes it. Sandboxes go on after it.
///
/// To be called first thing in a fresh process, as root, before any thread exists.
#[must_use]
pub fn run_launcher() -> ExitCode {
    let Some(mut socket) = take_socket() else {
        tracing::error!("the launcher was started without its socket");
        return ExitCode::FAILURE;
    };
    let outcome = read_frame(&mut socket).and_then(|frame| {
        let config: LauncherConfig = serde_json::from_slice(&frame.unwrap_or_default())?;
        let started = socket.try_clone().map_err(LaunchError::Spawn).and_then(|own| Launcher::start(config, own));
        let ready = started.as_ref().map(|launcher| launcher.paths.root().to_owned());
        let greeting = Greeting { ready: ready.map_err(LaunchError::refusal) };
        write_frame(&mut socket, &serde_json::to_vec(&greeting)?)?;
        drop(socket);
        started.map_err(io::Error::other)?.run()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = atoll_stdx::chain(&error), "the launcher stops");
            ExitCode::FAILURE
        }
    }
}

/// The launcher's socket is its standard input: nothing else needs to be told.
fn take_socket() -> Option<UnixStream> {
    use std::os::fd::AsFd;
    let own = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3).ok()?;
    let null = File::open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(null).ok()?;
    rustix::net::sockopt::socket_type(&own).ok()?;
    Some(UnixStream::from(own))
}

/// One sandbox that the launcher knows.
#[derive(Debug)]
struct Sandbox {
    stored: Stored,
    groups: Groups,
    /// Handle to the supervisor; `None` when it had ended before this launcher started.
    supervisor: Option<OwnedFd>,
    phase: Phase,
}

/// Where a sandbox is in its life.
#[derive(Debug)]
enum Phase {
    /// Its supervisor has the plan.
    Starting {
        request: u64,
        socket: OwnedFd,
        supervisor_pid: u32,
        deadline: Instant,
    },
    Running,
    Exited(ExitRecord),
    /// Its processes are being ended.
    Ending(end::Ending),
}

/// The launcher at work.
#[derive(Debug)]
struct Launcher {
    config: LauncherConfig,
    paths: Paths,
    guest: File,
    /// Found and tried when it is first asked for.
    gvisor: Option<Runtime>,
    image: HostImage,
    cgroups: Cgroups,
    network: HostNetwork,
    ranges: Ranges,
    trash: Trash,
    spares: Spares,
    boot_id: String,
    last_incarnation: u64,
    sandboxes: BTreeMap<String, Sandbox>,
    events: Events,
    /// `None` once the plane has gone.
    socket: Option<UnixStream>,
    filter_checked: Instant,
}

impl Launcher {
    fn run(mut self) -> io::Result<()> {
        let mut gone_since: Option<Instant> = None;
        loop {
            if self.socket.is_none() {
                let since = *gone_since.get_or_insert_with(Instant::now);
                if !self.is_busy() || since.elapsed() > FAREWELL {
                    break;
                }
            }
            let events = self.events.wait(self.next_timeout())?;
            let idle = events.is_empty();
            for event in events {
                self.follow(event)?;
            }
            self.look_after_time();
            if idle && self.wants_spares() {
                self.make_spare();
            }
        }
        self.tidy_up();
        Ok(())
    }

    fn follow(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Request => match self.socket.as_mut().map(read_frame) {
                Some(Ok(Some(frame))) => self.serve(&frame)?,
                // A plane that was killed in the middle of a request is gone as well.
                _ => self.plane_is_gone(),
            },
            Event::Report(id) => self.finish_start(&id),
            Event::SupervisorEnded(id) => self.supervisor_ended(&id),
            Event::GuestEnded(id) => self.continue_ending(&id),
        }
        Ok(())
    }

    fn serve(&mut self, frame: &[u8]) -> io::Result<()> {
        let request: Request = serde_json::from_slice(frame)?;
        let number = request.number;
        let outcome = match request.call {
            Call::Create(spec) => self.begin_create(number, *spec).map(|()| None),
            Call::Destroy { id } => self.begin_destroy(number, &id),
            call => self.answer_at_once(call).map(Some),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(answer)) => self.respond(number, Ok(answer)),
            Err(error) => self.respond(number, Err(error)),
        }
        Ok(())
    }

    fn answer_at_once(&mut self, call: Call) -> Result<Answer, LaunchError> {
        match call {
            Call::List => {
                let ids: Vec<String> = self.sandboxes.keys().cloned().collect();
                ids.iter().for_each(|id| self.refresh(id));
                let records = ids.iter().filter_map(|id| self.record(id)).collect();
                Ok(Answer::Sandboxes(records))
            }
            Call::Inspect { id } => {
                self.refresh(&id);
                let record = self.record(&id).ok_or_else(|| not_found(&id))?;
                Ok(Answer::Sandbox(Box::new(record)))
            }
            Call::Signal { id, signal } => self.signal(&id, signal).map(|()| Answer::Done),
            Call::Freeze { id, frozen } => {
                let sandbox = self.sandboxes.get(&id).ok_or_else(|| not_found(&id))?;
                sandbox.groups.freeze(frozen).map_err(LaunchError::Cgroup)?;
                Ok(Answer::Done)
            }
            Call::SetNetwork { id, rules } => self.set_network(&id, rules).map(|()| Answer::Done),
            Call::Probe => Ok(Answer::Findings(crate::probe::probe(&self.config))),
            Call::MakeVolume { name } => volumes::make(&self.paths, &name).map(Answer::Directory),
            Call::RemoveVolume { name } => self.remove_volume(&name).map(|()| Answer::Done),
            Call::ListVolumes => volumes::list(&self.paths).map(Answer::Names),
            Call::Create(_) | Call::Destroy { .. } => unreachable!("these take their time and are served elsewhere"),
        }
    }

    fn respond(&mut self, number: u64, outcome: Result<Answer, LaunchError>) {
        let Some(socket) = self.socket.as_mut() else { return };
        let outcome = outcome.map_err(|error| error.refusal());
        let response = serde_json::to_vec(&Response { number, outcome }).expect("answers serialize");
        if write_frame(socket, &response).is_err() {
            self.plane_is_gone();
        }
    }

    fn plane_is_gone(&mut self) {
        self.socket = None;
        let starting: Vec<String> = self
            .sandboxes
            .iter()
            .filter(|(_, sandbox)| matches!(sandbox.phase, Phase::Starting { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        for id in starting {
            // Nobody knows that it exists.
            self.abort_start(&id, LaunchError::Destroyed);
        }
    }

    fn is_busy(&self) -> bool {
        self.trash.is_pending()
            || self.sandboxes.values().any(|sandbox| matches!(sandbox.phase, Phase::Starting { .. } | Phase::Ending(_)))
    }

    /// How long nothing needs to be done unless something happens.
    fn next_timeout(&self) -> Option<Duration> {
        if self.trash.is_pending() || self.wants_spares() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let due = self.sandboxes.values().filter_map(|sandbox| match &sandbox.phase {
            Phase::Starting { deadline, .. } => Some(*deadline),
            Phase::Ending(ending) => Some(ending.next_look),
            Phase::Running | Phase::Exited(_) => None,
        });
        let filter = (!self.sandboxes.is_empty()).then(|| self.filter_checked + FILTER_CHECK_INTERVAL);
        due.chain(filter).min().map(|due| due.saturating_duration_since(now))
    }

    fn look_after_time(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self
            .sandboxes
            .iter()
            .filter(|(_, sandbox)| match &sandbox.phase {
                Phase::Starting { deadline, .. } => *deadline <= now,
                Phase::Ending(ending) => ending.next_look <= now,
                Phase::Running | Phase::Exited(_) => false,
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            match self.sandboxes.get(&id).map(|sandbox| &sandbox.phase) {
                Some(Phase::Starting { .. }) => {
                    let attempted = "start the guest in time".to_owned();
                    self.abort_start(&id, LaunchError::Start { attempted, source: None });
                }
                Some(Phase::Ending(_)) => self.continue_ending(&id),
                _ => {}
            }
        }
        if self.trash.is_pending()
            && let Err(error) = self.trash.work(TRASH_PORTION)
        {
            tracing::warn!(error = atoll_stdx::chain(&error), "what sandboxes left cannot be deleted");
        }
        if !self.sandboxes.is_empty() && self.filter_checked + FILTER_CHECK_INTERVAL <= now {
            self.check_filter();
        }
    }

    /// Somebody may have flushed the machine's packet filters.
    fn check_filter(&mut self) {
        self.filter_checked = Instant::now();
        match self.network.filter_in_force() {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the packet filter of sandboxes was gone and is put in force again");
                if let Err(error) = self.network.ensure_filter() {
                    tracing::error!(error = atoll_stdx::chain(&error), "sandboxes are not kept from this machine");
                }
            }
            Err(error) => tracing::warn!(error = atoll_stdx::chain(&error), "the packet filter cannot be looked at"),
        }
    }

    /// Takes away what only sandboxes need, if there are none.
    fn tidy_up(&mut self) {
        self.drop_spares();
        if self.sandboxes.is_empty() {
            self.cgroups.remove_parents();
            if let Err(error) = self.network.remove_unused_filter() {
                tracing::warn!(error = atoll_stdx::chain(&error), "the packet filter stays");
            }
        }
    }

    /// Notices an end that was not told yet.
    fn refresh(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.get(id) else { return };
        let ended = sandbox.supervisor.as_ref().is_none_or(process::has_ended);
        if ended && matches!(sandbox.phase, Phase::Running) {
            self.supervisor_ended(id);
        }
    }

    fn signal(&self, id: &str, signal: i32) -> Result<(), LaunchError> {
        let sandbox = self.sandboxes.get(id).ok_or_else(|| not_found(id))?;
        let signal = rustix::process::Signal::from_named_raw(signal).ok_or_else(|| LaunchError::Rule {
            what: format!("{signal} is no signal"),
            hint: Some("use 15 to stop a sandbox politely".to_owned()),
        })?;
        let processes = sandbox.stored.processes.filter(|_| matches!(sandbox.phase, Phase::Running));
        let guest = processes.and_then(|known| process::open(known.guest_pid, known.guest_started_ticks));
        if let Some(guest) = guest {
            if signal == rustix::process::Signal::TERM {
                // A frozen sandbox could not stop.
                sandbox.groups.freeze(false).map_err(LaunchError::Cgroup)?;
            }
            // One that has ended in between needs no signal.
            let _ = rustix::process::pidfd_send_signal(&guest, signal);
        }
        Ok(())
    }

    fn set_network(&mut self, id: &str, rules: NetworkRules) -> Result<(), LaunchError> {
        let sandbox = self.sandboxes.get(id).ok_or_else(|| not_found(id))?;
        if matches!(sandbox.phase, Phase::Ending(_)) {
            return Err(not_found(id));
        }
        self.network.set_rules(&sandbox.stored.link, sandbox.stored.address, rules).map_err(LaunchError::Network)
    }

    fn remove_volume(&mut self, name: &str) -> Result<(), LaunchError> {
        let user = self.sandboxes.values().find(|sandbox| sandbox.stored.volumes.iter().any(|used| used == name));
        if let Some(sandbox) = user {
            let what = format!("the volume {name} is in use by the sandbox {}", sandbox.stored.id);
            return Err(LaunchError::Rule { what, hint: Some("destroy the sandbox first".to_owned()) });
        }
        let path = volumes::path(&self.paths, name)?;
        self.trash.discard(&path).map_err(LaunchError::files("discard", &path))
    }

    /// What the driver is told of a sandbox; `None` for one that does not run yet.
    fn record(&self, id: &str) -> Option<SandboxRecord> {
        let sandbox = self.sandboxes.get(id)?;
        let processes = sandbox.stored.processes?;
        let state = match &sandbox.phase {
            Phase::Starting { .. } => return None,
            Phase::Running | Phase::Ending(_) => SandboxState::Running,
            Phase::Exited(record) => SandboxState::Exited(record.clone()),
        };
        Some(SandboxRecord {
            id: id.to_owned(),
            tier_in_force: sandbox.stored.tier,
            address: sandbox.stored.address,
            guest_socket: self.paths.guest_socket(id),
            incarnation: sandbox.stored.incarnation,
            started_at_ms: sandbox.stored.started_at_ms,
            supervisor_pid: processes.supervisor_pid,
            supervisor_started_ticks: processes.supervisor_started_ticks,
            guest_pid: processes.guest_pid,
            state,
            cgroups: sandbox.groups.by_controller.clone(),
        })
    }
}

fn not_found(id: &str) -> LaunchError {
    LaunchError::NotFound { kind: "sandbox", name: id.to_owned() }
}

/// Milliseconds since the Unix epoch.
fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads one frame; `None` at the end of the stream.
pub(crate) fn read_frame(socket: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    Ok(Some(frame))
}

pub(crate) fn write_frame(socket: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
    socket.write_all(&bytes)
}
