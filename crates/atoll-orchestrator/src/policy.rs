//! The policy in force: replaced as a whole while runs go on, never in part and never by a broken one.

use std::sync::{Arc, PoisonError, RwLock};

use atoll_policy::Policy;

/// The policy in force. Cloning shares it.
#[derive(Clone, Debug)]
pub struct PolicyInForce {
    current: Arc<RwLock<Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    policy: Arc<Policy>,
    since_ms: u64,
    /// Why what was offered last is not in force.
    rejected: Option<String>,
}

impl PolicyInForce {
    /// Begins with a policy.
    #[must_use]
    pub fn new(policy: Policy, now_ms: u64) -> Self {
        let held = Held { policy: Arc::new(policy), since_ms: now_ms, rejected: None };
        Self { current: Arc::new(RwLock::new(held)) }
    }

    /// The policy that holds now. A decision is made by one of these, from beginning to end.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.held().policy)
    }

    /// Since when it holds, and why what was offered last does not.
    pub(crate) fn standing(&self) -> (u64, Option<String>) {
        let held = self.held();
        (held.since_ms, held.rejected.clone())
    }

    pub(crate) fn replace(&self, policy: Policy, now_ms: u64) {
        let held = Held { policy: Arc::new(policy), since_ms: now_ms, rejected: None };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = held;
    }

    pub(crate) fn reject(&self, why: String) {
        self.current.write().unwrap_or_else(PoisonError::into_inner).rejected = Some(why);
    }

    fn held(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}
