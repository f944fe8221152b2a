//! Namespaces: those that always exist, what may be made in them, and their slow end.

use std::sync::Arc;

use atoll_store::{DeleteRequest, Expect, PutRequest, StoreError};
use serde_json::{Value, json};

use crate::definitions::Facet;
use crate::objects::{View, finalizers};
use crate::registry::Resource;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::Write;

/// Namespaces that always exist and cannot be deleted (the last can).
const FIRST: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const UNDELETABLE: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The kind of namespaces, where it is served.
pub(crate) fn resource(server: &ApiServer) -> Option<Arc<Resource>> {
    server.registry().by_path("v1", "namespaces")
}

pub(crate) fn is_namespace(resource: &Resource) -> bool {
    resource.definition.group.is_empty() && resource.definition.plural == "namespaces"
}

/// Makes the namespaces that always exist.
pub(crate) async fn bootstrap(server: &ApiServer) -> Result<(), ApiError> {
    let Some(resource) = resource(server) else { return Ok(()) };
    let options = WriteOptions { manager: "atoll".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource: &resource,
        namespace: None,
        options: &options,
        facet: Facet::Main,
        now: server.now(),
        admission: None,
    };
    for name in FIRST {
        if server.store().get(&resource.key(None, name)).is_none() {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            write.create(object, false).await?;
        }
    }
    Ok(())
}

/// Whether something may be made in a namespace.
pub(crate) fn check_open(
    server: &ApiServer,
    made: &Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), ApiError> {
    let (Some(namespace), Some(resource)) = (namespace, resource(server)) else { return Ok(()) };
    let Some(record) = server.store().get(&resource.key(None, namespace)) else {
        return Err(ApiError::not_found(&resource.about(namespace)));
    };
    if View::of(&record, &resource).deleting {
        let problem = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("namespace {namespace} is being terminated");
        return Err(ApiError::forbidden(&made.about(name), &problem).with_cause(
            "NamespaceTerminating",
            &message,
            "metadata.namespace",
        ));
    }
    Ok(())
}

pub(crate) fn check_deletable(resource: &Resource, name: &str) -> Result<(), ApiError> {
    if is_namespace(resource) && UNDELETABLE.contains(&name) {
        return Err(ApiError::forbidden(&resource.about(name), "this namespace may not be deleted"));
    }
    Ok(())
}

/// Whether nothing but its own finalizers holds an object: always, but for a namespace that is not known to be empty.
pub(crate) fn is_released(resource: &Resource, object: &Value) -> bool {
    !is_namespace(resource) || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// Shows that a namespace is on its way out.
pub(crate) fn mark_terminating(resource: &Resource, object: &mut Value) {
    if is_namespace(resource) {
        object["status"]["phase"] = "Terminating".into();
    }
}

/// Lets go of a namespace that is empty; it goes unless finalizers of its own hold it.
pub(crate) async fn release(server: &ApiServer, name: &str) -> Result<(), StoreError> {
    let Some(resource) = resource(server) else { return Ok(()) };
    let key = resource.key(None, name);
    while let Some(record) = server.store().get(&key) {
        let mut object = resource.decode(&record.value);
        if is_released(&resource, &object) {
            return Ok(());
        }
        object["spec"]["finalizers"] = json!([]);
        let (key, expect) = (key.clone(), Expect::Revision(record.revision));
        let value = resource.encode(&object);
        let result = if finalizers(&object).is_empty() {
            server.store().delete(DeleteRequest { key, expect, last_value: Some(value) }).await
        } else {
            server.store().put(PutRequest { key, expect, value }).await
        };
        match result {
            Err(StoreError::Conflict { .. }) => {}
            result => return result.map(|_| ()),
        }
    }
    Ok(())
}
