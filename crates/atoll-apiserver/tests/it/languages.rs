//! Clients in other languages, over TLS: client-go and the Python client of Kubernetes.

use std::ffi::OsString;
use std::path::Path;

use tokio::process::Command;

use super::served::Served;

/// Where `cargo xtask test` says what it made ready.
const GO_CLIENT: &str = "ATOLL_TEST_GO_CLIENT";
const PYTHON: &str = "ATOLL_TEST_PYTHON";

/// What a variable names; `None`, said aloud, where it is not set.
fn named(variable: &str, test: &str) -> Option<OsString> {
    let value = std::env::var_os(variable);
    if value.is_none() {
        println!(
            "SKIPPED {test}: {variable} is not set (cargo xtask test makes it ready, where its language is there)"
        );
    }
    value
}

/// Runs a program that ends with a failure at its first surprise.
async fn run(served: &Served, command: &mut Command) {
    let kubeconfig = served.write("kubeconfig", &served.with_token("admin-token").to_string());
    let output = command.env("KUBECONFIG", kubeconfig).kill_on_drop(true).output().await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).lines().count() > 3, "it did something: {}", text(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_go_is_at_home() {
    let Some(client) = named(GO_CLIENT, "client_go_is_at_home") else { return };
    run(&Served::new().await, &mut Command::new(client)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_is_at_home() {
    let Some(python) = named(PYTHON, "the_python_client_is_at_home") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/kubernetes_client.py");
    run(&Served::new().await, Command::new(python).arg(script)).await;
}
