//! Carries out the plans of templates.

use std::sync::Arc;

use atoll_client::ObjectKey;

use crate::caches::{TEMPLATES_BY_NAME_HASH, elder_of_same_hash, name_of, namespace_of};
use crate::context::Context;
use crate::queue::{Next, Reconcile};
use crate::template::plan::plan_and_report;
use crate::template::policy::policy_name;
use crate::write::WriteError;

/// Keeps templates.
pub(crate) struct TemplateController {
    context: Arc<Context>,
}

impl TemplateController {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Reconcile for TemplateController {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        let Some(template) = self.context.caches.templates.get(&key) else { return Next::Wait };
        let policy_key = ObjectKey::new(namespace_of(&*template), policy_name(name_of(&*template)));
        let policy = self.context.caches.network_policies.get(&policy_key);
        let rival = elder_of_same_hash(&self.context.caches.templates, TEMPLATES_BY_NAME_HASH, &template);
        let made = plan_and_report(&template, policy.as_deref(), rival.as_deref(), self.context.now());
        if let Some(problem) = &made.problem {
            tracing::warn!(template = %key, problem, "the network policy is not kept");
        }
        for write in &made.writes {
            match self.context.writer.execute(write).await {
                Ok(()) => {}
                Err(WriteError::Invalid(why)) => {
                    tracing::warn!(template = %key, write = write.describe(), why, "a write was refused");
                }
                Err(error) => {
                    tracing::debug!(template = %key, write = write.describe(), %error, "a write failed");
                    return Next::Retry;
                }
            }
        }
        Next::Wait
    }
}
