//! What an agent can plant in a repository so that git runs it. Everything the plane does with an agent's work is done, and
//! nothing planted runs; the twin is git used in the agent's own directory, where each of them does run.

use std::path::Path;

use super::*;

/// An agent's repository with something planted in it.
struct Planted {
    person: Person,
    /// Made by whatever was planted, when it runs.
    canary: PathBuf,
    base: String,
}

const KINDS: [&str; 4] = ["fsmonitor", "filter", "submodule", "hooks"];
const HOOKS: [&str; 5] = ["pre-commit", "post-checkout", "post-merge", "reference-transaction", "post-update"];

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("it can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it can be changed");
}

fn plant_hooks(directory: &Path, canary: &Path) {
    std::fs::create_dir_all(directory).expect("it can be made");
    for hook in HOOKS {
        executable(&directory.join(hook), &format!("#!/bin/sh\ntouch {}\n", canary.display()));
    }
}

impl Planted {
    fn new(kind: &str) -> Self {
        let person = Person::new();
        let canary = person.directory.path().join(".git/canary");
        let base = person.git(&["rev-parse", "HEAD"]);
        person.git(&["branch", "-q", "start"]);
        let touch = format!("touch {}; cat", canary.display());
        match kind {
            "fsmonitor" => {
                person.commit("b.txt", "two\n");
                let program = person.directory.path().join(".git/monitor");
                executable(&program, &format!("#!/bin/sh\ntouch {}\n", canary.display()));
                person.git(&["config", "core.fsmonitor", &program.to_string_lossy()]);
            }
            "filter" => {
                person.commit(".gitattributes", "* filter=evil merge=evil diff=evil\n");
                person.git(&["config", "filter.evil.clean", &touch]);
                person.git(&["config", "filter.evil.smudge", &touch]);
                person.git(&["config", "diff.evil.textconv", &touch]);
                person.git(&["config", "merge.evil.driver", &touch]);
            }
            "submodule" => {
                let itself = person.directory.path().to_string_lossy().into_owned();
                std::fs::write(
                    person.directory.path().join(".gitmodules"),
                    "[submodule \"sub\"]\n\tpath = sub\n\turl = ./.\n",
                )
                .expect("it can be written");
                person.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{base},sub")]);
                person.git(&["add", ".gitmodules"]);
                person.git(&["commit", "-q", "-m", "a submodule"]);
                person.git(&["config", "submodule.sub.url", &itself]);
                person.git(&["config", "submodule.sub.active", "true"]);
                person.git(&["config", "submodule.sub.update", &format!("!touch {} #", canary.display())]);
            }
            _ => {
                person.commit("b.txt", "two\n");
                plant_hooks(&person.directory.path().join(".git/hooks"), &canary);
            }
        }
        Self { person, canary, base }
    }

    /// What a plane would do that worked in the agent's directory.
    fn use_naively(&self) {
        let git = |arguments: &[&str]| {
            let _said = Command::new("git")
                .args(["-c", "user.name=p", "-c", "user.email=p@x", "-c", "protocol.file.allow=always"])
                .args(arguments)
                .current_dir(self.person.directory.path())
                .output()
                .expect("git runs");
        };
        std::fs::write(self.person.directory.path().join("a.txt"), "changed\n").expect("it can be written");
        git(&["status"]);
        git(&["submodule", "update", "--init"]);
        git(&["add", "-A"]);
        git(&["commit", "-m", "work"]);
        git(&["checkout", "-q", "HEAD~1"]);
    }
}

#[tokio::test]
async fn nothing_that_an_agent_plants_runs_when_its_work_is_taken() {
    for kind in KINDS {
        let planted = Planted::new(kind);
        let (_guard, repos) = repos().await;
        let person = &planted.person;
        let from_start = person.bundle(&["refs/heads/start"]);
        let _unused = std::fs::remove_file(&planted.canary);
        // Even hooks in the plane's own copy, where no sandbox can write, would not run.
        repos.create("r1", Some((&from_start, &planted.base))).await.expect("it is taken");
        let repo = repos.of_run("r1");
        if kind == "hooks" {
            plant_hooks(&repo.git.directory().join("hooks"), &planted.canary);
        }
        let work = person.bundle(&["HEAD", &format!("^{}", planted.base)]);
        let _unused = std::fs::remove_file(&planted.canary);
        let bytes = std::fs::read(work).expect("a bundle");
        let taken = repo.take_in(&bytes, &planted.base, 1).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        repo.bundle_for_agent(2, &taken.commit).await.expect("a bundle");
        repo.checkpoints().await.expect("readable");
        repo.restore(&planted.base, "back").await.expect("it goes back");
        let out = repo.bundle_for_people().await.expect("a bundle");
        let remote = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", remote.path().display());
        assert!(Command::new("git").args(["init", "-q", "--bare"]).arg(remote.path()).status().expect("git").success());
        repo.push(&url, &taken.commit, "work").await.expect("it is pushed");
        assert!(!out.is_empty() && !planted.canary.exists(), "{kind}: what the agent planted ran");
    }
}

#[test]
fn the_same_in_the_agents_own_directory_runs_it() {
    for kind in KINDS {
        let planted = Planted::new(kind);
        let _unused = std::fs::remove_file(&planted.canary);
        planted.use_naively();
        assert!(planted.canary.exists(), "{kind}: the attack must work where nothing is in its way");
    }
}
