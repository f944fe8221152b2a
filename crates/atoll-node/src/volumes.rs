//! What a Pod's volumes are on this machine, and where a container sees them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use atoll_sandbox::spec::FileBytes;
use atoll_sandbox::{Mount, MountKind};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Volume, VolumeMount,
};
use kube::ResourceExt;

use crate::downward::{self, Allocatable};
use crate::environment::{Sources, Unprepared};
use crate::images::PodImages;
use crate::{pod, quantity};

/// Driver of inline volumes that are files of this machine, shared by its root.
pub const SHARE_DRIVER: &str = "share.atoll.local";
/// The attribute of such a volume that names the share.
pub const SHARE_ATTRIBUTE: &str = "share";

const DEFAULT_FILE_MODE: i32 = 0o644;

/// What the Pod's volumes are on this machine.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Directories {
    /// By volume name: `emptyDir` on disk.
    pub(crate) empty: BTreeMap<String, PathBuf>,
    /// By name of the PersistentVolumeClaim.
    pub(crate) claims: BTreeMap<String, PathBuf>,
}

/// Names of the volumes that are directories on disk as long as the Pod lives.
pub(crate) fn disk_directories(pod: &Pod) -> Vec<String> {
    let is_on_disk = |directory: &EmptyDirVolumeSource| directory.medium.as_deref() != Some("Memory");
    let volumes = pod::spec(pod).volumes.iter().flatten();
    volumes
        .filter(|volume| volume.empty_dir.as_ref().is_some_and(is_on_disk))
        .map(|volume| volume.name.clone())
        .collect()
}

/// What a container's mounts depend on.
pub(crate) struct VolumeFacts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) images: &'a PodImages,
    pub(crate) sources: &'a Sources,
    pub(crate) directories: &'a Directories,
    /// Most that a volume in memory may hold.
    pub(crate) memory_bytes: u64,
    pub(crate) allocatable: Allocatable,
}

/// The mounts of a container.
pub(crate) fn mounts(facts: &VolumeFacts<'_>) -> Result<Vec<Mount>, Unprepared> {
    let (pod, container) = (facts.pod, facts.container);
    let volumes: BTreeMap<&str, &Volume> =
        pod::spec(pod).volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
    let has_group = pod::spec(pod).security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let mut in_memory = BTreeSet::new();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes
            .get(mount.name.as_str())
            .ok_or_else(|| Unprepared::Refused(format!("volume \"{}\" is not defined", mount.name)))?;
        let (kind, is_read_only) = facts.mount_kind(volume)?;
        let kind = within(kind, mount, container)?;
        let kind = if has_group { readable_by_all(kind) } else { kind };
        if matches!(kind, MountKind::Tmpfs { .. }) && !in_memory.insert(mount.name.as_str()) {
            return Err(Unprepared::Refused(format!(
                "volume \"{}\" is not supported at two places: it is in memory",
                mount.name
            )));
        }
        mounts.push(placed(mount, kind, is_read_only));
    }
    Ok(mounts)
}

/// `fsGroup` makes files readable by a group that every process of the Pod is in. Files of a ConfigMap or a Secret
/// have no group of their own here, so what their owner may read, all of this one sandbox may.
fn readable_by_all(kind: MountKind) -> MountKind {
    match kind {
        MountKind::Files { files, mode } if mode & 0o400 != 0 => MountKind::Files { files, mode: mode | 0o044 },
        other => other,
    }
}

fn placed(mount: &VolumeMount, kind: MountKind, is_read_only: bool) -> Mount {
    let target = match mount.mount_path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Mount { target, kind, read_only: is_read_only || mount.read_only == Some(true) }
}

/// The part of a volume that is mounted.
fn within(kind: MountKind, mount: &VolumeMount, container: &Container) -> Result<MountKind, Unprepared> {
    let Some(sub_path) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) else { return Ok(kind) };
    let refused = |why: &str| {
        let (container, volume) = (&container.name, &mount.name);
        Unprepared::Refused(format!("subPath {sub_path:?} of volume \"{volume}\" in container \"{container}\" {why}"))
    };
    if !is_inside(sub_path) {
        return Err(refused("is not a relative path within it"));
    }
    match kind {
        MountKind::Directory { host_path } => Ok(MountKind::Directory { host_path: host_path.join(sub_path) }),
        _ => Err(refused("is not supported: this node mounts parts of directories on disk only")),
    }
}

