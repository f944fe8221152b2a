//! The labels and annotations that a claim asks for on top of its template's.

use std::collections::BTreeMap;

use atoll_api::blueprint::EmbeddedMetadata;
use atoll_api::{annotations, labels};

use crate::claim::refusal::Refusal;

/// Labels of pool members that a claimed Sandbox's pod template loses, where an older controller put them there.
const POOL_LABELS: [&str; 3] = [labels::WARM_POOL, labels::TEMPLATE_HASH, labels::POD_TEMPLATE_HASH];
/// Domains whose annotations are not a claim's to set.
const RESTRICTED_DOMAINS: [&str; 3] = ["kubernetes.io", "k8s.io", "agents.x-k8s.io"];
const EXEMPT_ANNOTATIONS: [&str; 1] = [annotations::SAFE_TO_EVICT];
const NAME_CHARS_MAX: usize = 63;
const DOMAIN_CHARS_MAX: usize = 253;

/// Whether a claim may ask for this, whatever its template says.
pub(crate) fn validate(wanted: &EmbeddedMetadata, allowed_label_domains: &[String]) -> Result<(), Refusal> {
    for (key, value) in &wanted.labels {
        validate_label(key, value, allowed_label_domains)
            .map_err(|why| Refusal::Metadata(format!("failed to validate label {key:?}: {why}")))?;
    }
    for key in wanted.annotations.keys() {
        validate_annotation(key)
            .map_err(|why| Refusal::Metadata(format!("failed to validate annotation {key:?}: {why}")))?;
    }
    Ok(())
}

/// Whether the claim asks for another value than its template has.
pub(crate) fn conflicts(template: &EmbeddedMetadata, wanted: &EmbeddedMetadata) -> Result<(), Refusal> {
    for (kind, template, wanted) in
        [("label", &template.labels, &wanted.labels), ("annotation", &template.annotations, &wanted.annotations)]
    {
        let conflict = wanted.iter().find_map(|(key, value)| {
            let present = template.get(key).filter(|present| *present != value)?;
            Some((key, present, value))
        });
        if let Some((key, present, value)) = conflict {
            return Err(Refusal::Metadata(format!(
                "metadata override conflict: {kind} {key:?} is defined in template with value {present:?}, \
                 but claim requests {value:?}"
            )));
        }
    }
    Ok(())
}

