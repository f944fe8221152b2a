//! The Pod of a Sandbox: one, named like it, made anew whenever it is gone, its metadata kept in step.

use std::collections::{BTreeMap, BTreeSet};

use atoll_api::{Sandbox, SandboxClaim, SandboxWarmPool, annotations, labels};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::caches::{name_of, namespace_of};
use crate::owner::{controller_of, controller_reference, is_controlled_by, is_terminating, label, names_kind};
use crate::sandbox::children::{Problem, adopt, is_adoptable, name_label, not_adoptable, owned_by_other};
use crate::sandbox::observe::View;
use crate::sandbox::volumes;
use crate::write::{NewObject, Target, Write};

/// System labels that a Pod gets from its Sandbox, and loses with it.
const FOLLOWING_LABELS: [&str; 3] = [labels::WARM_POOL, labels::TEMPLATE_REF_HASH, labels::CREATED_BY];

/// What is to be done for the Pod, and which Pod the status speaks of.
#[derive(Debug, Default)]
pub(crate) struct PodPlan {
    pub(crate) write: Option<Write>,
    pub(crate) problem: Option<Problem>,
    /// The Pod of the right name, ours or not; nothing when there is none, or when it is unclear which.
    pub(crate) pod: Option<std::sync::Arc<Pod>>,
}

/// What is to be done for the Pod. `evictable`: Pods of idle pool members are marked as safe to evict.
pub(crate) fn plan(view: &View, evictable: bool) -> PodPlan {
    let sandbox = &*view.sandbox;
    if view.owned_pods.len() > 1 {
        let problem = Some(Problem::MultiplePods(view.owned_pods.len()));
        return PodPlan { problem, ..PodPlan::default() };
    }
    let pod = view.owned_pods.first().or(view.named_pod.as_ref()).cloned();
    let Some(pod) = pod else {
        let wanted = !sandbox.spec.is_suspended();
        let write = wanted.then(|| Write::Create(NewObject::Pod(Box::new(new_pod(sandbox, evictable)))));
        return PodPlan { write, ..PodPlan::default() };
    };
    let ours = is_controlled_by(&pod.metadata, sandbox);
    if sandbox.spec.is_suspended() {
        let write = (ours && !is_terminating(&pod.metadata)).then(|| Write::delete(&*pod));
        return PodPlan { write, problem: None, pod: Some(pod) };
    }
    if ours {
        return PodPlan { write: metadata_patch(sandbox, &pod, evictable), problem: None, pod: Some(pod) };
    }
    if controller_of(&pod.metadata).is_some() {
        return PodPlan { problem: Some(owned_by_other(&*pod, sandbox)), ..PodPlan::default() };
    }
    if !is_adoptable(&pod.metadata, sandbox) {
        return PodPlan { problem: Some(not_adoptable(&*pod)), ..PodPlan::default() };
    }
    PodPlan { write: Some(adopt(&*pod, sandbox)), problem: None, pod: Some(pod) }
}

fn new_pod(sandbox: &Sandbox, evictable: bool) -> Pod {
    let wanted = WantedMetadata::of(sandbox, evictable);
    let mut spec = sandbox.spec.pod_template.spec.clone();
    volumes::mount(&mut spec, sandbox);
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(sandbox).to_owned()),
            name: Some(name_of(sandbox).to_owned()),
            labels: Some(wanted.labels),
            annotations: (!wanted.annotations.is_empty()).then_some(wanted.annotations),
            owner_references: Some(vec![controller_reference(sandbox)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The metadata that the Pod shall have because of its Sandbox. It may have more from others.
struct WantedMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl WantedMetadata {
    fn of(sandbox: &Sandbox, evictable: bool) -> Self {
        let template = &sandbox.spec.pod_template.metadata;
        let from_users = |map: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let own = map.iter().filter(|(key, _)| !labels::is_system_key(key));
            own.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut wanted_labels = from_users(&template.labels);
        let mut wanted_annotations = from_users(&template.annotations);
        let controller = controller_of(&sandbox.metadata);
        let pooled = controller.is_some_and(names_kind::<SandboxWarmPool>);
        let claimed = controller.is_some_and(names_kind::<SandboxClaim>);
        if pooled && evictable {
            wanted_annotations.entry(annotations::SAFE_TO_EVICT.to_owned()).or_insert_with(|| "true".to_owned());
        }
        for (key, map) in [
            (annotations::PROPAGATED_LABELS, &wanted_labels),
            (annotations::PROPAGATED_ANNOTATIONS, &wanted_annotations.clone()),
        ] {
            if !map.is_empty() {
                let keys: Vec<&str> = map.keys().map(String::as_str).collect();
                wanted_annotations.insert(key.to_owned(), keys.join(","));
            }
        }
        let mut follow = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                wanted_labels.insert(key.to_owned(), value.to_owned());
            }
        };
        follow(labels::SANDBOX_NAME_HASH, Some(&name_label(sandbox)));
        follow(labels::WARM_POOL, label(&sandbox.metadata, labels::WARM_POOL).filter(|_| pooled));
        let template_hash = label(&sandbox.metadata, labels::TEMPLATE_REF_HASH).filter(|_| pooled || claimed);
        follow(labels::TEMPLATE_REF_HASH, template_hash);
        let creator = label(&sandbox.metadata, labels::CREATED_BY).filter(|creator| !creator.is_empty());
        follow(labels::CREATED_BY, creator.map(labels::normalized_created_by));
        Self { labels: wanted_labels, annotations: wanted_annotations }
    }
}

/// The smallest merge patch that gives the Pod its metadata; nothing when it has it.
fn metadata_patch(sandbox: &Sandbox, pod: &Pod, evictable: bool) -> Option<Write> {
    if is_terminating(&pod.metadata) {
        return None;
    }
    let wanted = WantedMetadata::of(sandbox, evictable);
    let empty = BTreeMap::new();
    let present_labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let present_annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let propagated = |key: &str| -> BTreeSet<&str> {
        present_annotations.get(key).map(|keys| keys.split(',').collect()).unwrap_or_default()
    };
    let mut old_labels = propagated(annotations::PROPAGATED_LABELS);
    old_labels.extend(FOLLOWING_LABELS);
    let mut old_annotations = propagated(annotations::PROPAGATED_ANNOTATIONS);
    old_annotations.extend([annotations::PROPAGATED_LABELS, annotations::PROPAGATED_ANNOTATIONS]);
    let labels = difference(present_labels, &wanted.labels, &old_labels);
    let annotations = difference(present_annotations, &wanted.annotations, &old_annotations);
    let mut metadata = Map::new();
    for (name, map) in [("labels", labels), ("annotations", annotations)] {
        if !map.is_empty() {
            metadata.insert(name.to_owned(), Value::Object(map));
        }
    }
    (!metadata.is_empty()).then(|| Write::Merge { target: Target::of(pod), patch: json!({"metadata": metadata}) })
}

/// What to set, and which of the `removable` keys to remove.
fn difference(
    present: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    removable: &BTreeSet<&str>,
) -> Map<String, Value> {
    let set = wanted.iter().filter(|(key, value)| present.get(*key) != Some(*value));
    let removed = removable.iter().filter(|key| present.contains_key(**key) && !wanted.contains_key(**key));
    set.map(|(key, value)| (key.clone(), json!(value)))
        .chain(removed.map(|key| ((*key).to_owned(), Value::Null)))
        .collect()
}
