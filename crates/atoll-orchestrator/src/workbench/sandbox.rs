//! The real workbench: one Sandbox object per agent, reached through the router.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_api::{Sandbox, conditions, manifests};
use atoll_client::sandbox::{
    ErrorCode, ExecEvent, ExecRequest, ExecState, RouterEndpoint, SandboxConnection, SandboxError, SandboxPath,
    SandboxRef,
};
use atoll_engine::SandboxIdentity;
use atoll_stdx::{Hint, chain};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};

use crate::workspace::ROOT;

use super::{Bench, BenchCommand, BenchError, BenchExit, BenchOrder, KeyState, OutputFn, OutputStream, Workbench};

/// The run that a Sandbox was made for.
pub const RUN_LABEL: &str = "atoll.dev/run";
/// The agent within the run.
pub const AGENT_LABEL: &str = "atoll.dev/agent";

const CONTAINER: &str = "agent";
const WORKSPACE_VOLUME: &str = "workspace";
/// From the Sandbox object to the first answer of its guest.
const READY_TIMEOUT_MS: u64 = 60_000;
const HELLO_PAUSE_MS: u64 = 50;
/// How long deleted Sandboxes are waited for; they go in any case.
const RELEASE_TIMEOUT_MS: u64 = 30_000;
const RELEASE_PAUSE_MS: u64 = 100;
const NAME_CHARS_MAX: usize = 63;
/// Sandboxes of one run that are listed at once.
const LIST_MAX: u32 = 500;

/// What a [`SandboxWorkbench`] needs.
pub struct SandboxWorkbenchConfig {
    pub client: Client,
    pub router: RouterEndpoint,
    /// Where the Sandbox objects live.
    pub namespace: String,
}

/// Makes a Sandbox per agent and deletes them when the run ends.
pub struct SandboxWorkbench {
    config: SandboxWorkbenchConfig,
}

impl SandboxWorkbench {
    #[must_use]
    pub fn new(config: SandboxWorkbenchConfig) -> Self {
        Self { config }
    }

    fn api(&self) -> Api<Sandbox> {
        Api::namespaced(self.config.client.clone(), &self.config.namespace)
    }

    /// Creates the object, or takes the one that an earlier try has created.
    async fn create(&self, order: &BenchOrder) -> Result<Sandbox, BenchError> {
        let wanted = manifest(&self.config.namespace, order);
        let name = wanted.name_any();
        match self.api().create(&PostParams::default(), &wanted).await {
            Ok(created) => return Ok(created),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(unavailable("it could not be created", &error)),
        }
        let found = self.api().get(&name).await.map_err(|error| unavailable("it could not be read", &error))?;
        if found.labels().get(RUN_LABEL) == Some(&order.run_id) && found.metadata.deletion_timestamp.is_none() {
            return Ok(found);
        }
        let message = format!("the name {name} is taken by a Sandbox that is not this run's");
        Err(BenchError::Unavailable { message, hint: Some(format!("delete it: `atoll sandbox rm {name}`")) })
    }

    async fn ready(&self, name: &str) -> Result<(), BenchError> {
        let ready = await_condition(self.api(), name, |object: Option<&Sandbox>| object.is_some_and(is_ready));
        match tokio::time::timeout(Duration::from_millis(READY_TIMEOUT_MS), ready).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let message = format!("{name} could not be watched: {}", chain(&error));
                Err(BenchError::Unavailable { message, hint: None })
            }
            Err(_elapsed) => Err(self.why_not_ready(name).await),
        }
    }

    async fn why_not_ready(&self, name: &str) -> BenchError {
        let found = self.api().get(name).await.ok().and_then(|object| object.status);
        let condition = found.as_ref().and_then(|status| conditions::find(&status.conditions, "Ready"));
        let why = condition.map_or_else(|| "no reason given".to_owned(), |it| format!("{}: {}", it.reason, it.message));
        BenchError::Unavailable {
            message: format!("{name} was not ready within {} s ({why})", READY_TIMEOUT_MS / 1000),
            hint: Some("`atoll doctor` tells what this machine lacks".to_owned()),
        }
    }
}

