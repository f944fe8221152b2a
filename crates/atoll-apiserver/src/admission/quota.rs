//! ResourceQuotas: how much a namespace may hold. Decided in memory, exactly, while writes go on side by side; what is
//! used is then written to the quotas' status.

mod ledger;
mod usage;

use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::TaskGroup;
use serde_json::{Map, Value, json};

use crate::definitions::Facet;
use crate::objects::metadata_text;
use crate::registry::Resource;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Proposal, Write, store_error};

use super::amounts::{self, Amounts};
use ledger::{FollowError, Ledger};
use usage::Use;

/// After a failure, before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The quotas of all namespaces. Without a ledger until the first look.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<Option<Ledger>>);

impl Quotas {
    /// Does something with a ledger that is in step with the store. `None` where quotas are not served.
    fn with<T>(
        &self,
        server: &ApiServer,
        mut context: Option<&mut Context<'_>>,
        act: impl FnOnce(&mut Ledger) -> T,
    ) -> Result<Option<T>, ApiError> {
        let Some(folder) = server.registry().by_path("v1", "resourcequotas") else { return Ok(None) };
        let mut slot = self.0.lock().expect("no panic while the quotas are locked");
        let (store, registry) = (server.store(), server.registry());
        loop {
            let ledger = match slot.as_mut() {
                Some(ledger) => ledger,
                None => {
                    let ledger = Ledger::load(store, &registry, folder.clone()).map_err(|error| store_error(&error))?;
                    slot.insert(ledger)
                }
            };
            match ledger.follow(store, &registry, context.as_deref_mut()) {
                Ok(()) => return Ok(Some(act(ledger))),
                // Too much was written since the last look. Writes under way are counted when they are seen.
                Err(FollowError::Lagged) => *slot = None,
                Err(FollowError::Store(error)) => {
                    *slot = None;
                    return Err(store_error(&error));
                }
            }
        }
    }
}

/// A write that its namespace's quotas have room for. Dropped when the write was made, or was not.
pub(crate) struct Reservation<'a> {
    server: &'a ApiServer,
    namespace: String,
    key: String,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let ended = self.server.quotas().with(self.server, None, |ledger| {
            if let Some(space) = ledger.spaces.get_mut(&self.namespace) {
                space.end(&self.key);
            }
        });
        if let Err(error) = ended {
            tracing::warn!(cause = %error, "a quota's usage will be counted anew");
        }
    }
}

/// Refuses a new or changed object for which its namespace has no room, and keeps the room for it otherwise.
pub(super) fn reserve<'a>(
    server: &'a ApiServer,
    resource: &Resource,
    namespace: &str,
    object: &Value,
    dry_run: bool,
) -> Result<Option<Reservation<'a>>, ApiError> {
    let name = metadata_text(object, "name");
    let refuse = |problem: &str| Err(ApiError::forbidden(&resource.about(name), problem));
    let key = resource.key(Some(namespace), name);
    let decided = server.quotas().with(server, None, |ledger| {
        let Some(space) = ledger.spaces.get_mut(namespace) else { return Ok(false) };
        let used = Use::of(&resource.definition, object);
        if space.about(&used).next().is_none() {
            return Ok(false);
        }
        if resource.definition.group.is_empty() && resource.definition.plural == "pods" {
            let unsaid = space.about(&used).find_map(|quota| Some((quota, quota.unsaid(object)?)));
            if let Some((quota, problem)) = unsaid {
                return refuse(&format!("failed quota: {}: {problem}", quota.name));
            }
        }
        if let Some(exceeded) = space.exceeded(&key, &used) {
            return refuse(&format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                exceeded.quota,
                amounts::words(&exceeded.requested),
                amounts::words(&exceeded.used),
                amounts::words(&exceeded.limited)
            ));
        }
        if !dry_run {
            space.begin(&key, used);
        }
        Ok(!dry_run)
    })?;
    let kept = decided.transpose()?.unwrap_or(false);
    Ok(kept.then(|| Reservation { server, namespace: namespace.to_owned(), key }))
}

/// Starts the task that writes what is used to the quotas' status.
pub(crate) fn start(server: &ApiServer, group: &TaskGroup) {
    let (server, token) = (server.clone(), group.token());
    group.spawn("quota-status", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = run(server) => {}
        }
    });
}

async fn run(server: ApiServer) {
    loop {
        let changed = std::future::poll_fn(|context| {
            let outdated = server.quotas().with(&server, Some(context), outdated);
            match outdated {
                Ok(Some(outdated)) if outdated.is_empty() => Poll::Pending,
                Ok(Some(outdated)) => Poll::Ready(Some(outdated)),
                Ok(None) | Err(_) => Poll::Ready(None),
            }
        });
        let Some(changed) = changed.await else {
            if server.registry().by_path("v1", "resourcequotas").is_none() {
                return;
            }
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        for (namespace, quota, hard, used) in changed {
            if let Err(error) = put_status(&server, &namespace, &quota, &hard, &used).await {
                tracing::warn!(namespace, quota, cause = %error, "a quota's status cannot be written");
            }
        }
    }
}

/// Namespace, quota, what it allows, what is used.
type Outdated = (String, String, Amounts, Amounts);

fn outdated(ledger: &mut Ledger) -> Vec<Outdated> {
    let changed = std::mem::take(&mut ledger.changed);
    let spaces = changed.into_iter().filter_map(|namespace| {
        let space = ledger.spaces.get(&namespace)?;
        Some(space.totals().map(move |(quota, used)| (namespace.clone(), quota.name.clone(), quota.hard.clone(), used)))
    });
    spaces.flatten().collect()
}

fn to_value(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), amount.canonical().into()));
    Value::Object(entries.collect::<Map<String, Value>>())
}

async fn put_status(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    hard: &Amounts,
    used: &Amounts,
) -> Result<(), ApiError> {
    let Some(resource) = server.registry().by_path("v1", "resourcequotas") else { return Ok(()) };
    let options = WriteOptions { manager: "resourcequota-controller".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource: &resource,
        namespace: Some(namespace),
        options: &options,
        facet: Facet::Status,
        now: server.now(),
        admission: None,
    };
    let status = json!({ "hard": to_value(hard), "used": to_value(used) });
    let change = |old: &Value| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(Proposal::untracked(new))
    };
    match write.update(name, change).await {
        Err(error) if error.reason != "NotFound" => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
