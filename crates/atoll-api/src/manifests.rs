//! Ready-made objects: what a person would write to get a pool of Python sandboxes on one machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::blueprint::PodTemplate;
use crate::claim::{SandboxClaim, SandboxClaimSpec, WarmPoolRef};
use crate::labels;
use crate::pool::{SandboxWarmPool, SandboxWarmPoolSpec, TemplateRef};
use crate::sandbox::{Sandbox, SandboxSpec};
use crate::template::{SandboxTemplate, SandboxTemplateSpec};

/// The image that is the machine's own programs, read-only.
pub const HOST_IMAGE: &str = "atoll.local/host";
/// The name of [`python_template`] and of its container.
pub const PYTHON: &str = "python";
/// The container name of [`host_pod_spec`] where none is better.
pub const MAIN_CONTAINER: &str = "main";

const REQUEST_CPU: &str = "10m";
const REQUEST_MEMORY: &str = "16Mi";
const LIMIT_CPU: &str = "1";
const LIMIT_MEMORY: &str = "512Mi";

/// A Pod of one container on [`HOST_IMAGE`] that runs `command`; an empty one leaves it idle, for commands to come.
#[must_use]
pub fn host_pod_spec(container: &str, command: &[&str]) -> PodSpec {
    let quantities = |cpu: &str, memory: &str| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ])
    };
    PodSpec {
        containers: vec![Container {
            name: container.to_owned(),
            image: Some(HOST_IMAGE.to_owned()),
            command: (!command.is_empty()).then(|| command.iter().map(|word| (*word).to_owned()).collect()),
            resources: Some(ResourceRequirements {
                requests: Some(quantities(REQUEST_CPU, REQUEST_MEMORY)),
                limits: Some(quantities(LIMIT_CPU, LIMIT_MEMORY)),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        }],
        automount_service_account_token: Some(false),
        ..PodSpec::default()
    }
}

/// The template [`PYTHON`]: an idle sandbox with the machine's own interpreter.
#[must_use]
pub fn python_template(namespace: &str) -> SandboxTemplate {
    template(namespace, PYTHON, host_pod_spec(PYTHON, &[]))
}

/// A template around a Pod.
#[must_use]
pub fn template(namespace: &str, name: &str, pod: PodSpec) -> SandboxTemplate {
    SandboxTemplate {
        metadata: metadata(namespace, name),
        spec: SandboxTemplateSpec {
            pod_template: PodTemplate { spec: pod, ..PodTemplate::default() },
            ..SandboxTemplateSpec::default()
        },
    }
}

/// A pool of `replicas` Sandboxes of a template.
#[must_use]
pub fn pool(namespace: &str, name: &str, template: &str, replicas: i32) -> SandboxWarmPool {
    SandboxWarmPool {
        metadata: metadata(namespace, name),
        spec: SandboxWarmPoolSpec {
            replicas,
            sandbox_template_ref: TemplateRef { name: template.to_owned() },
            update_strategy: None,
        },
        status: None,
    }
}

/// A claim on a pool.
#[must_use]
pub fn claim(namespace: &str, name: &str, pool: &str) -> SandboxClaim {
    SandboxClaim {
        metadata: metadata(namespace, name),
        spec: SandboxClaimSpec { warm_pool_ref: WarmPoolRef { name: pool.to_owned() }, ..SandboxClaimSpec::default() },
        status: None,
    }
}

/// A Sandbox of its own, without template, pool or claim.
#[must_use]
pub fn sandbox(namespace: &str, name: &str, pod: PodSpec) -> Sandbox {
    Sandbox {
        metadata: metadata(namespace, name),
        spec: SandboxSpec {
            pod_template: PodTemplate { spec: pod, ..PodTemplate::default() },
            ..SandboxSpec::default()
        },
        status: None,
    }
}

/// Marks an object as made by a client, in the words of [`labels::CREATED_BY`].
pub fn set_created_by(metadata: &mut ObjectMeta, client: &str) {
    metadata.labels.get_or_insert_default().insert(labels::CREATED_BY.to_owned(), client.to_owned());
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_on_the_wire_as_people_write_it() {
        let value = serde_json::to_value(python_template("default")).expect("it serialises");
        assert_eq!(
            value,
            json!({
                "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
                "kind": "SandboxTemplate",
                "metadata": {"name": "python", "namespace": "default"},
                "spec": {"podTemplate": {"spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "python",
                        "image": "atoll.local/host",
                        "resources": {
                            "limits": {"cpu": "1", "memory": "512Mi"},
                            "requests": {"cpu": "10m", "memory": "16Mi"},
                        },
                    }],
                }}},
            })
        );
    }

    #[test]
    fn pool_and_claim_are_on_the_wire_as_people_write_them() {
        let value = serde_json::to_value(pool("ns", "p", "python", 3)).expect("it serialises");
        assert_eq!(value["spec"], json!({"replicas": 3, "sandboxTemplateRef": {"name": "python"}}));
        let value = serde_json::to_value(claim("ns", "c", "p")).expect("it serialises");
        assert_eq!(value["spec"], json!({"warmPoolRef": {"name": "p"}}));
        assert_eq!(value["kind"], "SandboxClaim");
    }

    #[test]
    fn objects_without_optional_parts_are_read() {
        let sandbox: Sandbox = serde_json::from_value(json!({
            "metadata": {"name": "s"},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "c"}]}}, "unknown": 1},
        }))
        .expect("it is a Sandbox");
        assert!(!sandbox.spec.is_suspended());
        assert_eq!(sandbox.status, None);
        let pool: SandboxWarmPool =
            serde_json::from_value(json!({"metadata": {}, "spec": {"sandboxTemplateRef": {"name": "t"}}}))
                .expect("it is a pool");
        assert_eq!(pool.spec.replicas, 1);
    }
}
