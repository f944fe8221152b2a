//! Running every check and test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::outcome::Counts;
use crate::{environment, say, tidy};

/// No test, and no build of a crate, is silent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(900);

/// Everything that CI runs. True when nothing failed.
pub(crate) fn test() -> Result<bool> {
    let mut counts = Counts::default();
    let tidy = tidy::run()?;
    counts.add(Counts { passed: i64::from(tidy), failed: i64::from(!tidy), skipped: 0 });
    let clippy = clippy()?;
    counts.add(Counts { passed: i64::from(clippy), failed: i64::from(!clippy), skipped: 0 });
    counts.add(cargo_test(&[])?);
    say("");
    say(&counts.to_string());
    Ok(counts.failed == 0)
}

/// The long counts, with a report.
pub(crate) fn soak() -> Result<bool> {
    let started = Instant::now();
    let counts = cargo_test(&[("ATOLL_SOAK", "1")])?;
    let date = Command::new("date").arg("+%Y-%m-%d-%H%M%S").output().context("cannot ask for the date")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let dir = environment::root().join("target/soak");
    fs::create_dir_all(&dir)?;
    let report = dir.join(format!("{date}.md"));
    let seconds = started.elapsed().as_secs();
    let log = fs::read_to_string(environment::root().join("target/test.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("SOAK ")).collect();
    fs::write(&report, format!("# Soak of {date}\n\n{counts}, {seconds} s\n\n{}\n", lines.join("\n")))?;
    say(&format!("{}", report.display()));
    say(&counts.to_string());
    Ok(counts.failed == 0)
}

fn clippy() -> Result<bool> {
    say("clippy");
    let status = Command::new(cargo())
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .current_dir(environment::root())
        .env("PATH", environment::path_without_hidden_tools()?)
        .status()
        .context("cannot run cargo clippy")?;
    Ok(status.success())
}

/// Runs the tests of the workspace. Counts what ran; a build that fails counts as one failure.
fn cargo_test(variables: &[(&str, &str)]) -> Result<Counts> {
    let mut command = Command::new(cargo());
    command
        // One at a time: several tests count writes or make sandboxes, and disturb each other on two cores.
        .args(["test", "--workspace", "--no-fail-fast", "--", "--show-output", "--test-threads=1"])
        .current_dir(environment::root())
        .env("PATH", environment::path_without_hidden_tools()?)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped());
    if let Some(python) = environment::python()? {
        command.env("ATOLL_TEST_PYTHON", python);
    }
    if let Some(client) = environment::go_client()? {
        command.env("ATOLL_TEST_GO_CLIENT", client);
    }
    if let Some(runsc) = environment::runsc() {
        command.env("ATOLL_TEST_RUNSC", runsc);
    }
    let mut child = command.spawn().context("cannot run cargo test")?;
    let lines = lines_of(child.stdout.take().expect("it is piped"));
    let mut counts = Counts::default();
    let mut log = String::new();
    let mut ended = None;
    let mut last_heard = Instant::now();
    let left_behind = loop {
        match lines.recv_timeout(Duration::from_secs(5)) {
            Ok(line) => {
                last_heard = Instant::now();
                counts.read(&line);
                if is_worth_showing(&line) {
                    say(&line);
                }
                log.push_str(&line);
                log.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) if ended.is_some() => break true,
            Err(RecvTimeoutError::Timeout) => {
                ended = child.try_wait()?;
                if ended.is_none() && last_heard.elapsed() > SILENCE_MAX {
                    say(&format!("nothing was heard for {} s after: {}", SILENCE_MAX.as_secs(), last_line(&log)));
                    child.kill()?;
                }
            }
        }
    };
    fs::write(environment::root().join("target/test.log"), &log)?;
    let status = child.wait()?;
    if left_behind {
        say("a test left a process behind, which still holds the output");
        counts.failed += 1;
    }
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    if counts.failed > 0 {
        say("the whole output is in target/test.log; what failed:");
        log.lines().skip_while(|line| *line != "failures:").for_each(say);
    }
    Ok(counts)
}

fn last_line(log: &str) -> &str {
    log.lines().last().unwrap_or("the start")
}

/// The lines of a pipe. The channel ends when nothing can write to the pipe any more, which may be later than the child.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// With `--show-output` a test that passes repeats what it printed: of that, only why it was skipped and what it
/// measured is worth a line.
fn is_worth_showing(line: &str) -> bool {
    ["test result:", "SKIPPED ", "SOAK ", "BENCH "].iter().any(|start| line.starts_with(start))
        || line.ends_with("... FAILED")
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
