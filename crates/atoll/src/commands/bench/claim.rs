//! From a claim's creation to Ready=True seen on a watch, by a client over TLS.

mod cost;
mod ready;
mod simulated;
mod writes;

use std::time::{Duration, Instant};

use atoll_api::{SandboxClaim, SandboxTemplate, SandboxWarmPool, manifests};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use tokio::sync::oneshot;

use super::measure::{Row, Samples};
use crate::args::{BenchClaimArgs, BenchPods};
use crate::failure::{Exit, Failure};
use cost::Cost;
use ready::Readiness;
pub(crate) use ready::is_ready;

const NAMESPACE: &str = "default";
const POOL: &str = "bench-claim";
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const FILL_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a claim of the sustained measurement is kept.
const DWELL: Duration = Duration::from_secs(1);

struct Bench {
    client: Client,
    claims: Api<SandboxClaim>,
    pools: Api<SandboxWarmPool>,
    templates: Api<SandboxTemplate>,
    readiness: Readiness,
}

pub(super) async fn measure(client: Client, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
    let bench = Bench {
        claims: Api::namespaced(client.clone(), NAMESPACE),
        pools: Api::namespaced(client.clone(), NAMESPACE),
        templates: Api::namespaced(client.clone(), NAMESPACE),
        readiness: Readiness::default(),
        client: client.clone(),
    };
    if args.pods == BenchPods::Native {
        return bench.run(args).await;
    }
    simulated::register(&client).await?;
    let rows = tokio::select! {
        rows = bench.run(args) => rows,
        () = simulated::run(client.clone()) => Err(Failure::new(Exit::Failure, "the simulated node gave up")),
    };
    simulated::deregister(&client).await;
    rows
}

impl Bench {
    async fn run(&self, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
        let (started, watching) = oneshot::channel();
        let work = async {
            if watching.await.is_err() {
                return Err(Failure::new(Exit::Failure, "the claims can not be watched"));
            }
            self.set_up(args).await?;
            self.measure(args).await
        };
        let rows = tokio::select! {
            rows = work => rows,
            broken = self.readiness.follow(&self.claims, started) => broken.map(|()| Vec::new()),
        };
        self.clean_up().await;
        rows
    }

    async fn set_up(&self, args: &BenchClaimArgs) -> Result<(), Failure> {
        self.clean_up().await;
        let mut template = manifests::python_template(NAMESPACE);
        template.metadata.name = Some(POOL.to_owned());
        if args.pods == BenchPods::Simulated {
            template.spec.pod_template.spec = simulated::pod_spec(template.spec.pod_template.spec);
        }
        self.templates.create(&PostParams::default(), &template).await.map_err(|error| failed(&error))?;
        let pool = manifests::pool(NAMESPACE, POOL, POOL, replicas(args));
        self.pools.create(&PostParams::default(), &pool).await.map_err(|error| failed(&error))?;
        self.wait_for_pool(replicas(args)).await
    }

