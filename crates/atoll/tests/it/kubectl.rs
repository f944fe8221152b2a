//! The real kubectl against the plane.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::world::{Done, World, skip_without_root};

const MANIFEST: &str = "\
apiVersion: agents.x-k8s.io/v1beta1
kind: Sandbox
metadata:
  name: applied
spec:
  podTemplate:
    spec:
      containers:
      - name: main
        image: atoll.local/host
";

pub(crate) fn has_kubectl(test: &str) -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|done| done.status.success());
    if !found {
        println!("SKIPPED {test}: no kubectl in PATH");
    }
    found
}

pub(crate) fn kubectl_command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(world.kubeconfig()).args(arguments).env("HOME", world.path());
    command
}

pub(crate) fn kubectl(world: &World, arguments: &[&str]) -> Done {
    kubectl_command(world, arguments).stdin(Stdio::null()).output().expect("kubectl runs").into()
}

pub(crate) fn kubectl_with_input(world: &World, arguments: &[&str], input: &str) -> Done {
    let mut child = kubectl_command(world, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn kubectl_applies_watches_describes_and_deletes() {
    let test = "kubectl_applies_watches_describes_and_deletes";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = World::with_plane();
    let mut watch = kubectl_command(&world, &["get", "sandboxes", "-A", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl runs");
    let mut seen = BufReader::new(watch.stdout.take().expect("it is piped")).lines().map_while(Result::ok);

    kubectl_with_input(&world, &["apply", "-f", "-"], MANIFEST).ok();
    assert!(seen.any(|line| line.contains("applied") && line.contains("True")), "the watch saw it become ready");
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");

    let again = kubectl_with_input(&world, &["apply", "-f", "-"], MANIFEST).ok();
    assert!(again.stdout.contains("unchanged"), "{}", again.stdout);
    kubectl_with_input(&world, &["apply", "--server-side", "--force-conflicts", "-f", "-"], MANIFEST).ok();

    let table = kubectl(&world, &["get", "sandbox", "applied"]).ok().stdout;
    assert!(table.contains("READY") && table.contains("DependenciesReady"), "{table}");
    let described = kubectl(&world, &["describe", "sandbox", "applied"]).ok().stdout;
    assert!(described.contains("Pod is Ready"), "{described}");
    let pods = kubectl(&world, &["get", "pods", "-o", "wide"]).ok().stdout;
    assert!(pods.contains("Running") && pods.contains("10.201."), "{pods}");

    kubectl(
        &world,
        &["patch", "sandbox", "applied", "--type=merge", "-p", r#"{"spec":{"operatingMode":"Suspended"}}"#],
    )
    .ok();
    kubectl(&world, &["wait", "sandbox/applied", "--for=condition=Suspended=True", "--timeout=60s"]).ok();
    let gone = kubectl(&world, &["get", "pods", "--no-headers"]).ok();
    assert!(gone.stdout.is_empty(), "{}", gone.stdout);

    kubectl(&world, &["delete", "sandbox", "applied", "--timeout=60s"]).ok();
    assert_ne!(kubectl(&world, &["get", "sandbox", "applied"]).code, 0);

    let refused = kubectl_with_input(&world, &["apply", "-f", "-"], &MANIFEST.replace("containers", "containerz"));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("containerz") || refused.stderr.contains("containers"), "{}", refused.stderr);
}
