//! `--volume SOURCE:TARGET[:ro]`: files and directories of this machine, mounted.
//!
//! Only root can decide what of the machine a sandbox sees, so this process, which is root, writes a share for the
//! launcher; the Pod names it.

use std::path::Path;
use std::time::Duration;

use atoll_api::Sandbox;
use atoll_node::{SHARE_ATTRIBUTE, SHARE_DRIVER};
use atoll_sandbox::share::Share;
use atoll_stdx::Hint;
use k8s_openapi::api::core::v1::{CSIVolumeSource, PodSpec, Volume, VolumeMount};
use kube::api::Api;

use crate::failure::{Exit, Failure};
use crate::printer::Printer;

/// A sandbox appears within this time after its shares, or never.
const SWEEP_AFTER: Duration = Duration::from_secs(300);

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request<'a> {
    source: &'a Path,
    target: &'a str,
    read_only: bool,
}

impl<'a> Request<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let (rest, read_only) = match text.rsplit_once(':') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (text, false),
        };
        match rest.rsplit_once(':') {
            Some((source, target)) if !source.is_empty() && target.starts_with('/') => {
                Ok(Self { source: Path::new(source), target, read_only })
            }
            _ => Err(Failure::new(Exit::Usage, format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:ro"))
                .hint("for example --volume ./data:/workspace/data:ro")),
        }
    }
}

/// What is shared with one sandbox.
pub(super) struct Shares<'a> {
    state_dir: &'a Path,
    /// By volume name.
    granted: Vec<(String, Request<'a>)>,
}

impl<'a> Shares<'a> {
    /// Writes a share for each request, or none.
    pub(super) fn grant(state_dir: &'a Path, pod: &str, requests: Vec<Request<'a>>) -> Result<Self, Failure> {
        let mut shares = Self { state_dir, granted: Vec::new() };
        for request in requests {
            let name = format!("run-{}", atoll_rt::ids::random_hex(16));
            let made = Share::of(request.source, invoker(), request.read_only, state_dir, pod)
                .and_then(|share| share.grant(state_dir, &name));
            if let Err(error) = made {
                shares.revoke();
                return Err(Failure::because(Exit::Usage, "cannot mount a volume", &error).hint_of(error.hint()));
            }
            shares.granted.push((name, request));
        }
        Ok(shares)
    }

    /// Adds the volumes to a Pod.
    pub(super) fn add_to(&self, pod: &mut PodSpec) {
        for (name, request) in &self.granted {
            pod.volumes.get_or_insert_default().push(Volume {
                name: name.clone(),
                csi: Some(CSIVolumeSource {
                    driver: SHARE_DRIVER.to_owned(),
                    volume_attributes: Some([(SHARE_ATTRIBUTE.to_owned(), name.clone())].into()),
                    ..CSIVolumeSource::default()
                }),
                ..Volume::default()
            });
            for container in &mut pod.containers {
                container.volume_mounts.get_or_insert_default().push(VolumeMount {
                    name: name.clone(),
                    mount_path: request.target.to_owned(),
                    read_only: request.read_only.then_some(true),
                    ..VolumeMount::default()
                });
            }
        }
    }

    /// Forgets them. A sandbox that runs keeps what it has.
    pub(super) fn revoke(&self) {
        for (name, _) in &self.granted {
            // One that stays is swept by the next run.
            let _ = Share::revoke(self.state_dir, name);
        }
    }
}

/// Forgets what was shared with a sandbox that goes.
pub(crate) fn forget(state_dir: &Path, namespace: &str, name: &str) {
    let pod = format!("{namespace}/{name}");
    for (share, _) in Share::all(state_dir, Duration::ZERO).into_iter().filter(|(_, share)| share.pod == pod) {
        // One that stays is swept by the next run.
        let _ = Share::revoke(state_dir, &share);
    }
}

/// Forgets what was shared with sandboxes that are gone.
pub(super) async fn sweep(state_dir: &Path, client: &kube::Client, printer: &Printer) {
    for (name, share) in Share::all(state_dir, SWEEP_AFTER) {
        let Some((namespace, sandbox)) = share.pod.split_once('/') else { continue };
        let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
        if matches!(api.get_opt(sandbox).await, Ok(None))
            && let Err(error) = Share::revoke(state_dir, &name)
        {
            printer.note(format!("a share that nobody needs stays: {}", atoll_stdx::chain(&error)));
        }
    }
}

/// Who runs this command with root's rights by `sudo`: files are as that user sees them. Root itself sees a file as its
/// owner does.
fn invoker() -> Option<(u32, u32)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?)).filter(|(uid, _)| *uid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_name_a_source_and_an_absolute_target() {
        let parsed = |text| {
            Request::parse(text)
                .ok()
                .map(|request| (request.source.to_str().unwrap(), request.target, request.read_only))
        };
        let cases = [
            ("a:/b", Some(("a", "/b", false))),
            ("a:/b:ro", Some(("a", "/b", true))),
            ("a:/b:rw", Some(("a", "/b", false))),
            ("C:x:/b", Some(("C:x", "/b", false))),
            ("a", None),
            ("a:b", None),
            (":/b", None),
            ("a:/b:z", None),
            ("/b:ro", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
