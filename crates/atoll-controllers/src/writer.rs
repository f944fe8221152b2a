//! Executes writes, and tells the caches what came of them before anyone plans again.

use std::sync::Arc;

use atoll_client::{Cache, ObjectKey, wire};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::core::request::Error as RequestError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::owner::uid_of;
use crate::write::{Kind, NewObject, Propagation, Target, Write, WriteError, Written};

/// The name under which the controllers own fields.
const FIELD_MANAGER: &str = "sandbox-controller";

/// A kind that can be written, cached, and lives in a namespace.
pub(crate) trait Writable:
    Written
    + Resource<Scope = NamespaceResourceScope>
    + Clone
    + Serialize
    + DeserializeOwned
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Writable for K where
    K: Written
        + Resource<Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// Executes writes with one client.
#[derive(Clone)]
pub(crate) struct Writer {
    client: kube::Client,
    caches: Arc<Caches>,
}

impl Writer {
    pub(crate) fn new(client: kube::Client, caches: Arc<Caches>) -> Self {
        Self { client, caches }
    }

    /// Does one write. After an error the caches know what the API server has under that name now.
    pub(crate) async fn execute(&self, write: &Write) -> Result<(), WriteError> {
        match write {
            Write::Create(object) => match object {
                NewObject::Sandbox(object) => self.create(&self.caches.sandboxes, &**object).await,
                NewObject::SandboxWarmPool(object) => self.create(&self.caches.pools, &**object).await,
                NewObject::Pod(object) => self.create(&self.caches.pods, &**object).await,
                NewObject::Service(object) => self.create(&self.caches.services, &**object).await,
                NewObject::PersistentVolumeClaim(object) => self.create(&self.caches.volume_claims, &**object).await,
                NewObject::NetworkPolicy(object) => self.create(&self.caches.network_policies, &**object).await,
            },
            Write::Merge { target, .. } | Write::Status { target, .. } | Write::Delete { target, .. } => {
                match target.kind {
                    Kind::Sandbox => self.change(&self.caches.sandboxes, target, write).await,
                    Kind::SandboxTemplate => self.change(&self.caches.templates, target, write).await,
                    Kind::SandboxWarmPool => self.change(&self.caches.pools, target, write).await,
                    Kind::SandboxClaim => self.change(&self.caches.claims, target, write).await,
                    Kind::Pod => self.change(&self.caches.pods, target, write).await,
                    Kind::Service => self.change(&self.caches.services, target, write).await,
                    Kind::PersistentVolumeClaim => self.change(&self.caches.volume_claims, target, write).await,
                    Kind::NetworkPolicy => self.change(&self.caches.network_policies, target, write).await,
                }
            }
        }
    }

    /// Asks the API server itself for an object, past the cache.
    pub(crate) async fn refresh<K: Writable>(&self, cache: &Cache<K>, key: &ObjectKey) -> Result<bool, WriteError> {
        let live = self.api::<K>(key).get_opt(&key.name).await.map_err(|error| WriteError::from_client(&error))?;
        let found = live.is_some();
        if let Some(object) = live {
            cache.remember(object);
        } else if let Some(known) = cache.get(key) {
            cache.forget(&known);
        }
        Ok(found)
    }

    fn api<K: Writable>(&self, key: &ObjectKey) -> Api<K> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    async fn create<K: Writable>(&self, cache: &Cache<K>, object: &K) -> Result<(), WriteError> {
        let key = ObjectKey::of(object);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let answer = match wire::write(object) {
            Ok(bytes) => self.send(request::<K>(&key).create(&parameters, bytes)).await,
            Err(error) => Err(kube::Error::SerdeError(error)),
        };
        self.settle(cache, &key, answer).await
    }

    async fn change<K: Writable>(&self, cache: &Cache<K>, target: &Target, write: &Write) -> Result<(), WriteError> {
        let (request, name) = (request::<K>(&target.key), target.key.name.as_str());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let answer = match write {
            Write::Merge { patch, .. } => {
                self.send(request.patch(name, &parameters, &Patch::Merge(with_uid(patch, &target.uid)))).await
            }
            Write::Status { status, resource_version, .. } => {
                let mut operations = vec![
                    json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
                    json!({"op": "add", "path": "/status", "value": status}),
                ];
                // The API server compares the version that an object is sent with: another one is a conflict.
                operations.extend(
                    resource_version
                        .iter()
                        .map(|version| json!({"op": "add", "path": "/metadata/resourceVersion", "value": version})),
                );
                let operations = serde_json::from_value(Value::Array(operations)).expect("these are patch operations");
                self.send(request.patch_subresource("status", name, &parameters, &Patch::<()>::Json(operations))).await
            }
            Write::Delete { resource_version, propagation, .. } => {
                return self.delete(cache, target, resource_version.clone(), *propagation).await;
            }
            Write::Create(_) => unreachable!("creations go their own way"),
        };
        self.settle(cache, &target.key, answer).await
    }

    async fn send<K: Writable>(&self, request: Result<http::Request<Vec<u8>>, RequestError>) -> kube::Result<K> {
        let text = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        wire::read(&text).map_err(kube::Error::SerdeError)
    }

    async fn delete<K: Writable>(
        &self,
        cache: &Cache<K>,
        target: &Target,
        resource_version: Option<String>,
        propagation: Propagation,
    ) -> Result<(), WriteError> {
        let parameters = DeleteParams {
            propagation_policy: Some(match propagation {
                Propagation::Background => PropagationPolicy::Background,
                Propagation::Foreground => PropagationPolicy::Foreground,
            }),
            preconditions: Some(Preconditions { resource_version, uid: Some(target.uid.clone()) }),
            ..DeleteParams::default()
        };
        match self.api::<K>(&target.key).delete(&target.key.name, &parameters).await {
            Ok(answer) => {
                match answer.left().filter(|object: &K| object.meta().deletion_timestamp.is_some()) {
                    Some(leaving) => drop(cache.remember(leaving)),
                    None => self.forget(cache, target),
                }
                Ok(())
            }
            Err(error) => match WriteError::from_client(&error) {
                WriteError::NotFound => {
                    self.forget(cache, target);
                    Ok(())
                }
                error => self.refreshed(cache, &target.key, error).await,
            },
        }
    }

    fn forget<K: Writable>(&self, cache: &Cache<K>, target: &Target) {
        if let Some(known) = cache.get(&target.key).filter(|known| uid_of(known.meta()) == target.uid) {
            cache.forget(&known);
        }
    }

    async fn settle<K: Writable>(
        &self,
        cache: &Cache<K>,
        key: &ObjectKey,
        answer: kube::Result<K>,
    ) -> Result<(), WriteError> {
        match answer {
            Ok(object) => {
                cache.remember(object);
                Ok(())
            }
            Err(error) => self.refreshed(cache, key, WriteError::from_client(&error)).await,
        }
    }

    /// After a surprise the cache is behind: catch up before anything is planned again.
    async fn refreshed<K: Writable>(
        &self,
        cache: &Cache<K>,
        key: &ObjectKey,
        error: WriteError,
    ) -> Result<(), WriteError> {
        if !matches!(error, WriteError::Other(_)) {
            self.refresh(cache, key).await?;
        }
        Err(error)
    }
}

fn request<K: Writable>(key: &ObjectKey) -> Request {
    Request::new(K::url_path(&(), Some(&key.namespace)))
}

/// The API server refuses a patch whose UID is not that of the object.
fn with_uid(patch: &Value, uid: &str) -> Value {
    let mut patch = patch.clone();
    patch["metadata"]["uid"] = Value::String(uid.to_owned());
    patch
}
