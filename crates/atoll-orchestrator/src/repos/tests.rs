use std::process::Command;

use super::*;

mod attacks;

/// A person's repository with one commit, bundled.
struct Person {
    directory: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        let person = Self { directory: tempfile::tempdir().expect("a directory") };
        person.git(&["init", "-q", "-b", "main", "."]);
        person.commit("a.txt", "one\n");
        person
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=p", "-c", "user.email=p@x"])
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self, file: &str, content: &str) -> String {
        std::fs::write(self.directory.path().join(file), content).expect("it can be written");
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn bundle(&self, revisions: &[&str]) -> PathBuf {
        let path = self.directory.path().join(".git/out.bundle");
        let mut arguments = vec!["bundle", "create", "-q", ".git/out.bundle"];
        arguments.extend_from_slice(revisions);
        self.git(&arguments);
        path
    }
}

async fn repos() -> (tempfile::TempDir, Repos) {
    let directory = tempfile::tempdir().expect("a directory");
    let repos = Repos::open(directory.path().join("repos"), |_| true).await.expect("it opens");
    (directory, repos)
}

#[tokio::test]
async fn a_bundle_comes_in_and_work_goes_out() {
    let (_guard, repos) = repos().await;
    let person = Person::new();
    let base = person.git(&["rev-parse", "HEAD"]);
    let bundle = person.bundle(&["HEAD", "main"]);
    assert_eq!(repos.create("r1", Some((&bundle, &base))).await.expect("it is taken"), base);
    let repo = repos.of_run("r1");
    assert_eq!(repo.head().await.expect("a head"), base);

    let tip = person.commit("a.txt", "two\nthree\n");
    let exclude = format!("^{base}");
    let bundle = std::fs::read(person.bundle(&["HEAD", &exclude])).expect("a bundle");
    let work = repo.take_in(&bundle, &base, 1).await.expect("it builds on base");
    let counted = (work.commits, work.files_changed, work.insertions, work.deletions);
    assert_eq!((work.commit.as_str(), work.branch.as_str(), counted), (tip.as_str(), "atoll/r1", (1, 1, 2, 1)));
    assert_eq!(repo.take_in(&bundle, &base, 1).await.expect("twice is fine"), work);
    assert_eq!(repo.head().await.expect("a head"), tip);

    let out = repo.bundle_for_people().await.expect("a bundle");
    std::fs::write(person.directory.path().join("back.bundle"), out).expect("it can be written");
    person.git(&["fetch", "-q", "back.bundle", "refs/heads/atoll/r1:refs/heads/atoll/r1"]);
    assert_eq!(person.git(&["rev-parse", "atoll/r1"]), tip);
}

#[tokio::test]
async fn a_run_without_a_repository_starts_empty() {
    let (_guard, repos) = repos().await;
    let base = repos.create("r1", None).await.expect("it is made");
    assert_eq!(repos.of_run("r1").base().await.expect("a base"), base);
    assert_eq!(repos.create("r2", None).await.expect("it is made"), base, "the same start every time");
}

#[tokio::test]
async fn what_is_not_a_good_bundle_is_rejected_and_leaves_nothing() {
    let (guard, repos) = repos().await;
    let person = Person::new();
    let base = person.git(&["rev-parse", "HEAD"]);
    let good = person.bundle(&["HEAD", "main"]);
    let noise = guard.path().join("noise");
    std::fs::write(&noise, b"# v2 git bundle\nnot really\n").expect("it can be written");
    let mut bytes = std::fs::read(&good).expect("a bundle");
    let middle = bytes.len() - 30;
    bytes[middle] ^= 0xff;
    let damaged = guard.path().join("damaged");
    std::fs::write(&damaged, bytes).expect("it can be written");
    let elsewhere = "0".repeat(40);
    for (name, bundle, commit) in
        [("noise", &noise, &base), ("damaged", &damaged, &base), ("another commit", &good, &elsewhere)]
    {
        let error = repos.create("r1", Some((bundle, commit))).await.expect_err(name);
        assert!(matches!(error, RepoError::Rejected { .. }), "{name}: {error:?}");
    }
    assert_eq!(std::fs::read_dir(guard.path().join("repos")).expect("readable").count(), 0);
}

