//! What a claim does that finds no Ready member: start a Sandbox of its own, or wait for one of the pool's.

use std::time::Duration;

use atoll_api::{SandboxClaim, SandboxWarmPool, annotations};

use crate::owner::annotation;

/// How long a claim waits for a member before a Sandbox is started for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as members are on their way, but not longer than this.
    Brief(Duration),
    /// This long, whether members are on their way or not.
    Until(Duration),
    /// For ever.
    Endless,
}

/// How long a claim waits by what it, or else its pool, says. What can not be understood is as if it were not said.
pub(crate) fn patience(claim: &SandboxClaim, pool: &SandboxWarmPool, brief: Duration) -> Patience {
    let said = |key: &str| annotation(&claim.metadata, key).or_else(|| annotation(&pool.metadata, key));
    if said(annotations::WHEN_EMPTY) != Some(annotations::WHEN_EMPTY_WAIT) {
        return Patience::Brief(brief);
    }
    let seconds = said(annotations::WAIT_SECONDS_MAX).and_then(|seconds| seconds.trim().parse::<u32>().ok());
    seconds.map_or(Patience::Endless, |seconds| Patience::Until(Duration::from_secs(seconds.into())))
}

/// How important a claim is among those that wait.
pub(crate) fn priority(claim: &SandboxClaim) -> i64 {
    let said = annotation(&claim.metadata, annotations::PRIORITY);
    said.and_then(|priority| priority.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::object;

    fn claim(annotations: &Value) -> SandboxClaim {
        object(json!({"metadata": {"annotations": annotations}, "spec": {"warmPoolRef": {"name": "p"}}}))
    }

    fn pool(annotations: &Value) -> SandboxWarmPool {
        object(json!({"metadata": {"annotations": annotations}, "spec": {"sandboxTemplateRef": {"name": "t"}}}))
    }

    #[test]
    fn the_claim_decides_before_its_pool() {
        let brief = Duration::from_secs(2);
        let wait = json!({"atoll.dev/when-empty": "wait"});
        let bounded = json!({"atoll.dev/when-empty": "wait", "atoll.dev/wait-seconds-max": "30"});
        let cold = json!({"atoll.dev/when-empty": "cold-start"});
        for (of_claim, of_pool, expected) in [
            (json!({}), json!({}), Patience::Brief(brief)),
            (json!({}), wait.clone(), Patience::Endless),
            (cold, wait.clone(), Patience::Brief(brief)),
            (wait.clone(), json!({}), Patience::Endless),
            (wait, bounded.clone(), Patience::Until(Duration::from_secs(30))),
            (json!({"atoll.dev/wait-seconds-max": "5"}), bounded, Patience::Until(Duration::from_secs(5))),
            (json!({"atoll.dev/when-empty": "nonsense"}), json!({}), Patience::Brief(brief)),
            (
                json!({"atoll.dev/when-empty": "wait", "atoll.dev/wait-seconds-max": "soon"}),
                json!({}),
                Patience::Endless,
            ),
        ] {
            assert_eq!(patience(&claim(&of_claim), &pool(&of_pool), brief), expected, "{of_claim} {of_pool}");
        }
    }

    #[test]
    fn a_priority_is_a_whole_number() {
        for (said, expected) in [("7", 7), ("-3", -3), ("", 0), ("high", 0), ("1.5", 0)] {
            assert_eq!(priority(&claim(&json!({"atoll.dev/priority": said}))), expected, "{said:?}");
        }
    }
}
