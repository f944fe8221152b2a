//! From a claim's creation to Ready=True seen on a watch, by a client over TLS.

use std::time::{Duration, Instant};

use atoll_api::{SandboxClaim, SandboxTemplate, SandboxWarmPool, manifests};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};

use super::measure::{Row, Samples};
use crate::args::BenchClaimArgs;
use crate::failure::{Exit, Failure};
use crate::plane::Plane;

const NAMESPACE: &str = "default";
const POOL: &str = "bench-claim";
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

struct Bench {
    claims: Api<SandboxClaim>,
    pools: Api<SandboxWarmPool>,
    templates: Api<SandboxTemplate>,
}

pub(super) async fn measure(plane: &Plane, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
    let client = plane.kube().await?;
    let bench = Bench {
        claims: Api::namespaced(client.clone(), NAMESPACE),
        pools: Api::namespaced(client.clone(), NAMESPACE),
        templates: Api::namespaced(client, NAMESPACE),
    };
    bench.set_up(args.pool.max(args.burst)).await?;
    let measured = bench.measure(args).await;
    bench.clean_up().await;
    measured
}

impl Bench {
    async fn set_up(&self, pool: u32) -> Result<(), Failure> {
        self.clean_up().await;
        let mut template = manifests::python_template(NAMESPACE);
        template.metadata.name = Some(POOL.to_owned());
        self.templates.create(&PostParams::default(), &template).await.map_err(|error| failed(&error))?;
        let replicas = i32::try_from(pool).unwrap_or(i32::MAX);
        let pool = manifests::pool(NAMESPACE, POOL, POOL, replicas);
        self.pools.create(&PostParams::default(), &pool).await.map_err(|error| failed(&error))?;
        self.wait_for_pool(replicas).await
    }

    async fn wait_for_pool(&self, replicas: i32) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let pool = self.pools.get(POOL).await.map_err(|error| failed(&error))?;
            if pool.status.is_some_and(|status| status.ready_replicas >= replicas) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(Exit::Failure, "the warm pool does not fill"));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn measure(&self, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        let mut samples = Samples::default();
        let replicas = i32::try_from(args.pool.max(args.burst)).unwrap_or(i32::MAX);
        for index in 0..args.n {
            // Each claim meets a full pool: what is measured is a warm claim.
            self.wait_for_pool(replicas).await?;
            let name = format!("{POOL}-{index}");
            let started = Instant::now();
            let ready = self.claim_until_ready(&name).await;
            samples.record(started.elapsed(), ready.is_ok());
            self.delete(&name).await;
        }
        rows.push(samples.row("claim_to_ready_sequential"));
        if args.burst > 0 {
            self.wait_for_pool(replicas).await?;
            rows.extend(self.burst(args.burst).await);
        }
        Ok(rows)
    }

    async fn burst(&self, count: u32) -> Vec<Row> {
        let started = Instant::now();
        let mut samples = Samples::default();
        let names: Vec<String> = (0..count).map(|index| format!("{POOL}-burst-{index}")).collect();
        let mut claims = futures::stream::iter(&names)
            .map(|name| async move {
                let started = Instant::now();
                let ready = self.claim_until_ready(name).await;
                (started.elapsed(), ready.is_ok())
            })
            .buffer_unordered(count as usize);
        while let Some((elapsed, ok)) = claims.next().await {
            samples.record(elapsed, ok);
        }
        let seconds = started.elapsed().as_secs_f64();
        for name in &names {
            self.delete(name).await;
        }
        vec![
            samples.row(&format!("claim_to_ready_burst_{count}")),
            Row::value("claims_per_second", "1/s", f64::from(count) / seconds),
        ]
    }

    async fn claim_until_ready(&self, name: &str) -> Result<(), Failure> {
        let claim = manifests::claim(NAMESPACE, name, POOL);
        let created = self.claims.create(&PostParams::default(), &claim).await.map_err(|error| failed(&error))?;
        let version = created.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let watch = self.claims.watch(&params, &version).await.map_err(|error| failed(&error))?;
        tokio::pin!(watch);
        let ready = async {
            while let Some(event) = watch.try_next().await.map_err(|error| failed(&error))? {
                if let WatchEvent::Added(claim) | WatchEvent::Modified(claim) = event
                    && is_ready(&claim)
                {
                    return Ok(());
                }
            }
            Err(Failure::new(Exit::Failure, "the watch ended early"))
        };
        tokio::time::timeout(READY_TIMEOUT, ready)
            .await
            .unwrap_or_else(|_| Err(Failure::new(Exit::Failure, "the claim did not become ready")))
    }

    async fn delete(&self, name: &str) {
        // Part of tidying up, not of what is measured.
        let _ = self.claims.delete(name, &DeleteParams::background()).await;
    }

    async fn clean_up(&self) {
        // Left over from a measurement that was broken off, or not there at all.
        let _ = self.pools.delete(POOL, &DeleteParams::background()).await;
        let _ = self.templates.delete(POOL, &DeleteParams::background()).await;
    }
}

/// Ready with a sandbox's name in the same object: what the SDK waits for.
pub(crate) fn is_ready(claim: &SandboxClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| {
        status.sandbox.as_ref().is_some_and(|sandbox| !sandbox.name.is_empty())
            && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

fn failed(error: &kube::Error) -> Failure {
    Failure::because(Exit::Failure, "the Kubernetes API refused a request of the measurement", error)
}
