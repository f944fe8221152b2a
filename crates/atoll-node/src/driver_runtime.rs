//! The machine's own driver as a [`PodRuntime`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_client::sandbox::{ExecRequest, Kernel, SandboxConnection};
use atoll_sandbox::launcher::protocol::RefusalKind;
use atoll_sandbox::{DriverError, ExitRecord, RunningSandbox, SandboxDriver, SandboxRecord, SandboxSpec, Tier};
use atoll_stdx::Hint;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::runtime::{CheckOutcome, GuestEndpoint, PodRuntime, Question, RuntimeError, RuntimeErrorKind};

/// How long a guest that was just started may take to answer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a sandbox whose guest broke off may take to be recorded.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Output of a probe's command that is read at most.
const PROBE_OUTPUT_BYTES_MAX: usize = 10 * 1024;
/// The older part of a log.
const ROTATED_SUFFIX: &str = ".1";
/// Politely stopping is signal 15 everywhere.
const SIGTERM: i32 = 15;
const STATUS_LINE_BYTES_MAX: u64 = 1024;

/// Adds to a sandbox, just before it is made, what the machine's administrator wants in it.
#[async_trait]
pub trait Furnish: Send + Sync + 'static {
    /// The specification with the additions.
    async fn furnish(&self, spec: SandboxSpec) -> SandboxSpec;
}

/// Runs Pods with the sandbox driver.
#[derive(Clone)]
pub struct DriverRuntime {
    driver: SandboxDriver,
    kept_logs: PathBuf,
    furnish: Option<Arc<dyn Furnish>>,
}

impl DriverRuntime {
    /// Over a connected driver; logs of containers that were started anew are kept in the directory `kept_logs`.
    #[must_use]
    pub fn new(driver: SandboxDriver, kept_logs: PathBuf) -> Self {
        Self { driver, kept_logs, furnish: None }
    }

    /// With additions to every sandbox.
    #[must_use]
    pub fn furnished(self, furnish: Arc<dyn Furnish>) -> Self {
        Self { furnish: Some(furnish), ..self }
    }

