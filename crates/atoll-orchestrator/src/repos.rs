//! The plane's copies of the repositories that runs work on: one bare repository per run.
//!
//! | ref | meaning |
//! |---|---|
//! | `refs/atoll/base` | the commit the run started from |
//! | `refs/heads/atoll/<run>` | the run's work: what people get |
//! | `refs/heads/atoll/<run>-<agent>` | an agent's work that could not be merged |
//! | `refs/atoll/starts/<agent>` | where an agent started |

mod bundle;
mod checkpoints;
mod merge;
mod project;

use std::path::{Path, PathBuf};

use atoll_engine::Work;
use atoll_rt::ids;
use atoll_stdx::Hint;
use tokio::fs;

use crate::git::{Git, GitError};
use merge::Merged;
pub(crate) use project::AgentSource;

/// Agents that hand their work in at the very same time.
const JOIN_TRIES_MAX: u32 = 32;
const BASE: &str = "refs/atoll/base";
/// Checks of git that old and harmless repositories fail.
const LENIENT: &str = "--strict=zeroPaddedFilemode=warn,badTimezone=warn";
/// The largest bundle that leaves a sandbox.
pub(crate) const RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The directory of all repositories.
#[derive(Clone, Debug)]
pub(crate) struct Repos {
    directory: PathBuf,
}

/// A repository could not be taken in, or work on it could not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepoError {
    #[error("the repository is not acceptable: {reason}")]
    Rejected {
        reason: String,
        #[source]
        source: Option<GitError>,
    },
    #[error("the plane's copy of the repository cannot be used")]
    Git(#[source] GitError),
    #[error("the plane's copy of the repository cannot be stored")]
    Io(#[source] std::io::Error),
}

impl Hint for RepoError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Rejected { .. } => Some("`git fsck --strict` in the repository tells more".to_owned()),
            Self::Git(error) => error.hint(),
            Self::Io(_) => Some("see whether the state directory's disk is full".to_owned()),
        }
    }
}

fn rejected(reason: &str, source: GitError) -> RepoError {
    match source {
        GitError::Start(_) => RepoError::Git(source),
        GitError::Failed { .. } | GitError::Timeout { .. } => {
            RepoError::Rejected { reason: reason.to_owned(), source: Some(source) }
        }
    }
}

fn not_a_commit(id: &str, error: RepoError) -> RepoError {
    match error {
        RepoError::Git(source @ GitError::Failed { .. }) => {
            RepoError::Rejected { reason: format!("{id} is not a commit"), source: Some(source) }
        }
        other => other,
    }
}

impl Repos {
    /// Opens the directory and removes repositories that no run came of.
    pub(crate) async fn open(directory: PathBuf, runs: impl Fn(&str) -> bool) -> std::io::Result<Self> {
        fs::create_dir_all(&directory).await?;
        let mut entries = fs::read_dir(&directory).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.strip_suffix(".git").is_some_and(&runs) {
                fs::remove_dir_all(entry.path()).await?;
            }
        }
        Ok(Self { directory })
    }

    /// The repository of a run.
    pub(crate) fn of_run(&self, run_id: &str) -> Repo {
        Repo { git: Git::new(self.directory.join(format!("{run_id}.git"))), run_id: run_id.to_owned() }
    }

    /// Removes the repository of a run that did not come to be.
    pub(crate) async fn remove(&self, run_id: &str) {
        // What can not be removed now is removed at the next start.
        let _left = fs::remove_dir_all(self.directory.join(format!("{run_id}.git"))).await;
    }

    /// Makes a run's repository from a bundle, or an empty one. All or nothing. Returns the commit to start from.
    pub(crate) async fn create(&self, run_id: &str, bundle: Option<(&Path, &str)>) -> Result<String, RepoError> {
        let temporary = self.directory.join(format!("new-{}", ids::random_hex(8)));
        let repo = Repo { git: Git::new(&temporary), run_id: run_id.to_owned() };
        let made = match repo.init().await {
            Ok(()) => match bundle {
                Some((path, commit)) => repo.import(path, commit).await,
                None => repo.empty().await,
            },
            Err(error) => Err(error),
        };
        let done = match made {
            Ok(commit) => {
                let place = self.directory.join(format!("{run_id}.git"));
                fs::rename(&temporary, place).await.map(|()| commit).map_err(RepoError::Io)
            }
            Err(error) => Err(error),
        };
        if done.is_err() {
            // What can not be removed now is removed at the next start.
            let _left = fs::remove_dir_all(&temporary).await;
        }
        done
    }
}

/// Where an agent starts.
fn start_ref(agent: u32) -> String {
    format!("refs/atoll/starts/{agent}")
}

/// One run's repository.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    git: Git,
    run_id: String,
}

impl Repo {
    async fn init(&self) -> Result<(), RepoError> {
        let directory = self.git.directory().to_string_lossy().into_owned();
        let arguments = ["init", "--quiet", "--bare", "--template=", "--initial-branch=main", &directory];
        self.git.run(&arguments).await.map(drop).map_err(RepoError::Git)
    }