#[async_trait]
impl Workbench for SandboxWorkbench {
    async fn open(&self, order: &BenchOrder) -> Result<Arc<dyn Bench>, BenchError> {
        let object = self.create(order).await?;
        let name = object.name_any();
        if !is_ready(&object) {
            self.ready(&name).await?;
        }
        let reference = SandboxRef { namespace: self.config.namespace.clone(), name: name.clone(), uid: object.uid() };
        let connection = SandboxConnection::over_router(self.config.router.clone(), reference);
        let bench = SandboxBench { name, connection };
        let answered = async {
            loop {
                // The router may see the Sandbox a moment later than the watch did.
                match bench.identity().await {
                    Err(BenchError::Broken { .. }) => tokio::time::sleep(Duration::from_millis(HELLO_PAUSE_MS)).await,
                    other => return other,
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(READY_TIMEOUT_MS), answered).await {
            Ok(Ok(_identity)) => Ok(Arc::new(bench)),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(BenchError::Unavailable {
                message: format!("{} is ready, but does not answer", bench.name),
                hint: Some("`atoll sandbox logs` may tell why".to_owned()),
            }),
        }
    }

    async fn release(&self, run_id: &str) -> Result<(), BenchError> {
        let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={run_id}")).limit(LIST_MAX);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(RELEASE_TIMEOUT_MS);
        loop {
            let list = self.api().list(&of_run).await.map_err(|error| unavailable("it could not be listed", &error))?;
            if list.items.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(());
            }
            for object in list.items.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
                match self.api().delete(&object.name_any(), &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(unavailable("it could not be deleted", &error)),
                }
            }
            tokio::time::sleep(Duration::from_millis(RELEASE_PAUSE_MS)).await;
        }
    }
}

fn is_ready(object: &Sandbox) -> bool {
    let status = object.status.as_ref();
    let condition = status.and_then(|status| conditions::find(&status.conditions, "Ready"));
    condition.is_some_and(|condition| condition.status == conditions::TRUE)
}

fn unavailable(what: &str, error: &kube::Error) -> BenchError {
    BenchError::Unavailable { message: format!("{what}: {}", chain(error)), hint: None }
}

/// `run-<run>-<agent>-<name>`, cut to what a name may be.
fn object_name(order: &BenchOrder) -> String {
    let full = format!("run-{}-{}-{}", order.run_id, order.agent, order.agent_name);
    let clean: String = full
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(NAME_CHARS_MAX)
        .collect();
    clean.trim_end_matches('-').to_owned()
}

fn manifest(namespace: &str, order: &BenchOrder) -> Sandbox {
    let mut pod: PodSpec = manifests::host_pod_spec(CONTAINER, &[]);
    let volume = EmptyDirVolumeSource::default();
    pod.volumes =
        Some(vec![Volume { name: WORKSPACE_VOLUME.to_owned(), empty_dir: Some(volume), ..Volume::default() }]);
    if let Some(container) = pod.containers.first_mut() {
        container.volume_mounts = Some(vec![VolumeMount {
            name: WORKSPACE_VOLUME.to_owned(),
            mount_path: ROOT.to_owned(),
            ..VolumeMount::default()
        }]);
        let limits = container.resources.get_or_insert_default().limits.get_or_insert_default();
        for (resource, quantity) in [("cpu", &order.cpu), ("memory", &order.memory)] {
            if let Some(quantity) = quantity {
                limits.insert(resource.to_owned(), Quantity(quantity.clone()));
            }
        }
    }
    let mut sandbox = manifests::sandbox(namespace, &object_name(order), pod);
    manifests::set_created_by(&mut sandbox.metadata, "atoll-orchestrator");
    let labels = BTreeMap::from([
        (RUN_LABEL.to_owned(), order.run_id.clone()),
        (AGENT_LABEL.to_owned(), format!("{}-{}", order.agent, order.agent_name)),
    ]);
    sandbox.metadata.labels.get_or_insert_default().extend(labels);
    sandbox
}

struct SandboxBench {
    name: String,
    connection: SandboxConnection,
}

#[async_trait]
impl Bench for SandboxBench {
    async fn identity(&self) -> Result<SandboxIdentity, BenchError> {
        let hello = self.connection.hello().await.map_err(bench_error)?;
        Ok(SandboxIdentity { name: self.name.clone(), uid: hello.sandbox_id, incarnation: hello.incarnation })
    }

