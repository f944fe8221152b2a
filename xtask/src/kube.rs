//! A real Kubernetes control plane for tests and measurements: `tools/kube`, built from published Go modules.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{environment, say};

/// What `kwok` is built from; a module of its own, for it wants newer libraries than the rest.
const KWOK_PACKAGE: &str = "sigs.k8s.io/kwok/cmd/kwok";

/// A control plane that runs until it is dropped.
pub(crate) struct ControlPlane {
    launcher: Child,
    /// The kubeconfig of an administrator.
    pub(crate) kubeconfig: PathBuf,
    /// Where kubeconfigs and logs are.
    pub(crate) dir: PathBuf,
    /// What the launcher said, as JSON.
    pub(crate) description: String,
}

impl ControlPlane {
    /// Builds what the flags of `tools/kube/cmd/up` need, and starts it. `None` with a remark where Go is absent.
    pub(crate) fn start(flags: &[&str]) -> Result<Option<Self>> {
        if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
            say("no `go` on PATH: a real control plane cannot be built");
            return Ok(None);
        }
        let bin = binaries()?;
        for program in programs(flags) {
            build(&bin, program)?;
        }
        let mut launcher = Command::new(bin.join("up"))
            .arg("--bin")
            .arg(&bin)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control plane")?;
        let mut description = String::new();
        let output = launcher.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut description)?;
        if description.is_empty() {
            bail!("the control plane did not start: {}", launcher.wait()?);
        }
        let said: Value = serde_json::from_str(&description).context("the launcher printed no JSON")?;
        let path = |name: &str| said[name].as_str().map(PathBuf::from).context("the launcher left something out");
        Ok(Some(Self { kubeconfig: path("kubeconfig")?, dir: path("dir")?, description, launcher }))
    }

    /// Waits until the control plane has ended by itself, or by Ctrl-C.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.launcher.wait()?)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.launcher.stdin.take());
        let _ended = self.launcher.wait();
    }
}

/// `cargo xtask kube`: a control plane to work with by hand.
pub(crate) fn run(flags: &[String]) -> Result<bool> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let Some(plane) = ControlPlane::start(&flags)? else { return Ok(false) };
    say(plane.description.trim_end());
    Ok(plane.wait()?.success())
}

fn programs(flags: &[&str]) -> Vec<&'static str> {
    let asked = |name: &str| flags.iter().any(|flag| flag.trim_start_matches('-').split('=').next() == Some(name));
    let mut programs = vec!["up", "etcd", "kube-apiserver"];
    for (flag, program) in
        [("controller-manager", "kube-controller-manager"), ("scheduler", "kube-scheduler"), ("nodes", "kwok")]
    {
        if asked(flag) {
            programs.push(program);
        }
    }
    programs
}

/// Where the programs are kept: they are the same for every checkout.
fn binaries() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("ATOLL_KUBE_BIN")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("atoll/kube")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/atoll/kube")))
        .context("no HOME: say where built programs may be kept with ATOLL_KUBE_BIN")?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Builds one program, unless it was built from the same inputs.
fn build(bin: &Path, program: &str) -> Result<()> {
    let tools = environment::root().join("tools/kube");
    let (dir, package) = match program {
        "kwok" => (tools.join("kwok"), KWOK_PACKAGE.to_owned()),
        _ => (tools.clone(), format!("./cmd/{program}")),
    };
    let flags = format!("-s -w {}", version_flags(program, &fs::read_to_string(dir.join("go.mod"))?));
    let inputs = inputs(&tools, &dir, program, &flags)?;
    let (target, stamp) = (bin.join(program), bin.join(format!("{program}.inputs")));
    if target.exists() && fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == inputs) {
        return Ok(());
    }
    say(&format!("building {program} (once; the first takes minutes)"));
    let _was_absent = fs::remove_file(&stamp);
    let status = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
        .arg(&target)
        .arg(package)
        .current_dir(dir)
        .env("CGO_ENABLED", "0")
        .status()
        .context("cannot run go")?;
    ensure!(status.success(), "go could not build {program}");
    fs::write(stamp, inputs)?;
    Ok(())
}

/// What a program says when it is asked for its version.
fn version_flags(program: &str, manifest: &str) -> String {
    let version_of = |module: &str| {
        let mut lines = manifest.lines().map(str::trim);
        let version =
            lines.find_map(|line| line.trim_start_matches("require ").strip_prefix(module)?.strip_prefix(' '));
        version.and_then(|rest| rest.split(' ').next()).unwrap_or("v0.0.0").to_owned()
    };
    match program {
        "up" | "etcd" => String::new(),
        "kwok" => format!("-X sigs.k8s.io/kwok/pkg/consts.Version={}", version_of("sigs.k8s.io/kwok")),
        _ => {
            let version = version_of("k8s.io/kubernetes");
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
                .map(|package| {
                    format!(
                        "-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
                    )
                })
                .join(" ")
        }
    }
}

fn inputs(tools: &Path, dir: &Path, program: &str, flags: &str) -> Result<String> {
    let mut inputs = flags.to_owned();
    if program != "up" {
        inputs += &fs::read_to_string(dir.join("go.mod"))?;
        inputs += &fs::read_to_string(dir.join("go.sum"))?;
    }
    let sources = tools.join("cmd").join(program);
    if sources.is_dir() {
        let mut files: Vec<PathBuf> = fs::read_dir(sources)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            inputs += &fs::read_to_string(file)?;
        }
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_which_programs_are_needed() {
        assert_eq!(programs(&[]), ["up", "etcd", "kube-apiserver"]);
        assert_eq!(programs(&["--nodes=2", "--audit"]), ["up", "etcd", "kube-apiserver", "kwok"]);
    }

    #[test]
    fn programs_tell_the_version_of_their_module() {
        let manifest =
            "module x\n\nrequire (\n\tk8s.io/component-base v0.34.4\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n";
        let flags = version_flags("kube-apiserver", manifest);
        assert!(flags.contains("k8s.io/component-base/version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("gitMinor=34"), "{flags}");
        assert_eq!(version_flags("etcd", manifest), "");
    }
}
