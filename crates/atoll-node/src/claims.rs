//! PersistentVolumeClaims as directories of this machine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::environment::Unprepared;
use crate::node::Shared;
use crate::start::StartError;

const DIRECTORY_PREFIX: &str = "pvc-";
/// Pause before the removal of a directory is tried again: a sandbox may still use it.
const REMOVE_PAUSE: Duration = Duration::from_secs(2);
const REMOVE_TRIES_MAX: u32 = 60;

/// The claim's directory, made if absent; the claim is then Bound.
pub(crate) async fn bind(shared: &Shared, claim: &PersistentVolumeClaim) -> Result<PathBuf, StartError> {
    let metadata = &claim.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    if metadata.deletion_timestamp.is_some() {
        return Err(Unprepared::Missing(format!("persistentvolumeclaim \"{name}\" is being deleted")).into());
    }
    if claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        let message = format!("persistentvolumeclaim \"{name}\": volumeMode Block is not supported by this node");
        return Err(Unprepared::Refused(message).into());
    }
    let directory = format!("{DIRECTORY_PREFIX}{}", metadata.uid.as_deref().unwrap_or_default());
    let path = shared.runtime.make_volume(&directory).await?;
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        let spec = claim.spec.clone().unwrap_or_default();
        let requested = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
        let status = json!({
            "metadata": {"uid": metadata.uid},
            "status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": requested},
        });
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), namespace);
        let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
        written.map_err(|source| StartError::Fetch { kind: "persistentvolumeclaim", name: name.to_owned(), source })?;
    }
    Ok(path)
}

/// Follows all claims and removes the directories of those that are gone. `present` are the directories that were
/// there before the claims are listed: only those can be left over from earlier.
pub(crate) async fn collect(shared: Arc<Shared>, present: Vec<String>) {
    let api: Api<PersistentVolumeClaim> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut present: BTreeSet<String> = present.into_iter().filter(|name| name.starts_with(DIRECTORY_PREFIX)).collect();
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let directory =
        |claim: &PersistentVolumeClaim| claim.metadata.uid.as_ref().map(|uid| format!("{DIRECTORY_PREFIX}{uid}"));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(claim)) => listed.extend(directory(&claim)),
            Ok(Event::InitDone) => {
                present.append(&mut known);
                for gone in present.difference(&listed) {
                    remove(&shared, gone.clone());
                }
                present.clear();
                known = std::mem::take(&mut listed);
            }
            Ok(Event::Apply(claim)) => known.extend(directory(&claim)),
            Ok(Event::Delete(claim)) => {
                if let Some(gone) = directory(&claim) {
                    known.remove(&gone);
                    remove(&shared, gone);
                }
            }
            Err(error) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "the watch on volume claims failed; it is retried");
            }
        }
    }
}

/// Removes a directory as soon as no sandbox uses it.
pub(crate) fn remove(shared: &Arc<Shared>, directory: String) {
    let shared = Arc::clone(shared);
    let group = shared.group.clone();
    group.spawn("node-volume-removal", async move {
        for _ in 0..REMOVE_TRIES_MAX {
            match shared.runtime.remove_volume(&directory).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(directory, cause = %error, "a volume could not be removed yet"),
            }
            let token = shared.group.token();
            if token.run_until_cancelled(tokio::time::sleep(REMOVE_PAUSE)).await.is_none() {
                return;
            }
        }
        tracing::warn!(directory, "a volume could not be removed; the next start tries again");
    });
}
