//! Ending sandboxes, and undoing those that did not come up.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use atoll_guest::supervisor::ExitReason;

use super::events::Event;
use super::failure::LaunchError;
use super::protocol::Answer;
use super::{Launcher, Phase, process};

/// How long processes may take to end before the driver is told that they do not.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at groups whose processes are about to be gone.
const END_POLL: Duration = Duration::from_millis(1);
/// Entries deleted at once, enough for a sandbox that left little.
const TRASH_PORTION: usize = 64;

/// A sandbox whose processes were told to end.
#[derive(Debug)]
pub(super) struct Ending {
    /// Who waits for it.
    requests: Vec<u64>,
    /// What they are told, if not that it is done.
    error: Option<LaunchError>,
    guest: Option<OwnedFd>,
    /// Whether the ends of guest and supervisor are told; otherwise they must be looked for.
    watched: bool,
    deadline: Instant,
    pub(super) next_look: Instant,
}

impl Launcher {
    /// Destroys a sandbox; the answer comes when everything is gone, at once if there is nothing.
    pub(super) fn begin_destroy(&mut self, request: u64, id: &str) -> Result<Option<Answer>, LaunchError> {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return Ok(Some(Answer::Done)) };
        match &mut sandbox.phase {
            Phase::Ending(ending) => {
                ending.requests.push(request);
                ending.deadline = Instant::now() + END_TIMEOUT;
                return Ok(None);
            }
            Phase::Starting { request: creation, .. } => {
                let creation = *creation;
                self.respond(creation, Err(LaunchError::Destroyed));
            }
            Phase::Running | Phase::Exited(_) => {}
        }
        self.begin_ending(id, vec![request], None);
        Ok(None)
    }

    /// Undoes a start; whoever asked for it is told why.
    pub(super) fn abort_start(&mut self, id: &str, error: LaunchError) {
        let request = match self.sandboxes.get(id).map(|sandbox| &sandbox.phase) {
            Some(Phase::Starting { request, .. }) => *request,
            _ => return,
        };
        self.begin_ending(id, vec![request], Some(error));
    }

    fn begin_ending(&mut self, id: &str, requests: Vec<u64>, error: Option<LaunchError>) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        let processes = sandbox.stored.processes;
        let guest = processes.and_then(|known| process::open(known.guest_pid, known.guest_started_ticks));
        sandbox.groups.kill();
        if let Some(supervisor) = &sandbox.supervisor {
            process::kill(supervisor);
        }
        let mut watched = true;
        if let Some(guest) = &guest {
            watched &= self.events.watch_once(guest, Event::GuestEnded(id.to_owned())).is_ok();
        }
        if let (Some(supervisor), Phase::Starting { .. }) = (&sandbox.supervisor, &sandbox.phase) {
            watched &= self.events.watch_once(supervisor, Event::SupervisorEnded(id.to_owned())).is_ok();
        }
        let deadline = Instant::now() + END_TIMEOUT;
        sandbox.phase = Phase::Ending(Ending { requests, error, guest, watched, deadline, next_look: deadline });
        self.continue_ending(id);
    }

    /// Goes on as far as the processes have ended.
    pub(super) fn continue_ending(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        let Phase::Ending(ending) = &mut sandbox.phase else { return };
        let lives = |handle: &Option<OwnedFd>| handle.as_ref().is_some_and(|handle| !process::has_ended(handle));
        let alive = lives(&ending.guest) || lives(&sandbox.supervisor);
        if alive || !sandbox.groups.processes().is_empty() || sandbox.groups.remove().is_err() {
            let now = Instant::now();
            if now < ending.deadline {
                ending.next_look = if alive && ending.watched { ending.deadline } else { now + END_POLL };
                return;
            }
            let requests = std::mem::take(&mut ending.requests);
            ending.deadline = now + END_TIMEOUT;
            ending.next_look = ending.deadline;
            sandbox.groups.kill();
            for request in requests {
                self.respond(request, Err(LaunchError::Unkillable(id.to_owned())));
            }
            return;
        }
        self.finish_ending(id);
    }

    /// Nothing runs any more: takes away the rest, and says so.
    fn finish_ending(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.remove(id) else { return };
        let Phase::Ending(ending) = sandbox.phase else { return };
        self.events.forget(id);
        if let Some(processes) = sandbox.stored.processes {
            process::reap(processes.supervisor_pid);
        }
        let outcome = self.take_back(&sandbox.stored);
        let mut error = ending.error.or_else(|| outcome.err());
        for request in ending.requests {
            let outcome = error.take().map_or(Ok(Answer::Done), Err);
            self.respond(request, outcome);
        }
    }

    /// The address, the ids and the files of a sandbox without processes.
    pub(super) fn take_back(&mut self, stored: &super::store::Stored) -> Result<(), LaunchError> {
        let released = self.network.release(&stored.link, stored.address).map_err(LaunchError::Network);
        let directory = self.paths.sandbox(&stored.id);
        self.ranges.release(stored.range, &directory);
        self.trash.discard(&directory).map_err(LaunchError::files("discard", &directory))?;
        if let Err(error) = self.trash.work(TRASH_PORTION) {
            tracing::warn!(error = atoll_stdx::chain(&error), "what a sandbox left cannot be deleted");
        }
        released
    }

    /// A supervisor ended: after its guest, killed by somebody, or because it was told to.
    pub(super) fn supervisor_ended(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.get(id) else { return };
        if let Some(processes) = sandbox.stored.processes {
            process::reap(processes.supervisor_pid);
        }
        match &sandbox.phase {
            Phase::Ending(_) => self.continue_ending(id),
            Phase::Running => {
                let record = self.settle(id, &sandbox.groups, ExitReason::SupervisorLost);
                tracing::info!(sandbox = id, code = record.code, reason = ?record.reason, "a sandbox ended");
                if let Some(sandbox) = self.sandboxes.get_mut(id) {
                    sandbox.phase = Phase::Exited(record);
                }
            }
            // Its socket tells, and better.
            Phase::Starting { .. } | Phase::Exited(_) => {}
        }
    }
}
