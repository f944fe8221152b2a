//! What people do, and what they were promised.

mod promises;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool, manifests};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Settings;
use crate::dice::Dice;
use crate::outcome::Report;
use crate::world::World;

pub(crate) const NAMESPACE: &str = "default";
const TEMPLATES: [&str; 2] = ["t-0", "t-1"];
const POOLS: [&str; 3] = ["p-0", "p-1", "p-2"];
/// Members of the largest pool.
const MEMBERS_MAX: usize = 6;
/// The longest pause between two deeds.
const PAUSE_MAX: Duration = Duration::from_millis(1_500);
/// How often an unanswered request is repeated.
const ATTEMPTS_MAX: usize = 50;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often it is looked whether all promises have come true.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A kind that people handle.
pub(crate) trait Handled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug
{
}

impl<K> Handled for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug
{
}

/// What people can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Claim,
    ClaimAndWait,
    Unclaim,
    ScalePool,
    ChangeTemplate,
    LoseSandbox,
    LosePod,
}

/// By how often they do it.
const DEEDS: [Deed; 14] = [
    Deed::Claim,
    Deed::Claim,
    Deed::Claim,
    Deed::Claim,
    Deed::Claim,
    Deed::Claim,
    Deed::ClaimAndWait,
    Deed::Unclaim,
    Deed::Unclaim,
    Deed::Unclaim,
    Deed::ScalePool,
    Deed::ChangeTemplate,
    Deed::LoseSandbox,
    Deed::LosePod,
];

/// People, and what they remember.
pub(crate) struct People {
    client: Client,
    dice: Dice,
    /// Claims that were accepted and not taken back.
    claims: BTreeSet<String>,
    made: usize,
    deeds: BTreeMap<&'static str, usize>,
}

/// Has people live in the world, in bad weather, and then waits for everything to come true.
pub(crate) async fn live(world: &World, dice: &Dice, settings: &Settings) -> Result<Report, String> {
    let mut people =
        People { client: world.people(), dice: dice.fork(), claims: BTreeSet::new(), made: 0, deeds: BTreeMap::new() };
    let beginning = tokio::time::Instant::now();
    people.settle_in().await?;
    world.wire.set_stormy(true);
    let crash_every = settings.deeds / (settings.crashes + 1) + 1;
    for number in 1..=settings.deeds {
        people.act().await?;
        if number % crash_every == 0 {
            if people.dice.per_mille(500) {
                world.crash_controllers()
            } else {
                world.crash_server().await
            }
            *people.deeds.entry("crash").or_default() += 1;
        }
        tokio::time::sleep(people.dice.up_to(PAUSE_MAX)).await;
        if let Some(broken) = world.history.broken() {
            return Err(broken);
        }
    }
    world.wire.set_stormy(false);
    people.wait_for_promises(world, settings.patience).await?;
    Ok(Report {
        ready_claims: people.claims.len(),
        deeds: people.deeds,
        faults: world.wire.happened(),
        writes: world.history.writes(),
        simulated_s: beginning.elapsed().as_secs(),
    })
}

impl People {
    pub(crate) fn api<K: Handled>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn list<K: Handled>(&self) -> Result<Vec<K>, String> {
        insist(|| async { self.api::<K>().list(&ListParams::default()).await }).await.map(|list| list.items)
    }

