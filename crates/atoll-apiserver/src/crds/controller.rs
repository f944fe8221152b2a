//! Keeping the table of kinds in step with the definitions in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_store::{Change, Event, ListRequest, Record, StoreError, Watch, WatchError};
use serde_json::Value;

use super::conditions::{self, Taken};
use super::keywords::text;
use super::{CLEANUP, PLURAL, definition};
use crate::definitions::{Facet, ResourceDefinition, shipped};
use crate::objects::{finalizers, is_deleting, metadata_text, set_finalizers};
use crate::registry::{ROOT, Resource};
use crate::removal::{self, DeleteOptions};
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Proposal, Write, store_error};

const API_VERSION: &str = "apiextensions.k8s.io/v1";
/// Work that failed is tried again after this time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often it is looked whether the objects of a definition that goes have gone.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(50);

fn resource(server: &ApiServer) -> Option<Arc<Resource>> {
    server.registry().by_path(API_VERSION, PLURAL)
}

/// Makes the definitions that are shipped, and serves the kinds of all that are established.
pub(crate) async fn load(server: &ApiServer, given: Vec<ResourceDefinition>) -> Result<(), ApiError> {
    let Some(resource) = resource(server) else { return Ok(()) };
    super::shipped::settle(server, &resource, &given).await?;
    for record in records(server, &resource).map_err(|error| store_error(&error))? {
        look_into(server, &resource, &record).await?;
    }
    Ok(())
}

/// Follows the definitions from now on.
pub(crate) fn start(server: &ApiServer, group: &TaskGroup) -> Result<(), StoreError> {
    let Some(resource) = resource(server) else { return Ok(()) };
    let watch = server.store().watch(&resource.folder, server.store().current_revision())?;
    let (server, token) = (server.clone(), group.token());
    // What was on its way out when the server ended goes on from there.
    let left: Vec<Arc<Record>> = records(&server, &resource)?;
    group.spawn("definitions", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = follow(&server, &resource, watch, left) => {}
        }
    });
    Ok(())
}

fn records(server: &ApiServer, resource: &Resource) -> Result<Vec<Arc<Record>>, StoreError> {
    let request = ListRequest { prefix: &resource.folder, ..ListRequest::default() };
    Ok(server.store().list(&request)?.records)
}

async fn follow(server: &ApiServer, resource: &Resource, mut watch: Watch, left: Vec<Arc<Record>>) {
    // By name, the newest record of definitions that want another look.
    let mut pending: HashMap<String, Arc<Record>> = HashMap::new();
    for record in left {
        pending.insert(record.key.to_string(), record);
    }
    loop {
        let mut delay = RETRY_DELAY;
        for (key, record) in std::mem::take(&mut pending) {
            match look_into(server, resource, &record).await {
                Ok(Outlook::Settled) => {}
                Ok(Outlook::Unfinished) => {
                    delay = CLEANUP_INTERVAL;
                    pending.insert(key, record);
                }
                Err(error) => {
                    tracing::warn!(definition = key, cause = %error, "a definition cannot be looked into, trying again");
                    pending.insert(key, record);
                }
            }
        }
        let event = tokio::select! {
            event = watch.next() => event,
            () = tokio::time::sleep(delay), if !pending.is_empty() => {
                refresh(server, &mut pending);
                continue;
            }
        };
        match event {
            Ok(event) => take(server, &event, &mut pending),
            Err(WatchError::Closed) => return,
            Err(WatchError::Lagged) => {
                let now = server.store().current_revision();
                let (Ok(again), Ok(all)) = (server.store().watch(&resource.folder, now), records(server, resource))
                else {
                    tracing::error!("the definitions cannot be followed any more");
                    return;
                };
                watch = again;
                pending.extend(all.into_iter().map(|record| (record.key.to_string(), record)));
            }
        }
    }
}

/// Looks again at what is there now.
fn refresh(server: &ApiServer, pending: &mut HashMap<String, Arc<Record>>) {
    pending.retain(|key, record| match server.store().get(key) {
        Some(newest) => {
            *record = newest;
            true
        }
        None => false,
    });
}

fn take(server: &ApiServer, event: &Event, pending: &mut HashMap<String, Arc<Record>>) {
    let key = event.record.key.to_string();
    if event.change == Change::Put {
        pending.insert(key, Arc::clone(&event.record));
        return;
    }
    pending.remove(&key);
    let name = key.rsplit('/').next().unwrap_or_default();
    if let Err(error) = server.kinds().remove(name) {
        tracing::error!(name, cause = %error, "the kinds of a definition cannot be taken out");
    }
}

/// How things stand with a definition.
enum Outlook {
    Settled,
    /// It must be looked into again soon.
    Unfinished,
}

async fn look_into(server: &ApiServer, resource: &Resource, record: &Record) -> Result<Outlook, ApiError> {
    let mut definition = resource.decode(&record.value);
    let name = metadata_text(&definition, "name").to_owned();
    let status_before = definition["status"].clone();
    let terminating = is_deleting(&definition);
    if !terminating {
        let taken = taken(server, &definition, &name);
        conditions::settle(&mut definition, &taken, server.now());
    }
    // Served first: who sees that it is established can use it.
    if conditions::is_true(&definition, conditions::ESTABLISHED) {
        serve(server, &name, &definition);
    }
    if terminating {
        return clean_up(server, resource, &name, &definition).await;
    }
    if definition["status"] != status_before {
        let change = |old: &Value| {
            let mut new = old.clone();
            new["metadata"]["resourceVersion"] = definition["metadata"]["resourceVersion"].clone();
            new["status"] = definition["status"].clone();
            Ok(Proposal { object: new, owned: true })
        };
        let options = WriteOptions { manager: "atoll".to_owned(), ..WriteOptions::default() };
        let write = Write { facet: Facet::Status, ..write(server, resource, &options) };
        match write.update(&name, change).await {
            // Somebody else was faster: their write is looked into.
            Err(error) if matches!(error.reason, "Conflict" | "NotFound") => {}
            result => {
                result?;
            }
        }
    }
    Ok(Outlook::Settled)
}

