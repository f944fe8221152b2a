//! Tests that want a real control plane.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kube::ControlPlane;
use crate::{environment, say};

/// Where tests look for the kubeconfig of a real control plane.
const KUBECONFIG: &str = "ATOLL_TEST_KUBECONFIG";
/// Where they look for that of the controllers.
const CONTROLLERS_KUBECONFIG: &str = "ATOLL_TEST_CONTROLLERS_KUBECONFIG";
/// Where they look for what requests were made.
const AUDIT_LOG: &str = "ATOLL_TEST_AUDIT_LOG";

/// Records what a real server answers, and compares this one with it.
pub(crate) fn differential() -> Result<bool> {
    let Some(plane) = ControlPlane::start(&["--no-fsync"])? else { return Ok(false) };
    say("recording");
    let recorded = test(&plane, "atoll-apiserver", "differential::record")?;
    drop(plane);
    say("comparing");
    let status = cargo_test("atoll-apiserver", "differential::").status().context("cannot run cargo")?;
    Ok(recorded && status.success())
}

/// What a control plane needs to be a cluster: garbage collection, a scheduler, nodes. Requests are written down.
const CLUSTER: &[&str] = &["--controller-manager", "--scheduler", "--nodes=2", "--no-fsync", "--audit", CONTROLLERS];
/// The identity that `deploy/rbac.yaml` gives rights to.
const CONTROLLERS: &str = "--identity=controllers=system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";
const CONTROLLERS_USER: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";
/// The garbage collector looks for new kinds every half minute.
const COLLECTOR_SYNC: Duration = Duration::from_secs(35);
/// Volumes for the claims of all tests together.
const VOLUMES: usize = 64;

/// Runs the tests of the controllers, and of what is about them, on a cluster.
pub(crate) fn cluster(filter: &str) -> Result<bool> {
    let Some(plane) = ControlPlane::start(CLUSTER)? else { return Ok(false) };
    for manifests in [definitions()?, fs::read_to_string(environment::root().join("deploy/rbac.yaml"))?, volumes()] {
        if !apply(&plane, &manifests)? {
            return Ok(false);
        }
    }
    say("waiting until the garbage collector knows the new kinds");
    std::thread::sleep(COLLECTOR_SYNC);
    let passed = test(&plane, "atoll-controllers", filter)?;
    // Last: it gives the definitions an older version.
    let passed = passed && test(&plane, "atoll", "controllers::a_cluster_converts_by_the_webhook")?;
    let refused = refusals(&plane)?;
    for line in &refused {
        say(&format!("the controllers were refused: {line}"));
    }
    Ok(passed && refused.is_empty())
}

/// What the controllers asked for and had no right to. What a quota refuses is not a matter of rights.
fn refusals(plane: &ControlPlane) -> Result<BTreeSet<String>> {
    let log = fs::read_to_string(plane.dir.join("audit.log")).context("cannot read the audit log")?;
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(entries
        .filter(|entry| entry["user"]["username"] == CONTROLLERS_USER && entry["responseStatus"]["code"] == 403)
        .filter(|entry| {
            let message = entry["responseStatus"]["message"].as_str().unwrap_or_default();
            !message.contains("exceeded quota")
        })
        .map(|entry| format!("{} {}", entry["verb"], entry["requestURI"]))
        .collect())
}

fn definitions() -> Result<String> {
    let mut files: Vec<_> = fs::read_dir(environment::root().join("schemas/crds"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let texts = files.iter().map(|path| Ok(fs::read_to_string(path)?)).collect::<Result<Vec<_>>>()?;
    Ok(texts.join("---\n"))
}

/// Nothing makes volumes for claims there, so some are made beforehand.
fn volumes() -> String {
    let volume = |number: usize| {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10Gi"},
            "hostPath": {"path": format!("/nowhere/{number}")},
        });
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("volume-{number}")}, "spec": spec,
        })
    };
    let items: Vec<Value> = (0..VOLUMES).map(volume).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Server-side, as large definitions must be.
fn apply(plane: &ControlPlane, manifests: &str) -> Result<bool> {
    let mut kubectl = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&plane.kubeconfig)
        .args(["apply", "--server-side", "--filename=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run kubectl, which installs what the tests need")?;
    kubectl.stdin.take().expect("it is piped").write_all(manifests.as_bytes())?;
    Ok(kubectl.wait()?.success())
}

fn test(plane: &ControlPlane, package: &str, filter: &str) -> Result<bool> {
    let status = cargo_test(package, filter)
        .env(KUBECONFIG, &plane.kubeconfig)
        .env(CONTROLLERS_KUBECONFIG, plane.dir.join("controllers.kubeconfig"))
        .env(AUDIT_LOG, plane.dir.join("audit.log"))
        .status()
        .context("cannot run cargo test")?;
    Ok(status.success())
}

fn cargo_test(package: &str, filter: &str) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command
        .args(["test", "--package", package, "--test", "it", filter, "--", "--show-output", "--test-threads=1"])
        .current_dir(environment::root());
    command
}
