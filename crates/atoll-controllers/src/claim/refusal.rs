//! Why a claim is not served until it, or its template, changes.

use atoll_api::reasons;

/// A claim that asks for something it may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Labels or annotations.
    #[error("invalid additionalPodMetadata: {0}")]
    Metadata(String),
    /// Environment variables.
    #[error("environment variable injection rejected: {0}")]
    Env(String),
    /// Volumes where none may be asked for.
    #[error("failed to merge volume claim templates: volume claim templates are disallowed by the template")]
    VolumesDisallowed,
    /// A volume that the template has already.
    #[error(
        "failed to merge volume claim templates: overriding volume claim templates is forbidden by the template: \
         cannot override template volume {0:?}"
    )]
    VolumeOverride(String),
    /// A template that can not be used.
    #[error(
        "SandboxTemplate {template:?} can not be used: its name has the same hash as that of SandboxTemplate {rival:?}, \
         and their Sandboxes would be mixed up; choose another name for it"
    )]
    TemplateCollision {
        /// The claim's.
        template: String,
        /// The older one.
        rival: String,
    },
    /// Volumes without a name or with the same one.
    #[error("{0}")]
    VolumesInvalid(String),
}

impl Refusal {
    /// The reason in the claim's condition. Clients give up on all of them.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Metadata(_) => reasons::INVALID_METADATA,
            Self::Env(_) => reasons::ENV_VARS_INJECTION_REJECTED,
            Self::TemplateCollision { .. } => reasons::INVALID_CONFIGURATION,
            Self::VolumesDisallowed | Self::VolumeOverride(_) | Self::VolumesInvalid(_) => {
                reasons::VOLUME_CLAIM_TEMPLATES_ERROR
            }
        }
    }
}
