//! What must be true in the end.

use std::collections::{BTreeSet, HashMap};

use atoll_api::reasons::condition;
use atoll_api::{Sandbox, SandboxClaim, SandboxWarmPool, conditions};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::People;

/// What is not true yet, one line each; nothing when all is well.
pub(super) async fn open(people: &People, accepted: &BTreeSet<String>) -> Result<Vec<String>, String> {
    let claims: Vec<SandboxClaim> = people.list().await?;
    let pools: Vec<SandboxWarmPool> = people.list().await?;
    let sandboxes: Vec<Sandbox> = people.list().await?;
    let pods: Vec<Pod> = people.list().await?;
    let mut open = of_claims(accepted, &claims, &sandboxes);
    for pool in &pools {
        open.extend(of_pool(pool, &sandboxes));
    }
    let owners: HashMap<String, &str> = claims
        .iter()
        .filter_map(ResourceExt::uid)
        .map(|uid| (uid, "claim"))
        .chain(pools.iter().filter_map(ResourceExt::uid).map(|uid| (uid, "pool")))
        .collect();
    open.extend(sandboxes.iter().filter_map(|sandbox| {
        let owned = controller(&sandbox.metadata).is_some_and(|owner| owners.contains_key(&owner.uid));
        (!owned).then(|| format!("sandbox {} is nobody's", sandbox.name_any()))
    }));
    open.extend(of_pods(&pods, &sandboxes));
    Ok(open)
}

/// Every claim that was accepted is there and Ready, each with a Sandbox of its own; those taken back are gone.
fn of_claims(accepted: &BTreeSet<String>, claims: &[SandboxClaim], sandboxes: &[Sandbox]) -> Vec<String> {
    let present: BTreeSet<String> = claims.iter().map(ResourceExt::name_any).collect();
    let mut open: Vec<String> = accepted.difference(&present).map(|name| format!("claim {name} is lost")).collect();
    open.extend(present.difference(accepted).map(|name| format!("claim {name} was taken back and is still there")));
    let mut holders: HashMap<String, String> = HashMap::new();
    for claim in claims {
        let (name, status) = (claim.name_any(), claim.status.clone().unwrap_or_default());
        if !conditions::is_true(&status.conditions, condition::READY) {
            let why = conditions::find(&status.conditions, condition::READY);
            let why = why.map(|ready| format!("{}: {}", ready.reason, ready.message)).unwrap_or_default();
            open.push(format!("claim {name} is not ready: {why}"));
            continue;
        }
        let bound = status.sandbox.map(|bound| bound.name).unwrap_or_default();
        if let Some(other) = holders.insert(bound.clone(), name.clone()) {
            open.push(format!("claims {other} and {name} share sandbox {bound}"));
        }
        let owned: Vec<&Sandbox> = sandboxes
            .iter()
            .filter(|sandbox| controller(&sandbox.metadata).map(|owner| &owner.uid) == claim.metadata.uid.as_ref())
            .collect();
        let right = owned.len() == 1 && owned[0].name_any() == bound && is_ready(owned[0]);
        if !right {
            let names: Vec<String> = owned.iter().map(|sandbox| sandbox.name_any()).collect();
            open.push(format!("claim {name} says {bound:?} and controls {names:?}"));
        }
    }
    open
}

/// A pool has as many Ready members as wanted, and says so.
fn of_pool(pool: &SandboxWarmPool, sandboxes: &[Sandbox]) -> Option<String> {
    let members: Vec<&Sandbox> = sandboxes
        .iter()
        .filter(|sandbox| controller(&sandbox.metadata).map(|owner| &owner.uid) == pool.metadata.uid.as_ref())
        .collect();
    let ready = members.iter().filter(|member| is_ready(member)).count();
    let status = pool.status.clone().unwrap_or_default();
    let wanted = pool.spec.replicas;
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let right = count(members.len()) == wanted
        && count(ready) == wanted
        && (status.replicas, status.ready_replicas) == (wanted, wanted);
    (!right).then(|| {
        format!(
            "pool {} wants {wanted}, has {} of which {ready} are ready, and says {} and {}",
            pool.name_any(),
            members.len(),
            status.replicas,
            status.ready_replicas
        )
    })
}

