//! `atoll sandbox`: list, create, use, copy, read logs, remove.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use atoll_api::{Sandbox, SandboxState, annotations, manifests};
use atoll_client::sandbox::SandboxConnection;
use atoll_node::IDLE_ANNOTATION;
use futures::{AsyncReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams, WatchEvent, WatchParams};

use super::session::{self, SessionOptions, parse_env};
use crate::args::{GlobalArgs, SandboxCommand, TierArg};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

/// How long the API server may take to accept a sandbox.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a sandbox may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the Pod is asked why it takes so long.
const DIAGNOSE_INTERVAL: Duration = Duration::from_millis(500);
const LOG_READ_BYTES: usize = 64 * 1024;
const COPY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Entries of one copied folder.
const COPY_FILES_MAX: usize = 20_000;
/// Reasons of waiting containers that time does not heal.
const HOPELESS: &[&str] = &[
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
    "CrashLoopBackOff",
];

pub(crate) async fn sandbox(global: &GlobalArgs, command: SandboxCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        SandboxCommand::Ls { all_namespaces, namespace } => {
            let client = plane.kube().await?;
            let namespace = (!all_namespaces).then_some(namespace.as_str());
            list(&in_namespace(&client, namespace), &in_namespace(&client, namespace), printer).await
        }
        SandboxCommand::Create { name, namespace, image, tier } => {
            let client = plane.kube().await?;
            let api: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);
            let mut object = manifests::sandbox(&namespace, &name, pod_spec(&image, tier));
            let_idle(&mut object);
            let created = create_sandbox(&api, &object, &PostParams::default()).await?;
            wait_until_ready(&client, &created).await?;
            printer.data(format!("{name} is ready"));
            Ok(ExitCode::SUCCESS)
        }
        SandboxCommand::Exec { name, namespace, interactive, tty, env, workdir, command } => {
            let options = SessionOptions { interactive, tty, env: parse_env(&env)?, workdir };
            session::run(&plane.sandbox(&namespace, &name), command, &options, printer).await
        }
        SandboxCommand::Cp { source, target, namespace } => copy(&plane, &source, &target, &namespace).await,
        SandboxCommand::Logs { name, follow, tail, previous, timestamps, namespace } => {
            let params = LogParams { follow, tail_lines: tail, previous, timestamps, ..LogParams::default() };
            logs(&plane, &namespace, &name, &params, printer).await
        }
        SandboxCommand::Rm { names, namespace } => {
            let api: Api<Sandbox> = Api::namespaced(plane.kube().await?, &namespace);
            for name in names {
                api.delete(&name, &DeleteParams::background()).await.map_err(|error| api_failure(&name, &error))?;
                super::run::volume::forget(plane.state.root(), &namespace, &name);
                printer.data(format!("{name} removed"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// An idle Pod on an image, in a tier.
pub(crate) fn pod_spec(image: &str, tier: Option<TierArg>) -> PodSpec {
    let mut spec = manifests::host_pod_spec(manifests::MAIN_CONTAINER, &[]);
    spec.containers[0].image = Some(image.to_owned());
    spec.runtime_class_name = tier.map(|tier| tier.runtime_class().to_owned());
    spec
}

/// Commands are run in it, whatever its image would run.
pub(crate) fn let_idle(sandbox: &mut Sandbox) {
    sandbox.spec.pod_template.metadata.annotations.insert(IDLE_ANNOTATION.to_owned(), "true".to_owned());
}

pub(crate) async fn create_sandbox(
    api: &Api<Sandbox>,
    object: &Sandbox,
    params: &PostParams,
) -> Result<Sandbox, Failure> {
    let name = object.metadata.name.clone().unwrap_or_default();
    // The client repeats what an overloaded server refused; a person should not wait for ever.
    match tokio::time::timeout(CREATE_TIMEOUT, api.create(params, object)).await {
        Ok(created) => created.map_err(|error| api_failure(&name, &error)),
        Err(_elapsed) => Err(Failure::new(
            Exit::Unreachable,
            format!("the Kubernetes API did not take sandbox {name:?} within {} s", CREATE_TIMEOUT.as_secs()),
        )
        .hint("`atoll status` tells whether the plane is well")),
    }
}

/// What the API server said about a request for one Sandbox.
pub(crate) fn api_failure(name: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            Failure::new(Exit::NotFound, format!("there is no sandbox {name:?}"))
                .hint("`atoll sandbox ls -A` lists them all")
        }
        kube::Error::Api(status) => {
            let exit = if status.code == 403 { Exit::Refused } else { Exit::Failure };
            Failure::new(exit, status.message.clone())
        }
        other => Failure::because(Exit::Unreachable, "the Kubernetes API does not answer", other),
    }
}

/// Waits for Ready, and says why when it does not come.
pub(crate) async fn wait_until_ready(client: &kube::Client, created: &Sandbox) -> Result<Sandbox, Failure> {
    let namespace = created.metadata.namespace.clone().unwrap_or_default();
    let name = created.metadata.name.clone().unwrap_or_default();
    let api: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let watched = watch_until_ready(&api, created, &name);
    let diagnosed = async {
        loop {
            tokio::time::sleep(DIAGNOSE_INTERVAL).await;
            if let Ok(Some(pod)) = pods.get_opt(&name).await
                && let Some(reason) = hopeless(&pod)
            {
                return reason;
            }
        }
    };
    tokio::select! {
        ready = watched => ready,
        reason = diagnosed => Err(Failure::new(Exit::Machine, format!("sandbox {name} cannot start: {reason}"))),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            let pod = pods.get_opt(&name).await.ok().flatten();
            Err(Failure::new(Exit::Failure, format!("sandbox {name} is not ready: {}", pending_reason(pod.as_ref())))
                .hint("`kubectl describe` of its Pod tells more; `atoll doctor` tells what the machine lacks"))
        }
    }
}

async fn watch_until_ready(api: &Api<Sandbox>, created: &Sandbox, name: &str) -> Result<Sandbox, Failure> {
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let version = created.metadata.resource_version.clone().unwrap_or_default();
    let watch = api.watch(&params, &version).await.map_err(|error| api_failure(name, &error))?;
    tokio::pin!(watch);
    while let Some(event) = watch.try_next().await.map_err(|error| api_failure(name, &error))? {
        match event {
            WatchEvent::Added(sandbox) | WatchEvent::Modified(sandbox) => {
                if is_ready(&sandbox) {
                    return Ok(sandbox);
                }
            }
            WatchEvent::Deleted(_) => {
                return Err(Failure::new(Exit::NotFound, format!("sandbox {name} was deleted meanwhile")));
            }
            WatchEvent::Error(status) => return Err(Failure::new(Exit::Failure, status.message.clone())),
            WatchEvent::Bookmark(_) => {}
        }
    }
    Err(Failure::new(Exit::Unreachable, "the watch ended early"))
}

pub(crate) fn is_ready(sandbox: &Sandbox) -> bool {
    ready_condition(sandbox).is_some_and(|condition| condition.status == "True")
}

fn ready_condition(sandbox: &Sandbox) -> Option<&Condition> {
    sandbox.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == "Ready")
}

