//! Starting one Pod's sandbox: everything it refers to is fetched, its directories are made, and it is created.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::clock::now_unix_ms;
use atoll_sandbox::{RunningSandbox, SandboxSpec};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PersistentVolumeClaim, Pod, Secret};
use kube::api::Api;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::claims;
use crate::downward::Allocatable;
use crate::environment::{self, Sources, Unprepared};
use crate::hooks;
use crate::images::PodImages;
use crate::init;
use crate::node::Shared;
use crate::pod;
use crate::probe::Probes;
use crate::runtime::{GuestEndpoint, RuntimeError, RuntimeErrorKind};
use crate::slot::Live;
use crate::translate::{self, Machine};
use crate::volumes::{self, Directories};

const DIRECTORY_PREFIX: &str = "pod-";
/// How long a hook after the start may take; a kubelet would wait for ever.
const POST_START_PATIENCE: Duration = Duration::from_secs(300);

/// A sandbox that runs for a Pod.
pub(crate) struct Started {
    pub(crate) sandbox: RunningSandbox,
    pub(crate) live: Live,
}

/// Why a sandbox does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Unprepared(#[from] Unprepared),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("init container \"{name}\" ended with {code}")]
    Init { name: String, code: i32 },
    #[error("the start was given up")]
    Stopped,
    #[error("the postStart hook failed: {0}")]
    PostStart(String),
    #[error("cannot read the {kind} \"{name}\"")]
    Fetch {
        kind: &'static str,
        name: String,
        #[source]
        source: kube::Error,
    },
}

/// Names of the directories on disk that live as long as the Pod, by volume.
pub(crate) fn directory_names(pod: &Pod) -> BTreeMap<String, String> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    volumes::disk_directories(pod)
        .into_iter()
        .map(|volume| (volume.clone(), format!("{DIRECTORY_PREFIX}{uid}.{volume}")))
        .collect()
}

/// The UID of the Pod that a directory of this name belongs to.
pub(crate) fn directory_owner(directory: &str) -> Option<&str> {
    directory.strip_prefix(DIRECTORY_PREFIX)?.split_once('.').map(|(uid, _)| uid)
}

/// What a start begins with.
pub(crate) struct Beginning {
    pub(crate) pod: Arc<Pod>,
    pub(crate) images: PodImages,
    pub(crate) address: Ipv4Addr,
    /// Init containers that have ended well before.
    pub(crate) init_done: usize,
    /// Yields a grace once the start is to be given up.
    pub(crate) stop: watch::Receiver<Option<u64>>,
}

/// Starts the sandbox, after those of init containers. Waits while too many others start.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    beginning: Beginning,
    report: init::Report<'_>,
) -> Result<Started, StartError> {
    let Beginning { pod, images, address, init_done, mut stop } = beginning;
    let pod = &*pod;
    let permit = shared.starts.acquire().await.expect("the semaphore is never closed");
    let references = environment::references(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (config_maps, secrets) = tokio::try_join!(
        fetch::<ConfigMap>(shared, namespace, "configmap", &references.config_maps),
        fetch::<Secret>(shared, namespace, "secret", &references.secrets),
    )?;
    let sources = Sources { config_maps: config_maps.into_iter().collect(), secrets: secrets.into_iter().collect() };
    let directories = directories(shared, pod, namespace, &references.claims).await?;
    let annotations = namespace_annotations(shared, namespace).await?;
    let machine = Machine {
        host_address: shared.facts.host_address,
        allocatable: Allocatable {
            cpu_milli: shared.config.capacity.cpu_milli,
            memory_bytes: shared.config.capacity.memory_bytes,
        },
        namespace: Some(&annotations),
    };
    let spec_of = |container: &Container, id: String| {
        let on = (container, &images);
        translate::sandbox_spec(pod, on, id, address, &sources, &directories, &machine)
    };
    let container = pod::container(pod).cloned().unwrap_or_default();
    // Probes and hooks that can not be asked are refused before anything runs.
    Probes::of(&container, 0)?;
    hooks::pre_stop(&container)?;
    let post_start = hooks::post_start(&container)?;
    let spec = spec_of(&container, pod.metadata.uid.clone().unwrap_or_default())?;
    // Init containers take as long as they take.
    drop(permit);
    init::run(shared, pod, init_done, spec_of, report, &mut stop).await?;
    let _permit = shared.starts.acquire().await.expect("the semaphore is never closed");
    let sandbox = create(shared, spec).await?;
    if let Some(hook) = post_start {
        let guest = GuestEndpoint::new(&sandbox.guest_socket, sandbox.address);
        if let Err(why) = hook.run(shared.runtime.as_ref(), &guest, POST_START_PATIENCE).await {
            shared.runtime.destroy(&sandbox.id, pod::grace_ms(pod)).await?;
            return Err(StartError::PostStart(why));
        }
    }
    // Probes count from the node's own clock.
    let probes = Probes::of(&container, now_unix_ms())?;
    let live = Live {
        incarnation: sandbox.incarnation,
        tier: sandbox.tier_in_force,
        started_at_ms: sandbox.started_at_ms,
        probes,
    };
    Ok(Started { sandbox, live })
}

/// Read anew for each start: what a namespace demands may have changed since the Pod was made.
async fn namespace_annotations(shared: &Shared, name: &str) -> Result<BTreeMap<String, String>, StartError> {
    let found = Api::<Namespace>::all(shared.client.clone()).get_opt(name).await;
    let failed = |source| StartError::Fetch { kind: "namespace", name: name.to_owned(), source };
    let missing = || Unprepared::Missing(format!("namespace \"{name}\" not found"));
    Ok(found.map_err(failed)?.ok_or_else(missing)?.metadata.annotations.unwrap_or_default())
}

/// Creates the sandbox; one that an interrupted start left behind goes first.
pub(crate) async fn create(shared: &Shared, spec: SandboxSpec) -> Result<RunningSandbox, RuntimeError> {
    match shared.runtime.create(spec.clone()).await {
        Err(error) if error.kind == RuntimeErrorKind::AlreadyExists => {
            shared.runtime.destroy(&spec.id, 0).await?;
            shared.runtime.create(spec).await
        }
        outcome => outcome,
    }
}

async fn fetch<K>(
    shared: &Shared,
    namespace: &str,
    kind: &'static str,
    names: &BTreeSet<String>,
) -> Result<Vec<(String, K)>, StartError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(shared.client.clone(), namespace);
    let found = names.iter().map(|name| async {
        let object = api.get_opt(name).await;
        object
            .map_err(|source| StartError::Fetch { kind, name: name.clone(), source })
            .map(|object| (name.clone(), object))
    });
    let found = try_join_all(found).await?;
    Ok(found.into_iter().filter_map(|(name, object)| Some((name, object?))).collect())
}

async fn directories(
    shared: &Shared,
    pod: &Pod,
    namespace: &str,
    claim_names: &BTreeSet<String>,
) -> Result<Directories, StartError> {
    let mut directories = Directories::default();
    for (volume, directory) in directory_names(pod) {
        let path = shared.runtime.make_volume(&directory).await?;
        directories.empty.insert(volume, path);
    }
    let claims = fetch::<PersistentVolumeClaim>(shared, namespace, "persistentvolumeclaim", claim_names).await?;
    for name in claim_names {
        let claim = claims.iter().find(|(found, _)| found == name).map(|(_, claim)| claim);
        let missing = || Unprepared::Missing(format!("persistentvolumeclaim \"{name}\" not found"));
        let path = claims::bind(shared, claim.ok_or_else(missing)?).await?;
        directories.claims.insert(name.clone(), path);
    }
    Ok(directories)
}
