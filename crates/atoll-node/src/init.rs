//! Init containers: each runs to its end in a sandbox of its own, before the next one and the Pod's own container.

use std::sync::Arc;

use atoll_sandbox::SandboxSpec;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;

use crate::environment::Unprepared;
use crate::node::Shared;
use crate::pod;
use crate::runtime::GuestEndpoint;
use crate::slot::Ended;
use crate::start::{StartError, create};

/// Between a Pod's UID and the number of an init container.
const ID_INFIX: &str = "-init-";

/// Where an init container stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum InitState {
    /// It has not run.
    #[default]
    Waiting,
    /// It runs since this time, in milliseconds since the Unix epoch.
    Running { incarnation: u64, started_at_ms: u64 },
    /// It ended.
    Ended(Ended),
    /// It ended well before the node was started; the Pod's status tells of it.
    Told,
}

/// One init container of a Pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct InitContainer {
    pub(crate) state: InitState,
    /// How it ended the time before.
    pub(crate) previous: Option<Ended>,
    pub(crate) restarts: u32,
}

impl InitContainer {
    /// Whether it ended as it should.
    pub(crate) fn is_done(&self) -> bool {
        match &self.state {
            InitState::Ended(ended) => ended.exit_code == 0,
            InitState::Told => true,
            InitState::Waiting | InitState::Running { .. } => false,
        }
    }

    /// Whether it ended as it should not.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.state, InitState::Ended(ended) if ended.exit_code != 0)
    }

    /// Takes note of where it stands now.
    pub(crate) fn enter(&mut self, next: InitState) {
        if let (InitState::Ended(ended), InitState::Running { .. }) = (&self.state, &next) {
            self.previous = Some(ended.clone());
            self.restarts += 1;
        }
        self.state = next;
    }
}

/// The init containers that a Pod asks for.
pub(crate) fn containers(pod: &Pod) -> &[Container] {
    pod::spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// The id of an init container's sandbox.
pub(crate) fn sandbox_id(pod_uid: &str, index: usize) -> String {
    format!("{pod_uid}{ID_INFIX}{index}")
}

/// The UID of the Pod that a sandbox of this id belongs to.
pub(crate) fn pod_uid(sandbox_id: &str) -> &str {
    sandbox_id.split_once(ID_INFIX).map_or(sandbox_id, |(uid, _)| uid)
}

/// Every id that a Pod's sandboxes can have.
pub(crate) fn sandbox_ids(pod_uid: &str, count: usize) -> Vec<String> {
    std::iter::once(pod_uid.to_owned()).chain((0..count).map(|index| sandbox_id(pod_uid, index))).collect()
}

/// Tells whoever waits for it where an init container stands.
pub(crate) type Report<'a> = &'a (dyn Fn(usize, InitState) + Send + Sync);

/// Runs the init containers from the one with number `first` on. `stop` yields the grace, in milliseconds, once the Pod
/// is to start no more.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    pod: &Pod,
    first: usize,
    spec_of: impl Fn(&Container, String) -> Result<SandboxSpec, Unprepared>,
    report: Report<'_>,
    stop: &mut watch::Receiver<Option<u64>>,
) -> Result<(), StartError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    for (index, container) in containers(pod).iter().enumerate().skip(first) {
        let id = sandbox_id(uid, index);
        let spec = spec_of(container, id.clone())?;
        if spec.workload.is_none() {
            let message = format!("init container \"{}\" has no command, and its image has none", container.name);
            return Err(Unprepared::Refused(message).into());
        }
        let ended = run_one(shared, &id, spec, |state| report(index, state), stop).await?;
        let code = ended.exit_code;
        report(index, InitState::Ended(ended));
        if code != 0 {
            return Err(StartError::Init { name: container.name.clone(), code });
        }
    }
    Ok(())
}

async fn run_one(
    shared: &Arc<Shared>,
    id: &str,
    spec: SandboxSpec,
    report: impl Fn(InitState),
    stop: &mut watch::Receiver<Option<u64>>,
) -> Result<Ended, StartError> {
    let sandbox = create(shared, spec).await?;
    let endpoint = GuestEndpoint::new(&sandbox.guest_socket, sandbox.address);
    shared.endpoints.write().expect("no holder of this lock panics").insert(id.to_owned(), endpoint);
    report(InitState::Running { incarnation: sandbox.incarnation, started_at_ms: sandbox.started_at_ms });
    let plane_stops = shared.group.token();
    let exit = tokio::select! {
        exit = shared.runtime.wait(id) => Some(exit),
        _asked = stop.wait_for(Option::is_some) => None,
        // The next plane finds it, removes it, and begins anew.
        () = plane_stops.cancelled() => return Err(StartError::Stopped),
    };
    shared.endpoints.write().expect("no holder of this lock panics").remove(id);
    let Some(exit) = exit else {
        let grace_ms = stop.borrow().unwrap_or(0);
        shared.runtime.destroy(id, grace_ms).await?;
        return Err(StartError::Stopped);
    };
    shared.runtime.destroy_keeping_log(id, 0).await?;
    Ok(Ended::of(&exit?, sandbox.incarnation, sandbox.started_at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_to_their_pod() {
        assert_eq!(sandbox_ids("0f-0e", 2), ["0f-0e", "0f-0e-init-0", "0f-0e-init-1"]);
        assert_eq!(pod_uid("0f-0e-init-1"), "0f-0e");
        assert_eq!(pod_uid("0f-0e"), "0f-0e");
    }

    #[test]
    fn a_second_life_is_counted() {
        let ended = |code| Ended::lost_with(code);
        let running = InitState::Running { incarnation: 1, started_at_ms: 1 };
        let mut container = InitContainer::default();
        container.enter(running.clone());
        assert_eq!((container.restarts, container.is_done(), container.has_failed()), (0, false, false));
        container.enter(InitState::Ended(ended(1)));
        assert!(container.has_failed() && !container.is_done());
        container.enter(running);
        assert_eq!((container.restarts, container.previous.as_ref().map(|it| it.exit_code)), (1, Some(1)));
        container.enter(InitState::Ended(ended(0)));
        assert!(container.is_done());
    }
}
