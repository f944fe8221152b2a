//! The sandbox half of the demo: a claim from a warm pool, and what code in it can and cannot do.

use std::time::{Duration, Instant};

use atoll_api::{SandboxClaim, SandboxTemplate, SandboxWarmPool, manifests};
use atoll_client::sandbox::ExecRequest;
use atoll_sandbox::Tier;
use futures::TryStreamExt;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};

use crate::commands::bench::is_claim_ready;
use crate::failure::{Exit, Failure};
use crate::plane::Plane;
use crate::printer::Printer;

const NAMESPACE: &str = "default";
const POOL: &str = "python";
const REPLICAS: i32 = 2;
const POOL_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
const LOOK_AROUND: &str = include_str!("look_around.py");

/// Brings a pool up and claims one of its sandboxes. Returns the sandbox's name.
pub(super) async fn claim_one(plane: &Plane, tier: Tier, printer: &Printer) -> Result<String, Failure> {
    let client = plane.kube().await?;
    let templates: Api<SandboxTemplate> = Api::namespaced(client.clone(), NAMESPACE);
    let pools: Api<SandboxWarmPool> = Api::namespaced(client.clone(), NAMESPACE);
    let claims: Api<SandboxClaim> = Api::namespaced(client, NAMESPACE);

    let started = Instant::now();
    let created = PostParams::default();
    let mut template = manifests::python_template(NAMESPACE);
    template.spec.pod_template.spec.runtime_class_name = Some(tier.name().to_owned());
    templates.create(&created, &template).await.map_err(|error| failed(&error))?;
    let pool = manifests::pool(NAMESPACE, POOL, manifests::PYTHON, REPLICAS);
    pools.create(&created, &pool).await.map_err(|error| failed(&error))?;
    printer.data(format!("template {}, tier {tier}, pool {POOL} of {REPLICAS}", manifests::PYTHON));
    wait_for_pool(&pools).await?;
    printer.data(format!("pool ready after {} ms", started.elapsed().as_millis()));

    let started = Instant::now();
    let claim = manifests::claim(NAMESPACE, "demo", POOL);
    let created = claims.create(&created, &claim).await.map_err(|error| failed(&error))?;
    let name = wait_for_claim(&claims, &created).await?;
    printer.data(format!(
        "claim demo → sandbox {name}: ready after {:.1} ms (created, adopted from the pool, seen by a watch over TLS)",
        started.elapsed().as_secs_f64() * 1_000.0
    ));
    Ok(name)
}

async fn wait_for_pool(pools: &Api<SandboxWarmPool>) -> Result<(), Failure> {
    let deadline = Instant::now() + POOL_TIMEOUT;
    while Instant::now() < deadline {
        let pool = pools.get(POOL).await.map_err(|error| failed(&error))?;
        if pool.status.is_some_and(|status| status.ready_replicas >= REPLICAS) {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Err(Failure::new(Exit::Failure, "the warm pool does not fill").hint("`atoll doctor` tells what the machine lacks"))
}

async fn wait_for_claim(claims: &Api<SandboxClaim>, created: &SandboxClaim) -> Result<String, Failure> {
    let version = created.metadata.resource_version.clone().unwrap_or_default();
    let params = WatchParams::default().fields("metadata.name=demo").timeout(30);
    let watch = claims.watch(&params, &version).await.map_err(|error| failed(&error))?;
    tokio::pin!(watch);
    while let Some(event) = watch.try_next().await.map_err(|error| failed(&error))? {
        if let WatchEvent::Added(claim) | WatchEvent::Modified(claim) = event
            && is_claim_ready(&claim)
        {
            return Ok(claim.status.and_then(|status| status.sandbox).map(|sandbox| sandbox.name).unwrap_or_default());
        }
    }
    Err(Failure::new(Exit::Failure, "the claim did not become ready"))
}

/// Runs a script that tries what it should not be able to do, and prints what it found.
pub(super) async fn look_around(plane: &Plane, sandbox: &str, tier: Tier, printer: &Printer) -> Result<(), Failure> {
    let connection = plane.sandbox(NAMESPACE, sandbox);
    let request = ExecRequest {
        argv: ["python3", "-c", LOOK_AROUND].map(str::to_owned).to_vec(),
        timeout_ms: Some(20_000),
        ..ExecRequest::default()
    };
    let session = connection.exec(request).await.map_err(|error| unreachable_sandbox(&error))?;
    let output = session.output(OUTPUT_BYTES_MAX).await.map_err(|error| unreachable_sandbox(&error))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        printer.data(line);
    }
    if output.exit.code != 0 {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(Exit::Failure, format!("the sandbox let something through: {}", stderr.trim())));
    }
    printer.data("");
    tell_tier(tier, printer);
    Ok(())
}

/// What is in force, and what it does not stop.
fn tell_tier(tier: Tier, printer: &Printer) {
    let (what, limits) = match tier {
        Tier::Native => (
            "namespaces, seccomp, no capabilities, cgroup limits; measured from inside, above",
            [
                "This tier shares the host's kernel: a hole in the kernel's system calls is a hole in it. For code from",
                "strangers use a tier with a kernel of its own; `atoll doctor` tells how to get one.",
            ],
        ),
        Tier::Gvisor => (
            "a kernel in user space between the code and the host's, and the native tier's protections around that",
            [
                "The host's kernel sees gVisor, not the code: a hole in it is out of reach unless gVisor has one as well.",
                "What gVisor does not stop: side channels of a shared processor.",
            ],
        ),
    };
    printer.data(format!("tier: {tier} ({what})"));
    for line in limits {
        printer.data(printer.dim(line));
    }
}

fn failed(error: &kube::Error) -> Failure {
    Failure::because(Exit::Failure, "the Kubernetes API refused a request of the demo", error)
}

fn unreachable_sandbox(error: &atoll_client::sandbox::SandboxError) -> Failure {
    Failure::because(Exit::Failure, "the sandbox cannot be used", error)
}
