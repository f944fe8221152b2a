//! Which member of a pool a claim takes.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_api::Sandbox;

use crate::caches::name_of;
use crate::pool::observe::is_ready;

/// What a pool has for a claim.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    /// A Ready member, the best one.
    pub(crate) ready: Option<Arc<Sandbox>>,
    /// A member that has an address but is not Ready, the best one.
    pub(crate) starting: Option<Arc<Sandbox>>,
    /// How many members are Ready.
    pub(crate) ready_count: usize,
    /// Members that are not Ready yet.
    pub(crate) pending: usize,
}

impl Candidates {
    /// Sorts members that could be taken: those on the node that has most of them first, then the oldest.
    pub(crate) fn among(members: &[Arc<Sandbox>]) -> Self {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for member in members {
            *on_node.entry(node_of(member)).or_default() += 1;
        }
        let best = |wanted: fn(&Sandbox) -> bool| {
            members
                .iter()
                .filter(|member| wanted(member))
                .min_by_key(|member| {
                    let created = member.metadata.creation_timestamp.as_ref().map(|time| time.0);
                    (
                        usize::MAX - on_node.get(node_of(member)).copied().unwrap_or_default(),
                        created,
                        name_of(&***member),
                    )
                })
                .cloned()
        };
        Self {
            ready: best(can_be_used),
            starting: best(|member| has_address(member) && !is_ready(member)),
            ready_count: members.iter().filter(|member| can_be_used(member)).count(),
            pending: members.iter().filter(|member| !can_be_used(member)).count(),
        }
    }
}

fn can_be_used(sandbox: &Sandbox) -> bool {
    has_address(sandbox) && is_ready(sandbox)
}

fn has_address(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| !status.pod_ips.is_empty())
}

fn node_of(sandbox: &Sandbox) -> &str {
    sandbox.status.as_ref().and_then(|status| status.node_name.as_deref()).unwrap_or_default()
}
