//! The Sandbox controller: keeps a Pod, volume claims and perhaps a Service for each Sandbox.

mod apply;
mod children;
mod observe;
mod plan;
mod pod;
mod service;
mod status;
mod volumes;

pub(crate) use apply::SandboxController;

/// The name of the Pod, if it is not the Sandbox's own.
pub(crate) fn pod_name(sandbox: &atoll_api::Sandbox) -> &str {
    crate::owner::annotation(&sandbox.metadata, atoll_api::annotations::POD_NAME)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| crate::caches::name_of(sandbox))
}
