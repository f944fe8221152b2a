//! What is done about one object, one namespace, one event.

use std::time::Duration;

use atoll_store::{DeleteRequest, Expect, ListRequest, StoreError};
use serde_json::Value;

use crate::definitions::Facet;
use crate::namespaces;
use crate::objects::{View, finalizers, metadata_mut, metadata_text, set_finalizers};
use crate::removal::{self, DeleteOptions, FOREGROUND, ORPHAN, Propagation};
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Proposal, Write};

use super::graph::{Facts, Member, Standing};

/// Something to look into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// An object, by UID: whether its owners are gone, or its own end can go on.
    Object(Box<str>),
    /// A namespace that is on its way out.
    Namespace(String),
    /// An event that is old, by key and revision.
    Event(String, u64),
}

/// Does what there is to do. Returns the task if it must be done again.
pub(super) async fn perform(
    server: ApiServer,
    task: Task,
    facts: Option<Facts>,
    retry_delay: Duration,
) -> Option<Task> {
    let result = match (&task, facts) {
        (Task::Object(uid), Some(facts)) => object(&server, uid, &facts).await,
        // It has gone in the meantime.
        (Task::Object(_), None) => Ok(()),
        (Task::Namespace(name), _) => namespace(&server, name).await,
        (Task::Event(key, revision), _) => event(&server, key, *revision).await,
    };
    match result {
        Ok(()) => None,
        // Somebody else was faster: their write brings the object back here if it still matters.
        Err(error) if matches!(error.reason, "NotFound" | "Conflict") => None,
        Err(error) => {
            tracing::warn!(?task, cause = %error, "garbage collection failed, trying again");
            tokio::time::sleep(retry_delay).await;
            Some(task)
        }
    }
}

async fn object(server: &ApiServer, uid: &str, facts: &Facts) -> Result<(), ApiError> {
    let member = &facts.member;
    if member.lets_dependents_go() {
        for dependent in &facts.dependents {
            forget_owners(server, dependent, &[uid]).await?;
        }
        return drop_finalizer(server, uid, member, ORPHAN).await;
    }
    if member.waits_for_dependents() && !facts.blocked {
        return drop_finalizer(server, uid, member, FOREGROUND).await;
    }
    if member.deleting && !member.waits_for_dependents() {
        return Ok(());
    }
    owners(server, uid, facts).await
}

/// Deletes an object without owners, and takes owners that are gone off one that still has others.
async fn owners(server: &ApiServer, uid: &str, facts: &Facts) -> Result<(), ApiError> {
    let member = &facts.member;
    if member.owners.is_empty() || member.deleting {
        return Ok(());
    }
    // A kind that is not served cannot be looked up: its objects count as being there.
    let known = |owner: &crate::objects::Owner| server.registry().by_kind(&owner.api_version, &owner.kind).is_some();
    let standing = member.owners.iter().zip(&facts.standing);
    let standing: Vec<Standing> =
        standing.map(|(owner, standing)| if known(owner) { *standing } else { Standing::Solid }).collect();
    if standing.contains(&Standing::Solid) {
        let gone: Vec<&str> = member
            .owners
            .iter()
            .zip(&standing)
            .filter(|(_, standing)| **standing != Standing::Solid)
            .map(|(owner, _)| &*owner.uid)
            .collect();
        return if gone.is_empty() { Ok(()) } else { forget_owners(server, member, &gone).await };
    }
    let propagation = if standing.contains(&Standing::Waiting) && !facts.dependents.is_empty() {
        Some(Propagation::Foreground)
    } else if member.orphaning {
        Some(Propagation::Orphan)
    } else if member.foreground {
        Some(Propagation::Foreground)
    } else {
        Some(Propagation::Background)
    };
    // What it was judged by must still hold. If not, the write that changed it brings it back here.
    let key = member.resource.key(member.namespace.as_deref(), &member.name);
    let Some(record) = server.store().get(&key) else { return Ok(()) };
    let view = View::of(&record, &member.resource);
    if *view.uid != *uid || view.owners != member.owners {
        return Ok(());
    }
    let options = DeleteOptions {
        uid: Some(uid.to_owned()),
        resource_version: Some(record.revision.to_string()),
        propagation,
        ..DeleteOptions::default()
    };
    removal::delete(server, &member.resource, member.namespace.as_deref(), &member.name, &options).await.map(|_| ())
}

/// Takes owner references off an object.
async fn forget_owners(server: &ApiServer, member: &Member, uids: &[&str]) -> Result<(), ApiError> {
    let change = |old: &Value| {
        let mut new = old.clone();
        let metadata = metadata_mut(&mut new);
        if let Some(references) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
            references.retain(|reference| reference["uid"].as_str().is_none_or(|uid| !uids.contains(&uid)));
            if references.is_empty() {
                metadata.remove("ownerReferences");
            }
        }
        Ok(Proposal::untracked(new))
    };
    match update(server, member, change).await {
        Err(error) if error.reason != "NotFound" => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn drop_finalizer(server: &ApiServer, uid: &str, member: &Member, finalizer: &str) -> Result<(), ApiError> {
    let change = |old: &Value| {
        let mut new = old.clone();
        // Made anew under the same name: another object, of no concern here.
        if metadata_text(old, "uid") == uid {
            set_finalizers(&mut new, finalizers(old).into_iter().filter(|own| own != finalizer).collect());
        }
        Ok(Proposal::untracked(new))
    };
    update(server, member, change).await
}

async fn update<F>(server: &ApiServer, member: &Member, change: F) -> Result<(), ApiError>
where
    F: Fn(&Value) -> Result<Proposal, ApiError> + Send + Sync,
{
    let options = WriteOptions { manager: "garbage-collector".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource: &member.resource,
        namespace: member.namespace.as_deref(),
        options: &options,
        facet: Facet::Main,
        now: server.now(),
        admission: None,
    };
    write.update(&member.name, change).await.map(|_| ())
}

/// Deletes what is in a namespace that is on its way out; lets go of it once nothing is.
async fn namespace(server: &ApiServer, name: &str) -> Result<(), ApiError> {
    let resources: Vec<_> =
        server.registry().stored().filter(|resource| resource.definition.namespaced).cloned().collect();
    let mut left = 0;
    for resource in resources {
        let prefix = resource.prefix(Some(name));
        let request = ListRequest { prefix: &prefix, ..ListRequest::default() };
        let page = server.store().list(&request).map_err(|error| crate::writes::store_error(&error))?;
        for record in &page.records {
            left += 1;
            if View::of(record, &resource).deleting {
                continue;
            }
            let object_name = record.key.strip_prefix(prefix.as_str()).unwrap_or_default();
            let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            match removal::delete(server, &resource, Some(name), object_name, &options).await {
                Ok(crate::writes::Written::Removed(_)) => left -= 1,
                Err(error) if error.reason == "NotFound" => left -= 1,
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }
    // Otherwise the last of them to go brings the namespace back here.
    if left == 0 {
        namespaces::release(server, name).await.map_err(|error| crate::writes::store_error(&error))?;
    }
    Ok(())
}

async fn event(server: &ApiServer, key: &str, revision: u64) -> Result<(), ApiError> {
    let request = DeleteRequest { key: key.to_owned(), expect: Expect::Revision(revision), last_value: None };
    match server.store().delete(request).await {
        // Written to since then, or gone.
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(crate::writes::store_error(&error)),
    }
}
