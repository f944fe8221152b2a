//! Carries out the plans of claims.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_api::claim::SandboxClaimStatus;
use atoll_api::reasons::condition;
use atoll_api::{SandboxClaim, annotations, conditions};
use atoll_client::ObjectKey;

use crate::caches::{name_of, pool_of_claim, template_of_pool};
use crate::claim::observe::{Circumstances, View, observe};
use crate::claim::plan::{Plan, Settings, plan, plan_failure};
use crate::claim::waiting::priority;
use crate::claim::{Parking, Shelves};
use crate::context::Context;
use crate::metrics::Launch;
use crate::owner::{annotation, uid_of};
use crate::pool::observe::is_ready;
use crate::queue::{Next, Reconcile};
use crate::write::{NewObject, Write, WriteError};

/// Plans that one look at a claim carries out at most before it makes room for others.
const ROUNDS_MAX: usize = 8;

/// Serves claims.
pub(crate) struct ClaimController {
    context: Arc<Context>,
    settings: Settings,
    parking: Arc<Parking>,
    shelves: Arc<Shelves>,
    /// UIDs of members that claims are about to take. Bounded by the number of workers.
    taken: Mutex<HashSet<String>>,
}

impl ClaimController {
    pub(crate) fn new(context: Arc<Context>, parking: Arc<Parking>, shelves: Arc<Shelves>) -> Self {
        let settings = Settings::from(&context.config);
        Self { context, settings, parking, shelves, taken: Mutex::default() }
    }

    /// Observes and plans as one step, so that no two claims choose the same member.
    fn look(&self, claim: Arc<SandboxClaim>, asked: bool) -> (View, Plan) {
        let mut taken = self.lock();
        let circumstances = Circumstances {
            taken: &taken,
            shelves: &self.shelves,
            asked,
            age: self.context.ages.age(uid_of(&claim.metadata)),
            now: self.context.now(),
            parking: &self.parking,
        };
        let view = observe(&self.context.caches, claim, &circumstances);
        let made = plan(&view, &self.settings);
        taken.extend(made.takes.clone());
        (view, made)
    }

    async fn write_all(&self, made: &Plan) -> Result<(), (usize, WriteError)> {
        let mut outcome = Ok(());
        for (position, write) in made.writes.iter().enumerate() {
            if let Err(error) = self.context.writer.execute(write).await {
                outcome = Err((position, error));
                break;
            }
        }
        // Whatever came of it, the cache knows it now.
        self.release(made);
        outcome
    }

    fn release(&self, made: &Plan) {
        if let Some(uid) = &made.takes {
            self.lock().remove(uid);
        }
    }

    /// Asks the API server itself for the claim and the Sandbox that it was told of.
    async fn confirm(&self, key: &ObjectKey, view: &View) -> Result<(), WriteError> {
        let (caches, writer) = (&self.context.caches, &self.context.writer);
        writer.refresh(&caches.claims, key).await?;
        if let Some(bound) = view.claim.status.as_ref().and_then(|status| status.sandbox.as_ref()) {
            let sandbox = ObjectKey::new(key.namespace.as_str(), bound.name.as_str());
            writer.refresh(&caches.sandboxes, &sandbox).await?;
        }
        Ok(())
    }

    async fn ask(&self, claim: &SandboxClaim) -> Result<(), WriteError> {
        let (caches, writer) = (&self.context.caches, &self.context.writer);
        let pool_key = pool_of_claim(claim);
        if caches.pools.get(&pool_key).is_none() && !writer.refresh(&caches.pools, &pool_key).await? {
            return Ok(());
        }
        if let Some(pool) = caches.pools.get(&pool_key) {
            writer.refresh(&caches.templates, &template_of_pool(&pool)).await?;
        }
        Ok(())
    }

    async fn finish(&self, key: &ObjectKey, view: &View, made: &Plan) -> Next {
        if let Some(status) = &made.status {
            let write = Write::status_unchanged(&*view.claim, status);
            match self.context.writer.execute(&write).await {
                Ok(()) => self.note_ready(view, status),
                Err(WriteError::NotFound) => return Next::Wait,
                Err(error) => {
                    tracing::debug!(claim = %key, %error, "the status was not written");
                    return Next::Retry;
                }
            }
        }
        self.tell(view, made);
        let pool = pool_of_claim(&view.claim);
        if made.parks {
            self.parking.park(pool, key, priority(&view.claim));
        } else {
            self.parking.leave(&pool, key);
        }
        made.again.map_or(Next::Wait, Next::After)
    }

