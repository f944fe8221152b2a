//! A container's environment and command line as its process gets them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_image::ImageConfig;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use crate::downward::{self, Allocatable};
use crate::{init, pod};

/// ConfigMaps and Secrets by name, as they were when the container was prepared.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// Names of the objects that a Pod refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
}

/// Why a container cannot be prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unprepared {
    /// It may be possible later: something that it needs is not there.
    #[error("{0}")]
    Missing(String),
    /// It will never be possible with this Pod on this node.
    #[error("{0}")]
    Refused(String),
}

/// Everything that the Pod's environment and volumes name.
pub(crate) fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for container in pod::spec(pod).containers.iter().chain(init::containers(pod)) {
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            found.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            found.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
        }
        for source in container.env_from.iter().flatten() {
            found.config_maps.extend(source.config_map_ref.iter().map(|map| map.name.clone()));
            found.secrets.extend(source.secret_ref.iter().map(|secret| secret.name.clone()));
        }
    }
    for volume in pod::spec(pod).volumes.iter().flatten() {
        found.config_maps.extend(volume.config_map.iter().map(|map| map.name.clone()));
        found.secrets.extend(volume.secret.iter().filter_map(|secret| secret.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for part in projected {
            found.config_maps.extend(part.config_map.iter().map(|map| map.name.clone()));
            found.secrets.extend(part.secret.iter().map(|secret| secret.name.clone()));
        }
        found.claims.extend(volume.persistent_volume_claim.iter().map(|claim| claim.claim_name.clone()));
    }
    found
}

/// The environment: first `envFrom`, then `env`, later ones winning.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    addresses: &Addresses,
    node: Allocatable,
) -> Result<BTreeMap<String, String>, Unprepared> {
    let facts = Facts { pod, container, sources, addresses, node };
    let mut all = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut pairs = Vec::new();
        if let Some(reference) = &source.config_map_ref {
            let map = sources.config_map(&reference.name, reference.optional)?;
            pairs.extend(map.and_then(|map| map.data.clone()).unwrap_or_default());
        }
        if let Some(reference) = &source.secret_ref {
            let secret = sources.secret(&reference.name, reference.optional)?;
            for (key, value) in secret.and_then(|secret| secret.data.as_ref()).into_iter().flatten() {
                pairs.push((key.clone(), utf8(&reference.name, key, &value.0)?));
            }
        }
        let named = pairs.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
        all.extend(named.filter(|(name, _)| is_variable_name(name)));
    }
    // Only variables of `env` itself, and only earlier ones, are seen by `$(…)`.
    let mut earlier = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        if let Some(value) = variable_value(&facts, variable, &earlier)? {
            earlier.insert(variable.name.clone(), value.clone());
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

/// Addresses that a Pod may ask for.
pub(crate) struct Addresses {
    pub(crate) pod: Ipv4Addr,
    pub(crate) host: Ipv4Addr,
}

/// Program and arguments; `None` for a container without a command, which idles.
pub(crate) fn command_line(
    container: &Container,
    environment: &BTreeMap<String, String>,
    image: Option<&ImageConfig>,
    is_idle: bool,
) -> Result<Option<Vec<String>>, Unprepared> {
    let command = container.command.as_deref().unwrap_or_default();
    let arguments = container.args.as_deref().unwrap_or_default();
    let expanded = || arguments.iter().map(|text| expand(text, environment));
    match (command.is_empty(), image) {
        (false, _) => Ok(Some(command.iter().map(|text| expand(text, environment)).chain(expanded()).collect())),
        (true, _) if arguments.is_empty() && is_idle => Ok(None),
        (true, Some(image)) => {
            let mut words = image.entrypoint.clone();
            if arguments.is_empty() {
                words.extend(image.cmd.iter().cloned());
            } else {
                words.extend(expanded());
            }
            Ok((!words.is_empty()).then_some(words))
        }
        (true, None) if arguments.is_empty() => Ok(None),
        (true, None) => Err(Unprepared::Refused(format!(
            "container \"{}\" has args and no command, and the image {} has no entrypoint",
            container.name,
            pod::HOST_IMAGE
        ))),
    }
}

/// What variables are made from.
struct Facts<'a> {
    pod: &'a Pod,
    container: &'a Container,
    sources: &'a Sources,
    addresses: &'a Addresses,
    node: Allocatable,
}

fn variable_value(
    facts: &Facts<'_>,
    variable: &EnvVar,
    earlier: &BTreeMap<String, String>,
) -> Result<Option<String>, Unprepared> {
    match &variable.value_from {
        None => Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), earlier))),
        Some(source) => source_value(facts, source),
    }
}

fn source_value(facts: &Facts<'_>, source: &EnvVarSource) -> Result<Option<String>, Unprepared> {
    let Facts { pod, container, sources, addresses, node } = *facts;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let missing = |key: &str, kind: &str, name: &str, optional: Option<bool>| match optional {
        Some(true) => Ok(None),
        _ => Err(Unprepared::Missing(format!("couldn't find key {key} in {kind} {namespace}/{name}"))),
    };
    if let Some(reference) = &source.config_map_key_ref {
        let map = sources.config_map(&reference.name, reference.optional)?;
        return match map.and_then(|map| map.data.as_ref()?.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(&reference.key, "ConfigMap", &reference.name, reference.optional),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = sources.secret(&reference.name, reference.optional)?;
        return match secret.and_then(|secret| secret.data.as_ref()?.get(&reference.key)) {
            Some(value) => utf8(&reference.name, &reference.key, &value.0).map(Some),
            None => missing(&reference.key, "Secret", &reference.name, reference.optional),
        };
    }
    if let Some(reference) = &source.field_ref {
        return downward::field(pod, reference, Some(addresses)).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return downward::resource(pod, container, reference, node).map(Some);
    }
    Err(Unprepared::Refused("a variable's valueFrom names no source".to_owned()))
}

/// Replaces `$(NAME)` by the variable's value where there is one; `$$` stands for `$`.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference.and_then(|(name, after)| variables.get(name).map(|value| (value, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    expanded
}