    async fn settle_in(&self) -> Result<(), String> {
        for (number, name) in TEMPLATES.into_iter().enumerate() {
            let template = manifests::template(NAMESPACE, name, pod(&format!("image-{number}")));
            create(&self.api(), &template).await?;
        }
        for (number, name) in POOLS.into_iter().enumerate() {
            let size = i32::try_from(self.dice.below(MEMBERS_MAX)).unwrap_or_default();
            let mut pool = manifests::pool(NAMESPACE, name, TEMPLATES[number % TEMPLATES.len()], size);
            if number == 1 {
                let strategy = json!({"type": "Recreate"});
                pool.spec.update_strategy = serde_json::from_value(strategy).ok();
            }
            create(&self.api(), &pool).await?;
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<(), String> {
        let deed = *self.dice.choose(&DEEDS).expect("there are some");
        let name = match deed {
            Deed::Claim => self.claim(json!({})).await?,
            Deed::ClaimAndWait => {
                let priority = self.dice.below(5).to_string();
                let annotations = json!({"atoll.dev/when-empty": "wait", "atoll.dev/wait-seconds-max": "20",
                    "atoll.dev/priority": priority});
                self.claim(annotations).await?
            }
            Deed::Unclaim => self.unclaim().await?,
            Deed::ScalePool => {
                let replicas = self.dice.below(MEMBERS_MAX);
                let pool = *self.dice.choose(&POOLS).expect("there are some");
                self.merge::<SandboxWarmPool>(pool, json!({"spec": {"replicas": replicas}})).await?;
                "scale pool"
            }
            Deed::ChangeTemplate => {
                let image = format!("image-{}", self.dice.below(1_000));
                let template = *self.dice.choose(&TEMPLATES).expect("there are some");
                let containers = json!([{"name": "main", "image": image}]);
                let patch = json!({"spec": {"podTemplate": {"spec": {"containers": containers}}}});
                self.merge::<SandboxTemplate>(template, patch).await?;
                "change template"
            }
            Deed::LoseSandbox => self.lose::<Sandbox>("lose sandbox").await?,
            Deed::LosePod => self.lose::<Pod>("lose pod").await?,
        };
        *self.deeds.entry(name).or_default() += 1;
        Ok(())
    }

    async fn claim(&mut self, annotations: Value) -> Result<&'static str, String> {
        self.made += 1;
        let name = format!("c-{}", self.made);
        let pool = *self.dice.choose(&POOLS).expect("there are some");
        let mut claim = manifests::claim(NAMESPACE, &name, pool);
        claim.metadata.annotations = serde_json::from_value(annotations).ok();
        create(&self.api(), &claim).await?;
        self.claims.insert(name);
        Ok("claim")
    }

    async fn unclaim(&mut self) -> Result<&'static str, String> {
        let claims: Vec<String> = self.claims.iter().cloned().collect();
        if let Some(name) = self.dice.choose(&claims) {
            self.claims.remove(name);
            delete::<SandboxClaim>(&self.api(), name).await?;
        }
        Ok("unclaim")
    }

    async fn lose<K: Handled>(&self, deed: &'static str) -> Result<&'static str, String> {
        let all = self.list::<K>().await?;
        if let Some(one) = self.dice.choose(&all) {
            delete::<K>(&self.api(), &one.name_any()).await?;
        }
        Ok(deed)
    }

    async fn merge<K: Handled>(&self, name: &str, patch: Value) -> Result<(), String> {
        let (api, patch) = (self.api::<K>(), Patch::Merge(patch));
        insist(|| async { api.patch(name, &PatchParams::default(), &patch).await }).await.map(drop)
    }

    async fn wait_for_promises(&self, world: &World, patience: Duration) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(broken) = world.history.broken() {
                return Err(broken);
            }
            let open = promises::open(self, &self.claims).await?;
            if open.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(format!("after {} s of good weather:\n{}", patience.as_secs(), open.join("\n")));
            }
        }
    }
}

fn pod(image: &str) -> PodSpec {
    let container = Container { name: "main".to_owned(), image: Some(image.to_owned()), ..Container::default() };
    PodSpec { containers: vec![container], ..PodSpec::default() }
}

/// A person whose request was not answered asks again. What exists then was made by the first attempt.
async fn create<K: Handled>(api: &Api<K>, object: &K) -> Result<(), String> {
    match insist(|| async {
        match api.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(object.clone()),
            answer => answer,
        }
    })
    .await
    {
        Ok(_made) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn delete<K: Handled>(api: &Api<K>, name: &str) -> Result<(), String> {
    insist(|| async {
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_going) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await
}

async fn insist<T, F>(mut ask: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = kube::Result<T>>,
{
    let mut last = String::new();
    for _attempt in 0..ATTEMPTS_MAX {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = atoll_stdx::chain(&error),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Err(format!("a person got no answer: {last}"))
}