    async fn keep_log(&self, id: &str) -> std::io::Result<()> {
        tokio::fs::create_dir_all(&self.kept_logs).await?;
        self.forget_log(id).await;
        for suffix in ["", ROTATED_SUFFIX] {
            let from = with_suffix(&self.driver.logs_path(id), suffix);
            match tokio::fs::copy(&from, with_suffix(&self.kept_logs.join(id), suffix)).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

/// Whether what the guest sees of its kernel agrees with the tier. A guest that does not look is older than all tiers
/// but the native one.
fn is_as_promised(tier: Tier, kernel: Option<Kernel>) -> bool {
    match tier {
        Tier::Native => kernel != Some(Kernel::Gvisor),
        Tier::Gvisor => kernel == Some(Kernel::Gvisor),
    }
}

#[async_trait]
impl PodRuntime for DriverRuntime {
    async fn create(&self, spec: SandboxSpec) -> Result<RunningSandbox, RuntimeError> {
        let spec = match &self.furnish {
            Some(furnish) => furnish.furnish(spec).await,
            None => spec,
        };
        let running = self.driver.create(spec).await?;
        let guest = SandboxConnection::over_unix(&running.guest_socket);
        let problem = match tokio::time::timeout(HELLO_TIMEOUT, guest.hello()).await {
            Ok(Ok(hello)) if is_as_promised(running.tier_in_force, hello.kernel) => return Ok(running),
            Ok(Ok(hello)) => {
                format!("it finds itself on {:?}, which is not the tier {}", hello.kernel, running.tier_in_force)
            }
            Ok(Err(error)) => atoll_stdx::chain(&error),
            Err(_elapsed) => "it did not answer in time".to_owned(),
        };
        // A workload that ended at once took its guest with it: that is an exit, not a failed start.
        if let Ok(Ok(_exit)) = tokio::time::timeout(EXIT_TIMEOUT, self.driver.wait(&running.id)).await {
            return Ok(running);
        }
        self.driver.destroy(&running.id, 0).await?;
        Err(RuntimeError::new(RuntimeErrorKind::StartFailed, format!("the sandbox's guest is of no use: {problem}")))
    }

    async fn destroy(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError> {
        Ok(self.driver.destroy(id, grace_ms).await?)
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        Ok(self.driver.signal(id, signal).await?)
    }

    async fn wait(&self, id: &str) -> Result<ExitRecord, RuntimeError> {
        Ok(self.driver.wait(id).await?)
    }

    async fn list(&self) -> Result<Vec<SandboxRecord>, RuntimeError> {
        Ok(self.driver.list().await?)
    }

    async fn make_volume(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        Ok(self.driver.make_volume(name).await?)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        Ok(self.driver.remove_volume(name).await?)
    }

    async fn list_volumes(&self) -> Result<Vec<String>, RuntimeError> {
        Ok(self.driver.list_volumes().await?)
    }

    fn log_path(&self, id: &str, previous: bool) -> PathBuf {
        if previous { self.kept_logs.join(id) } else { self.driver.logs_path(id) }
    }

    async fn destroy_keeping_log(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError> {
        if grace_ms > 0 && self.driver.signal(id, SIGTERM).await.is_ok() {
            // Whether it stopped by itself or not, it is removed next.
            let _ = tokio::time::timeout(Duration::from_millis(grace_ms), self.driver.wait(id)).await;
        }
        if let Err(error) = self.keep_log(id).await {
            tracing::warn!(sandbox = id, cause = %error, "the log of a container that is started anew is lost");
        }
        Ok(self.driver.destroy(id, 0).await?)
    }

    async fn forget_log(&self, id: &str) {
        for suffix in ["", ROTATED_SUFFIX] {
            // Most have none.
            let _ = tokio::fs::remove_file(with_suffix(&self.kept_logs.join(id), suffix)).await;
        }
    }

    async fn kept_logs(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let Ok(mut entries) = tokio::fs::read_dir(&self.kept_logs).await else { return ids };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if let Ok(name) = entry.file_name().into_string() {
                ids.push(name.strip_suffix(ROTATED_SUFFIX).unwrap_or(&name).to_owned());
            }
        }
        ids
    }

    async fn check(&self, guest: &GuestEndpoint, question: &Question, limit: Duration) -> CheckOutcome {
        let answer = async {
            match question {
                Question::Exec { argv } => ask_command(guest, argv, limit).await,
                Question::Tcp { port } => connect(guest, *port).await.map(drop),
                Question::Http { port, path, headers } => ask_http(guest, *port, path, headers).await,
            }
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(())) => CheckOutcome::Passed,
            Ok(Err(why)) => CheckOutcome::Failed(why),
            Err(_elapsed) => CheckOutcome::Failed("no answer in time".to_owned()),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl From<DriverError> for RuntimeError {
    fn from(error: DriverError) -> Self {
        let kind = match &error {
            DriverError::LauncherGone => RuntimeErrorKind::Gone,
            _ => match error.refusal_kind() {
                Some(RefusalKind::Unsupported) => RuntimeErrorKind::Unsupported,
                Some(RefusalKind::Invalid) => RuntimeErrorKind::Invalid,
                Some(RefusalKind::NotFound) => RuntimeErrorKind::NotFound,
                Some(RefusalKind::AlreadyExists) => RuntimeErrorKind::AlreadyExists,
                Some(RefusalKind::AddressInUse) => RuntimeErrorKind::AddressInUse,
                Some(RefusalKind::Exhausted) => RuntimeErrorKind::Exhausted,
                Some(RefusalKind::StartFailed) => RuntimeErrorKind::StartFailed,
                Some(RefusalKind::Internal) | None => RuntimeErrorKind::Internal,
            },
        };
        Self { kind, message: atoll_stdx::chain(&error), hint: error.hint() }
    }
}

async fn ask_command(guest: &GuestEndpoint, argv: &[String], limit: Duration) -> Result<(), String> {
    let mut request = ExecRequest::new(argv.iter().cloned());
    request.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let told = |error: atoll_client::sandbox::SandboxError| atoll_stdx::chain(&error);
    let session = SandboxConnection::over_unix(&guest.socket).exec(request).await.map_err(told)?;
    let output = session.output(PROBE_OUTPUT_BYTES_MAX).await.map_err(told)?;
    match output.exit.code {
        0 => Ok(()),
        code => Err(format!("command exited with {code}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

async fn connect(guest: &GuestEndpoint, port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::from((guest.address, port));
    TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {error}"))
}

async fn ask_http(guest: &GuestEndpoint, port: u16, path: &str, headers: &[(String, String)]) -> Result<(), String> {
    let is_clean = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head =
        format!("GET {slash}{path} HTTP/1.1\r\nuser-agent: kube-probe/atoll\r\naccept: */*\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {}:{port}\r\n", guest.address));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if !is_clean(path) || path.contains(' ') || !headers.iter().all(|(name, value)| is_clean(name) && is_clean(value)) {
        return Err("the probe's path or headers hold control characters".to_owned());
    }
    let mut stream = connect(guest, port).await?;
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(STATUS_LINE_BYTES_MAX));
    reader.read_line(&mut line).await.map_err(|error| error.to_string())?;
    let code = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.trim().parse::<u16>().ok());
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}