/// Every Pod has its Sandbox, and no Sandbox has two.
fn of_pods(pods: &[Pod], sandboxes: &[Sandbox]) -> Vec<String> {
    let uids: BTreeSet<String> = sandboxes.iter().filter_map(ResourceExt::uid).collect();
    let mut served = BTreeSet::new();
    pods.iter()
        .filter_map(|pod| {
            let owner = controller(&pod.metadata).map(|owner| owner.uid.clone()).unwrap_or_default();
            if !uids.contains(&owner) {
                return Some(format!("pod {} is nobody's", pod.name_any()));
            }
            (!served.insert(owner)).then(|| format!("pod {} is one too many", pod.name_any()))
        })
        .collect()
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, condition::READY))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("it is such an object")
    }

    fn owner(uid: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": "Any", "name": uid, "uid": uid, "controller": true}])
    }

    fn ready(status: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn claim(name: &str, status: &str, bound: &str) -> SandboxClaim {
        object(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"warmPoolRef": {"name": "p"}},
            "status": {"conditions": ready(status), "sandbox": {"name": bound}},
        }))
    }

    fn sandbox(name: &str, owner_uid: &str, status: &str) -> Sandbox {
        object(json!({
            "metadata": {"name": name, "uid": name, "ownerReferences": owner(owner_uid)},
            "spec": {"podTemplate": {"spec": {"containers": []}}},
            "status": {"conditions": ready(status)},
        }))
    }

    fn pod(name: &str, owner_uid: &str) -> Pod {
        object(json!({"metadata": {"name": name, "uid": name, "ownerReferences": owner(owner_uid)}}))
    }

    #[test]
    fn claims_that_are_not_served_are_seen() {
        let accepted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let served = || vec![sandbox("s", "a", "True")];
        for (names, claims, sandboxes, words) in [
            (vec!["a"], vec![claim("a", "True", "s")], served(), ""),
            (vec!["a"], vec![], served(), "claim a is lost"),
            (vec![], vec![claim("a", "True", "s")], served(), "claim a was taken back and is still there"),
            (vec!["a"], vec![claim("a", "False", "s")], served(), "claim a is not ready: R: m"),
            (vec!["a"], vec![claim("a", "True", "t")], served(), "claim a says \"t\" and controls [\"s\"]"),
            (vec!["a"], vec![claim("a", "True", "s")], vec![sandbox("s", "a", "False")], "claim a says"),
            (
                vec!["a", "b"],
                vec![claim("a", "True", "s"), claim("b", "True", "s")],
                served(),
                "claims a and b share sandbox s",
            ),
        ] {
            let open = of_claims(&accepted(&names), &claims, &sandboxes).join("; ");
            assert_eq!(open.is_empty(), words.is_empty(), "{open}");
            assert!(open.contains(words), "{open:?} has not {words:?}");
        }
    }

    #[test]
    fn pools_and_pods_that_are_not_right_are_seen() {
        let pool = |replicas: i32, told: i32| -> SandboxWarmPool {
            object(json!({
                "metadata": {"name": "p", "uid": "p"},
                "spec": {"replicas": replicas, "sandboxTemplateRef": {"name": "t"}},
                "status": {"replicas": told, "readyReplicas": told, "selector": ""},
            }))
        };
        let members = [sandbox("m", "p", "True"), sandbox("other", "q", "True")];
        for (pool, right) in [(pool(1, 1), true), (pool(1, 0), false), (pool(2, 2), false), (pool(0, 0), false)] {
            assert_eq!(of_pool(&pool, &members).is_none(), right, "{:?}", pool.spec);
        }
        let unready = [sandbox("m", "p", "False")];
        assert!(of_pool(&pool(1, 1), &unready).is_some());
        assert!(of_pods(&[pod("m", "m"), pod("o", "other")], &members).is_empty());
        assert_eq!(of_pods(&[pod("x", "gone")], &members), ["pod x is nobody's"]);
        assert_eq!(of_pods(&[pod("m", "m"), pod("n", "m")], &members), ["pod n is one too many"]);
    }
}
