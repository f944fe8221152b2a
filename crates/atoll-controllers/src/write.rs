//! Writes to the API as plain data, and what came of them.

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool};
use atoll_client::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::owner::uid_of;

/// The kinds that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    Sandbox,
    SandboxTemplate,
    SandboxWarmPool,
    SandboxClaim,
    Pod,
    Service,
    PersistentVolumeClaim,
    NetworkPolicy,
}

impl Kind {
    /// The kind as error messages name it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::SandboxTemplate => "sandbox template",
            Self::SandboxWarmPool => "sandbox warm pool",
            Self::SandboxClaim => "sandbox claim",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::PersistentVolumeClaim => "PVC",
            Self::NetworkPolicy => "network policy",
        }
    }
}

/// A kind that is written.
pub(crate) trait Written: Resource<DynamicType = ()> {
    const KIND: Kind;
}

impl Written for Sandbox {
    const KIND: Kind = Kind::Sandbox;
}
impl Written for SandboxTemplate {
    const KIND: Kind = Kind::SandboxTemplate;
}
impl Written for SandboxWarmPool {
    const KIND: Kind = Kind::SandboxWarmPool;
}
impl Written for SandboxClaim {
    const KIND: Kind = Kind::SandboxClaim;
}
impl Written for Pod {
    const KIND: Kind = Kind::Pod;
}
impl Written for Service {
    const KIND: Kind = Kind::Service;
}
impl Written for PersistentVolumeClaim {
    const KIND: Kind = Kind::PersistentVolumeClaim;
}
impl Written for NetworkPolicy {
    const KIND: Kind = Kind::NetworkPolicy;
}

/// One object that exists, down to its UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    #[serde(serialize_with = "as_text")]
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
}

impl Target {
    pub(crate) fn of<K: Written>(object: &K) -> Self {
        Self { kind: K::KIND, key: ObjectKey::of(object), uid: uid_of(object.meta()).to_owned() }
    }
}

fn as_text<S: serde::Serializer>(key: &ObjectKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// An object to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum NewObject {
    Sandbox(Box<Sandbox>),
    SandboxWarmPool(Box<SandboxWarmPool>),
    Pod(Box<Pod>),
    Service(Box<Service>),
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    NetworkPolicy(Box<NetworkPolicy>),
}

impl NewObject {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Sandbox(_) => Kind::Sandbox,
            Self::SandboxWarmPool(_) => Kind::SandboxWarmPool,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::PersistentVolumeClaim(_) => Kind::PersistentVolumeClaim,
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
        }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        match self {
            Self::Sandbox(object) => ObjectKey::of(&**object),
            Self::SandboxWarmPool(object) => ObjectKey::of(&**object),
            Self::Pod(object) => ObjectKey::of(&**object),
            Self::Service(object) => ObjectKey::of(&**object),
            Self::PersistentVolumeClaim(object) => ObjectKey::of(&**object),
            Self::NetworkPolicy(object) => ObjectKey::of(&**object),
        }
    }
}

/// What goes when an object is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Propagation {
    /// The object first, what it owns after it.
    Background,
    /// What it owns first.
    Foreground,
}

/// One write. Doing it twice is the same as doing it once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum Write {
    /// Makes an object.
    Create(NewObject),
    /// Changes an object by a JSON merge patch. With `metadata.resourceVersion` in it, only while it is that version.
    Merge { target: Target, patch: Value },
    /// Replaces the status of an object, with a resource version only while it is that version.
    Status {
        target: Target,
        status: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        resource_version: Option<String>,
    },
    /// Deletes an object, with a resource version only while it is that version.
    Delete {
        target: Target,
        #[serde(skip_serializing_if = "Option::is_none")]
        resource_version: Option<String>,
        propagation: Propagation,
    },
}

impl Write {
    /// Deletes an object in the background, whatever its version.
    pub(crate) fn delete<K: Written>(object: &K) -> Self {
        Self::Delete { target: Target::of(object), resource_version: None, propagation: Propagation::Background }
    }

    /// Deletes an object in the background, but only if nobody has changed it since.
    pub(crate) fn delete_unchanged<K: Written>(object: &K) -> Self {
        Self::Delete {
            target: Target::of(object),
            resource_version: object.meta().resource_version.clone(),
            propagation: Propagation::Background,
        }
    }

    /// Replaces an object's status.
    pub(crate) fn status<K: Written, S: Serialize>(object: &K, status: &S) -> Self {
        let status = serde_json::to_value(status).expect("a status is always JSON");
        Self::Status { target: Target::of(object), status, resource_version: None }
    }

    /// Replaces an object's status, but only if nobody has changed the object since.
    pub(crate) fn status_unchanged<K: Written, S: Serialize>(object: &K, status: &S) -> Self {
        let status = serde_json::to_value(status).expect("a status is always JSON");
        Self::Status { target: Target::of(object), status, resource_version: object.meta().resource_version.clone() }
    }

    /// What the write does, for error messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Create(object) => format!("create {} {:?}", object.kind().word(), object.key().name),
            Self::Merge { target, .. } => format!("patch {} {:?}", target.kind.word(), target.key.name),
            Self::Status { target, .. } => format!("update the status of {} {:?}", target.kind.word(), target.key.name),
            Self::Delete { target, .. } => format!("delete {} {:?}", target.kind.word(), target.key.name),
        }
    }
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The object is another version, or another object, than was thought.
    #[error("the object has changed")]
    Conflict,
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// There is such an object already.
    #[error("the object exists already")]
    AlreadyExists,
    /// The API server will never accept it.
    #[error("{0}")]
    Invalid(String),
    /// Anything else, worth another try.
    #[error("{0}")]
    Other(String),
}

impl WriteError {
    /// Sorts an error of the client.
    pub(crate) fn from_client(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_already_exists() => Self::AlreadyExists,
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            kube::Error::Api(status) if status.is_not_found() => Self::NotFound,
            kube::Error::Api(status) if status.is_invalid() => Self::Invalid(status.message.clone()),
            kube::Error::Api(status) => Self::Other(status.message.clone()),
            other => Self::Other(atoll_stdx::chain(other)),
        }
    }
}
