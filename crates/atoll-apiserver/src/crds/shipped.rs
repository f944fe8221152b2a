//! The definitions that this server ships, as objects: made at the first start, replaced by those of a newer release,
//! left alone once an administrator has changed them. For other servers, with the older version beside the newer one.

use atoll_store::{Expect, PutRequest, Record};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::conditions::{self, Taken};
use super::keywords::{list, text, texts};
use crate::definitions::{ResourceDefinition, Shipped, shipped};
use crate::objects::{metadata_mut, metadata_text, time_text};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::store_error;

/// On a definition that is shipped: the generation of the spec that a release has put there. A spec that somebody
/// changed has another one.
const SHIPPED_GENERATION: &str = "atoll.dev/shipped-generation";

/// Makes the definitions of these kinds that are not there, and brings those of an older release up to date.
pub(super) async fn settle(
    server: &ApiServer,
    resource: &Resource,
    given: &[ResourceDefinition],
) -> Result<(), ApiError> {
    let wanted = |name: &str| given.iter().any(|kind| kind.defined_by.as_deref() == Some(name));
    for shipped in shipped().iter().filter(|shipped| wanted(&shipped.name)) {
        let key = resource.key(None, &shipped.name);
        let known = server.store().get(&key);
        let Some(object) = next(server, resource, shipped, known.as_deref()) else { continue };
        let expect = known.map_or(Expect::Absent, |record| Expect::Revision(record.revision));
        let request = PutRequest { key, value: resource.encode(&object), expect };
        server.store().put(request).await.map_err(|error| store_error(&error))?;
    }
    Ok(())
}

/// The object to store; `None` if what is there stays.
fn next(server: &ApiServer, resource: &Resource, shipped: &Shipped, known: Option<&Record>) -> Option<Value> {
    let manifest = shipped.manifest();
    let Some(record) = known else { return Some(installed(manifest, server.now())) };
    let found = resource.decode(&record.value);
    if found["spec"] == manifest["spec"] {
        return None;
    }
    let name = &shipped.name;
    if !is_as_shipped(&found) {
        tracing::info!(name, "a definition that this release ships was changed by somebody and stays as it is");
        return None;
    }
    let upgraded = upgraded(&found, &manifest);
    match &upgraded {
        Some(_) => tracing::info!(name, "a definition of an older release was brought up to date"),
        None => tracing::warn!(name, "objects may be stored in a version that this release does not know"),
    }
    upgraded
}

/// A definition as it is once it is established: it is known to be sound.
fn installed(manifest: Value, now: Timestamp) -> Value {
    let status = json!({ "storedVersions": [storage_version(&manifest)] });
    let mut object = manifest;
    let metadata = metadata_mut(&mut object);
    metadata.insert("uid".to_owned(), atoll_rt::ids::uuid().into());
    metadata.insert("creationTimestamp".to_owned(), time_text(now).into());
    set_generation(&mut object, 1);
    object["status"] = status;
    conditions::settle(&mut object, &Taken::default(), now);
    object
}

fn set_generation(object: &mut Value, generation: i64) {
    let metadata = metadata_mut(object);
    metadata.insert("generation".to_owned(), generation.into());
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations[SHIPPED_GENERATION] = generation.to_string().into();
}

fn storage_version(manifest: &Value) -> &str {
    let versions = list(&manifest["spec"], "versions").iter();
    versions
        .filter(|version| version["storage"] == true)
        .map(|version| text(version, "name"))
        .next()
        .unwrap_or_default()
}

/// Whether a spec is the one that a release has put there. Releases before the mark left a first generation that nobody
/// owns.
fn is_as_shipped(found: &Value) -> bool {
    let generation = found["metadata"]["generation"].as_i64().unwrap_or_default();
    let marked = found["metadata"]["annotations"].get(SHIPPED_GENERATION).and_then(Value::as_str);
    let managers = list(&found["metadata"], "managedFields");
    let owned = managers.iter().any(|entry| entry["fieldsV1"].get("f:spec").is_some());
    let first = marked.map_or(generation == 1, |marked| marked == generation.to_string());
    first && !owned && metadata_text(found, "deletionTimestamp").is_empty()
}

/// The definition with the spec of this release; `None` if objects may be stored in a version that it does not have.
fn upgraded(found: &Value, manifest: &Value) -> Option<Value> {
    let versions = list(&manifest["spec"], "versions");
    let mut stored: Vec<&str> = texts(&found["status"], "storedVersions");
    if stored.iter().any(|stored| !versions.iter().any(|version| text(version, "name") == *stored)) {
        return None;
    }
    let storage = storage_version(manifest);
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    let mut object = found.clone();
    object["status"]["storedVersions"] = json!(stored);
    object["spec"] = manifest["spec"].clone();
    set_generation(&mut object, found["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
    Some(object)
}

/// The definition with the older version in it, which the webhook of `client_config` converts.
pub(crate) fn with_older_version(shipped: &Shipped, client_config: &Value) -> Value {
    let mut manifest = shipped.manifest();
    if let Some(versions) = manifest["spec"]["versions"].as_array_mut() {
        versions.push(shipped.older());
    }
    manifest["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": { "clientConfig": client_config, "conversionReviewVersions": ["v1"] },
    });
    manifest
}
