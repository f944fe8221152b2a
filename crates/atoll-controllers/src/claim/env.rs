//! Environment variables that a claim asks for.

use atoll_api::claim::ClaimEnvVar;
use atoll_api::template::InjectionPolicy;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};

use crate::claim::refusal::Refusal;

/// Puts the variables into the containers, if the template allows it.
pub(crate) fn inject(pod: &mut PodSpec, wanted: &[ClaimEnvVar], policy: InjectionPolicy) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Ok(());
    }
    if policy == InjectionPolicy::Disallowed {
        return Err(Refusal::Env("environment variable injection is not allowed by the template policy".to_owned()));
    }
    let default_container = pod.containers.first().map(|container| container.name.clone()).unwrap_or_default();
    for variable in wanted {
        let named = variable.container_name.as_deref().filter(|name| !name.is_empty());
        let target = named.unwrap_or(&default_container);
        let container = pod
            .init_containers
            .iter_mut()
            .flatten()
            .chain(pod.containers.iter_mut())
            .find(|container| container.name == target)
            .ok_or_else(|| {
                Refusal::Env(format!(
                    "target container {target:?} not found in template for environment variable {:?}",
                    variable.name
                ))
            })?;
        set(container, variable, policy)?;
    }
    Ok(())
}

fn set(container: &mut Container, variable: &ClaimEnvVar, policy: InjectionPolicy) -> Result<(), Refusal> {
    let overrides = policy == InjectionPolicy::Overrides;
    if !overrides && container.env_from.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Err(Refusal::Env(format!(
            "container {:?} uses EnvFrom sources; Allowed policy cannot safely prevent overriding EnvFrom-provided \
             variables",
            container.name
        )));
    }
    let entry = EnvVar { name: variable.name.clone(), value: Some(variable.value.clone()), ..EnvVar::default() };
    let present = container.env.get_or_insert_default();
    match present.iter_mut().find(|present| present.name == variable.name) {
        Some(present) if overrides => *present = entry,
        Some(_) => {
            return Err(Refusal::Env(format!(
                "environment variable override is not allowed by the template policy for variable {:?}",
                variable.name
            )));
        }
        None => present.push(entry),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EnvFromSource, EnvVarSource};

    use super::*;

    fn pod() -> PodSpec {
        let container = |name: &str| Container { name: name.to_owned(), ..Container::default() };
        let main = Container {
            env: Some(vec![EnvVar {
                name: "SET".to_owned(),
                value_from: Some(EnvVarSource::default()),
                ..EnvVar::default()
            }]),
            ..container("main")
        };
        let sourced = Container { env_from: Some(vec![EnvFromSource::default()]), ..container("sourced") };
        PodSpec {
            init_containers: Some(vec![container("init")]),
            containers: vec![main, sourced],
            ..PodSpec::default()
        }
    }

    fn variable(name: &str, container: Option<&str>) -> ClaimEnvVar {
        ClaimEnvVar { name: name.to_owned(), value: "new".to_owned(), container_name: container.map(str::to_owned) }
    }

    #[test]
    fn the_policy_decides() {
        use InjectionPolicy::{Allowed, Disallowed, Overrides};
        for (policy, name, container, refused) in [
            (Disallowed, "NEW", None, Some("injection is not allowed")),
            (Allowed, "NEW", None, None),
            (Allowed, "NEW", Some(""), None),
            (Allowed, "NEW", Some("init"), None),
            (Allowed, "SET", None, Some("override is not allowed by the template policy for variable \"SET\"")),
            (Allowed, "NEW", Some("sourced"), Some("uses EnvFrom sources")),
            (
                Allowed,
                "NEW",
                Some("nowhere"),
                Some("\"nowhere\" not found in template for environment variable \"NEW\""),
            ),
            (Overrides, "SET", None, None),
            (Overrides, "NEW", Some("sourced"), None),
            (Overrides, "NEW", Some("nowhere"), Some("not found")),
        ] {
            let outcome = inject(&mut pod(), &[variable(name, container)], policy);
            match (refused, outcome) {
                (None, outcome) => assert_eq!(outcome, Ok(()), "{policy:?} {name} {container:?}"),
                (Some(words), Err(refusal)) => assert!(refusal.to_string().contains(words), "{refusal}"),
                (Some(words), Ok(())) => panic!("{policy:?} {name} {container:?} is not refused with {words:?}"),
            }
        }
    }

    #[test]
    fn an_override_replaces_the_whole_entry() {
        let mut pod = pod();
        inject(&mut pod, &[variable("SET", None), variable("NEW", None)], InjectionPolicy::Overrides).expect("allowed");
        let env = pod.containers[0].env.clone().unwrap_or_default();
        let found: Vec<_> = env.iter().map(|v| (v.name.as_str(), v.value.as_deref(), v.value_from.is_some())).collect();
        assert_eq!(found, [("SET", Some("new"), false), ("NEW", Some("new"), false)]);
    }

    #[test]
    fn nothing_asked_is_always_allowed() {
        assert_eq!(inject(&mut pod(), &[], InjectionPolicy::Disallowed), Ok(()));
    }
}
