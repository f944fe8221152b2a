//! Bringing the work of agents together that began at the same commit. Objects alone are worked on: no working tree, no
//! merge driver, no hook.

use super::{Repo, RepoError};

/// What became of two lines of work.
pub(super) enum Merged {
    /// The commit that has both.
    Commit(String),
    /// The files in which they do not go together.
    Conflict(Vec<String>),
}

impl Repo {
    /// Brings `theirs` together with `ours`.
    pub(super) async fn merged(&self, ours: &str, theirs: &str) -> Result<Merged, RepoError> {
        if self.is_ancestor(ours, theirs).await? {
            return Ok(Merged::Commit(theirs.to_owned()));
        }
        if self.is_ancestor(theirs, ours).await? {
            return Ok(Merged::Commit(ours.to_owned()));
        }
        let arguments = ["merge-tree", "--write-tree", "--name-only", "--no-messages", ours, theirs];
        let (clean, told) = self.git.ask(&arguments).await.map_err(RepoError::Git)?;
        let mut lines = told.lines();
        let tree = lines.next().unwrap_or_default();
        if !clean {
            return Ok(Merged::Conflict(lines.map(str::to_owned).collect()));
        }
        let date = self.git.run(&["log", "-1", "--format=%cI", theirs]).await.map_err(RepoError::Git)?;
        let commit = ["commit-tree", "-p", ours, "-p", theirs, "-m", "Merge work done at the same time", tree];
        self.git.dated(&date).run(&commit).await.map(Merged::Commit).map_err(RepoError::Git)
    }

    async fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool, RepoError> {
        let asked = self.git.ask(&["merge-base", "--is-ancestor", older, newer]).await;
        asked.map(|(yes, _)| yes).map_err(RepoError::Git)
    }
}