fn hopeless(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        HOPELESS.contains(&reason).then(|| waiting.message.clone().unwrap_or_else(|| reason.to_owned()))
    });
    waiting.or_else(|| {
        let failed = status.phase.as_deref() == Some("Failed");
        failed.then(|| status.message.clone().or_else(|| status.reason.clone()).unwrap_or_else(|| "it failed".into()))
    })
}

fn pending_reason(pod: Option<&Pod>) -> String {
    let Some(status) = pod.and_then(|pod| pod.status.as_ref()) else {
        return "it has no Pod yet".to_owned();
    };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    unscheduled
        .and_then(|condition| condition.message.clone())
        .unwrap_or_else(|| format!("its Pod is {}", status.phase.as_deref().unwrap_or("unknown")))
}

/// Objects of one namespace, or of all.
fn in_namespace<K>(client: &kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn list(sandboxes: &Api<Sandbox>, pods: &Api<Pod>, printer: &Printer) -> Outcome {
    let all = ListParams::default();
    let failed = |error| Failure::because(Exit::Unreachable, "the Kubernetes API does not answer", &error);
    let sandboxes = sandboxes.list(&all).await.map_err(failed)?;
    if printer.is_json() {
        printer.json(&sandboxes.items);
        return Ok(ExitCode::SUCCESS);
    }
    let pods = pods.list(&all).await.map_err(failed)?;
    let rows: Vec<Vec<String>> =
        sandboxes.items.iter().map(|sandbox| row(sandbox, tier_in_force(sandbox, &pods.items))).collect();
    printer.table(&["NAMESPACE", "NAME", "STATE", "READY", "REASON", "TIER", "ADDRESS"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// What the node measured of the sandbox's Pod, not what was asked for; `None` where nothing runs.
fn tier_in_force<'p>(sandbox: &Sandbox, pods: &'p [Pod]) -> Option<&'p str> {
    let named = sandbox.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotations::POD_NAME));
    let name = named.or(sandbox.metadata.name.as_ref());
    let is_its_own =
        |pod: &&Pod| pod.metadata.name.as_ref() == name && pod.metadata.namespace == sandbox.metadata.namespace;
    let conditions = pods.iter().find(is_its_own)?.status.as_ref()?.conditions.as_ref()?;
    let isolation = conditions.iter().find(|condition| condition.type_ == atoll_node::status::ISOLATION_CONDITION)?;
    isolation.reason.as_deref()
}

