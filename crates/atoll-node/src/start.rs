//! Starting one Pod's sandbox: everything it refers to is fetched, its directories are made, and it is created.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use atoll_rt::clock::now_unix_ms;
use atoll_sandbox::{RunningSandbox, SandboxSpec};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::Api;
use serde::de::DeserializeOwned;

use crate::claims;
use crate::environment::{self, Sources, Unprepared};
use crate::node::Shared;
use crate::pod;
use crate::probe::Probes;
use crate::runtime::{RuntimeError, RuntimeErrorKind};
use crate::slot::Live;
use crate::translate::{self, Directories, Machine};

const DIRECTORY_PREFIX: &str = "pod-";

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
    translate::disk_directories(pod)
        .into_iter()
        .map(|volume| (volume.clone(), format!("{DIRECTORY_PREFIX}{uid}.{volume}")))
        .collect()
}

/// The UID of the Pod that a directory of this name belongs to.
pub(crate) fn directory_owner(directory: &str) -> Option<&str> {
    directory.strip_prefix(DIRECTORY_PREFIX)?.split_once('.').map(|(uid, _)| uid)
}

/// Starts the sandbox. Waits while too many others start.
pub(crate) async fn start(shared: &Arc<Shared>, pod: &Pod, address: Ipv4Addr) -> Result<Started, StartError> {
    let _permit = shared.starts.acquire().await.expect("the semaphore is never closed");
    let references = environment::references(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (config_maps, secrets) = tokio::try_join!(
        fetch::<ConfigMap>(shared, namespace, "configmap", &references.config_maps),
        fetch::<Secret>(shared, namespace, "secret", &references.secrets),
    )?;
    let sources = Sources { config_maps: config_maps.into_iter().collect(), secrets: secrets.into_iter().collect() };
    let directories = directories(shared, pod, namespace, &references.claims).await?;
    let machine =
        Machine { host_address: shared.facts.host_address, memory_bytes: shared.config.capacity.memory_bytes };
    let spec = translate::sandbox_spec(pod, address, &sources, &directories, &machine)?;
    let container = pod::container(pod).cloned().unwrap_or_default();
    // Probes that can not be asked are refused before anything runs.
    Probes::of(&container, 0)?;
    let sandbox = create(shared, spec).await?;
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

/// Creates the sandbox; one that an interrupted start left behind goes first.
async fn create(shared: &Shared, spec: SandboxSpec) -> Result<RunningSandbox, RuntimeError> {
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
