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
}

/// Why a container has no image: reason and message.
pub(crate) type Absent = (&'static str, String);

impl PodImages {
    /// Looks every image up. `images` are those of this node, if it keeps any.
    pub(crate) fn of(pod: &Pod, images: Option<&Images>) -> Result<Self, Absent> {
        let mut by_container = BTreeMap::new();
        for container in pod::spec(pod).containers.iter().chain(init::containers(pod)) {
            by_container.insert(container.name.clone(), find(container, images)?);
        }
        Ok(Self { by_container })
    }

    /// Digests of images that were imported, by the containers' names.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        let kept = self.by_container.iter().filter_map(|(container, image)| match image {
            ContainerImage::Host => None,
            ContainerImage::Kept(image) => Some((container.clone(), image.digest.clone())),
        });
        kept.collect()
    }

    /// The image of one container.
    pub(crate) fn image(&self, container: &Container) -> &ContainerImage {
        self.by_container.get(&container.name).unwrap_or(&ContainerImage::Host)
    }
}

fn find(container: &Container, images: Option<&Images>) -> Result<ContainerImage, Absent> {
    let name = container.image.as_deref().unwrap_or_default();
    if name.strip_suffix(":latest").unwrap_or(name) == pod::HOST_IMAGE {
        return Ok(ContainerImage::Host);
    }
    if let Err(error) = atoll_image::ImageName::parse(name) {
        return Err(("InvalidImageName", error.to_string()));
    }
    let reason =
        if container.image_pull_policy.as_deref() == Some("Never") { "ErrImageNeverPull" } else { "ErrImagePull" };
    match images.map(|images| images.find(name)) {
        Some(Ok(image)) => Ok(ContainerImage::Kept(Box::new(image))),
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
}