fn row(sandbox: &Sandbox, tier: Option<&str>) -> Vec<String> {
    let ready = ready_condition(sandbox);
    let address = sandbox.status.as_ref().and_then(|status| status.pod_ips.first()).cloned();
    vec![
        sandbox.metadata.namespace.clone().unwrap_or_default(),
        sandbox.metadata.name.clone().unwrap_or_default(),
        SandboxState::of(sandbox).to_string(),
        ready.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone()),
        ready.map_or_else(String::new, |condition| condition.reason.clone()),
        tier.unwrap_or("-").to_owned(),
        address.unwrap_or_else(|| "-".to_owned()),
    ]
}

async fn logs(plane: &Plane, namespace: &str, name: &str, params: &LogParams, printer: &Printer) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(plane.kube().await?, namespace);
    let mut log = pods.log_stream(name, params).await.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 404 => {
            Failure::new(Exit::NotFound, format!("sandbox {name} has no Pod"))
                .hint("a suspended sandbox has none; `atoll sandbox ls` lists sandboxes")
        }
        _ => api_failure(name, &error),
    })?;
    let mut bytes = vec![0; LOG_READ_BYTES];
    loop {
        let broken = |error| Failure::because(Exit::Unreachable, "the log broke off", &error);
        match log.read(&mut bytes).await.map_err(broken)? {
            0 => return Ok(ExitCode::SUCCESS),
            count => printer.raw(&bytes[..count]),
        }
    }
}

async fn copy(plane: &Plane, source: &str, target: &str, namespace: &str) -> Outcome {
    match (remote(source), remote(target)) {
        (None, Some((name, path))) => {
            copy_in(&plane.sandbox(namespace, name), Path::new(source), path).await?;
        }
        (Some((name, path)), None) => {
            copy_out(&plane.sandbox(namespace, name), path, Path::new(target)).await?;
        }
        _ => {
            return Err(Failure::new(Exit::Usage, "one side of a copy is SANDBOX:PATH, the other is a path here")
                .hint("for example `atoll sandbox cp notes.txt box:/workspace/notes.txt`"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `SANDBOX:PATH`; a path of this machine that holds a colon is written with `./` before it.
fn remote(side: &str) -> Option<(&str, &str)> {
    let (name, path) = side.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_name.then_some((name, path))
}

/// Copies a file or a folder of this machine into a sandbox.
async fn copy_in(sandbox: &SandboxConnection, source: &Path, target: &str) -> Result<(), Failure> {
    let mut pending = vec![(source.to_owned(), target.to_owned())];
    let mut count = 0;
    while let Some((from, to)) = pending.pop() {
        count += 1;
        if count > COPY_FILES_MAX {
            return Err(Failure::new(Exit::Usage, format!("{} holds too many files to copy", source.display())));
        }
        let metadata = std::fs::metadata(&from).map_err(|error| local_failure("read", &from, &error))?;
        if metadata.is_dir() {
            sandbox.make_dir(to.as_str()).await.map_err(|error| remote_failure(&to, &error))?;
            let entries = std::fs::read_dir(&from).map_err(|error| local_failure("read", &from, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| local_failure("read", &from, &error))?;
                pending.push((entry.path(), format!("{to}/{}", entry.file_name().to_string_lossy())));
            }
        } else {
            let content = std::fs::read(&from).map_err(|error| local_failure("read", &from, &error))?;
            sandbox.write_file(to.as_str(), &content).await.map_err(|error| remote_failure(&to, &error))?;
        }
    }
    Ok(())
}

async fn copy_out(sandbox: &SandboxConnection, source: &str, target: &Path) -> Result<(), Failure> {
    let content = sandbox.read_file(source, COPY_BYTES_MAX).await.map_err(|error| remote_failure(source, &error))?;
    let target = if target.is_dir() {
        let name = source.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file");
        target.join(name)
    } else {
        PathBuf::from(target)
    };
    std::fs::write(&target, content).map_err(|error| local_failure("write", &target, &error))
}

fn local_failure(attempted: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::Failure, format!("cannot {attempted} {}", path.display()), error)
}

fn remote_failure(path: &str, error: &atoll_client::sandbox::SandboxError) -> Failure {
    Failure::because(Exit::Failure, format!("{path} in the sandbox"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_a_copy_is_remote_when_it_names_a_sandbox() {
        for (side, expected) in [
            ("box:/etc/hosts", Some(("box", "/etc/hosts"))),
            ("box:notes", Some(("box", "notes"))),
            ("./a:b", None),
            ("/tmp/a:b", None),
            ("plain", None),
        ] {
            assert_eq!(remote(side), expected, "{side}");
        }
    }
}