    async fn wait_for_pool(&self, replicas: i32) -> Result<(), Failure> {
        let deadline = Instant::now() + FILL_TIMEOUT;
        let selector = format!("agents.x-k8s.io/warm-pool-sandbox={}", atoll_stdx::name_hash(POOL));
        let members: Api<atoll_api::Sandbox> = Api::namespaced(self.client.clone(), NAMESPACE);
        let parameters = ListParams::default().labels(&selector);
        loop {
            // What the pool says of itself may be a second old.
            let members = members.list(&parameters).await.map_err(|error| failed(&error))?;
            let ready = members.items.iter().filter(|member| is_member_ready(member)).count();
            if i32::try_from(ready).unwrap_or(i32::MAX) >= replicas {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(Exit::Failure, "the warm pool does not fill"));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn measure(&self, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
        let before = Cost::now(&args.process)?;
        let mut rows = self.sequential(args).await?;
        if args.burst > 0 {
            self.wait_for_pool(replicas(args)).await?;
            rows.extend(self.burst(args.burst).await);
        }
        if args.rate > 0 {
            self.wait_for_pool(replicas(args)).await?;
            rows.extend(self.sustained(args).await);
        }
        // What a claim costs ends with its deletion and the pool full again.
        self.wait_for_pool(replicas(args)).await?;
        let claims = args.n + args.burst + args.rate * args.seconds;
        rows.extend(Cost::now(&args.process)?.since(&before, f64::from(claims.max(1)), &args.process)?);
        Ok(rows)
    }

    /// One claim after the other, each with a full pool before it: what is measured is a warm claim.
    async fn sequential(&self, args: &BenchClaimArgs) -> Result<Vec<Row>, Failure> {
        let mut samples = Samples::default();
        let before = self.writes(args).await?;
        for index in 0..args.n {
            self.wait_for_pool(replicas(args)).await?;
            let name = format!("{POOL}-{index}");
            let outcome = self.claim_until_ready(&name).await;
            samples.record(outcome.as_ref().copied().unwrap_or_default(), outcome.is_ok());
            self.delete(&name).await;
        }
        let mut rows = vec![samples.row("claim_to_ready_sequential")];
        self.wait_for_pool(replicas(args)).await?;
        if let (Some(before), Some(after)) = (before, self.writes(args).await?)
            && args.n > 0
        {
            rows.push(Row::value("api_writes_per_claim", "1", after.saturating_sub(before) as f64 / f64::from(args.n)));
        }
        Ok(rows)
    }

    /// Writes of the controllers so far, where they are counted.
    async fn writes(&self, args: &BenchClaimArgs) -> Result<Option<u64>, Failure> {
        match (&args.controllers_metrics, &args.kubeconfig) {
            (Some(url), _) => writes::by_themselves(url).await.map(Some),
            (None, Some(_)) => Ok(None),
            (None, None) => Ok(writes::of_controllers(&self.client).await),
        }
    }

    /// All at once, over connections that are open already.
    async fn burst(&self, count: u32) -> Vec<Row> {
        let greetings: FuturesUnordered<_> = (0..count).map(|_| self.pools.get(POOL)).collect();
        let _opened: Vec<_> = greetings.collect().await;
        let started = Instant::now();
        let names: Vec<String> = (0..count).map(|index| format!("{POOL}-burst-{index}")).collect();
        let claims: FuturesUnordered<_> = names.iter().map(|name| self.claim_until_ready(name)).collect();
        let outcomes: Vec<Result<Duration, Failure>> = claims.collect().await;
        let seconds = started.elapsed().as_secs_f64();
        let mut samples = Samples::default();
        for outcome in outcomes {
            samples.record(outcome.as_ref().copied().unwrap_or_default(), outcome.is_ok());
        }
        let deletions: FuturesUnordered<_> = names.iter().map(|name| self.delete(name)).collect();
        let _deleted: Vec<()> = deletions.collect().await;
        vec![
            samples.row(&format!("claim_to_ready_burst_{count}")),
            Row::value(&format!("claims_per_second_burst_{count}"), "1/s", f64::from(count) / seconds),
        ]
    }

    /// So many claims in each second, evenly, whether earlier ones were served or not; each is kept for a moment.
    async fn sustained(&self, args: &BenchClaimArgs) -> Vec<Row> {
        let count = args.rate * args.seconds;
        let started = Instant::now();
        let claims: FuturesUnordered<_> = (0..count)
            .map(|index| async move {
                let due = started + Duration::from_secs_f64(f64::from(index) / f64::from(args.rate));
                tokio::time::sleep_until(due.into()).await;
                let name = format!("{POOL}-sustained-{index}");
                let outcome = self.claim_until_ready(&name).await;
                let served = Instant::now();
                tokio::time::sleep(DWELL).await;
                self.delete(&name).await;
                (outcome, served)
            })
            .collect();
        let outcomes: Vec<(Result<Duration, Failure>, Instant)> = claims.collect().await;
        let last = outcomes.iter().map(|(_, served)| *served).max().unwrap_or(started);
        let mut samples = Samples::default();
        for (outcome, _) in &outcomes {
            samples.record(outcome.as_ref().copied().unwrap_or_default(), outcome.is_ok());
        }
        let served = outcomes.iter().filter(|(outcome, _)| outcome.is_ok()).count();
        let seconds = last.duration_since(started).as_secs_f64().max(f64::from(args.seconds));
        vec![samples.row("claim_to_ready_sustained"), Row::value("claims_per_second", "1/s", served as f64 / seconds)]
    }

    /// How long it took from the request to Ready seen on the watch.
    async fn claim_until_ready(&self, name: &str) -> Result<Duration, Failure> {
        let claim = manifests::claim(NAMESPACE, name, POOL);
        let seen = self.readiness.expect(name);
        let started = Instant::now();
        self.claims.create(&PostParams::default(), &claim).await.map_err(|error| failed(&error))?;
        ready::elapsed(started, seen, READY_TIMEOUT).await
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

/// Members of the pool: enough for the burst, and for what a sustained rate takes before it is replaced.
fn replicas(args: &BenchClaimArgs) -> i32 {
    i32::try_from(args.pool.max(args.burst)).unwrap_or(i32::MAX)
}

fn is_member_ready(sandbox: &atoll_api::Sandbox) -> bool {
    sandbox
        .status
        .as_ref()
        .is_some_and(|status| atoll_api::conditions::is_true(&status.conditions, atoll_api::reasons::condition::READY))
}

fn failed(error: &kube::Error) -> Failure {
    Failure::because(Exit::Failure, "the Kubernetes API refused a request of the measurement", error)
}