    async fn exec(&self, command: &BenchCommand, output: OutputFn<'_>) -> Result<BenchExit, BenchError> {
        let request = ExecRequest {
            argv: command.argv.clone(),
            env: command.env.clone(),
            cwd: Some(command.cwd.clone()),
            timeout_ms: Some(command.timeout_ms),
            idempotency_key: Some(command.key.clone()),
            ..ExecRequest::default()
        };
        let mut session = self.connection.exec(request).await.map_err(bench_error)?;
        let lost_bytes = session.dropped_bytes();
        loop {
            match session.next_event().await.map_err(bench_error)? {
                Some(ExecEvent::Stdout(bytes)) => output(OutputStream::Stdout, &bytes),
                Some(ExecEvent::Stderr(bytes)) => output(OutputStream::Stderr, &bytes),
                Some(ExecEvent::Exited(exit)) => {
                    let (code, timed_out, killed) = (exit.code, exit.timed_out, exit.oom_suspected);
                    return Ok(BenchExit { code, timed_out, killed, lost_bytes });
                }
                None => return Err(bench_error(SandboxError::Closed)),
            }
        }
    }

    async fn lookup(&self, key: &str) -> Result<KeyState, BenchError> {
        let reply = self.connection.lookup(key).await.map_err(bench_error)?;
        Ok(match reply.state {
            ExecState::Unknown => KeyState::Unknown,
            ExecState::Running => KeyState::Running,
            ExecState::Exited => KeyState::Exited,
        })
    }

    async fn kill(&self, key: &str) -> Result<(), BenchError> {
        let reply = self.connection.lookup(key).await.map_err(bench_error)?;
        match reply.exec_id {
            Some(exec_id) => self.connection.kill(&exec_id).await.map_err(bench_error),
            None => Ok(()),
        }
    }

    async fn read_file(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, BenchError> {
        self.connection.read_file(within(path), bytes_max).await.map_err(bench_error)
    }

    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), BenchError> {
        self.connection.write_file(within(path), content).await.map_err(bench_error)
    }
}

/// A path of the workspace can not leave it, by no link: what policy has judged is what is opened.
fn within(path: &str) -> SandboxPath {
    match path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => SandboxPath::beneath(ROOT, rest),
        None => SandboxPath::from(path),
    }
}

fn bench_error(error: SandboxError) -> BenchError {
    match &error {
        SandboxError::Guest { code: ErrorCode::NotFound, message } => BenchError::NotFound { message: message.clone() },
        SandboxError::Guest { code: ErrorCode::Internal | ErrorCode::ResourceExhausted, .. } => {
            BenchError::Refused { message: chain(&error) }
        }
        SandboxError::Guest { message, .. } => BenchError::Refused { message: message.clone() },
        SandboxError::TooLarge { size, limit } => BenchError::TooLarge { size: *size, limit: *limit },
        SandboxError::Address { .. } => BenchError::Unavailable { message: chain(&error), hint: error.hint() },
        SandboxError::Refused { status, .. } if status.as_u16() == 401 || status.as_u16() == 403 => {
            BenchError::Unavailable { message: chain(&error), hint: error.hint() }
        }
        _ => BenchError::Broken { message: chain(&error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &str) -> BenchOrder {
        BenchOrder {
            run_id: "01k9zvn0000000000000000000".to_owned(),
            agent: 1,
            agent_name: name.to_owned(),
            cpu: Some("2".to_owned()),
            memory: None,
        }
    }

    #[test]
    fn names_are_dns_labels() {
        assert_eq!(object_name(&order("code-writer")), "run-01k9zvn0000000000000000000-1-code-writer");
        let long = object_name(&order(&"My_Agent".repeat(20)));
        assert!(long.len() <= NAME_CHARS_MAX && !long.ends_with('-'), "{long}");
        assert!(long.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{long}");
    }

    #[test]
    fn a_sandbox_says_whose_it_is_and_keeps_to_its_limits() {
        let sandbox = manifest("default", &order("code-writer"));
        assert_eq!(sandbox.labels()[RUN_LABEL], order("x").run_id);
        assert_eq!(sandbox.labels()[AGENT_LABEL], "1-code-writer");
        let pod = serde_json::to_value(&sandbox.spec.pod_template.spec).expect("it serialises");
        assert_eq!(pod["containers"][0]["resources"]["limits"]["cpu"], "2");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/workspace");
        assert!(pod["containers"][0].get("command").is_none(), "it idles");
    }
}
