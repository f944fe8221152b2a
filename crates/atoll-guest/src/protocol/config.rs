//! What the guest is told at boot.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::PROTOCOL_VERSION;

/// Environment variable holding the number of the descriptor to read [`GuestConfig`] from.
pub const CONFIG_FD_ENV: &str = "ATOLL_GUEST_CONFIG_FD";

/// Environment variable holding the number of the listening Unix socket's descriptor.
pub const LISTEN_FD_ENV: &str = "ATOLL_GUEST_LISTEN_FD";

/// Environment variable holding, in place of [`LISTEN_FD_ENV`], the number of a connected socket that brings accepted
/// connections: each message is one byte with one descriptor. It is how a guest is reached whose kernel cannot listen
/// on a socket of the machine. The guest first sends [`Greeting`] on it, JSON in one message.
pub const CONNECTIONS_FD_ENV: &str = "ATOLL_GUEST_CONNECTIONS_FD";

/// Largest [`Greeting`].
pub const GREETING_BYTES_MAX: usize = 1024;

/// Largest boot configuration.
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Exit code of a guest that could not boot: bad configuration, or a protection that could not be put in force.
pub const EXIT_CODE_BAD_CONFIG: u8 = 125;

/// Exit code of a guest whose workload exists and can not be executed.
pub const EXIT_CODE_WORKLOAD_NOT_EXECUTABLE: u8 = 126;

/// Exit code of a guest whose workload does not exist.
pub const EXIT_CODE_WORKLOAD_NOT_FOUND: u8 = 127;

/// Boot configuration of a guest, JSON on the descriptor named by [`CONFIG_FD_ENV`].
///
/// `Debug` shows the names of environment variables, never their values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// [`PROTOCOL_VERSION`] of whoever starts the guest; a newer one than the guest's own is refused.
    pub protocol: u32,
    /// Driver-level id of the sandbox.
    pub sandbox_id: String,
    /// Counts the lives of this sandbox; idempotency keys mean nothing across incarnations.
    pub incarnation: u64,
    /// The Pod's command; `None` is an idle sandbox, the guest alone.
    #[serde(default)]
    pub workload: Option<Workload>,
    /// Identity of commands and of file operations.
    #[serde(default)]
    pub exec_user: User,
    /// Environment of commands; `SANDBOX_BASE_DIR` and `SANDBOX_EXEC_TIMEOUT_SECONDS` are honoured here.
    #[serde(default)]
    pub exec_env: BTreeMap<String, String>,
    /// Base of relative paths and working directory of commands.
    #[serde(default = "default_base_dir")]
    pub base_dir: String,
    /// Between SIGTERM and SIGKILL when the guest is stopped by a signal.
    #[serde(default = "default_termination_grace_ms")]
    pub termination_grace_ms: u64,
    /// Resource limits of the workload and of every command.
    #[serde(default)]
    pub limits: ProcessLimits,
    /// Paths below which anything may be written; Landlock refuses it elsewhere, whatever else allows it. `None` where
    /// there is no Landlock to be used, as in a kernel of the sandbox's own.
    #[serde(default)]
    pub writable_paths: Option<Vec<String>>,
}

/// What a guest without a listening socket says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The kernel that it runs on, as it looks from inside.
    pub kernel: Kernel,
}

/// A kernel, as it looks from inside a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Nothing but Linux: the machine's own, or that of a virtual machine.
    Linux,
    /// gVisor's, in user space.
    Gvisor,
}

impl GuestConfig {
    /// An idle sandbox with every default.
    #[must_use]
    pub fn idle(sandbox_id: impl Into<String>, incarnation: u64) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            sandbox_id: sandbox_id.into(),
            incarnation,
            workload: None,
            exec_user: User::default(),
            exec_env: BTreeMap::new(),
            base_dir: default_base_dir(),
            termination_grace_ms: default_termination_grace_ms(),
            limits: ProcessLimits::default(),
            writable_paths: None,
        }
    }

    /// Refuses what the guest could only misunderstand.
    ///
    /// # Errors
    /// The first [`BootProblem`] found.
    pub fn validate(&self) -> Result<(), BootProblem> {
        if self.protocol > PROTOCOL_VERSION || self.protocol == 0 {
            return Err(BootProblem::Protocol { asked: self.protocol });
        }
        if self.sandbox_id.is_empty() {
            return Err(BootProblem::Field { field: "sandbox_id", reason: "is empty" });
        }
        if !self.base_dir.starts_with('/') {
            return Err(BootProblem::Field { field: "base_dir", reason: "is not an absolute path" });
        }
        if let Some(workload) = &self.workload
            && workload.argv.first().is_none_or(String::is_empty)
        {
            return Err(BootProblem::Field { field: "workload.argv", reason: "names no program" });
        }
        Ok(())
    }
}

