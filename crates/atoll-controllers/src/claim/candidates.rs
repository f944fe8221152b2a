//! Which member of a pool a claim takes.

use std::collections::HashSet;
use std::sync::Arc;

use atoll_api::Sandbox;

use crate::claim::shelf::Shelves;
use crate::owner::controller_uid;
use crate::pool::observe::is_ready;

/// What a pool has for a claim.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    /// A Ready member, the best one: the oldest on the node that has most of them.
    pub(crate) ready: Option<Arc<Sandbox>>,
    /// A member that has an address but is not Ready, the best one.
    pub(crate) starting: Option<Arc<Sandbox>>,
    /// How many members are Ready.
    pub(crate) ready_count: usize,
    /// Members that are not Ready yet.
    pub(crate) pending: usize,
}

impl Candidates {
    /// What a pool of these members, and no others, has.
    pub(crate) fn among(members: &[Arc<Sandbox>]) -> Self {
        let shelves = Shelves::default();
        for member in members {
            shelves.note(None, Some(member), |_| true);
        }
        let pool = members.first().map(|member| controller_uid(&member.metadata).to_owned());
        shelves.candidates(&pool.unwrap_or_default(), &HashSet::new())
    }
}

pub(super) fn can_be_used(sandbox: &Sandbox) -> bool {
    has_address(sandbox) && is_ready(sandbox)
}

pub(super) fn has_address(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| !status.pod_ips.is_empty())
}

pub(super) fn node_of(sandbox: &Sandbox) -> &str {
    sandbox.status.as_ref().and_then(|status| status.node_name.as_deref()).unwrap_or_default()
}
