//! Carries out the plans of pools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_api::Sandbox;
use atoll_client::ObjectKey;
use futures::future::join_all;
use tokio::time::Instant;

use crate::caches::{CLAIMS_WAITING, name_of, namespace_of};
use crate::context::Context;
use crate::names;
use crate::owner::uid_of;
use crate::pool::memory::PoolMemory;
use crate::pool::observe::{View, observe};
use crate::pool::plan::{Plan, Settings, plan};
use crate::queue::{Next, Reconcile};
use crate::write::{NewObject, Write, WriteError};

/// Writes of one pool that are under way at once.
const CONCURRENT_WRITES_MAX: usize = 32;
/// The same for new members while claims wait for those that are there: what is asked of the API server meanwhile, claims
/// have to wait for.
const CONCURRENT_CREATES_BESIDE_CLAIMS: usize = 4;
/// Times that a name is drawn before giving up on a member.
const NAME_DRAWS_MAX: usize = 5;
/// Plans that one look at a pool carries out at most before it makes room for others.
const ROUNDS_MAX: usize = 4;

/// When to go on with what did not fit into one look.
const NEXT_BATCH: Duration = Duration::from_millis(1);

/// Keeps pools.
pub(crate) struct PoolController {
    context: Arc<Context>,
    settings: Settings,
    /// By the UID of the pool. Bounded by the number of pools: the deleted are forgotten.
    memories: Mutex<HashMap<String, PoolMemory>>,
}

impl PoolController {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let settings = Settings::from(&context.config);
        Self { context, settings, memories: Mutex::default() }
    }

    fn observe(&self, key: &ObjectKey) -> Option<View> {
        let mut view =
            observe(&self.context.caches, &self.context.members, &self.context.ages, key, self.context.now())?;
        let mut memories = self.lock();
        let memory = memories.entry(uid_of(&view.pool.metadata).to_owned()).or_default();
        view.recollection = memory.note(view.is_short(), view.is_complete(), view.status_differs(), Instant::now());
        Some(view)
    }

    async fn delete(&self, deletes: &[Write]) -> bool {
        let mut all_well = true;
        for batch in deletes.chunks(CONCURRENT_WRITES_MAX) {
            let outcomes = join_all(batch.iter().map(|write| self.context.writer.execute(write))).await;
            // A conflict means that the member is not the pool's any more, or has changed: the next plan sees to it.
            all_well &= outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(WriteError::Conflict)));
        }
        all_well
    }

    /// Makes members in batches of 1, 2, 4, …, and stops at the first batch in which one fails: what fails for one
    /// fails for all.
    async fn create(&self, view: &View, count: usize, like: &Sandbox) -> bool {
        let mut made = 0;
        let mut batch = 1;
        while made < count {
            let size = batch.min(count - made).min(self.concurrent_creates(view));
            let outcomes = join_all((0..size).map(|_| self.create_one(view, like))).await;
            if outcomes.contains(&false) {
                return false;
            }
            made += size;
            batch *= 2;
        }
        true
    }

    fn concurrent_creates(&self, view: &View) -> usize {
        let pool = ObjectKey::of(&*view.pool).to_string();
        let waited_for = self.context.caches.claims.count(CLAIMS_WAITING, &pool) > 0;
        if waited_for { CONCURRENT_CREATES_BESIDE_CLAIMS } else { CONCURRENT_WRITES_MAX }
    }

    async fn create_one(&self, view: &View, like: &Sandbox) -> bool {
        for _ in 0..NAME_DRAWS_MAX {
            let mut member = like.clone();
            let name = names::generate(member.metadata.generate_name.as_deref().unwrap_or_default());
            let key = ObjectKey::new(namespace_of(like), name.as_str());
            member.metadata.name = Some(name);
            self.context.members.expect(key.clone(), uid_of(&view.pool.metadata));
            match self.context.writer.execute(&Write::Create(NewObject::Sandbox(Box::new(member)))).await {
                Ok(()) => return true,
                Err(WriteError::AlreadyExists) => self.context.members.give_up(&key),
                Err(error) => {
                    tracing::debug!(pool = name_of(&*view.pool), %error, "a member was not made");
                    // Refused for certain, or perhaps made all the same: then its name stays good.
                    if !matches!(error, WriteError::Other(_)) {
                        self.context.members.give_up(&key);
                    }
                    return false;
                }
            }
        }
        false
    }

    async fn finish(&self, view: &View, plan: &Plan) -> Next {
        let uid = uid_of(&view.pool.metadata);
        if let Some(notice) = &plan.notice {
            self.context.notices.tell(&*view.pool, notice, self.context.now());
            let not_progressing = notice.reason == atoll_api::reasons::event::WARM_POOL_NOT_PROGRESSING;
            self.lock().entry(uid.to_owned()).or_default().told(not_progressing);
        }
        if let Some(status) = &plan.status {
            let write = Write::status(&*view.pool, status);
            match self.context.writer.execute(&write).await {
                Ok(()) => self.lock().entry(uid.to_owned()).or_default().status_written(Instant::now()),
                Err(WriteError::NotFound) => return Next::Wait,
                Err(error) => {
                    tracing::debug!(pool = name_of(&*view.pool), %error, "the status was not written");
                    return Next::Retry;
                }
            }
        }
        if let Some(report) = &plan.report {
            // What failed is tried again with the next change.
            if let Err(error) = self.context.writer.execute(report).await {
                tracing::debug!(pool = name_of(&*view.pool), %error, "the conditions were not written");
            }
            self.lock().entry(uid.to_owned()).or_default().status_written(Instant::now());
        }
        plan.again.map_or(Next::Wait, Next::After)
    }

    fn forget_deleted(&self) {
        let pools = self.context.caches.pools.all();
        let mut memories = self.lock();
        if memories.len() > pools.len() {
            memories.retain(|uid, _| pools.iter().any(|pool| uid_of(&pool.metadata) == uid));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, PoolMemory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reconcile for PoolController {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        for _ in 0..ROUNDS_MAX {
            let Some(view) = self.observe(&key) else {
                self.forget_deleted();
                return Next::Wait;
            };
            let made = plan(&view, &self.settings);
            if made.deletes.is_empty() && made.creates.is_none() {
                return self.finish(&view, &made).await;
            }
            if !self.delete(&made.deletes).await {
                return Next::Retry;
            }
            if let Some((count, like)) = &made.creates
                && !self.create(&view, *count, like).await
            {
                let _next = self.finish(&view, &made).await;
                return Next::Retry;
            }
        }
        Next::After(NEXT_BATCH)
    }
}
