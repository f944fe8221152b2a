//! The labels of each family.

use prometheus_client::encoding::EncodeLabelSet;

/// Of the latencies of claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StartLabels {
    pub(super) launch_type: &'static str,
    pub(super) sandbox_template: String,
}

/// Of the latencies of Sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CreationLabels {
    pub(super) namespace: String,
    pub(super) launch_type: &'static str,
    pub(super) sandbox_template: String,
}

/// Of claims that got a Sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClaimLabels {
    pub(super) namespace: String,
    pub(super) sandbox_template: String,
    pub(super) launch_type: &'static str,
    pub(super) warmpool_name: String,
    pub(super) pod_condition: &'static str,
    pub(super) created_by: &'static str,
}

/// Of pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PoolLabels {
    pub(super) namespace: String,
    pub(super) pool: String,
}

/// Of Sandboxes that exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct SandboxLabels {
    pub(super) namespace: String,
    pub(super) ready_condition: &'static str,
    pub(super) expired: &'static str,
    pub(super) launch_type: &'static str,
    pub(super) sandbox_template: String,
    pub(super) owned_by: &'static str,
    pub(super) created_by: &'static str,
}

/// Of the build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    git_version: &'static str,
    git_commit: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

impl BuildLabels {
    /// What is known about this build. Not everything that there is a label for is.
    pub(super) fn of_this_build() -> Self {
        Self {
            git_version: concat!("v", env!("CARGO_PKG_VERSION")),
            git_commit: "unknown",
            build_date: "unknown",
            go_version: "none",
            compiler: "rustc",
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}
