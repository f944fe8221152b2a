//! From a Pod to the sandbox that runs it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_sandbox::spec::{DEFAULT_BASE_DIR, DEFAULT_USER_ID};
use atoll_sandbox::{Image, NetworkSpec, Resources, SandboxSpec, Tier, User, Workload};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

use crate::downward::Allocatable;
use crate::environment::{self, Addresses, Sources, Unprepared};
use crate::images::{self as image, ContainerImage, PodImages};
use crate::volumes::{Directories, VolumeFacts, mounts};
use crate::{init, pod, quantity, tier, unsupported};

/// Numeric identities that exist inside a sandbox.
const IDENTITIES: i64 = 65_536;
const HOSTNAME_BYTES_MAX: usize = 63;
/// Names the directory where commands start, as the published runtimes do.
const BASE_DIR_VARIABLE: &str = "SANDBOX_BASE_DIR";

/// Facts about the node and the namespace that a sandbox depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) host_address: Ipv4Addr,
    pub(crate) allocatable: Allocatable,
    /// Annotations of the Pod's namespace.
    pub(crate) namespace: Option<&'a BTreeMap<String, String>>,
}

/// Everything that can be refused without looking any further than the Pod itself.
pub(crate) fn check(pod: &Pod) -> Result<(), Unprepared> {
    if let Some(found) = unsupported::first_unsupported(pod::spec(pod)) {
        return Err(Unprepared::Refused(found));
    }
    tier(pod, None)?;
    only_container(pod)?;
    for container in pod::spec(pod).containers.iter().chain(init::containers(pod)) {
        user(pod::spec(pod).security_context.as_ref(), container.security_context.as_ref(), None)?;
        resources(container)?;
    }
    Ok(())
}

/// The sandbox for a container of a Pod.
pub(crate) fn sandbox_spec(
    pod: &Pod,
    (container, images): (&Container, &PodImages),
    id: String,
    address: Ipv4Addr,
    sources: &Sources,
    directories: &Directories,
    machine: &Machine<'_>,
) -> Result<SandboxSpec, Unprepared> {
    check(pod)?;
    let addresses = Addresses { pod: address, host: machine.host_address };
    let kept = match images.image(container) {
        ContainerImage::Host => None,
        ContainerImage::Kept(image) => Some(image.as_ref()),
    };
    let mut env = environment::environment(pod, container, sources, &addresses, machine.allocatable)?;
    let argv = environment::command_line(container, &env, kept.map(|image| &image.config), image::is_idle(pod))?;
    for (name, value) in kept.map(|image| image.config.environment()).unwrap_or_default() {
        env.entry(name).or_insert(value);
    }
    let own_user = kept.and_then(|image| image.user);
    let user = user(pod::spec(pod).security_context.as_ref(), container.security_context.as_ref(), own_user)?;
    let cwd = container.working_dir.as_ref().or(kept.map(|image| &image.config.working_dir));
    let cwd = cwd.filter(|directory| !directory.is_empty()).cloned();
    let workload = argv.map(|argv| Workload { argv, env: env.clone(), cwd, user: user.clone() });
    let resources = resources(container)?;
    let memory_bytes = resources.memory_bytes.unwrap_or(machine.allocatable.memory_bytes / 2);
    let facts =
        VolumeFacts { pod, container, images, sources, directories, memory_bytes, allocatable: machine.allocatable };
    let mounts = mounts(&facts)?;
    let base_dir = env.get(BASE_DIR_VARIABLE).filter(|path| path.starts_with('/'));
    Ok(SandboxSpec {
        id,
        tier: tier(pod, machine.namespace)?,
        hostname: hostname(pod),
        image: kept.map_or(Image::Host, |image| Image::Kept { id: image.id.clone() }),
        workload,
        exec_user: user,
        base_dir: base_dir.cloned().unwrap_or_else(|| DEFAULT_BASE_DIR.to_owned()),
        env,
        mounts,
        resources,
        read_only_root: container
            .security_context
            .as_ref()
            .and_then(|context| context.read_only_root_filesystem)
            .unwrap_or(true),
        network: NetworkSpec { address },
        termination_grace_ms: pod::grace_ms(pod),
    })
}