impl fmt::Debug for GuestConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestConfig")
            .field("protocol", &self.protocol)
            .field("sandbox_id", &self.sandbox_id)
            .field("incarnation", &self.incarnation)
            .field("workload", &self.workload)
            .field("exec_user", &self.exec_user)
            .field("exec_env", &self.exec_env.keys())
            .field("base_dir", &self.base_dir)
            .field("termination_grace_ms", &self.termination_grace_ms)
            .field("limits", &self.limits)
            .field("writable_paths", &self.writable_paths)
            .finish()
    }
}

/// Why a guest refuses to boot with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootProblem {
    /// The host speaks a protocol that this guest does not know.
    #[error("guest protocol {asked} is not spoken here (this guest speaks {PROTOCOL_VERSION})")]
    Protocol {
        /// The version in the configuration.
        asked: u32,
    },
    /// A field has a value that can not be used.
    #[error("guest configuration: {field} {reason}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A Pod's command, run as the guest's first child.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Program and arguments; a program without `/` is searched in the environment's `PATH`.
    pub argv: Vec<String>,
    /// Whole environment of the workload (besides `PATH` and `HOME`, set where absent).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; the base directory when absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Identity of the workload.
    #[serde(default)]
    pub user: User,
    /// Whether the workload reads the guest's descriptor 0; otherwise it reads `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("argv", &self.argv)
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("stdin", &self.stdin)
            .finish()
    }
}

/// Identity inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// User id inside the sandbox.
    pub uid: u32,
    /// Group id inside the sandbox.
    pub gid: u32,
    /// Supplementary group ids.
    #[serde(default)]
    pub groups: Vec<u32>,
}

impl Default for User {
    /// The workload user, 1000:1000.
    fn default() -> Self {
        Self { uid: 1000, gid: 1000, groups: Vec::new() }
    }
}

/// Limits set (soft and hard) on the workload and on every command; core dumps are always off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimits {
    /// `RLIMIT_NOFILE`.
    pub nofile: u64,
    /// `RLIMIT_NPROC`, counted by the kernel over all processes of the user.
    pub nproc: Option<u64>,
    /// `RLIMIT_FSIZE`.
    pub file_size_bytes: Option<u64>,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { nofile: 4096, nproc: None, file_size_bytes: None }
    }
}

fn default_base_dir() -> String {
    "/workspace".to_owned()
}

fn default_termination_grace_ms() -> u64 {
    30_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_configuration_gets_the_defaults() {
        let config: GuestConfig =
            serde_json::from_str(r#"{"protocol":1,"sandbox_id":"s","incarnation":3,"later_field":true}"#).unwrap();
        assert_eq!(config, GuestConfig::idle("s", 3));
        config.validate().unwrap();
    }

    #[test]
    fn what_can_not_be_used_is_refused_by_name() {
        let good = GuestConfig::idle("s", 1);
        let cases: [(GuestConfig, &str); 4] = [
            (GuestConfig { protocol: 2, ..good.clone() }, "guest protocol 2 is not spoken here (this guest speaks 1)"),
            (GuestConfig { sandbox_id: String::new(), ..good.clone() }, "guest configuration: sandbox_id is empty"),
            (
                GuestConfig { base_dir: "workspace".into(), ..good.clone() },
                "guest configuration: base_dir is not an absolute path",
            ),
            (
                GuestConfig {
                    workload: Some(Workload {
                        argv: vec![],
                        env: BTreeMap::new(),
                        cwd: None,
                        user: User::default(),
                        stdin: false,
                    }),
                    ..good
                },
                "guest configuration: workload.argv names no program",
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn debug_shows_no_environment_value() {
        let mut config = GuestConfig::idle("s", 1);
        config.exec_env.insert("API_KEY".into(), "hunter2".into());
        config.workload = Some(Workload {
            argv: vec!["true".into()],
            env: BTreeMap::from([("OTHER".into(), "hunter2".into())]),
            cwd: None,
            user: User::default(),
            stdin: false,
        });
        let shown = format!("{config:?}");
        assert!(shown.contains("API_KEY") && shown.contains("OTHER"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
