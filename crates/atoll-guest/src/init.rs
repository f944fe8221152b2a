//! The role `init`: PID 1 of a sandbox.
//!
//! Threads: the main thread reaps and decides when the sandbox ends; one thread accepts connections; each connection
//! has a thread; each command has one that moves its bytes. Whatever touches the file system on behalf of a client runs
//! in a thread that has taken on the workload's file-system identity and ends afterwards.

mod accounts;
mod boot;
mod clock;
mod exec;
mod files;
mod harden;
mod http;
mod identity;
mod kernel;
mod landlock;
mod listening;
mod process;
mod pty;
mod reap;
mod runtime_api;
mod seccomp;
mod serve;
mod session;
mod shell_words;
pub(crate) mod signals;
mod spawn;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use atoll_guest::protocol::{EXIT_CODE_BAD_CONFIG, GuestConfig, Kernel};

use exec::Execs;
use process::Processes;
use reap::{Stop, Workload};

/// What all threads share.
pub(crate) struct Guest {
    pub(crate) config: GuestConfig,
    pub(crate) kernel: Kernel,
    pub(crate) booted_ms: u64,
    pub(crate) processes: Arc<Processes>,
    pub(crate) execs: Execs,
    pub(crate) workload: Workload,
    pub(crate) stop: Stop,
}

impl Guest {
    /// Base of relative paths, and working directory of commands.
    pub(crate) fn base_dir(&self) -> &str {
        let from_env = self.config.exec_env.get("SANDBOX_BASE_DIR").filter(|path| path.starts_with('/'));
        from_env.unwrap_or(&self.config.base_dir)
    }

    /// A directory as clients name it: absolute, relative to the base directory, or that directory itself.
    pub(crate) fn directory(&self, named: Option<&str>) -> String {
        match named {
            None | Some("") => self.base_dir().to_owned(),
            Some(absolute) if absolute.starts_with('/') => absolute.to_owned(),
            Some(relative) => format!("{}/{relative}", self.base_dir()),
        }
    }
}

/// The role's `main`: returns when the sandbox is over.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            complain(&*problem);
            ExitCode::from(EXIT_CODE_BAD_CONFIG)
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let booted_ms = clock::monotonic_ms();
    let boot::Boot { config, door } = boot::Boot::inherit()?;
    let kernel = kernel::look();
    harden::harden_this_process(&config)?;
    let signals = signals::Signals::block_and_open()?;
    let processes = Arc::new(Processes::open()?);
    let guest = Arc::new(Guest {
        execs: Execs::new(config.incarnation, Arc::clone(&processes)),
        workload: Workload::default(),
        stop: Stop::new()?,
        booted_ms,
        processes,
        config,
        kernel,
    });
    serve::start(&guest, door)?;
    Ok(reap::run(&guest, &signals))
}

/// Says on standard error (the sandbox's log) why the guest can not go on.
fn complain(problem: &dyn std::error::Error) {
    let mut text = format!("atoll-guest: {problem}");
    let mut source = problem.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let _ = writeln!(io::stderr(), "{text}");
}