fn only_container(pod: &Pod) -> Result<&Container, Unprepared> {
    pod::container(pod).ok_or_else(|| Unprepared::Refused("the Pod has no container".to_owned()))
}

/// With nothing known of the namespace, which can only ask for more.
fn tier(pod: &Pod, namespace: Option<&BTreeMap<String, String>>) -> Result<Tier, Unprepared> {
    let class = pod::spec(pod).runtime_class_name.as_deref();
    tier::choose(class, pod.metadata.annotations.as_ref(), namespace)
}

fn hostname(pod: &Pod) -> String {
    let name = pod::spec(pod).hostname.as_deref().filter(|name| !name.is_empty());
    let name = name.or(pod.metadata.name.as_deref()).unwrap_or("sandbox");
    let cut: String = name.chars().take(HOSTNAME_BYTES_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Who the container runs as. What the container says wins over what the Pod says, and that over the image. An image
/// for root runs as the user that every sandbox has.
fn user(
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
    image: Option<(u32, u32)>,
) -> Result<User, Unprepared> {
    let uid = container.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user));
    let gid = container.and_then(|c| c.run_as_group).or(pod.and_then(|p| p.run_as_group));
    // A group of the image belongs to its user.
    let gid = gid.or(image.filter(|_| uid.is_none()).map(|(_, gid)| i64::from(gid)));
    let uid = uid.or(image.map(|(uid, _)| i64::from(uid))).unwrap_or(i64::from(DEFAULT_USER_ID));
    if uid == 0 {
        return Err(Unprepared::Refused(
            "securityContext.runAsUser 0 is not supported: user 0 of a sandbox is its guest".to_owned(),
        ));
    }
    let groups = pod.map(|p| p.supplemental_groups.iter().flatten().chain(&p.fs_group).copied().collect());
    let groups: BTreeSet<i64> = groups.unwrap_or_default();
    Ok(User {
        uid: identity("runAsUser", uid)?,
        gid: identity("runAsGroup", gid.unwrap_or(i64::from(DEFAULT_USER_ID)))?,
        groups: groups.into_iter().map(|group| identity("supplementalGroups", group)).collect::<Result<_, _>>()?,
    })
}

fn identity(field: &str, number: i64) -> Result<u32, Unprepared> {
    let refused = || {
        Unprepared::Refused(format!("securityContext.{field} {number} is not supported: it must be below {IDENTITIES}"))
    };
    u32::try_from(number).ok().filter(|_| number < IDENTITIES).ok_or_else(refused)
}

