//! The kinds of the sandbox API as Rust types, the words its controllers put on objects (labels, annotations,
//! condition reasons and messages), ready-made manifests, and the wire types of the platform API.
//!
//! Nothing here reaches a network. Types that Kubernetes already has come from `k8s-openapi`.

pub mod annotations;
pub mod blueprint;
pub mod claim;
pub mod conditions;
pub mod labels;
pub mod manifests;
pub mod pool;
pub mod reasons;
pub mod sandbox;
pub mod state;
pub mod template;
pub mod v1;

mod kind;

pub use blueprint::{Blueprint, EmbeddedMetadata, PodTemplate, VolumeClaimMetadata, VolumeClaimTemplate};
pub use claim::{SandboxClaim, SandboxClaimSpec, SandboxClaimStatus};
pub use pool::{SandboxWarmPool, SandboxWarmPoolSpec, SandboxWarmPoolStatus};
pub use sandbox::{Sandbox, SandboxSpec, SandboxStatus};
pub use state::SandboxState;
pub use template::{SandboxTemplate, SandboxTemplateSpec};

/// The API group of [`Sandbox`].
pub const SANDBOX_GROUP: &str = "agents.x-k8s.io";
/// The API group of [`SandboxTemplate`], [`SandboxWarmPool`] and [`SandboxClaim`].
pub const EXTENSIONS_GROUP: &str = "extensions.agents.x-k8s.io";
/// The one version that both groups are served in.
pub const VERSION: &str = "v1beta1";