impl VolumeFacts<'_> {
    /// What a volume is, and whether it can only be read.
    fn mount_kind(&self, volume: &Volume) -> Result<(MountKind, bool), Unprepared> {
        let unmade = || Unprepared::Missing(format!("the directory of volume \"{}\" is not there", volume.name));
        if let Some(directory) = &volume.empty_dir {
            if directory.medium.as_deref() == Some("Memory") {
                return Ok((MountKind::Tmpfs { size_bytes: self.memory_size(volume, directory)? }, false));
            }
            let host_path = self.directories.empty.get(&volume.name).cloned().ok_or_else(unmade)?;
            return Ok((MountKind::Directory { host_path }, false));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let host_path = self.directories.claims.get(&claim.claim_name).cloned().ok_or_else(unmade)?;
            return Ok((MountKind::Directory { host_path }, claim.read_only == Some(true)));
        }
        if volume.image.is_some() {
            let id = self.images.volume(&volume.name).ok_or_else(unmade)?;
            return Ok((MountKind::Image { id: id.to_owned() }, true));
        }
        if let Some(share) = &volume.csi {
            let attribute = share.volume_attributes.as_ref().and_then(|all| all.get(SHARE_ATTRIBUTE));
            let name = attribute.cloned().ok_or_else(|| {
                Unprepared::Refused(format!("volume \"{}\" lacks the attribute {SHARE_ATTRIBUTE}", volume.name))
            })?;
            let (namespace, pod) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
            let kind = MountKind::Share { name, pod: format!("{namespace}/{pod}") };
            return Ok((kind, share.read_only == Some(true)));
        }
        let (files, mode) = if let Some(source) = &volume.config_map {
            (self.config_map(&source.name, source.items.as_deref(), source.optional)?, source.default_mode)
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            (self.secret(name, source.items.as_deref(), source.optional)?, source.default_mode)
        } else if let Some(source) = &volume.downward_api {
            (self.downward(source.items.as_deref())?, source.default_mode)
        } else if let Some(source) = &volume.projected {
            (self.projected(volume, source)?, source.default_mode)
        } else {
            let message = format!("volume \"{}\" has no source that this node knows", volume.name);
            return Err(Unprepared::Refused(message));
        };
        if let Some(outside) = files.keys().find(|path| !is_inside(path)) {
            let message = format!("path \"{outside}\" in volume \"{}\" is not a relative path", volume.name);
            return Err(Unprepared::Refused(message));
        }
        Ok((MountKind::Files { files, mode: file_mode(volume, mode)? }, true))
    }

    fn memory_size(&self, volume: &Volume, directory: &EmptyDirVolumeSource) -> Result<u64, Unprepared> {
        let Some(limit) = &directory.size_limit else { return Ok(self.memory_bytes) };
        let bytes = quantity::units(limit).filter(|bytes| *bytes > 0).ok_or_else(|| {
            Unprepared::Refused(format!("sizeLimit {} of volume \"{}\" is not supported", limit.0, volume.name))
        })?;
        Ok(bytes.min(self.memory_bytes))
    }

    fn config_map(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Result<Files, Unprepared> {
        let mut contents = BTreeMap::new();
        if let Some(map) = self.sources.config_map(name, optional)? {
            let texts = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
            let bytes = map.binary_data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
            contents.extend(texts.chain(bytes));
        }
        chosen(&contents, items, optional, &format!("configmap \"{name}\""))
    }

    fn secret(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Result<Files, Unprepared> {
        let mut contents = BTreeMap::new();
        if let Some(secret) = self.sources.secret(name, optional)? {
            contents.extend(secret.data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())));
        }
        chosen(&contents, items, optional, &format!("secret \"{name}\""))
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<Files, Unprepared> {
        let file = |item: &DownwardAPIVolumeFile| {
            let text = downward::file(self.pod, self.container, item, self.allocatable)?;
            Ok((item.path.clone(), FileBytes(text.into_bytes())))
        };
        items.into_iter().flatten().map(file).collect()
    }

    /// Several sources in one directory; what comes later wins.
    fn projected(&self, volume: &Volume, source: &ProjectedVolumeSource) -> Result<Files, Unprepared> {
        let mut files = Files::new();
        for part in source.sources.iter().flatten() {
            let more = if let Some(map) = &part.config_map {
                self.config_map(&map.name, map.items.as_deref(), map.optional)?
            } else if let Some(secret) = &part.secret {
                self.secret(&secret.name, secret.items.as_deref(), secret.optional)?
            } else if let Some(downward) = &part.downward_api {
                self.downward(downward.items.as_deref())?
            } else {
                let message = format!("volume \"{}\" projects something that this node does not know", volume.name);
                return Err(Unprepared::Refused(message));
            };
            files.extend(more);
        }
        Ok(files)
    }
}

/// Content by path.
type Files = BTreeMap<String, FileBytes>;

/// The keys that are asked for, at their paths, or all of them.
fn chosen(
    contents: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    named: &str,
) -> Result<Files, Unprepared> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(contents.iter().map(|(key, bytes)| ((*key).to_owned(), FileBytes(bytes.to_vec()))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match contents.get(item.key.as_str()) {
            Some(bytes) => drop(files.insert(item.path.clone(), FileBytes(bytes.to_vec()))),
            None if optional == Some(true) => {}
            None => return Err(Unprepared::Missing(format!("{named} has no key {}", item.key))),
        }
    }
    Ok(files)
}

fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn file_mode(volume: &Volume, mode: Option<i32>) -> Result<u32, Unprepared> {
    let mode = mode.unwrap_or(DEFAULT_FILE_MODE);
    let refused = || Unprepared::Refused(format!("defaultMode {mode} of volume \"{}\" is not supported", volume.name));
    u32::try_from(mode).ok().filter(|mode| *mode <= 0o777).ok_or_else(refused)
}