fn resources(container: &Container) -> Result<Resources, Unprepared> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limit =
        |name: &str, read: fn(&k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<u64>| match limits
            .and_then(|limits| limits.get(name))
        {
            None => Ok(None),
            Some(quantity) => match read(quantity) {
                Some(value) if value > 0 => Ok(Some(value)),
                _ => Err(Unprepared::Refused(format!("the {name} limit {} is not supported", quantity.0))),
            },
        };
    Ok(Resources {
        memory_bytes: limit("memory", quantity::units)?,
        cpu_millis: limit("cpu", quantity::milli)?,
        pids_max: None,
        nofile: None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use atoll_sandbox::MountKind;
    use atoll_sandbox::spec::FileBytes;

    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::{Value, json};

    fn translate(spec: Value) -> Result<SandboxSpec, Unprepared> {
        translate_on(&ContainerImage::Host, spec)
    }

    fn translate_on(image: &ContainerImage, spec: Value) -> Result<SandboxSpec, Unprepared> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "my-pod", "namespace": "ns", "uid": "0f0e"}, "spec": spec,
        }))
        .expect("a Pod");
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a.txt": "A"}, "binaryData": {"b": "AAE="}})).expect("a map");
        let secret: Secret = serde_json::from_value(json!({"data": {"token": "czNjcmV0"}})).expect("a secret");
        let sources =
            Sources { config_maps: [("cm".to_owned(), map)].into(), secrets: [("s".to_owned(), secret)].into() };
        let directories = Directories {
            empty: [("scratch".to_owned(), PathBuf::from("/v/scratch"))].into(),
            claims: [("data".to_owned(), PathBuf::from("/v/data"))].into(),
        };
        let machine = Machine {
            host_address: Ipv4Addr::new(10, 201, 0, 1),
            allocatable: Allocatable { cpu_milli: 4000, memory_bytes: 8 << 30 },
            namespace: None,
        };
        let container = only_container(&pod)?;
        let id = pod.metadata.uid.clone().expect("a UID");
        sandbox_spec(
            &pod,
            (container, &PodImages::all(&pod, image)),
            id,
            Ipv4Addr::new(10, 201, 0, 9),
            &sources,
            &directories,
            &machine,
        )
    }

    fn container(fields: Value) -> Value {
        let mut container = json!({"name": "main", "image": "atoll.local/host"});
        container.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        json!({"containers": [container]})
    }

    #[test]
    fn a_pod_without_a_command_idles() {
        let spec = translate(container(json!({}))).expect("translated");
        assert_eq!((spec.id.as_str(), spec.hostname.as_str()), ("0f0e", "my-pod"));
        assert_eq!(spec.workload, None);
        assert_eq!(spec.base_dir, "/workspace");
        assert!(spec.read_only_root);
        assert_eq!(spec.exec_user, User { uid: 1000, gid: 1000, groups: vec![] });
        assert_eq!(spec.termination_grace_ms, 30_000);
    }

    #[test]
    fn command_user_limits_and_root_are_taken_over() {
        let mut pod = container(json!({
            "command": ["python3"], "args": ["-m", "http.server"], "workingDir": "/tmp",
            "env": [{"name": "SANDBOX_BASE_DIR", "value": "/app"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "250m"}},
            "securityContext": {"runAsUser": 2000, "readOnlyRootFilesystem": false},
        }));
        pod["securityContext"] = json!({"runAsUser": 1, "runAsGroup": 3000, "supplementalGroups": [5], "fsGroup": 4});
        pod["terminationGracePeriodSeconds"] = json!(2);
        let spec = translate(pod).expect("translated");
        let workload = spec.workload.expect("a workload");
        assert_eq!(workload.argv, ["python3", "-m", "http.server"]);
        assert_eq!(workload.cwd.as_deref(), Some("/tmp"));
        assert_eq!(workload.user, User { uid: 2000, gid: 3000, groups: vec![4, 5] });
        assert_eq!(spec.base_dir, "/app");
        assert_eq!(spec.resources.memory_bytes, Some(64 << 20));
        assert_eq!(spec.resources.cpu_millis, Some(250));
        assert!(!spec.read_only_root);
        assert_eq!(spec.termination_grace_ms, 2000);
    }

    #[test]
    fn an_image_says_what_the_container_does_not() {
        let config = json!({
            "Env": ["PATH=/app/bin", "MODE=image"], "Entrypoint": ["app"], "Cmd": ["serve"], "WorkingDir": "/srv",
        });
        let image = |user: Value| {
            let image = json!({
                "id": "abcd", "digest": "sha256:abcd", "names": [], "config": config, "user": user, "bytes": 1,
                "imported_at_ms": 1,
            });
            ContainerImage::Kept(Box::new(serde_json::from_value(image).expect("an image")))
        };
        let on = |user: Value, fields: Value| translate_on(&image(user), container(fields)).expect("translated");
        let spec = on(json!([77, 88]), json!({"env": [{"name": "MODE", "value": "mine"}]}));
        assert_eq!(spec.image, Image::Kept { id: "abcd".to_owned() });
        let workload = spec.workload.expect("a workload");
        assert_eq!(
            (workload.argv.as_slice(), workload.cwd.as_deref()),
            (&["app", "serve"].map(str::to_owned)[..], Some("/srv"))
        );
        assert_eq!(
            workload.env,
            [("MODE", "mine"), ("PATH", "/app/bin")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
        );
        assert_eq!(spec.exec_user, User { uid: 77, gid: 88, groups: vec![] });

        let argv = |fields: Value| on(json!(null), fields).workload.map(|workload| workload.argv.join(" "));
        assert_eq!(argv(json!({"args": ["x"]})).as_deref(), Some("app x"));
        assert_eq!(argv(json!({"command": ["y"]})).as_deref(), Some("y"));
        assert_eq!(argv(json!({"command": ["y"], "args": ["z"]})).as_deref(), Some("y z"));
        assert_eq!(on(json!(null), json!({})).exec_user.uid, 1000);
        let own = on(json!([77, 88]), json!({"securityContext": {"runAsUser": 5}}));
        assert_eq!((own.exec_user.uid, own.exec_user.gid), (5, 1000));
    }

    #[test]
    fn volumes_become_mounts() {
        let mut pod = container(json!({"volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch/"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "data", "mountPath": "/data", "readOnly": true},
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
        ]}));
        pod["volumes"] = json!([
            {"name": "scratch", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "config", "configMap": {"name": "cm"}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 256, "items": [{"key": "token", "path": "deep/token"}]}},
        ]);
        let mut with_group = pod.clone();
        with_group["securityContext"] = json!({"fsGroup": 7});
        let modes: Vec<u32> = translate(with_group)
            .expect("translated")
            .mounts
            .iter()
            .filter_map(|mount| match mount.kind {
                MountKind::Files { mode, .. } => Some(mode),
                _ => None,
            })
            .collect();
        assert_eq!(modes, [0o644, 0o444]);
        let mounts = translate(pod).expect("translated").mounts;
        let directory = |path: &str| MountKind::Directory { host_path: PathBuf::from(path) };
        assert_eq!((mounts[0].target.as_str(), &mounts[0].kind), ("/scratch", &directory("/v/scratch")));
        assert_eq!(mounts[1].kind, MountKind::Tmpfs { size_bytes: 1 << 20 });
        assert_eq!((&mounts[2].kind, mounts[2].read_only), (&directory("/v/data"), true));
        let files = [("a.txt".to_owned(), FileBytes(b"A".to_vec())), ("b".to_owned(), FileBytes(vec![0, 1]))];
        assert_eq!(mounts[3].kind, MountKind::Files { files: files.into(), mode: 0o644 });
        let files = [("deep/token".to_owned(), FileBytes(b"s3cret".to_vec()))];
        assert_eq!(mounts[4].kind, MountKind::Files { files: files.into(), mode: 0o400 });
        assert_eq!(mounts.iter().map(|mount| mount.read_only).collect::<Vec<_>>(), [false, false, true, true, true]);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let security = |context: Value| container(json!({"securityContext": context}));
        let cases = [
            (security(json!({"runAsUser": 0})), "runAsUser 0 is not supported"),
            (security(json!({"runAsUser": 70000})), "below 65536"),
            (security(json!({"runAsUser": -1})), "below 65536"),
            (security(json!({"privileged": true})), "privileged is not supported"),
            (container(json!({"resources": {"limits": {"memory": "0"}}})), "the memory limit 0 is not supported"),
            (container(json!({"args": ["x"]})), "no entrypoint"),
            (container(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]})), "\"x\" is not defined"),
        ];
        for (spec, expected) in cases {
            match translate(spec.clone()) {
                Err(Unprepared::Refused(message)) => assert!(message.contains(expected), "{message}"),
                other => panic!("{spec}: {other:?}"),
            }
        }
        let mut kata = container(json!({}));
        kata["runtimeClassName"] = json!("kata");
        assert!(matches!(translate(kata), Err(Unprepared::Refused(message)) if message.contains("\"kata\"")));
        let mut escape = container(json!({"volumeMounts": [{"name": "c", "mountPath": "/c"}]}));
        escape["volumes"] =
            json!([{"name": "c", "configMap": {"name": "cm", "items": [{"key": "b", "path": "../b"}]}}]);
        assert!(matches!(translate(escape), Err(Unprepared::Refused(message)) if message.contains("\"../b\"")));
        let mut absent = container(json!({"volumeMounts": [{"name": "c", "mountPath": "/c"}]}));
        absent["volumes"] = json!([{"name": "c", "configMap": {"name": "none"}}]);
        assert_eq!(translate(absent), Err(Unprepared::Missing("configmap \"none\" not found".to_owned())));
    }
}