impl Sources {
    pub(crate) fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<&ConfigMap>, Unprepared> {
        match (self.config_maps.get(name), optional) {
            (None, Some(true)) => Ok(None),
            (None, _) => Err(Unprepared::Missing(format!("configmap \"{name}\" not found"))),
            (found, _) => Ok(found),
        }
    }

    pub(crate) fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<&Secret>, Unprepared> {
        match (self.secrets.get(name), optional) {
            (None, Some(true)) => Ok(None),
            (None, _) => Err(Unprepared::Missing(format!("secret \"{name}\" not found"))),
            (found, _) => Ok(found),
        }
    }
}

fn utf8(secret: &str, key: &str, bytes: &[u8]) -> Result<String, Unprepared> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_not_text| Unprepared::Refused(format!("key {key} of secret \"{secret}\" is not text")))
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app.kubernetes.io/name": "x"}},
            "spec": {"containers": [container], "nodeName": "here"},
        }))
        .expect("a Pod")
    }

    fn sources() -> Sources {
        let map: ConfigMap = serde_json::from_value(json!({"data": {"COLOUR": "red", "a=b": "no"}})).expect("a map");
        let secret: Secret =
            serde_json::from_value(json!({"data": {"token": "czNjcmV0", "raw": "/w=="}})).expect("a secret");
        Sources { config_maps: [("cm".to_owned(), map)].into(), secrets: [("s".to_owned(), secret)].into() }
    }

    fn resolve(container: serde_json::Value) -> Result<BTreeMap<String, String>, Unprepared> {
        let pod = pod(container);
        let addresses = Addresses { pod: Ipv4Addr::new(10, 201, 0, 9), host: Ipv4Addr::new(10, 201, 0, 1) };
        let node = Allocatable { cpu_milli: 4000, memory_bytes: 8 << 30 };
        environment(&pod, pod::container(&pod).expect("one"), &sources(), &addresses, node)
    }

    #[test]
    fn every_source_is_read() {
        let environment = resolve(json!({
            "name": "c",
            "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}],
            "env": [
                {"name": "LITERAL", "value": "v"},
                {"name": "REFERS", "value": "$(LITERAL)-$(CM_COLOUR)-$$(LITERAL)-$(NOPE)"},
                {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "COLOUR"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
                {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": true}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
            ],
        }))
        .expect("resolved");
        let expected = [
            ("CM_COLOUR", "red"),
            ("IP", "10.201.0.9"),
            ("LABEL", "x"),
            ("LITERAL", "v"),
            ("MAP", "red"),
            ("POD", "p"),
            ("REFERS", "v-$(CM_COLOUR)-$(LITERAL)-$(NOPE)"),
            ("SECRET", "s3cret"),
        ];
        assert_eq!(environment, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (source, expected) in [
            (json!({"configMapKeyRef": {"name": "none", "key": "k"}}), "configmap \"none\" not found"),
            (json!({"secretKeyRef": {"name": "none", "key": "k"}}), "secret \"none\" not found"),
            (json!({"secretKeyRef": {"name": "s", "key": "k"}}), "couldn't find key k in Secret ns/s"),
            (json!({"configMapKeyRef": {"name": "cm", "key": "k"}}), "couldn't find key k in ConfigMap ns/cm"),
        ] {
            let found = resolve(json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]}));
            assert_eq!(found, Err(Unprepared::Missing(expected.to_owned())));
        }
        let found = resolve(
            json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "raw"}}}]}),
        );
        assert_eq!(found, Err(Unprepared::Refused("key raw of secret \"s\" is not text".to_owned())));
        let found = resolve(
            json!({"name": "c", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}),
        );
        assert!(matches!(found, Err(Unprepared::Refused(_))));
    }

    #[test]
    fn command_and_arguments_are_expanded() {
        let environment: BTreeMap<String, String> = [("A".to_owned(), "1".to_owned())].into();
        let line = |container: serde_json::Value| {
            command_line(&serde_json::from_value(container).expect("a container"), &environment, None, false)
        };
        let full = line(json!({"name": "c", "command": ["echo", "$(A)"], "args": ["$(B)", "$"]}));
        assert_eq!(full, Ok(Some(["echo", "1", "$(B)", "$"].map(str::to_owned).to_vec())));
        assert_eq!(line(json!({"name": "c"})), Ok(None));
        assert!(line(json!({"name": "c", "args": ["x"]})).is_err());
    }

    #[test]
    fn references_are_collected_once() {
        let mut pod = pod(json!({
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}],
        }));
        pod.spec.as_mut().expect("a spec").volumes = serde_json::from_value(json!([
            {"name": "v", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "w", "secret": {"secretName": "t"}},
        ]))
        .expect("volumes");
        let found = references(&pod);
        assert_eq!(found.config_maps, ["cm".to_owned()].into());
        assert_eq!(found.secrets, ["s".to_owned(), "t".to_owned()].into());
        assert_eq!(found.claims, ["data".to_owned()].into());
    }
}
