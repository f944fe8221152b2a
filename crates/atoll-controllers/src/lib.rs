//! The controllers of the sandbox API: Sandbox, SandboxTemplate, SandboxWarmPool, SandboxClaim, and a small scheduler.
//!
//! Each observes (reads caches), plans (a pure function from what was seen to a list of writes) and applies. A write
//! that was answered is in the caches before anything is planned again.

mod ages;
mod blueprint;
mod caches;
mod claim;
mod config;
mod context;
#[cfg(test)]
mod fixtures;
mod members;
mod metrics;
mod names;
mod notices;
mod owner;
mod patching;
mod pool;
mod queue;
mod report;
mod sandbox;
mod scheduler;
mod template;
mod wiring;
mod write;
mod writer;

use std::fmt;
use std::sync::Arc;

use atoll_rt::TaskGroup;
use tokio::sync::watch;

use crate::caches::Caches;
use crate::claim::ClaimController;
use crate::context::Context;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::owner::{controller_of, names_kind};
use crate::pool::PoolController;
use crate::sandbox::SandboxController;
use crate::scheduler::Scheduler;
use crate::template::TemplateController;
use crate::wiring::Wiring;
use crate::writer::Writer;

pub use config::{ClientOf, ControllersConfig};

/// Templates worked on at once.
const TEMPLATE_WORKERS: usize = 2;
/// Pools worked on at once.
const POOL_WORKERS: usize = 4;
/// One Pod is placed at a time, so that none is placed where another just took the room.
const SCHEDULER_WORKERS: usize = 1;

/// The running controllers.
#[derive(Clone)]
pub struct Controllers {
    started: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

impl Controllers {
    /// Returns when the controllers have seen what there is and are at work. Cancel-safe.
    pub async fn synced(&self) {
        let mut started = self.started.clone();
        let _sender_is_alive = started.wait_for(|started| *started).await;
    }

    /// Everything that is counted and measured, in the OpenMetrics text format (version 1.0.0), ending in `# EOF`.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Controllers").field("started", &*self.started.borrow()).finish()
    }
}

/// Starts all controllers in `group`; they stop with it.
#[must_use]
pub fn run_all(client: kube::Client, config: ControllersConfig, group: &TaskGroup) -> Controllers {
    let wiring = Wiring::new();
    let caches = wiring.start(&client, config.scheduler, group);
    let notices = if config.events { Notices::start(client.clone(), group) } else { Notices::off() };
    let metrics = Arc::new(Metrics::new(&caches, &wiring.parking));
    let context = Arc::new(Context {
        metrics: Arc::clone(&metrics),
        caches: Arc::clone(&caches),
        writer: Writer::new(client.clone(), caches),
        notices,
        ages: Arc::clone(&wiring.ages),
        members: Arc::clone(&wiring.members),
        config,
    });
    let (sender, started) = watch::channel(false);
    let (workers, stop) = (group.clone(), group.token());
    group.spawn("controllers-start", async move {
        tokio::select! {
            () = context.caches.synced(context.config.scheduler) => {}
            () = stop.cancelled() => return,
        }
        trust_members(&context.caches, &wiring);
        start_workers(&wiring, &context, client, &workers);
        sender.send_replace(true);
        // The sender lives as long as the controllers.
        stop.cancelled().await;
    });
    Controllers { started, metrics }
}

/// The members that pools have when the controllers start were made by those before them.
fn trust_members(caches: &Caches, wiring: &Wiring) {
    caches.sandboxes.for_each(|sandbox| {
        if controller_of(&sandbox.metadata).is_some_and(names_kind::<atoll_api::SandboxWarmPool>) {
            wiring.members.trust(sandbox);
            wiring.shelves.note(None, Some(sandbox), |_| true);
        }
    });
}

fn start_workers(wiring: &Wiring, context: &Arc<Context>, client: kube::Client, group: &TaskGroup) {
    let own = |name| context.of_controller(name);
    wiring.templates.start(TEMPLATE_WORKERS, TemplateController::new(own("sandboxtemplate")), group);
    wiring.pools.start(POOL_WORKERS, PoolController::new(own("sandboxwarmpool")), group);
    let claims = ClaimController::new(own("sandboxclaim"), Arc::clone(&wiring.parking), Arc::clone(&wiring.shelves));
    wiring.claims.start(context.config.claim_workers, claims, group);
    wiring.sandboxes.start(context.config.sandbox_workers, SandboxController::new(own("sandbox")), group);
    if context.config.scheduler {
        let client = context.config.scheduler_client.clone().unwrap_or(client);
        let scheduler =
            Scheduler::new(Arc::clone(context), client, Arc::clone(&wiring.ledger), Arc::clone(&wiring.unplaced));
        wiring.pods.start(SCHEDULER_WORKERS, scheduler, group);
    }
}
