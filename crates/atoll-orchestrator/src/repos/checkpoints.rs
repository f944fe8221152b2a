//! Checkpoints of a run's work: its commits, each of which can be gone back to.

use super::{Repo, RepoError};

/// Commits that are told of.
const CHECKPOINTS_MAX: usize = 1000;

/// One state of the run's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) commit: String,
    pub(crate) author: String,
    pub(crate) title: String,
    pub(crate) at_ms: u64,
}

impl Repo {
    /// The states of the run's work, oldest first; the first is where the run started.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<Checkpoint>, RepoError> {
        let (base, head) = (self.base().await?, self.head().await?);
        let limit = format!("--max-count={CHECKPOINTS_MAX}");
        let format = "--format=%H%x09%an%x09%ct%x09%s";
        let range = format!("{base}..{head}");
        let arguments = ["log", "--first-parent", "--no-show-signature", &limit, format, &range];
        let listed = self.git.run(&arguments).await.map_err(RepoError::Git)?;
        let mut found: Vec<Checkpoint> = listed.lines().filter_map(checkpoint).collect();
        let start = self.git.run(&["log", "-1", "--no-show-signature", format, &base]).await.map_err(RepoError::Git)?;
        found.extend(checkpoint(&start));
        found.reverse();
        Ok(found)
    }

    /// Makes the files of the run's work what they were in `commit`, as a new commit on top: nothing is forgotten, and
    /// whoever fetched the branch before can fetch it again. Returns the new end of the branch, or the old one when the
    /// files are the same.
    pub(crate) async fn restore(&self, commit: &str, message: &str) -> Result<String, RepoError> {
        let head = self.head().await?;
        let tree = async |of: &str| {
            let name = format!("{of}^{{tree}}");
            self.git.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await.map_err(RepoError::Git)
        };
        let (wanted, current) = (tree(commit).await?, tree(&head).await?);
        if wanted == current {
            return Ok(head);
        }
        // The date is that of the work: the same restoring makes the same commit.
        let date = self.git.run(&["log", "-1", "--format=%cI", &head]).await.map_err(RepoError::Git)?;
        let arguments = ["commit-tree", "-p", &head, "-m", message, &wanted];
        let made = self.git.dated(&date).run(&arguments).await.map_err(RepoError::Git)?;
        self.git.run(&["update-ref", &self.head_ref(), &made, &head]).await.map_err(RepoError::Git)?;
        Ok(made)
    }
}

fn checkpoint(line: &str) -> Option<Checkpoint> {
    let mut fields = line.splitn(4, '\t');
    let (commit, author, at) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Checkpoint {
        commit: commit.to_owned(),
        author: author.to_owned(),
        title: fields.next().unwrap_or_default().to_owned(),
        at_ms: at.parse::<u64>().ok()?.saturating_mul(1000),
    })
}
