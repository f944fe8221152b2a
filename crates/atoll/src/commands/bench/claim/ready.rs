//! One watch for all claims of a measurement: what tells a client that its claim is Ready.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_api::SandboxClaim;
use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::sync::oneshot;

use crate::failure::{Exit, Failure};

/// A watch ends after this time and is begun anew.
const WATCH_SECONDS: u32 = 280;

/// Claims that are waited for, by name.
#[derive(Default)]
pub(super) struct Readiness {
    awaited: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl Readiness {
    /// When the claim is seen to be Ready. To be called before the claim is made.
    pub(super) fn expect(&self, name: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(name.to_owned(), sender);
        receiver
    }

    /// Watches until dropped, or until the server has no more to say. `started` is told when it is certain that nothing
    /// from then on is missed.
    pub(super) async fn follow(&self, claims: &Api<SandboxClaim>, started: oneshot::Sender<()>) -> Result<(), Failure> {
        let failed = |error: &kube::Error| Failure::because(Exit::Failure, "the claims can not be watched", error);
        let list = claims.list_metadata(&ListParams::default().limit(1)).await.map_err(|error| failed(&error))?;
        let mut version = list.metadata.resource_version.unwrap_or_default();
        let _told = started.send(());
        loop {
            let params = WatchParams::default().timeout(WATCH_SECONDS);
            let watch = claims.watch(&params, &version).await.map_err(|error| failed(&error))?;
            tokio::pin!(watch);
            while let Some(event) = watch.try_next().await.map_err(|error| failed(&error))? {
                match event {
                    WatchEvent::Added(claim) | WatchEvent::Modified(claim) => {
                        version = claim.resource_version().unwrap_or(version);
                        self.see(&claim);
                    }
                    WatchEvent::Deleted(claim) => version = claim.resource_version().unwrap_or(version),
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(status) => {
                        return Err(Failure::new(
                            Exit::Failure,
                            format!("the watch of claims broke: {}", status.message),
                        ));
                    }
                }
            }
        }
    }

    fn see(&self, claim: &SandboxClaim) {
        if !is_ready(claim) {
            return;
        }
        if let Some(sender) = self.lock().remove(&claim.name_any()) {
            // Who waits no more has given up.
            let _ = sender.send(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Instant>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it took until the claim was seen to be Ready.
pub(super) async fn elapsed(
    started: Instant,
    seen: oneshot::Receiver<Instant>,
    longest: Duration,
) -> Result<Duration, Failure> {
    match tokio::time::timeout(longest, seen).await {
        Ok(Ok(seen)) => Ok(seen.saturating_duration_since(started)),
        _ => Err(Failure::new(Exit::Failure, "the claim did not become ready")),
    }
}

/// Ready with a sandbox's name in the same object: what the SDK waits for.
pub(crate) fn is_ready(claim: &SandboxClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| {
        status.sandbox.as_ref().is_some_and(|sandbox| !sandbox.name.is_empty())
            && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