    async fn empty(&self) -> Result<String, RepoError> {
        let tree = self.git.run(&["hash-object", "-t", "tree", "-w", "/dev/null"]).await.map_err(RepoError::Git)?;
        let commit = self.git.run(&["commit-tree", "-m", "Start empty", &tree]).await.map_err(RepoError::Git)?;
        self.git.run(&["update-ref", BASE, &commit]).await.map_err(RepoError::Git)?;
        Ok(commit)
    }

    /// Takes a person's bundle in. `commit` must be one of its heads.
    async fn import(&self, bundle: &Path, commit: &str) -> Result<String, RepoError> {
        let bytes = fs::read(bundle).await.map_err(RepoError::Io)?;
        let heads = self.unpack(&bytes, bundle, LENIENT).await?;
        if !heads.iter().any(|(_, id)| id == commit) {
            let reason = format!("the bundle has no head at commit {commit}");
            return Err(RepoError::Rejected { reason, source: None });
        }
        let commit = self.resolve(commit).await.map_err(|error| not_a_commit(commit, error))?;
        self.git.run(&["update-ref", BASE, &commit]).await.map_err(RepoError::Git)?;
        Ok(commit)
    }

    /// Checks every object of a bundle and keeps them; returns its heads. What it builds on must be here.
    async fn unpack(&self, bytes: &[u8], file: &Path, strict: &str) -> Result<Vec<(String, String)>, RepoError> {
        let head = bundle::read_head(bytes)
            .map_err(|reason| RepoError::Rejected { reason: reason.to_owned(), source: None })?;
        let arguments = ["index-pack", "--stdin", "--fix-thin", strict];
        let checked = self.git.run_on(&arguments, file, head.pack_offset).await;
        checked.map(|_| head.heads).map_err(|error| rejected("its objects do not pass the check", error))
    }

    /// The branch that holds the run's work.
    pub(crate) fn branch(&self) -> String {
        format!("atoll/{}", self.run_id)
    }

    fn head_ref(&self) -> String {
        format!("refs/heads/{}", self.branch())
    }

    pub(crate) async fn base(&self) -> Result<String, RepoError> {
        self.resolve(BASE).await
    }

    async fn resolve(&self, name: &str) -> Result<String, RepoError> {
        let name = format!("{name}^{{commit}}");
        self.git.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await.map_err(RepoError::Git)
    }

    /// The newest commit of the run's work; where it started when there is none.
    pub(crate) async fn head(&self) -> Result<String, RepoError> {
        let name = self.head_ref();
        let listed = self.git.run(&["for-each-ref", "--format=%(objectname)", &name]).await.map_err(RepoError::Git)?;
        if listed.is_empty() { self.base().await } else { Ok(listed) }
    }

    /// A bundle for an agent's sandbox: `refs/atoll/base`, where the agent starts, and work that did not go together with
    /// other work, with all of their history.
    pub(crate) async fn bundle_for_agent(&self, agent: u32, start: &str) -> Result<Vec<u8>, RepoError> {
        let begins = start_ref(agent);
        self.git.run(&["update-ref", &begins, start]).await.map_err(RepoError::Git)?;
        let sides = self.side_refs().await?;
        let mut revisions = vec![BASE, &begins];
        revisions.extend(sides.iter().map(String::as_str));
        self.bundle(&revisions).await
    }

    /// The run's work as a bundle for people: its branches, without what they had.
    pub(crate) async fn bundle_for_people(&self) -> Result<Vec<u8>, RepoError> {
        let (head, exclude) = (self.head_ref(), format!("^{BASE}"));
        let sides = self.side_refs().await?;
        let mut revisions = vec![head.as_str(), &exclude];
        revisions.extend(sides.iter().map(String::as_str));
        self.bundle(&revisions).await
    }

