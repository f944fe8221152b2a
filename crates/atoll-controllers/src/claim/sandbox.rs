//! The Sandbox of a claim: how a member becomes it, how it is made anew, and how it is kept in step.

use std::collections::BTreeMap;

use atoll_api::blueprint::EmbeddedMetadata;
use atoll_api::sandbox::SandboxSpec;
use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, annotations, labels};
use atoll_stdx::name_hash;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::blueprint::secured;
use crate::caches::{name_of, namespace_of};
use crate::claim::refusal::Refusal;
use crate::claim::{env, metadata, volumes};
use crate::owner::{annotation, controller_reference, label, uid_of};
use crate::patching::replace;
use crate::write::{Target, Write};

/// Labels of an unclaimed member.
const MEMBER_LABELS: [&str; 3] = [labels::WARM_POOL, labels::TEMPLATE_HASH, labels::POD_TEMPLATE_HASH];

/// The one write by which a member becomes the claim's, if nobody has changed it since.
pub(crate) fn adoption(claim: &SandboxClaim, member: &Sandbox, template: &SandboxTemplate) -> Write {
    let mut patch = in_step(claim, member, Some(template), labels::LAUNCH_TYPE_WARM).unwrap_or_else(|| json!({}));
    patch["metadata"]["resourceVersion"] = json!(member.metadata.resource_version);
    patch["metadata"]["ownerReferences"] = json!([controller_reference(claim)]);
    Write::Merge { target: Target::of(member), patch }
}

/// The write that brings a claim's Sandbox in step with claim and template; nothing when it is.
pub(crate) fn synchronisation(
    claim: &SandboxClaim,
    sandbox: &Sandbox,
    template: Option<&SandboxTemplate>,
) -> Option<Write> {
    let launch_type = label(&sandbox.metadata, labels::LAUNCH_TYPE).unwrap_or_else(|| {
        if name_of(sandbox) == name_of(claim) { labels::LAUNCH_TYPE_COLD } else { labels::LAUNCH_TYPE_WARM }
    });
    let patch = in_step(claim, sandbox, template, launch_type)?;
    Some(Write::Merge { target: Target::of(sandbox), patch })
}

/// A Sandbox of the claim's own, named like it.
pub(crate) fn cold(claim: &SandboxClaim, template: &SandboxTemplate) -> Result<Sandbox, Refusal> {
    let mut blueprint = secured(template);
    blueprint.volume_claim_templates = volumes::merge(
        &template.spec.volume_claim_templates,
        &claim.spec.volume_claim_templates,
        template.spec.volume_claim_templates_policy.unwrap_or_default(),
    )?;
    env::inject(
        &mut blueprint.pod_template.spec,
        &claim.spec.env,
        template.spec.env_vars_injection_policy.unwrap_or_default(),
    )?;
    let mut identity = BTreeMap::from([
        (labels::CLAIM_UID.to_owned(), uid_of(&claim.metadata).to_owned()),
        (labels::TEMPLATE_REF_HASH.to_owned(), name_hash(name_of(template))),
    ]);
    if let Some(creator) = creator(claim) {
        identity.insert(labels::CREATED_BY.to_owned(), creator.to_owned());
    }
    let system = EmbeddedMetadata { labels: identity.clone(), ..EmbeddedMetadata::default() };
    blueprint.pod_template.metadata =
        metadata::merged(&system, &template.spec.pod_template.metadata, claim.spec.additional_pod_metadata.as_ref());
    identity.insert(labels::LAUNCH_TYPE.to_owned(), labels::LAUNCH_TYPE_COLD.to_owned());
    let mut own_annotations = BTreeMap::from([(annotations::TEMPLATE_REF.to_owned(), name_of(template).to_owned())]);
    if let Some(trace) = annotation(&claim.metadata, annotations::TRACE_CONTEXT) {
        own_annotations.insert(annotations::TRACE_CONTEXT.to_owned(), trace.to_owned());
    }
    Ok(Sandbox {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(claim).to_owned()),
            name: Some(name_of(claim).to_owned()),
            labels: Some(identity),
            annotations: Some(own_annotations),
            owner_references: Some(vec![controller_reference(claim)]),
            ..ObjectMeta::default()
        },
        spec: SandboxSpec::from(blueprint),
        status: None,
    })
}

/// Labels, annotations and pod template metadata as the claim's Sandbox shall have them.
fn in_step(
    claim: &SandboxClaim,
    sandbox: &Sandbox,
    template: Option<&SandboxTemplate>,
    launch_type: &str,
) -> Option<Value> {
    let mut patch = json!({});
    let present = sandbox.metadata.labels.clone().unwrap_or_default();
    let mut wanted = present.clone();
    wanted.retain(|key, _| !MEMBER_LABELS.contains(&key.as_str()) && key != labels::CREATED_BY);
    wanted.insert(labels::CLAIM_UID.to_owned(), uid_of(&claim.metadata).to_owned());
    wanted.insert(labels::LAUNCH_TYPE.to_owned(), launch_type.to_owned());
    if let Some(creator) = creator(claim) {
        wanted.insert(labels::CREATED_BY.to_owned(), creator.to_owned());
    }
    if let Some(template) = template {
        wanted.entry(labels::TEMPLATE_REF_HASH.to_owned()).or_insert_with(|| name_hash(name_of(template)));
    }
    if let Some(labels) = replace(&present, &wanted) {
        patch["metadata"]["labels"] = labels;
    }
    let trace = annotation(&claim.metadata, annotations::TRACE_CONTEXT);
    if trace.is_some() && trace != annotation(&sandbox.metadata, annotations::TRACE_CONTEXT) {
        patch["metadata"]["annotations"][annotations::TRACE_CONTEXT] = json!(trace);
    }
    if let Some(template) = template {
        let present = &sandbox.spec.pod_template.metadata;
        let template = &template.spec.pod_template.metadata;
        let wanted = metadata::merged(present, template, claim.spec.additional_pod_metadata.as_ref());
        if let Some(labels) = replace(&present.labels, &wanted.labels) {
            patch["spec"]["podTemplate"]["metadata"]["labels"] = labels;
        }
        if let Some(annotations) = replace(&present.annotations, &wanted.annotations) {
            patch["spec"]["podTemplate"]["metadata"]["annotations"] = annotations;
        }
    }
    (patch != json!({})).then_some(patch)
}

fn creator(claim: &SandboxClaim) -> Option<&str> {
    label(&claim.metadata, labels::CREATED_BY).filter(|creator| !creator.is_empty())
}
