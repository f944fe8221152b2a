//! `git_operations push`: the agent's commits leave the sandbox as a bundle, are checked, and are pushed by the plane.

use atoll_engine::{ToolResult, ToolStatus};
use atoll_stdx::{Hint, chain};
use serde_json::Value;

use super::{NotDone, Plan, Site, text, told};
use crate::git::GitError;
use crate::repos::{RESULT_BYTES_MAX, is_pushable};
use crate::workspace;

/// Fetches the work and says where it would go.
pub(super) async fn plan(input: &Value, site: &Site<'_>) -> Result<Plan, NotDone> {
    let Some(remote) = site.agent.repo.as_ref().and_then(|repo| repo.remote_url.as_deref()) else {
        return Err(NotDone("Not pushed: the project has no remote. Its work is handed over as a branch.".to_owned()));
    };
    if !is_pushable(remote) {
        return Err(NotDone("Not pushed: the project's remote is not one that can be pushed to.".to_owned()));
    }
    let branch = text(input, "name").map_or_else(|| site.repo.branch(), str::to_owned);
    if !is_branch_name(&branch) {
        return Err(NotDone(format!("Not pushed: `{branch}` is not a branch name.")));
    }
    let key = format!("{}/push", site.key);
    let start = site.agent.workspace.commit.as_deref().unwrap_or_default();
    let commit = match workspace::collect(site.bench, site.agent, key, RESULT_BYTES_MAX).await {
        Ok(None) => return Err(NotDone("Not pushed: there is nothing new to push.".to_owned())),
        Ok(Some(bundle)) => match site.repo.take_in(&bundle, start, site.agent.id).await {
            Ok(work) if work.side_branch.is_none() => work.commit,
            Ok(work) => {
                let files = work.conflicts.join(", ");
                return Err(NotDone(format!(
                    "Not pushed: the work does not go together with what other agents did, in {files}."
                )));
            }
            Err(error) => return Err(NotDone(format!("Not pushed: {}.", chain(&error)))),
        },
        Err(error) => return Err(NotDone(format!("Not pushed: {}.", chain(&error)))),
    };
    Ok(Plan::Push { remote: remote.to_owned(), branch, commit })
}

pub(super) async fn carry_out(remote: &str, branch: &str, commit: &str, site: &Site<'_>) -> ToolResult {
    let shown = without_password(remote);
    match site.repo.push(remote, commit, branch).await {
        Ok(_) => told(ToolStatus::Ok, format!("Pushed {commit} to {branch} of {shown}.")),
        Err(error) => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let story = chain(&error).replace(remote, &shown);
            // A push that was cut off may have arrived.
            let cut_off = matches!(error, GitError::Timeout { .. });
            let status = if cut_off { ToolStatus::OutcomeUnknown } else { ToolStatus::Failed };
            told(status, format!("The push to {shown} failed: {story}{hint}"))
        }
    }
}

/// An address without the name and password that a URL may carry.
fn without_password(remote: &str) -> String {
    match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => remote.to_owned(),
    }
}

/// The rules of `git check-ref-format --branch`, a little stricter.
fn is_branch_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    let parts_fine = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"));
    !name.starts_with('-') && !name.ends_with('.') && !name.contains("..") && name.chars().all(plain) && parts_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_are_plain() {
        for (name, good) in [
            ("main", true),
            ("feature/a-b_c.1", true),
            ("", false),
            ("-f", false),
            ("a..b", false),
            ("a b", false),
            ("a:b", false),
            ("/a", false),
            ("a.lock", false),
            ("a/.b", false),
        ] {
            assert_eq!(is_branch_name(name), good, "{name:?}");
        }
    }

    #[test]
    fn passwords_are_not_told() {
        assert_eq!(without_password("https://me:secret@example.org/a/b.git"), "https://example.org/a/b.git");
        assert_eq!(without_password("git@example.org:a.git"), "git@example.org:a.git");
    }
}
