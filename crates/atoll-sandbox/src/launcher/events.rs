//! What the launcher waits for.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

const EVENTS_AT_ONCE: usize = 64;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The driver asks for something, or is gone.
    Request,
    /// A supervisor has reported, or ended without.
    Report(String),
    /// A supervisor has ended.
    SupervisorEnded(String),
    /// A guest that is being ended has ended.
    GuestEnded(String),
}

/// A set of descriptors, each with what it means. Closing a descriptor takes it out.
#[derive(Debug)]
pub(super) struct Events {
    epoll: OwnedFd,
    meanings: HashMap<u64, Event>,
    counter: u64,
}

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, meanings: HashMap::new(), counter: 0 })
    }

    /// Waits for a descriptor to have something, again and again.
    pub(super) fn watch(&mut self, fd: impl AsFd, event: Event) -> io::Result<()> {
        self.add(fd, event, epoll::EventFlags::IN)
    }

    /// Waits for a descriptor to have something, once.
    pub(super) fn watch_once(&mut self, fd: impl AsFd, event: Event) -> io::Result<()> {
        self.add(fd, event, epoll::EventFlags::IN | epoll::EventFlags::ONESHOT)
    }

    fn add(&mut self, fd: impl AsFd, event: Event, flags: epoll::EventFlags) -> io::Result<()> {
        self.counter += 1;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(self.counter), flags)?;
        self.meanings.insert(self.counter, event);
        Ok(())
    }

    /// Drops what is about a sandbox; its descriptors are closed.
    pub(super) fn forget(&mut self, id: &str) {
        self.meanings.retain(|_, event| match event {
            Event::Request => true,
            Event::Report(of) | Event::SupervisorEnded(of) | Event::GuestEnded(of) => of != id,
        });
    }

    /// What has happened, after at most `timeout`.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let found = ready.iter().filter_map(|event| {
            let token = event.data.u64();
            match self.meanings.get(&token) {
                Some(Event::Request) => Some(Event::Request),
                // Everything else happens once.
                _ => self.meanings.remove(&token),
            }
        });
        Ok(found.collect())
    }
}
