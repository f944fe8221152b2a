//! The API server alone, as a process of its own: how long it takes to start, and how much memory it has then.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::args::BenchApiArgs;
use crate::commands::bench::measure::{Row, Samples, resident_kib};
use crate::commands::bench::private_state_dir;
use crate::commands::block_on;
use crate::failure::{Exit, Failure};
use crate::serve::alone;

/// Starts that are timed.
const STARTS: u32 = 9;

/// A running server. Dropping it ends it.
struct Server {
    process: Child,
    root: PathBuf,
    /// From its start until it answers.
    took: Duration,
}

impl Server {
    fn start(root: &Path) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::because(Exit::Failure, "cannot start an API server to measure", &error);
        let started = Instant::now();
        let mut process = Command::new("/proc/self/exe")
            .args(alone::arguments(root))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).map_err(failed)?;
        let server = Self { process, root: root.to_owned(), took: started.elapsed() };
        if line.trim_end() == alone::READY {
            return Ok(server);
        }
        Err(Failure::new(Exit::Failure, "the API server to measure ended before it answered"))
    }

    fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    fn resident_mib(&self) -> Result<f64, Failure> {
        resident_kib(self.process.id()).map(|kib| kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.process.stdin.take());
        let _reaped = self.process.wait();
    }
}

/// Everything that is measured of a server alone.
pub(in crate::commands::bench) fn measure(args: &BenchApiArgs) -> Result<Vec<Row>, Failure> {
    let mut rows = starts(args)?;
    let dir = private_state_dir("atoll-bench-")?;
    let server = Server::start(dir.path())?;
    rows.extend(block_on(super::measure(&server.kubeconfig(), args))?);
    rows.push(Row::value("server_rss_after", "MiB", server.resident_mib()?));
    drop(server);
    let dir = private_state_dir("atoll-bench-")?;
    let server = Server::start(dir.path())?;
    rows.extend(block_on(super::watch_sandboxes(&server.kubeconfig(), args))?);
    rows.push(Row::value("server_rss_sandboxes", "MiB", server.resident_mib()?));
    Ok(rows)
}

/// On an empty state directory, and on one with objects.
fn starts(args: &BenchApiArgs) -> Result<Vec<Row>, Failure> {
    let mut first = Samples::default();
    for _ in 1..STARTS {
        let dir = private_state_dir("atoll-bench-")?;
        first.record(Server::start(dir.path())?.took, true);
    }
    let dir = private_state_dir("atoll-bench-")?;
    let server = Server::start(dir.path())?;
    first.record(server.took, true);
    let just_up = server.resident_mib()?;
    block_on(super::fill(&server.kubeconfig(), args))?;
    let filled = server.resident_mib()?;
    drop(server);
    let mut again = Samples::default();
    let mut restarted = 0.0;
    for _ in 0..STARTS {
        let server = Server::start(dir.path())?;
        again.record(server.took, true);
        restarted = server.resident_mib()?;
    }
    Ok(vec![
        first.row("server_first_start"),
        Row::value("server_rss_just_up", "MiB", just_up),
        Row::value(&format!("server_rss_{}_objects", args.objects), "MiB", filled),
        again.row(&format!("server_restart_{}_objects", args.objects)),
        Row::value(&format!("server_rss_restarted_{}_objects", args.objects), "MiB", restarted),
    ])
}
