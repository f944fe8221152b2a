//! Volume claims of a Sandbox: made once, never changed, deleted with it.

use std::sync::Arc;

use atoll_api::{Sandbox, VolumeClaimTemplate, labels};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::caches::{name_of, namespace_of};
use crate::owner::{controller_of, controller_reference, is_controlled_by};
use crate::sandbox::children::{Problem, adopt, is_adoptable, name_label, not_adoptable, owned_by_other};
use crate::write::{NewObject, Write};

/// The name of the claim for a template's volume.
pub(crate) fn claim_name(template: &str, sandbox: &str) -> String {
    format!("{template}-{sandbox}")
}

/// What is to be done for the volume claims; `present` goes along with the templates.
pub(crate) fn plan(sandbox: &Sandbox, present: &[Option<Arc<PersistentVolumeClaim>>]) -> (Vec<Write>, Option<Problem>) {
    let mut writes = Vec::new();
    let mut problem = None;
    for (template, claim) in sandbox.spec.volume_claim_templates.iter().zip(present) {
        match claim {
            None => {
                let claim = Box::new(new_claim(sandbox, template));
                writes.push(Write::Create(NewObject::PersistentVolumeClaim(claim)));
            }
            Some(claim) if is_controlled_by(&claim.metadata, sandbox) => {}
            Some(claim) if controller_of(&claim.metadata).is_some() => {
                problem = problem.or_else(|| Some(owned_by_other(&**claim, sandbox)));
            }
            Some(claim) if is_adoptable(&claim.metadata, sandbox) => writes.push(adopt(&**claim, sandbox)),
            Some(claim) => problem = problem.or_else(|| Some(not_adoptable(&**claim))),
        }
    }
    (writes, problem)
}

/// Points the Pod's volumes at the claims: a volume of the same name is replaced, else one is added.
pub(crate) fn mount(pod: &mut PodSpec, sandbox: &Sandbox) {
    for template in &sandbox.spec.volume_claim_templates {
        let name = &template.metadata.name;
        let volume = Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(name, name_of(sandbox)),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        };
        let volumes = pod.volumes.get_or_insert_default();
        match volumes.iter_mut().find(|present| present.name == *name) {
            Some(present) => *present = volume,
            None => volumes.push(volume),
        }
    }
}

fn new_claim(sandbox: &Sandbox, template: &VolumeClaimTemplate) -> PersistentVolumeClaim {
    let metadata = &template.metadata;
    let mut claim_labels = metadata.labels.clone();
    claim_labels.insert(labels::SANDBOX_NAME_HASH.to_owned(), name_label(sandbox));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(sandbox).to_owned()),
            name: Some(claim_name(&metadata.name, name_of(sandbox))),
            labels: Some(claim_labels),
            annotations: (!metadata.annotations.is_empty()).then(|| metadata.annotations.clone()),
            owner_references: Some(vec![controller_reference(sandbox)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }
}
