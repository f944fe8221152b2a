//! Carries out the plans of Sandboxes.

use std::sync::Arc;

use atoll_client::ObjectKey;
use k8s_openapi::jiff::Timestamp;

use crate::context::Context;
use crate::queue::{Next, Reconcile};
use crate::sandbox::observe::{View, observe};
use crate::sandbox::plan::{Plan, Settings, plan, plan_failure};
use crate::write::{Write, WriteError};

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

    async fn finish(&self, view: &View, plan: &Plan) -> Next {
        if let Some(status) = &plan.status {
            let write = Write::status(&*view.sandbox, status);
            match self.context.writer.execute(&write).await {
                Ok(()) => {}
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

impl Reconcile for SandboxController {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        for _ in 0..ROUNDS_MAX {
            let now = self.context.now();
            let Some(view) = self.observe(&key, now) else { return Next::Wait };
            let made = plan(&view, &self.settings);
            if made.writes.is_empty() {
                return self.finish(&view, &made).await;
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
