//! Finding a plane, starting one in the background, and talking to its three addresses.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use atoll_api::v1;
use atoll_client::sandbox::{RouterEndpoint, SandboxConnection, SandboxRef};
use atoll_stdx::Secret;

use crate::args::{GlobalArgs, ModelArgs, UpArgs};
use crate::failure::{Exit, Failure};
use crate::printer::Printer;
use crate::state::{PlaneInfo, StateDir};

/// How long a plane may take to answer after it was started.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running plane.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) info: PlaneInfo,
    pub(crate) state: StateDir,
    http: reqwest::Client,
}

impl Plane {
    /// The plane on this state directory.
    pub(crate) fn find(global: &GlobalArgs) -> Result<Self, Failure> {
        let state = StateDir::new(&global.state_dir);
        match state.running()? {
            Some(info) => Self::connect(state, info),
            None => Err(Failure::new(Exit::Unreachable, format!("no plane runs on {}", state.root().display()))
                .hint("start one with `atoll up --detach`")),
        }
    }

    /// The plane on this state directory; one is started in the background if there is none.
    pub(crate) fn find_or_start(global: &GlobalArgs, model: &ModelArgs, printer: &Printer) -> Result<Self, Failure> {
        let state = StateDir::new(&global.state_dir);
        if let Some(info) = state.running()? {
            return Self::connect(state, info);
        }
        printer.note("no plane is running: starting one in the background (stop it with `atoll down`)");
        let info = start_in_background(&state, &options_of_environment(model.clone())?)?;
        Self::connect(state, info)
    }

    pub(crate) fn connect(state: StateDir, info: PlaneInfo) -> Result<Self, Failure> {
        atoll_rt::tls::install_crypto_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Failure::because(Exit::Failure, "cannot make an HTTP client", &error))?;
        Ok(Self { info, state, http })
    }

    /// A client of the Kubernetes API.
    pub(crate) async fn kube(&self) -> Result<kube::Client, Failure> {
        atoll_client::from_kubeconfig(&self.state.kubeconfig(), None)
            .await
            .map_err(|error| Failure::because(Exit::Unreachable, "cannot use the plane's kubeconfig", &error))
    }

    /// The way into one sandbox.
    pub(crate) fn sandbox(&self, namespace: &str, name: &str) -> SandboxConnection {
        let endpoint =
            RouterEndpoint { base_url: self.info.router_url.clone(), token: Secret::new(self.info.token.clone()) };
        SandboxConnection::over_router(
            endpoint,
            SandboxRef { namespace: namespace.to_owned(), name: name.to_owned(), uid: None },
        )
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        // A person may have a token of their own, which the policy knows.
        let own = std::env::var("ATOLL_TOKEN").ok().filter(|token| !token.is_empty());
        let token = own.as_ref().unwrap_or(&self.info.token);
        self.http.request(method, format!("{}{path}", self.info.platform_url)).bearer_auth(token)
    }

    /// `GET` of a JSON document of the platform API.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        decode(self.request(reqwest::Method::GET, path).send().await).await
    }

    /// `POST` of a JSON document to the platform API.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        decode(self.request(reqwest::Method::POST, path).json(body).send().await).await
    }

    /// `PUT` of bytes to the platform API.
    pub(crate) async fn put_bytes<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        decode(self.request(reqwest::Method::PUT, path).body(body).send().await).await
    }
}

async fn decode<T: DeserializeOwned>(sent: reqwest::Result<reqwest::Response>) -> Result<T, Failure> {
    let response = accept(sent).await?;
    response
        .json()
        .await
        .map_err(|error| Failure::because(Exit::Failure, "the plane's answer could not be understood", &error))
}

/// A successful answer, or the failure that it describes.
pub(crate) async fn accept(sent: reqwest::Result<reqwest::Response>) -> Result<reqwest::Response, Failure> {
    let response = sent.map_err(|error| {
        Failure::because(Exit::Unreachable, "cannot reach the plane", &error).hint("see `atoll status`")
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let exit = match status.as_u16() {
        404 => Exit::NotFound,
        401 | 403 => Exit::Refused,
        _ => Exit::Failure,
    };
    match response.json::<v1::ErrorBody>().await {
        Ok(body) => Err(Failure::new(exit, body.error.message).hint_of(body.error.hint)),
        Err(_) => Err(Failure::new(exit, format!("the plane answered {status}"))),
    }
}

/// How a plane is started that nobody gave options for, but for its model.
pub(crate) fn options_of_environment(model: ModelArgs) -> Result<UpArgs, Failure> {
    let options = UpArgs::of_environment()
        .map_err(|error| Failure::because(Exit::Usage, "an environment variable cannot be used", &error))?;
    Ok(UpArgs { model, ..options })
}

/// Starts a plane in the background and waits until it answers.
pub(crate) fn start_in_background(state: &StateDir, options: &UpArgs) -> Result<PlaneInfo, Failure> {
    require_root()?;
    std::fs::create_dir_all(state.root())
        .map_err(|error| Failure::because(Exit::State, format!("cannot make {}", state.root().display()), &error))?;
    let log_path = state.log_path();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|error| Failure::because(Exit::State, format!("cannot open {}", log_path.display()), &error))?;
    let log_start = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = background_command(state, options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| Failure::because(Exit::Failure, "cannot start the plane", &error))?;

    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(info) = state.running()? {
            return Ok(info);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(died(&log_path, log_start, status.code()));
        }
        if Instant::now() > deadline {
            // It did not become a plane; leave nothing half started behind.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::new(Exit::Unreachable, "the plane did not answer in time")
                .hint(format!("see {}", log_path.display())));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn background_command(state: &StateDir, options: &UpArgs) -> Command {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new("/proc/self/exe");
    command.arg0("atoll").arg("--state-dir").arg(state.root()).arg("up").args(options.to_words());
    // A group of its own, so that Ctrl-C in the terminal that started it does not reach it.
    command.process_group(0);
    command
}

/// The end of what a plane that died wrote, told as this command's own failure.
fn died(log_path: &Path, log_start: u64, code: Option<i32>) -> Failure {
    let log = std::fs::read(log_path).unwrap_or_default();
    let tail =
        String::from_utf8_lossy(log.get(usize::try_from(log_start).unwrap_or(0)..).unwrap_or_default()).into_owned();
    let message = tail.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it gave no reason");
    let hint = tail.lines().rev().find_map(|line| line.strip_prefix("hint: ")).map(str::to_owned);
    let exit = match code {
        Some(5) => Exit::Machine,
        Some(6) => Exit::State,
        Some(2) => Exit::Usage,
        _ => Exit::Failure,
    };
    Failure::new(exit, format!("the plane did not start: {message}"))
        .hint_of(hint.or_else(|| Some(format!("see {}", log_path.display()))))
}

/// Starting a plane needs root: it makes namespaces, cgroups and links.
pub(crate) fn require_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Exit::Machine, "starting a plane needs root: it makes namespaces, cgroups and network links")
        .hint("run it with sudo; the plane itself gives these rights up and keeps them in one small launcher"))
}