    /// Branches with work that did not go together with other work.
    async fn side_refs(&self) -> Result<Vec<String>, RepoError> {
        let pattern = format!("{}-*", self.head_ref());
        let listed = self.git.run(&["for-each-ref", "--format=%(refname)", &pattern]).await.map_err(RepoError::Git)?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    async fn bundle(&self, revisions: &[&str]) -> Result<Vec<u8>, RepoError> {
        let path = self.git.directory().join(format!("bundle-{}", ids::random_hex(8)));
        let name = path.to_string_lossy().into_owned();
        let mut arguments = vec!["bundle", "create", "--quiet", &name];
        arguments.extend_from_slice(revisions);
        let made = self.git.run(&arguments).await.map_err(RepoError::Git);
        let bytes = match made {
            Ok(_) => fs::read(&path).await.map_err(RepoError::Io),
            Err(error) => Err(error),
        };
        let _left = fs::remove_file(&path).await;
        bytes
    }

    /// Looks at a bundle out of an agent's sandbox and, when it is acceptable, makes it part of the run's work: as it is
    /// where nothing else was taken in since, merged where it was. Work that can not be merged goes to a branch of its
    /// own. `start` is where the agent began. Taking the same bundle in twice is fine.
    pub(crate) async fn take_in(&self, bundle: &[u8], start: &str, agent: u32) -> Result<Work, RepoError> {
        let path = self.git.directory().join(format!("incoming-{}", ids::random_hex(8)));
        fs::write(&path, bundle).await.map_err(RepoError::Io)?;
        let unpacked = self.unpack(bundle, &path, "--strict").await;
        let _left = fs::remove_file(&path).await;
        let heads = unpacked?;
        let Some((_, commit)) = heads.into_iter().find(|(name, _)| name == "HEAD") else {
            return Err(RepoError::Rejected { reason: "the bundle has no HEAD".to_owned(), source: None });
        };
        let commit = self.resolve(&commit).await.map_err(|error| not_a_commit(&commit, error))?;
        let ancestry = self.git.run(&["merge-base", "--is-ancestor", start, &commit]).await;
        ancestry.map_err(|error| rejected("the work does not build on the commit it started from", error))?;
        self.join(&commit, agent).await
    }

    /// Makes a commit part of the run's branch. Agents may do so at the same time: who comes second looks again.
    async fn join(&self, commit: &str, agent: u32) -> Result<Work, RepoError> {
        let name = self.head_ref();
        let mut tries = 0;
        loop {
            let known =
                self.git.run(&["for-each-ref", "--format=%(objectname)", &name]).await.map_err(RepoError::Git)?;
            let head = if known.is_empty() { self.base().await? } else { known.clone() };
            let joined = match self.merged(&head, commit).await? {
                Merged::Commit(joined) => joined,
                Merged::Conflict(conflicts) => {
                    let side = format!("{}-{agent}", self.branch());
                    let reference = format!("refs/heads/{side}");
                    self.git.run(&["update-ref", &reference, commit]).await.map_err(RepoError::Git)?;
                    return Ok(Work { conflicts, side_branch: Some(side), ..self.work(&head).await? });
                }
            };
            // An empty old value means: there must be none.
            let expected = if known.is_empty() { "0".repeat(joined.len()) } else { known };
            match self.git.run(&["update-ref", &name, &joined, &expected]).await {
                Ok(_) => return self.work(&joined).await,
                Err(GitError::Failed { .. }) if tries < JOIN_TRIES_MAX => tries += 1,
                Err(error) => return Err(RepoError::Git(error)),
            }
        }
    }

    /// What the run's work comes to.
    pub(crate) async fn work(&self, commit: &str) -> Result<Work, RepoError> {
        let base_commit = self.base().await?;
        let range = format!("{base_commit}..{commit}");
        let count = self.git.run(&["rev-list", "--count", &range]).await.map_err(RepoError::Git)?;
        let arguments = ["diff", "--numstat", "--no-ext-diff", "--no-textconv", &base_commit, commit];
        let numbers = self.git.run(&arguments).await.map_err(RepoError::Git)?;
        let mut work = Work {
            branch: self.branch(),
            commit: commit.to_owned(),
            base_commit,
            commits: count.parse().unwrap_or_default(),
            files_changed: 0,
            insertions: 0,
            deletions: 0,
            conflicts: Vec::new(),
            side_branch: None,
        };
        for line in numbers.lines() {
            let mut fields = line.split('\t');
            // Binary files have "-" here.
            let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
            work.insertions += number();
            work.deletions += number();
            work.files_changed += 1;
        }
        Ok(work)
    }

    /// Publishes a commit as a branch of a remote. Never forces. Pushing what is there already is fine.
    pub(crate) async fn push(&self, remote: &str, commit: &str, branch: &str) -> Result<String, GitError> {
        let refspec = format!("{commit}:refs/heads/{branch}");
        self.git.push(&["push", "--porcelain", "--no-verify", "--end-of-options", remote, &refspec]).await
    }
}

impl Repo {
    /// Publishes a commit as a branch of a repository on a forge, as whoever the header says. Never forces.
    pub(crate) async fn push_as(
        &self,
        url: &str,
        commit: &str,
        branch: &str,
        authorization: &str,
    ) -> Result<(), GitError> {
        let refspec = format!("{commit}:refs/heads/{branch}");
        let arguments = ["push", "--porcelain", "--no-verify", "--end-of-options", url, &refspec];
        self.git.push_as(&arguments, url, authorization).await.map(drop)
    }
}

/// Whether an address can be pushed to: a URL or `host:path` of a known protocol, nothing that runs a program.
pub(crate) fn is_pushable(remote: &str) -> bool {
    let clean = !remote.starts_with('-') && !remote.contains("::") && !remote.chars().any(char::is_control);
    let known = |scheme: &str| ["https", "http", "ssh", "git", "file"].contains(&scheme);
    let form = match remote.split_once("://") {
        Some((scheme, rest)) => known(scheme) && !rest.is_empty(),
        None => remote.starts_with('/') || remote.split_once(':').is_some_and(|(host, _)| !host.contains('/')),
    };
    clean && form
}

#[cfg(test)]
mod tests;
