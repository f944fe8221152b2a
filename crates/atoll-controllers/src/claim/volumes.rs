//! Volume claim templates that a claim asks for.

use std::collections::HashSet;

use atoll_api::VolumeClaimTemplate;
use atoll_api::template::InjectionPolicy;

use crate::claim::refusal::Refusal;

/// The template's volumes and the claim's, if the template allows them.
pub(crate) fn merge(
    template: &[VolumeClaimTemplate],
    wanted: &[VolumeClaimTemplate],
    policy: InjectionPolicy,
) -> Result<Vec<VolumeClaimTemplate>, Refusal> {
    if wanted.is_empty() {
        validate(template)
            .map_err(|why| Refusal::VolumesInvalid(format!("invalid volume claim templates in template: {why}")))?;
        return Ok(template.to_vec());
    }
    let invalid = |whose: &str, why: String| {
        Refusal::VolumesInvalid(format!("failed to merge volume claim templates: {whose}: {why}"))
    };
    validate(template).map_err(|why| invalid("template", why))?;
    validate(wanted).map_err(|why| invalid("claim", why))?;
    let in_template = |name: &str| template.iter().any(|volume| volume.metadata.name == name);
    match policy {
        InjectionPolicy::Disallowed => Err(Refusal::VolumesDisallowed),
        InjectionPolicy::Allowed => match wanted.iter().find(|volume| in_template(&volume.metadata.name)) {
            Some(volume) => Err(Refusal::VolumeOverride(volume.metadata.name.clone())),
            None => Ok(template.iter().chain(wanted).cloned().collect()),
        },
        InjectionPolicy::Overrides => {
            let replaced = template.iter().map(|volume| {
                wanted.iter().find(|wanted| wanted.metadata.name == volume.metadata.name).unwrap_or(volume)
            });
            let added = wanted.iter().filter(|volume| !in_template(&volume.metadata.name));
            Ok(replaced.chain(added).cloned().collect())
        }
    }
}

fn validate(volumes: &[VolumeClaimTemplate]) -> Result<(), String> {
    let mut names = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let name = volume.metadata.name.as_str();
        if name.is_empty() {
            return Err(format!("invalid volume claim templates: name at index {index} is empty"));
        }
        if !names.insert(name) {
            return Err(format!("invalid volume claim templates: duplicate name {name:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use atoll_api::blueprint::VolumeClaimMetadata;

    use super::*;

    fn volumes(names: &[&str], mark: &str) -> Vec<VolumeClaimTemplate> {
        names
            .iter()
            .map(|name| VolumeClaimTemplate {
                metadata: VolumeClaimMetadata {
                    name: (*name).to_owned(),
                    labels: [("from".to_owned(), mark.to_owned())].into(),
                    ..VolumeClaimMetadata::default()
                },
                ..VolumeClaimTemplate::default()
            })
            .collect()
    }

    fn outcome(template: &[&str], claim: &[&str], policy: InjectionPolicy) -> Result<Vec<String>, String> {
        merge(&volumes(template, "template"), &volumes(claim, "claim"), policy)
            .map(|merged| {
                merged
                    .iter()
                    .map(|volume| format!("{}/{}", volume.metadata.labels["from"], volume.metadata.name))
                    .collect()
            })
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_policy_decides() {
        use InjectionPolicy::{Allowed, Disallowed, Overrides};
        let well = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        let ill = |text: &str| Err(format!("failed to merge volume claim templates: {text}"));
        for (template, claim, policy, expected) in [
            (&["a"][..], &[][..], Disallowed, well(&["template/a"])),
            (&["a"], &["b"], Disallowed, ill("volume claim templates are disallowed by the template")),
            (&["a"], &["b"], Allowed, well(&["template/a", "claim/b"])),
            (
                &["a"],
                &["a"],
                Allowed,
                ill(
                    "overriding volume claim templates is forbidden by the template: cannot override template volume \"a\"",
                ),
            ),
            (&["a", "c"], &["b", "a"], Overrides, well(&["claim/a", "template/c", "claim/b"])),
            (&[], &[""], Allowed, ill("claim: invalid volume claim templates: name at index 0 is empty")),
            (&[], &["b", "b"], Overrides, ill("claim: invalid volume claim templates: duplicate name \"b\"")),
        ] {
            assert_eq!(outcome(template, claim, policy), expected, "{template:?} {claim:?} {policy:?}");
        }
    }
}
