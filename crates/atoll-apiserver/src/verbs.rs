//! One request for a resource, from its verb to its answer.

mod delete;
mod patch;
mod read;
mod stream;
mod subresource;
mod token;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode};
use serde_json::Value;

use crate::admission::{Admission, Notes};
use crate::authn::Identity;
use crate::authz::{self, Access};
use crate::definitions::{Facet, Origin};
use crate::node_proxy::PodStream;
use crate::objects::{metadata_mut, metadata_text};
use crate::payload::{Document, Encoding};
use crate::registry::Resource;
use crate::reply::{Form, JSON, Reply, YAML};
use crate::request::{Query, ResourcePath, Verb, WriteOptions};
use crate::reviews;
use crate::selectors::{FieldSelector, LabelSelector};
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::watch::Filter;
use crate::writes::{Write, Written};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::read::check_continue_token;

/// A request for a resource that may be made by whoever makes it.
pub(crate) struct Call {
    pub(crate) server: ApiServer,
    pub(crate) identity: Identity,
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: Extensions,
    pub(crate) form: Form,
    pub(crate) body: Bytes,
    pub(crate) notes: Notes,
}

/// Finds the kind, checks the method, and asks whether the caller may.
pub(crate) fn admit(
    server: &ApiServer,
    identity: &Identity,
    path: &ResourcePath,
    verb: Option<Verb>,
) -> Result<(Arc<Resource>, Verb), ApiError> {
    let verb = verb.ok_or_else(ApiError::method_not_allowed)?;
    authz::authorize(server, identity, &Access::of(verb, path))?;
    let resource =
        server.registry().by_path(&path.api_version(), &path.plural).ok_or_else(ApiError::no_such_resource)?;
    let definition = &resource.definition;
    if !definition.namespaced && path.namespace.is_some() {
        return Err(ApiError::no_such_resource());
    }
    if definition.namespaced && path.namespace.is_none() {
        if path.name.is_some() {
            return Err(ApiError::no_such_resource());
        }
        if matches!(verb, Verb::Create | Verb::DeleteCollection) {
            return Err(ApiError::method_not_allowed());
        }
    }
    let has = |name: &str| definition.subresources.others.iter().any(|own| own == name);
    let allowed = match path.subresource.as_deref() {
        None if definition.strategy.answer_only => verb == Verb::Create && path.name.is_none(),
        None => {
            (verb == Verb::Create) == path.name.is_none() || !matches!(verb, Verb::Create | Verb::Update | Verb::Patch)
        }
        Some("status") if definition.subresources.status => matches!(verb, Verb::Get | Verb::Update | Verb::Patch),
        Some("scale") if definition.subresources.scale.is_some() => {
            matches!(verb, Verb::Get | Verb::Update | Verb::Patch)
        }
        Some(name @ ("binding" | "eviction" | "token")) if has(name) => verb == Verb::Create,
        Some("log") if has("log") => verb == Verb::Get,
        Some(name @ ("exec" | "attach" | "portforward")) if has(name) => matches!(verb, Verb::Get | Verb::Create),
        Some(_) => return Err(ApiError::no_such_resource()),
    };
    if !allowed {
        return Err(ApiError::method_not_allowed());
    }
    if verb == Verb::Create && path.subresource.is_none() && !definition.serving.accepts_new {
        return Err(ApiError::definition_terminating());
    }
    Ok((resource, verb))
}

impl Call {
    /// Makes the answer.
    pub(crate) async fn answer(&self, verb: Verb) -> Result<Reply, ApiError> {
        if self.resource.definition.strategy.answer_only {
            return reviews::answer(self);
        }
        if let Some(stream) = PodStream::of(self.path.subresource.as_deref()) {
            return self.stream(stream).await;
        }
        match (self.path.subresource.as_deref(), verb) {
            (Some("scale"), Verb::Get) => self.get_scale(),
            (Some("scale"), _) => self.change_scale(verb).await,
            (Some("binding"), _) => self.bind().await,
            (Some("eviction"), _) => self.evict().await,
            (Some("token"), _) => self.request_token(),
            (_, Verb::Get) => self.get(),
            (_, Verb::List) => self.list(),
            (_, Verb::Watch) => self.watch(),
            (_, Verb::Create) => self.create().await,
            (_, Verb::Update) => self.update().await,
            (_, Verb::Patch) => self.patch().await,
            (_, Verb::Delete) => self.delete().await,
            (_, Verb::DeleteCollection) => self.delete_collection().await,
        }
    }

    fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn facet(&self) -> Facet {
        if self.path.subresource.as_deref() == Some("status") { Facet::Status } else { Facet::Main }
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn write<'a>(&'a self, options: &'a WriteOptions) -> Write<'a> {
        Write {
            server: &self.server,
            resource: &self.resource,
            namespace: self.namespace(),
            options,
            facet: self.facet(),
            now: self.server.now(),
            admission: Some(Admission { identity: &self.identity, notes: &self.notes }),
        }
    }

    /// Which objects the query selects.
    fn filter(&self) -> Result<Filter, ApiError> {
        let registry = self.server.registry();
        let stored = registry.stored().find(|stored| stored.folder == self.resource.folder);
        let stored = Arc::clone(stored.unwrap_or(&self.resource));
        let labels = LabelSelector::parse(self.query.get("labelSelector").unwrap_or_default())?;
        let fields = self.query.get("fieldSelector").unwrap_or_default();
        let fields = FieldSelector::parse(fields, &self.resource, &stored)?;
        Ok(Filter { resource: Arc::clone(&self.resource), stored, labels, fields })
    }

    /// How the body is written: kinds of definitions have no protobuf form.
    fn encoding(&self) -> Result<Encoding, ApiError> {
        match Encoding::of(&self.headers) {
            Err(_) | Ok(Encoding::Protobuf) if self.resource.definition.strategy.origin == Origin::Custom => {
                Err(ApiError::unsupported_media_type(&[JSON, YAML]))
            }
            encoding => encoding,
        }
    }

    /// The body as an object of this kind: kind, namespace and name fit the path.
    fn object(&self, encoding: Encoding) -> Result<Document, ApiError> {
        let mut document = Document::parse_object(&self.body, encoding)?;
        self.fit(&mut document.value)?;
        Ok(document)
    }

    fn fit(&self, object: &mut Value) -> Result<(), ApiError> {
        let definition = &self.resource.definition;
        check_kind(object, definition)?;
        if !matches!(object["metadata"], Value::Object(_) | Value::Null) {
            return Err(ApiError::bad_request("metadata must be an object"));
        }
        let namespace = metadata_text(object, "namespace");
        match self.namespace() {
            Some(expected) if namespace.is_empty() => {
                metadata_mut(object).insert("namespace".to_owned(), expected.into());
            }
            Some(expected) if namespace == expected => {}
            Some(_) => {
                let message = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(message));
            }
            None if namespace.is_empty() => {}
            None => {
                return Err(ApiError::bad_request("namespace must not be set on an object without a namespace"));
            }
        }
        let (name, expected) = (metadata_text(object, "name"), self.name());
        if expected.is_empty() || name == expected {
            return Ok(());
        }
        if name.is_empty() {
            metadata_mut(object).insert("name".to_owned(), expected.into());
            return Ok(());
        }
        Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({expected})"
        )))
    }

    /// The answer to a write of an object.
    fn written(&self, code: StatusCode, written: &Written) -> Reply {
        let now = self.server.now();
        let reply = match written {
            Written::Stored(record) | Written::Removed(record) => {
                Reply::record(code, self.form, &self.resource, record, now)
            }
            Written::Proposed(object) => Reply::object(code, self.form, &self.resource, object, now),
        };
        reply.with_warnings(self.notes.take())
    }
}

/// Kind and version of a body must be the path's; a built-in kind may leave them out.
fn check_kind(object: &mut Value, definition: &crate::definitions::ResourceDefinition) -> Result<(), ApiError> {
    let expected = definition.api_version();
    let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let custom = definition.strategy.origin == crate::definitions::Origin::Custom;
    if custom && kind.is_empty() {
        return Err(ApiError::bad_request("Object 'Kind' is missing in the body of the request"));
    }
    if custom && api_version.is_empty() {
        return Err(ApiError::bad_request("Object 'apiVersion' is missing in the body of the request"));
    }
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != definition.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            definition.kind
        )));
    }
    object["apiVersion"] = expected.into();
    object["kind"] = definition.kind.as_str().into();
    Ok(())
}
