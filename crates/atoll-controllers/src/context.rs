//! What all controllers share.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::ages::Ages;
use crate::caches::Caches;
use crate::config::ControllersConfig;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::writer::Writer;

/// What all controllers share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) config: ControllersConfig,
    pub(crate) caches: Arc<Caches>,
    pub(crate) writer: Writer,
    pub(crate) notices: Notices,
    pub(crate) ages: Arc<Ages>,
    pub(crate) members: Arc<Members>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Context {
    /// The same for one controller, which writes under its own name where that is wanted.
    pub(crate) fn of_controller(&self, name: &'static str) -> Arc<Self> {
        let mut context = self.clone();
        if let Some(client_of) = &self.config.client_of {
            context.writer = Writer::new(client_of(name), Arc::clone(&self.caches));
        }
        Arc::new(context)
    }

    /// The time by the configured clock.
    pub(crate) fn now(&self) -> Timestamp {
        let milliseconds = i64::try_from(self.config.clock.now_unix_ms()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }
}