    /// Counts a claim that got its Sandbox by these writes.
    fn note_served(&self, view: &View, made: &Plan) {
        let template = view.template.as_deref().map(name_of).unwrap_or_default();
        let launch = if let Some(uid) = &made.takes {
            let member = [&view.candidates.ready, &view.candidates.starting].into_iter().flatten();
            let member = member.into_iter().find(|member| uid_of(&member.metadata) == uid);
            let Some(member) = member else { return };
            let created = member.metadata.creation_timestamp.as_ref().map_or(view.now, |time| time.0);
            let age = Duration::try_from(view.now.duration_since(created)).unwrap_or_default();
            Launch::Warm { ready: is_ready(member), age }
        } else if creates_sandbox(made) {
            Launch::Cold
        } else {
            return;
        };
        self.context.metrics.claim_served(&view.claim, template, launch);
    }

    /// Measures a claim that is Ready for the first time. What was Ready before these controllers started is not.
    fn note_ready(&self, view: &View, status: &SandboxClaimStatus) {
        let (claim, ages) = (&*view.claim, &self.context.ages);
        let ready = |status: &SandboxClaimStatus| conditions::is_true(&status.conditions, condition::READY);
        let uid = uid_of(&claim.metadata);
        let told_before = annotation(&claim.metadata, annotations::CLAIM_FIRST_READY_AT).is_some();
        if told_before || claim.status.as_ref().is_some_and(ready) {
            let _known = ages.first_ready(uid);
        } else if ready(status)
            && let Some(sandbox) = view.owned.first()
            && let Some(known_for) = ages.first_ready(uid)
        {
            self.context.metrics.claim_ready(claim, sandbox, known_for, view.now);
        }
    }

    fn tell(&self, view: &View, made: &Plan) {
        for notice in &made.notices {
            self.context.notices.tell(&*view.claim, notice, view.now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a claim was told of a Sandbox that does not seem to be its own. The kinds are watched apart from each other: a
/// Sandbox may be seen to go before the claim that took it along is, and controllers that just started may not have seen
/// yet what those before them did. Then no other Sandbox must be used up, and the claim not be told of another one.
fn has_lost_its_sandbox(view: &View) -> bool {
    let Some(bound) = view.claim.status.as_ref().and_then(|status| status.sandbox.as_ref()) else { return false };
    !view.owned.iter().any(|sandbox| name_of(&**sandbox) == bound.name)
}

fn creates_sandbox(made: &Plan) -> bool {
    made.writes.iter().any(|write| matches!(write, Write::Create(NewObject::Sandbox(_))))
}

impl Reconcile for ClaimController {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        let (mut asked, mut confirmed) = (false, false);
        for _ in 0..ROUNDS_MAX {
            let Some(claim) = self.context.caches.claims.get(&key) else { return Next::Wait };
            let (view, made) = self.look(claim, asked);
            if !confirmed && has_lost_its_sandbox(&view) {
                confirmed = true;
                self.release(&made);
                if let Err(error) = self.confirm(&key, &view).await {
                    tracing::debug!(claim = %key, %error, "claim and sandbox could not be asked for");
                    return Next::Retry;
                }
                continue;
            }
            if made.asks {
                if let Err(error) = self.ask(&view.claim).await {
                    tracing::debug!(claim = %key, %error, "pool and template could not be asked for");
                    return Next::Retry;
                }
                asked = true;
                continue;
            }
            if made.writes.is_empty() {
                return self.finish(&key, &view, &made).await;
            }
            match self.write_all(&made).await {
                Ok(()) => {
                    self.note_served(&view, &made);
                    self.tell(&view, &made);
                }
                // The caches have caught up: the next plan is made from what is there.
                Err((_, WriteError::Conflict | WriteError::NotFound | WriteError::AlreadyExists)) => {
                    if made.takes.is_some() {
                        self.context.metrics.adoption_conflict(&view.claim);
                    }
                }
                Err((position, error)) => {
                    let permanent = matches!(error, WriteError::Invalid(_));
                    tracing::debug!(claim = %key, write = made.writes[position].describe(), %error, "a write failed");
                    let next = self.finish(&key, &view, &plan_failure(&view, &made.writes[position], &error)).await;
                    return if permanent { next } else { Next::Retry };
                }
            }
        }
        Next::Retry
    }
}
