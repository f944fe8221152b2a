//! Carries out the plans of Sandboxes.

use std::sync::Arc;

use atoll_api::conditions;
use atoll_api::reasons::condition;
use atoll_api::sandbox::SandboxStatus;
use atoll_client::ObjectKey;
use k8s_openapi::jiff::Timestamp;

use crate::context::Context;
use crate::owner::uid_of;
use crate::pool::observe::is_ready;
use crate::queue::{Next, Reconcile};
use crate::sandbox::observe::{View, observe};
use crate::sandbox::plan::{Plan, Settings, plan, plan_failure};
use crate::write::{NewObject, Write, WriteError};

/// Plans that one look at a Sandbox carries out at most before it makes room for others.
const ROUNDS_MAX: usize = 5;

/// Keeps Sandboxes.
pub(crate) struct SandboxController {
    context: Arc<Context>,
    settings: Settings,
}

impl SandboxController {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let settings = Settings::from(&context.config);
        Self { context, settings }
    }

    fn observe(&self, key: &ObjectKey, now: Timestamp) -> Option<View> {
        observe(&self.context.caches, key, |uid| self.context.ages.age(uid), now)
    }

    /// Carries out the writes; on the first failure says which.
    async fn write_all(&self, writes: &[Write]) -> Result<(), (usize, WriteError)> {
        for (position, write) in writes.iter().enumerate() {
            self.context.writer.execute(write).await.map_err(|error| (position, error))?;
        }
        Ok(())
    }

    /// What was Ready before these controllers started is not measured.
    fn note_ready(&self, view: &View, status: &SandboxStatus) {
        let sandbox = &*view.sandbox;
        let uid = uid_of(&sandbox.metadata);
        if is_ready(sandbox) {
            let _known = self.context.ages.first_ready(uid);
        } else if conditions::is_true(&status.conditions, condition::READY)
            && let Some(after) = self.context.ages.first_ready(uid)
        {
            self.context.metrics.sandbox_ready(sandbox, after);
        }
    }

    async fn finish(&self, view: &View, plan: &Plan) -> Next {
        if let Some(status) = &plan.status {
            let write = Write::status(&*view.sandbox, status);
            match self.context.writer.execute(&write).await {
                Ok(()) => self.note_ready(view, status),
                Err(WriteError::NotFound) => return Next::Wait,
                Err(error) => {
                    tracing::debug!(sandbox = %ObjectKey::of(&*view.sandbox), %error, "the status was not written");
                    return Next::Retry;
                }
            }
        }
        for notice in &plan.notices {
            self.context.notices.tell(&*view.sandbox, notice, view.now);
        }
        plan.again.map_or(Next::Wait, Next::After)
    }
}

/// Whether a Pod is to be made where there was one before. The kinds are watched apart from each other: a Pod may be seen
/// to go before the Sandbox that took it along is, and then it must not be made again.
fn makes_pod_anew(view: &View, made: &Plan) -> bool {
    let had_pod = view.sandbox.status.as_ref().is_some_and(|status| status.selector.is_some());
    had_pod && made.writes.iter().any(|write| matches!(write, Write::Create(NewObject::Pod(_))))
}

impl Reconcile for SandboxController {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        let mut asked = false;
        for _ in 0..ROUNDS_MAX {
            let now = self.context.now();
            let Some(view) = self.observe(&key, now) else { return Next::Wait };
            let made = plan(&view, &self.settings);
            if made.writes.is_empty() {
                return self.finish(&view, &made).await;
            }
            if !asked && makes_pod_anew(&view, &made) {
                asked = true;
                let (writer, sandboxes) = (&self.context.writer, &self.context.caches.sandboxes);
                if let Err(error) = writer.refresh(sandboxes, &key).await {
                    tracing::debug!(sandbox = %key, %error, "the sandbox could not be asked for");
                    return Next::Retry;
                }
                continue;
            }
            match self.write_all(&made.writes).await {
                Ok(()) => {}
                // The caches have caught up: the next plan is made from what is there.
                Err((_, WriteError::Conflict | WriteError::NotFound | WriteError::AlreadyExists)) => {}
                Err((position, error)) => {
                    let permanent = matches!(error, WriteError::Invalid(_));
                    tracing::debug!(sandbox = %key, write = made.writes[position].describe(), %error, "a write failed");
                    let Some(view) = self.observe(&key, now) else { return Next::Wait };
                    let told = plan_failure(&view, &self.settings, &made.writes[position], &error);
                    let next = self.finish(&view, &told).await;
                    return if permanent { next } else { Next::Retry };
                }
            }
        }
        Next::Retry
    }
}
