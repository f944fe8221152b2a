//! The policy's file while the plane runs: read again when it changes. What is broken or can not be read is said and not
//! taken; the old policy holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_orchestrator::Orchestrator;
use atoll_policy::Policy;
use atoll_rt::TaskGroup;
use atoll_stdx::chain;
use tokio::io::AsyncReadExt;

/// How often the file is looked at. Its content counts, not its time: mounted configuration is swapped by links.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A policy file may be this large.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

/// Looks at the file until the plane stops.
pub(super) fn watch(file: PathBuf, orchestrator: Orchestrator, group: &TaskGroup) {
    let stopping = group.token();
    group.spawn("policy-file", async move {
        let mut told = String::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match look(&file).await {
                Ok(policy) => {
                    let agents = policy.agents().count();
                    if let Err(error) = orchestrator.replace_policy(policy).await {
                        tracing::error!(file = %file.display(), cause = chain(&error), "the policy was not replaced");
                    } else if !std::mem::take(&mut told).is_empty() {
                        tracing::info!(file = %file.display(), agents, "the policy's file can be used again");
                    }
                }
                Err(why) if why != told => {
                    tracing::error!(file = %file.display(), why, "the policy's file is not taken; the old policy holds");
                    if let Err(error) = orchestrator.reject_policy(&why).await {
                        tracing::error!(cause = chain(&error), "that could not be put on record");
                    }
                    told = why;
                }
                Err(_said_before) => {}
            }
        }
    });
}

async fn look(file: &Path) -> Result<Policy, String> {
    let text = read(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
    Policy::parse(&text, &file.display().to_string()).map_err(|error| {
        let expected = error.expected.as_ref().map(|expected| format!("; expected {expected}")).unwrap_or_default();
        format!("{}:{}:{}: {}{expected}", error.file, error.line, error.column, error.message)
    })
}

async fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(file).await?.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text).await?;
    if text.len() as u64 > POLICY_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than a policy may be"));
    }
    Ok(text)
}
