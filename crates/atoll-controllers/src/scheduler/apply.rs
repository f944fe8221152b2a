//! Gives Pods to nodes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_api::conditions;
use atoll_api::reasons::{condition, event};
use atoll_client::ObjectKey;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::caches::name_of;
use crate::context::Context;
use crate::notices::{Gravity, Notice};
use crate::owner::{is_terminating, uid_of};
use crate::queue::{Next, Reconcile, WorkQueue};
use crate::scheduler::fit::choose;
use crate::scheduler::ledger::{Ledger, has_ended};
use crate::scheduler::requests::Amounts;
use crate::write::WriteError;

const DEFAULT_SCHEDULER: &str = "default-scheduler";
const UNSCHEDULABLE: &str = "Unschedulable";

/// Gives Pods to nodes, one at a time.
pub(crate) struct Scheduler {
    context: Arc<Context>,
    client: kube::Client,
    ledger: Arc<Ledger>,
    waiting: Arc<Waiting>,
}

/// Pods that no node has room for. Bounded by the number of Pods.
#[derive(Default)]
pub(crate) struct Waiting {
    keys: Mutex<HashSet<ObjectKey>>,
}

impl Waiting {
    /// There may be room now: all are looked at again.
    pub(crate) fn wake(&self, queue: &WorkQueue) {
        for key in self.lock().drain() {
            queue.add(key);
        }
    }

    fn add(&self, key: ObjectKey) {
        self.lock().insert(key);
    }

    fn remove(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ObjectKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a Pod waits for a node from this scheduler.
pub(crate) fn needs_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name.is_empty() || name == DEFAULT_SCHEDULER);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let placed = spec.node_name.as_ref().is_some_and(|node| !node.is_empty());
    ours && !gated && !placed && !is_terminating(&pod.metadata) && !has_ended(pod)
}

impl Scheduler {
    pub(crate) fn new(context: Arc<Context>, client: kube::Client, ledger: Arc<Ledger>, waiting: Arc<Waiting>) -> Self {
        Self { context, client, ledger, waiting }
    }

    fn api(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    async fn bind(&self, key: &ObjectKey, pod: &Pod, node: &str) -> Result<(), WriteError> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let answer: kube::Result<Value> =
            self.api(key).create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        answer.map(drop).map_err(|error| WriteError::from_client(&error))
    }

    /// Says on the Pod why it has no node, if it does not say so already.
    async fn refuse(&self, key: &ObjectKey, pod: &Pod, why: &str) -> Result<(), WriteError> {
        let present = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|present| present.type_ == condition::POD_SCHEDULED);
        let refused = |present: &PodCondition| {
            present.status == conditions::FALSE && present.reason.as_deref() == Some(UNSCHEDULABLE)
        };
        if present.is_some_and(|present| refused(present) && present.message.as_deref() == Some(why)) {
            return Ok(());
        }
        let since = present.filter(|present| refused(present)).and_then(|present| present.last_transition_time.clone());
        let condition = json!({
            "type": condition::POD_SCHEDULED,
            "status": conditions::FALSE,
            "reason": UNSCHEDULABLE,
            "message": why,
            "lastTransitionTime": since.unwrap_or(Time(self.context.now())),
        });
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let answer = self.api(key).patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        let pod = answer.map_err(|error| WriteError::from_client(&error))?;
        let notice = Notice {
            gravity: Gravity::Warning,
            reason: event::FAILED_SCHEDULING,
            action: "Scheduling",
            note: why.to_owned(),
        };
        self.context.notices.tell(&pod, &notice, self.context.now());
        self.context.caches.pods.remember(pod);
        Ok(())
    }
}

impl Reconcile for Scheduler {
    async fn reconcile(&self, key: ObjectKey) -> Next {
        let Some(pod) = self.context.caches.pods.get(&key).filter(|pod| needs_node(pod)) else { return Next::Wait };
        let Some(spec) = &pod.spec else { return Next::Wait };
        // Before looking for room: what becomes free from now on is not missed.
        self.waiting.add(key.clone());
        let nodes = self.context.caches.nodes.all();
        let uid = uid_of(&pod.metadata);
        let outcome = match choose(spec, &nodes, |node| self.ledger.used(node)) {
            Ok(node) => {
                self.waiting.remove(&key);
                self.ledger.give(uid, &node, Amounts::of_pod(spec));
                let bound = self.bind(&key, &pod, &node).await;
                if bound.is_err() {
                    self.ledger.release(uid);
                }
                bound
            }
            Err(why) => {
                tracing::debug!(pod = name_of(&*pod), why, "no node has room");
                self.refuse(&key, &pod, &why).await
            }
        };
        match outcome {
            Ok(()) => Next::Wait,
            // Gone or placed meanwhile: the watch will say so, and then there is nothing left to do here.
            Err(error) => {
                tracing::debug!(pod = %key, %error, "a pod was not given to a node");
                Next::Retry
            }
        }
    }
}