/// The metadata that the pod template of a claimed Sandbox shall have: the template's, what the claim asks for, and
/// the system's own as far as it is there already.
pub(crate) fn merged(
    present: &EmbeddedMetadata,
    template: &EmbeddedMetadata,
    wanted: Option<&EmbeddedMetadata>,
) -> EmbeddedMetadata {
    let merge = |present: &BTreeMap<String, String>,
                 template: &BTreeMap<String, String>,
                 wanted: Option<&BTreeMap<String, String>>| {
        let system =
            present.iter().filter(|(key, _)| labels::is_system_key(key) && !POOL_LABELS.contains(&key.as_str()));
        let users = template.iter().filter(|(key, _)| !labels::is_system_key(key));
        let wanted = wanted.into_iter().flatten();
        system.chain(users).chain(wanted).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    EmbeddedMetadata {
        labels: merge(&present.labels, &template.labels, wanted.map(|wanted| &wanted.labels)),
        annotations: merge(&present.annotations, &template.annotations, wanted.map(|wanted| &wanted.annotations)),
    }
}

fn validate_label(key: &str, value: &str, allowed_domains: &[String]) -> Result<(), String> {
    validate_key(key, "label")?;
    if key.eq_ignore_ascii_case("app") && value.eq_ignore_ascii_case("sandbox-router") {
        return Err(format!(
            "restricted system label value: {key:?}={value:?} is not allowed in AdditionalPodMetadata"
        ));
    }
    let Some((domain, _)) = key.split_once('/') else {
        return Err(format!(
            "label {key:?} must have a domain prefix (e.g. 'sandbox.users.io/my-label') to prevent opting into \
             unintended policy domains"
        ));
    };
    let domain = domain.to_ascii_lowercase();
    if !allowed_domains.iter().any(|allowed| is_within(&domain, allowed)) {
        return Err(format!("label domain {domain:?} is not in the allowlist"));
    }
    let well_formed = value.is_empty() || is_name(value);
    if !well_formed {
        return Err(format!(
            "invalid label value: {value:?} does not match allowed pattern: a valid label must be an empty string or \
             consist of at most {NAME_CHARS_MAX} alphanumeric characters, '-', '_' or '.', and must start and end \
             with an alphanumeric character"
        ));
    }
    Ok(())
}

fn validate_annotation(key: &str) -> Result<(), String> {
    validate_key(key, "annotation")?;
    let domain = key.split_once('/').map_or("", |(domain, _)| domain).to_ascii_lowercase();
    let restricted = RESTRICTED_DOMAINS.iter().any(|restricted| is_within(&domain, restricted));
    if restricted && !EXEMPT_ANNOTATIONS.contains(&key) {
        return Err(format!("restricted system domain: {key:?} is not allowed in AdditionalPodMetadata"));
    }
    Ok(())
}

fn validate_key(key: &str, kind: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    if is_name(name) && domain.is_none_or(is_domain) {
        return Ok(());
    }
    Err(format!(
        "invalid {kind} key: {key:?}: name part must consist of at most {NAME_CHARS_MAX} alphanumeric characters, \
         '-', '_' or '.', and must start and end with an alphanumeric character, with an optional DNS subdomain \
         prefix and '/'"
    ))
}

fn is_within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= NAME_CHARS_MAX
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_domain(text: &str) -> bool {
    let is_part = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().next_back())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= DOMAIN_CHARS_MAX && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> EmbeddedMetadata {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        EmbeddedMetadata { labels: map(labels), annotations: map(annotations) }
    }

    #[test]
    fn labels_need_an_allowed_domain() {
        let allowed = ["sandbox.users.io".to_owned()];
        for (key, value, refused) in [
            ("sandbox.users.io/team", "red", None),
            ("deep.sandbox.users.io/team", "red", None),
            ("sandbox.users.io/team", "", None),
            ("team", "red", Some("must have a domain prefix")),
            ("evilsandbox.users.io/team", "red", Some("is not in the allowlist")),
            ("kubernetes.io/team", "red", Some("is not in the allowlist")),
            ("app", "sandbox-router", Some("restricted system label value")),
            ("sandbox.users.io/team", "not a value", Some("invalid label value")),
            ("sandbox.users.io/", "red", Some("invalid label key")),
            ("Sandbox.Users.io/team", "red", Some("invalid label key")),
        ] {
            let outcome = validate(&metadata(&[(key, value)], &[]), &allowed);
            match (refused, outcome) {
                (None, outcome) => assert_eq!(outcome, Ok(()), "{key}={value}"),
                (Some(words), Err(refusal)) => assert!(refusal.to_string().contains(words), "{key}={value}: {refusal}"),
                (Some(words), Ok(())) => panic!("{key}={value} is allowed, not refused with {words:?}"),
            }
        }
    }

    #[test]
    fn annotations_may_not_be_in_system_domains() {
        for (key, allowed) in [
            ("example.com/anything", true),
            ("plain", true),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", true),
            ("cluster-autoscaler.kubernetes.io/other", false),
            ("k8s.io/anything", false),
            ("agents.x-k8s.io/pod-name", false),
            ("extensions.agents.x-k8s.io/anything", false),
            ("notk8s.io/anything", true),
        ] {
            assert_eq!(validate(&metadata(&[], &[(key, "value")]), &[]).is_ok(), allowed, "{key}");
        }
    }

    #[test]
    fn the_template_is_not_overridden() {
        let template = metadata(&[("example.com/team", "red")], &[]);
        assert_eq!(conflicts(&template, &metadata(&[("example.com/team", "red")], &[])), Ok(()));
        assert_eq!(
            conflicts(&template, &metadata(&[("example.com/team", "blue")], &[])),
            Err(Refusal::Metadata(
                "metadata override conflict: label \"example.com/team\" is defined in template with value \"red\", \
                 but claim requests \"blue\""
                    .to_owned()
            ))
        );
    }

    #[test]
    fn merging_keeps_the_systems_own_and_drops_what_the_template_dropped() {
        let present = metadata(
            &[(labels::TEMPLATE_REF_HASH, "hash"), (labels::WARM_POOL, "pool"), ("example.com/gone", "1")],
            &[],
        );
        let template = metadata(&[("example.com/kept", "2")], &[("note", "3")]);
        let wanted = metadata(&[("sandbox.users.io/team", "red")], &[]);
        let expected = metadata(
            &[(labels::TEMPLATE_REF_HASH, "hash"), ("example.com/kept", "2"), ("sandbox.users.io/team", "red")],
            &[("note", "3")],
        );
        assert_eq!(merged(&present, &template, Some(&wanted)), expected);
        assert_eq!(merged(&expected, &template, Some(&wanted)), expected, "once is as good as twice");
    }
}
