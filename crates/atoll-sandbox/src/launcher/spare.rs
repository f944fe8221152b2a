//! What every start needs and takes time, made ahead while nothing else is to be done: a supervisor that waits for its
//! plan, and a linked network namespace that waits for its address.

use std::os::fd::OwnedFd;

use super::failure::LaunchError;
use super::{Launcher, Phase, process, spawn};
use crate::network::Unaddressed;

/// One of each.
#[derive(Debug, Default)]
pub(super) struct Spares {
    supervisor: Option<WaitingSupervisor>,
    network: Option<Unaddressed>,
    /// What could not be made is made when it is needed, and the reason is told then.
    pub(super) impossible: bool,
}

/// A supervisor without a plan.
#[derive(Debug)]
pub(super) struct WaitingSupervisor {
    pub(super) process: spawn::Supervisor,
    pub(super) handle: OwnedFd,
}

impl Launcher {
    /// Whether something could be made ahead now.
    pub(super) fn wants_spares(&self) -> bool {
        let missing = self.spares.supervisor.is_none() || self.spares.network.is_none();
        let starting = || self.sandboxes.values().any(|sandbox| matches!(sandbox.phase, Phase::Starting { .. }));
        self.config.make_ahead && self.socket.is_some() && missing && !self.spares.impossible && !starting()
    }

    /// Makes one thing ahead.
    pub(super) fn make_spare(&mut self) {
        let made = if self.spares.supervisor.is_none() {
            self.new_supervisor().map(|supervisor| self.spares.supervisor = Some(supervisor))
        } else {
            let network = self.network.prepare().map_err(LaunchError::Network);
            network.map(|network| self.spares.network = Some(network))
        };
        self.spares.impossible = made.is_err();
    }

    pub(super) fn take_supervisor(&mut self) -> Result<WaitingSupervisor, LaunchError> {
        match self.spares.supervisor.take().filter(|spare| !process::has_ended(&spare.handle)) {
            Some(spare) => Ok(spare),
            None => self.new_supervisor(),
        }
    }

    pub(super) fn take_network(&mut self) -> Result<Unaddressed, LaunchError> {
        match self.spares.network.take().filter(|spare| self.network.is_whole(spare)) {
            Some(spare) => Ok(spare),
            None => self.network.prepare().map_err(LaunchError::Network),
        }
    }

    /// Gives back what was not used.
    pub(super) fn drop_spares(&mut self) {
        if let Some(supervisor) = self.spares.supervisor.take() {
            end_supervisor(supervisor);
        }
        if let Some(network) = self.spares.network.take()
            && let Err(error) = self.network.discard(network)
        {
            tracing::warn!(error = atoll_stdx::chain(&error), "a link that was not used stays");
        }
    }

    fn new_supervisor(&mut self) -> Result<WaitingSupervisor, LaunchError> {
        self.cgroups.prepare().map_err(LaunchError::Cgroup)?;
        let group = self.cgroups.open_supervisors().map_err(LaunchError::Cgroup)?;
        let process = spawn::spawn(&self.guest, group.as_ref()).map_err(LaunchError::Spawn)?;
        let handle = process::started_ticks(process.pid).and_then(|ticks| process::open(process.pid, ticks));
        let gone = || LaunchError::Start { attempted: "run a supervisor".to_owned(), source: None };
        Ok(WaitingSupervisor { process, handle: handle.ok_or_else(gone)? })
    }
}

/// Ends a supervisor whose guest does not run, and waits for it: that takes no time.
pub(super) fn end_supervisor(supervisor: WaitingSupervisor) {
    process::kill(&supervisor.handle);
    let mut polled = [rustix::event::PollFd::new(&supervisor.handle, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut polled, Some(&patience));
    process::reap(supervisor.process.pid);
}
