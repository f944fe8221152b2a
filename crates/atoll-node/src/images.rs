//! Which image each container of a Pod runs on.

use std::collections::BTreeMap;

use atoll_image::{Image, Images};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{init, pod};

/// On a Pod: containers without a command idle, whatever their image would run.
pub const IDLE_ANNOTATION: &str = "atoll.local/idle";

/// What a container runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerImage {
    /// The machine's own programs.
    Host,
    /// One that was imported.
    Kept(Box<Image>),
}

/// The images of a Pod's containers, by the containers' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodImages {
    by_container: BTreeMap<String, ContainerImage>,
    /// Ids of images that are volumes, by the volumes' names.
    by_volume: BTreeMap<String, String>,
}

/// Why a container has no image: reason and message.
pub(crate) type Absent = (&'static str, String);

impl PodImages {
    /// Looks every image up. `images` are those of this node, if it keeps any.
    pub(crate) fn of(pod: &Pod, images: Option<&Images>) -> Result<Self, Absent> {
        let mut found = Self::default();
        for container in pod::spec(pod).containers.iter().chain(init::containers(pod)) {
            let name = container.image.as_deref().unwrap_or_default();
            let image = if name.strip_suffix(":latest").unwrap_or(name) == pod::HOST_IMAGE {
                ContainerImage::Host
            } else {
                ContainerImage::Kept(Box::new(find(name, container.image_pull_policy.as_deref(), images)?))
            };
            found.by_container.insert(container.name.clone(), image);
        }
        for volume in pod::spec(pod).volumes.iter().flatten() {
            if let Some(source) = &volume.image {
                let name = source.reference.as_deref().unwrap_or_default();
                let image = find(name, source.pull_policy.as_deref(), images)?;
                found.by_volume.insert(volume.name.clone(), image.id);
            }
        }
        Ok(found)
    }

    /// Every container of a Pod on the same image.
    #[cfg(test)]
    pub(crate) fn all(pod: &Pod, image: &ContainerImage) -> Self {
        let names = pod::spec(pod).containers.iter().map(|container| container.name.clone());
        Self { by_container: names.map(|name| (name, image.clone())).collect(), by_volume: BTreeMap::new() }
    }

    /// Digests of images that were imported, by the containers' names.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        let kept = self.by_container.iter().filter_map(|(container, image)| match image {
            ContainerImage::Host => None,
            ContainerImage::Kept(image) => Some((container.clone(), image.digest.clone())),
        });
        kept.collect()
    }

    /// The id of the image that a volume is.
    pub(crate) fn volume(&self, name: &str) -> Option<&str> {
        self.by_volume.get(name).map(String::as_str)
    }

    /// The image of one container.
    pub(crate) fn image(&self, container: &Container) -> &ContainerImage {
        self.by_container.get(&container.name).unwrap_or(&ContainerImage::Host)
    }
}

fn find(name: &str, pull_policy: Option<&str>, images: Option<&Images>) -> Result<Image, Absent> {
    if let Err(error) = atoll_image::ImageName::parse(name) {
        return Err(("InvalidImageName", error.to_string()));
    }
    let reason = if pull_policy == Some("Never") { "ErrImageNeverPull" } else { "ErrImagePull" };
    match images.map(|images| images.find(name)) {
        Some(Ok(image)) => Ok(image),
        Some(Err(atoll_image::StoreError::Unknown(_))) | None => Err((
            reason,
            format!("image \"{name}\" is not on this node, which pulls none: `atoll image import` brings it"),
        )),
        Some(Err(error)) => Err((reason, atoll_stdx::chain(&error))),
    }
}

/// Whether a Pod's containers idle where they say no command.
pub(crate) fn is_idle(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.get(IDLE_ANNOTATION).is_some_and(|value| value == "true"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look_up(image: &str, policy: &str) -> Result<PodImages, Absent> {
        let container = json!({"name": "c", "image": image, "imagePullPolicy": policy});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("a Pod");
        PodImages::of(&pod, None)
    }

    #[test]
    fn images_that_are_not_there_are_named() {
        for (image, policy, expected) in [
            ("atoll.local/host", "Always", None),
            ("atoll.local/host:latest", "Never", None),
            ("python:3.12", "IfNotPresent", Some(("ErrImagePull", "\"python:3.12\""))),
            ("python:3.12", "Never", Some(("ErrImageNeverPull", "\"python:3.12\""))),
            ("Bad Name", "IfNotPresent", Some(("InvalidImageName", "\"Bad Name\""))),
        ] {
            match (look_up(image, policy), expected) {
                (Ok(_), None) => {}
                (Err((reason, message)), Some((expected_reason, words))) => {
                    assert_eq!(reason, expected_reason);
                    assert!(message.contains(words), "{message}");
                }
                (found, _) => panic!("{image}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_image_can_be_a_volume() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let images = Images::of(state.path());
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "image": "atoll.local/host"}],
            "volumes": [{"name": "model", "image": {"reference": "example.com/model:1", "pullPolicy": "Never"}}],
        }}))
        .expect("a Pod");
        assert!(matches!(PodImages::of(&pod, Some(&images)), Err(("ErrImageNeverPull", _))));
        let image = json!({
            "id": "abcd", "digest": "sha256:abcd", "names": ["example.com/model:1"], "config": {}, "user": null,
            "bytes": 1, "imported_at_ms": 1,
        });
        std::fs::create_dir(state.path().join("images")).expect("it is writable");
        std::fs::write(state.path().join("images/abcd.json"), image.to_string()).expect("it is writable");
        let found = PodImages::of(&pod, Some(&images)).expect("it is there");
        assert_eq!((found.volume("model"), found.volume("other")), (Some("abcd"), None));
    }
}