#[tokio::test]
async fn trees_that_would_write_into_a_git_directory_are_rejected() {
    let (_guard, repos) = repos().await;
    let person = Person::new();
    let blob = person.git(&["hash-object", "-w", "a.txt"]);
    // `git mktree` refuses such names, so the tree object is written byte by byte.
    let mut tree = b"100644 .git\0".to_vec();
    tree.extend(hex::decode(&blob).expect("hex"));
    std::fs::write(person.directory.path().join("tree"), tree).expect("it can be written");
    let tree = person.git(&["hash-object", "-t", "tree", "-w", "--literally", "tree"]);
    let commit = person.git(&["commit-tree", "-m", "evil", &tree]);
    person.git(&["update-ref", "refs/heads/evil", &commit]);
    let bundle = person.bundle(&["refs/heads/evil"]);
    let error = repos.create("r1", Some((&bundle, &commit))).await.expect_err("it is hostile");
    assert!(matches!(error, RepoError::Rejected { .. }), "{error:?}");

    // The twin: without the check the same bundle would have been taken.
    let directory = tempfile::tempdir().expect("a directory");
    let plain = |arguments: &[&str]| {
        Command::new("git").args(arguments).current_dir(directory.path()).output().expect("git runs").status.success()
    };
    assert!(plain(&["init", "-q", "--bare", "."]));
    let bundle = bundle.to_string_lossy();
    assert!(plain(&["-c", "fetch.fsckObjects=false", "fetch", "-q", &bundle, "refs/heads/evil:refs/heads/evil"]));
}

#[tokio::test]
async fn work_on_another_history_is_rejected() {
    let (_guard, repos) = repos().await;
    let (person, stranger) = (Person::new(), Person::new());
    let base = person.commit("b.txt", "mine\n");
    let bundle = person.bundle(&["HEAD"]);
    repos.create("r1", Some((&bundle, &base))).await.expect("it is taken");
    stranger.commit("c.txt", "theirs\n");
    let foreign = std::fs::read(stranger.bundle(&["HEAD"])).expect("a bundle");
    let repo = repos.of_run("r1");
    let error = repo.take_in(&foreign, &base, 1).await.expect_err("it does not build on base");
    assert!(matches!(error, RepoError::Rejected { .. }), "{error:?}");
    assert_eq!(repo.head().await.expect("a head"), base, "nothing was kept of it");
}

#[tokio::test]
async fn a_hook_in_a_repository_does_not_run_and_a_push_arrives() {
    let (guard, repos) = repos().await;
    let person = Person::new();
    let base = person.git(&["rev-parse", "HEAD"]);
    let bundle = person.bundle(&["HEAD"]);
    repos.create("r1", Some((&bundle, &base))).await.expect("it is taken");
    let hooks = guard.path().join("repos/r1.git/hooks");
    std::fs::create_dir_all(&hooks).expect("it can be made");
    for name in ["pre-push", "reference-transaction"] {
        let hook = hooks.join(name);
        std::fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("it can be written");
        let status = Command::new("chmod").arg("755").arg(&hook).status().expect("chmod runs");
        assert!(status.success());
    }
    let remote = guard.path().join("remote.git");
    let status = Command::new("git").args(["init", "-q", "--bare"]).arg(&remote).status().expect("git runs");
    assert!(status.success());
    let repo = repos.of_run("r1");
    for _ in 0..2 {
        repo.push(&remote.to_string_lossy(), &base, "atoll/r1").await.expect("twice is fine");
    }
    let listed = Command::new("git").arg("--git-dir").arg(&remote).args(["rev-parse", "atoll/r1"]).output();
    assert_eq!(String::from_utf8_lossy(&listed.expect("git runs").stdout).trim(), base);
}

#[tokio::test]
async fn a_remote_that_runs_a_program_is_refused() {
    let (guard, repos) = repos().await;
    let base = repos.create("r1", None).await.expect("it is made");
    let proof = guard.path().join("ran");
    let remote = format!("ext::sh -c touch% {}", proof.display());
    repos.of_run("r1").push(&remote, &base, "x").await.expect_err("it is refused");
    assert!(!proof.exists());
}

#[test]
fn remotes_are_judged_by_their_form() {
    for (remote, pushable) in [
        ("https://example.org/a.git", true),
        ("ssh://git@example.org/a.git", true),
        ("git@example.org:a/b.git", true),
        ("/srv/git/a.git", true),
        ("file:///srv/git/a.git", true),
        ("ext::sh -c id", false),
        ("--upload-pack=id", false),
        ("gopher://example.org/a", false),
        ("relative/path", false),
        ("https://", false),
        ("a\nb:c", false),
    ] {
        assert_eq!(is_pushable(remote), pushable, "{remote:?}");
    }
}
