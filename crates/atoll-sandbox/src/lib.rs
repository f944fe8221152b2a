//! Isolation tiers of one Linux machine: a privileged launcher that makes sandboxes, and the unprivileged driver that
//! asks it to. Nothing here knows Kubernetes.

pub mod cgroup;
pub mod driver;
pub mod gvisor;
pub mod image;
pub mod launcher;
pub mod leak;
pub mod native;
pub mod network;
pub mod probe;
pub mod record;
pub mod share;
pub mod spec;

pub use driver::{DriverError, RunningSandbox, SandboxDriver};
pub use launcher::LauncherConfig;
pub use leak::{LeakCount, leak_count};
pub use probe::Finding;
pub use record::{ExitReason, ExitRecord, SandboxRecord, SandboxState, SandboxStats};
pub use spec::{Image, Mount, MountKind, NetworkSpec, Resources, SandboxSpec, Tier, User, Workload};
