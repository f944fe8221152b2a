//! The API server alone, in a process of its own: what `atoll bench api` measures where no plane is up. The same store,
//! the same server, the same listener as the plane's, and nothing that would be its client.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, definitions};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_rt::listen::serve_https;
use atoll_stdx::chain;
use atoll_store::Store;

use super::pki::Pki;
use crate::failure::{Exit, Failure};
use crate::state::StateDir;

const ARGUMENT: &str = "__apiserver";
/// Said on standard output, with a line break, once it answers.
pub(crate) const READY: &str = "ready";
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How it is started on a state directory. It ends with its standard input.
pub(crate) fn arguments(root: &Path) -> [OsString; 2] {
    [ARGUMENT.into(), root.into()]
}

/// Becomes the API server if this process was started as one.
pub(crate) fn role() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let root = PathBuf::from(arguments.next().unwrap_or_default());
    Some(match run(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("the API server cannot start: {}", failure.message());
            failure.exit_code()
        }
    })
}

fn run(root: &Path) -> Result<(), Failure> {
    atoll_rt::tls::install_crypto_provider();
    let failed = |attempted: &str, error: &(dyn std::error::Error + 'static)| {
        Failure::new(Exit::Failure, format!("{attempted}: {}", chain(error)))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start the runtime", &error))?;
    runtime.block_on(async {
        let state = StateDir::new(root);
        let group = TaskGroup::new("apiserver");
        let pki = Pki::load_or_create(&state)?;
        let store =
            Store::open(state.control_database(), &group).map_err(|error| failed("cannot open the store", &error))?;
        let config = ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens: Vec::new(),
            clock: Arc::new(SystemClock),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.map_err(|error| failed("cannot build it", &error))?;
        let listener =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed("cannot listen", &error))?;
        let address = listener.local_addr().map_err(|error| failed("cannot listen", &error))?;
        write_private(&state.kubeconfig(), &pki.kubeconfig(&format!("https://{address}")))
            .map_err(|error| failed("cannot write the kubeconfig", &error))?;
        serve_https(&group, listener, Arc::clone(&pki.tls), server.service());
        println!("{READY}");
        let _told = std::io::stdout().flush();
        let ended = group.spawn_blocking("standard-input", || {
            let _until_it_ends = std::io::stdin().read(&mut [0]);
        });
        let _joined = ended.await;
        drop(server);
        group.drain(DRAIN_TIMEOUT).await;
        Ok(())
    })
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file?.write_all(text.as_bytes())
}