fn write<'a>(server: &'a ApiServer, resource: &'a Resource, options: &'a WriteOptions) -> Write<'a> {
    Write { server, resource, namespace: None, options, facet: Facet::Main, now: server.now(), admission: None }
}

/// Puts the kinds of a definition into the table, unless they are there as they are to be.
fn serve(server: &ApiServer, name: &str, found: &Value) {
    let kinds = || {
        kinds(name, found).unwrap_or_else(|error| {
            tracing::error!(name, cause = %error, "a stored definition has a schema that cannot be read");
            Vec::new()
        })
    };
    if let Err(error) = server.kinds().set(name, &signature(found), kinds) {
        tracing::error!(name, cause = %error, "the kinds of a definition cannot be served");
    }
}

/// What the kinds of a definition follow from: a spec has a generation, and never the same one twice.
fn signature(found: &Value) -> String {
    let (uid, generation) = (metadata_text(found, "uid"), &found["metadata"]["generation"]);
    format!("{uid}/{generation}/{}/{}", found["status"]["acceptedNames"], is_deleting(found))
}

fn kinds(name: &str, found: &Value) -> Result<Vec<ResourceDefinition>, crate::schema::SchemaError> {
    if let Some(shipped) = shipped().iter().find(|shipped| shipped.name == name) {
        if !is_deleting(found) && shipped.manifest()["spec"] == found["spec"] {
            return Ok(shipped.definitions.clone());
        }
        // Changed by an administrator: what is served beside it stays as long as it has something to stand on.
        let mut kinds = definition::kinds(found, true)?;
        if text(&found["spec"]["conversion"], "strategy") == "Webhook" {
            convert_as_shipped(&mut kinds, &shipped.definitions);
        }
        let beside = shipped.definitions.iter().filter(|it| {
            let stands = kinds.iter().any(|kind| {
                kind.storage.is_none() && it.storage.as_ref().is_some_and(|form| form.version == kind.version)
            });
            stands && !kinds.iter().any(|kind| kind.version == it.version)
        });
        let beside: Vec<ResourceDefinition> = beside.cloned().collect();
        kinds.extend(beside);
        return Ok(kinds);
    }
    definition::kinds(found, true)
}

/// Versions whose definition asks for a webhook are converted by what this server ships for them.
fn convert_as_shipped(kinds: &mut [ResourceDefinition], shipped: &[ResourceDefinition]) {
    for kind in kinds {
        let known = shipped.iter().find(|it| it.version == kind.version).and_then(|it| it.storage.as_ref());
        if let (Some(form), Some(known)) = (&mut kind.storage, known)
            && form.version == known.version
        {
            *form = known.clone();
        }
    }
}

/// The names of the other kinds of the group.
fn taken(server: &ApiServer, found: &Value, name: &str) -> Taken {
    let group = text(&found["spec"], "group");
    let mut taken = Taken::default();
    for resource in server.registry().resources() {
        let kind = &resource.definition;
        if kind.group != group || kind.defined_by.as_deref() == Some(name) {
            continue;
        }
        taken.resources.extend([kind.plural.clone(), kind.singular.clone()]);
        taken.resources.extend(kind.short_names.iter().cloned());
        taken.kinds.extend([kind.kind.clone(), format!("{}List", kind.kind)]);
    }
    taken
}

/// Deletes the objects of a definition that goes; lets go of it once none is left.
async fn clean_up(server: &ApiServer, resource: &Resource, name: &str, found: &Value) -> Result<Outlook, ApiError> {
    if !finalizers(found).iter().any(|own| own == CLEANUP) {
        return Ok(Outlook::Settled);
    }
    if conditions::is_true(found, conditions::ESTABLISHED) {
        serve(server, name, found);
        if delete_objects(server, found).await? > 0 {
            return Ok(Outlook::Unfinished);
        }
    }
    let uid = metadata_text(found, "uid").to_owned();
    let change = |old: &Value| {
        let mut new = old.clone();
        if metadata_text(old, "uid") == uid {
            set_finalizers(&mut new, finalizers(old).into_iter().filter(|own| own != CLEANUP).collect());
        }
        Ok(Proposal { object: new, owned: true })
    };
    let options = WriteOptions { manager: "atoll".to_owned(), ..WriteOptions::default() };
    match write(server, resource, &options).update(name, change).await {
        Err(error) if error.reason == "NotFound" => Ok(Outlook::Settled),
        result => result.map(|_| Outlook::Settled),
    }
}

/// Asks for the deletion of all objects; returns how many are still there.
async fn delete_objects(server: &ApiServer, found: &Value) -> Result<usize, ApiError> {
    let folder = format!("{ROOT}{}/{}/", text(&found["spec"], "group"), text(&found["spec"]["names"], "plural"));
    let registry = server.registry();
    let request = ListRequest { prefix: &folder, ..ListRequest::default() };
    let mut left = 0;
    for record in server.store().list(&request).map_err(|error| store_error(&error))?.records {
        let Some((kind, namespace, name)) = registry.by_key(&record.key) else { continue };
        left += 1;
        if crate::objects::View::of(&record, kind).deleting {
            continue;
        }
        match removal::delete(server, kind, namespace, name, &DeleteOptions::default()).await {
            Ok(crate::writes::Written::Removed(_)) => left -= 1,
            Err(error) if error.reason == "NotFound" => left -= 1,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(left)
}
