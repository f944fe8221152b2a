//! scale, binding and eviction.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::definitions::{Facet, Scale};
use crate::objects::{is_deleting, metadata_text, time_text};
use crate::payload::{Document, Encoding};
use crate::removal::{self, DeleteOptions};
use crate::reply::{Form, Reply};
use crate::request::{Verb, WriteOptions};
use crate::schema::{Cause, Reason};
use crate::status::{About, ApiError};
use crate::writes::{Proposal, Write, Written};

use super::Call;

impl Call {
    fn scale_paths(&self) -> Result<&Scale, ApiError> {
        self.resource.definition.subresources.scale.as_ref().ok_or_else(ApiError::no_such_resource)
    }

    pub(super) fn get_scale(&self) -> Result<Reply, ApiError> {
        let key = self.resource.key(self.namespace(), self.name());
        let about = self.resource.about(self.name());
        let record = self.server.store().get(&key).ok_or_else(|| ApiError::not_found(&about))?;
        let scale = scale_of(&self.resource.decode(&record.value), self.scale_paths()?);
        Ok(Reply::value(StatusCode::OK, self.form, &scale))
    }

    pub(super) async fn change_scale(&self, verb: Verb) -> Result<Reply, ApiError> {
        let kind = if verb == Verb::Patch { "PatchOptions" } else { "UpdateOptions" };
        let options = WriteOptions::parse(&self.query, self.user_agent(), kind)?;
        let encoding = if verb == Verb::Patch { Encoding::Json } else { Encoding::of(&self.headers)? };
        let document = Document::parse(&self.body, encoding)?;
        let patch_kind = (verb == Verb::Patch).then(|| self.patch_kind()).transpose()?;
        let paths = self.scale_paths()?;
        let change = |old: &Value| {
            let scale = match patch_kind {
                Some(patch_kind) => self.patched(patch_kind, &scale_of(old, paths), &document.value)?,
                None => document.value.clone(),
            };
            self.rescaled(old, &scale, paths)
        };
        let write = Write { facet: Facet::Scale, ..self.write(&options) };
        let object = match write.update(self.name(), change).await? {
            Written::Stored(record) | Written::Removed(record) => self.resource.decode(&record.value),
            Written::Proposed(object) => object,
        };
        Ok(Reply::value(StatusCode::OK, self.form, &scale_of(&object, paths)))
    }

    fn rescaled(&self, old: &Value, scale: &Value, paths: &Scale) -> Result<Proposal, ApiError> {
        let about = About { group: "autoscaling", kind: "Scale", name: self.name() };
        let invalid = |reason, field: &str, message: &str| {
            let cause = Cause { reason, field: field.to_owned(), message: message.to_owned() };
            Err(ApiError::invalid(&about, &[cause]))
        };
        let text = |name: &str| scale[name].as_str().unwrap_or_default();
        if !matches!((text("apiVersion"), text("kind")), ("" | "autoscaling/v1", "" | "Scale")) {
            let message = format!("the object provided is unrecognized (must be of type Scale): {}", text("kind"));
            return Err(ApiError::bad_request(message));
        }
        let name = metadata_text(scale, "name");
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            value => match value.as_i64() {
                Some(replicas) if replicas >= 0 => replicas,
                Some(replicas) => {
                    let message = format!("Invalid value: {replicas}: should be a non-negative integer");
                    return invalid(Reason::FieldValueInvalid, "spec.replicas", &message);
                }
                None => return Err(ApiError::bad_request("spec.replicas must be an integer")),
            },
        };
        let mut new = old.clone();
        set_path(&mut new, &paths.spec_replicas, replicas.into());
        for member in ["resourceVersion", "uid"] {
            let wanted = metadata_text(scale, member);
            if !wanted.is_empty() {
                new["metadata"][member] = wanted.into();
            }
        }
        Ok(Proposal::untracked(new))
    }

    /// Puts a pod on a node.
    pub(super) async fn bind(&self) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(&self.query, self.user_agent(), "CreateOptions")?;
        let binding = Document::parse_object(&self.body, Encoding::of(&self.headers)?)?.value;
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let name = metadata_text(&binding, "name");
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
        }
        if node.is_empty() {
            let cause = Cause {
                reason: Reason::FieldValueRequired,
                field: "target.name".to_owned(),
                message: "Required value".to_owned(),
            };
            return Err(ApiError::invalid(&About { group: "", kind: "Binding", name: self.name() }, &[cause]));
        }
        let now = time_text(self.server.now());
        let change = |old: &Value| self.bound(old, &binding, node, &now);
        let write = Write { facet: Facet::Binding, ..self.write(&options) };
        write.update(self.name(), change).await?;
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(Reply::value(StatusCode::CREATED, Form::Json, &status))
    }

    fn bound(&self, old: &Value, binding: &Value, node: &str, now: &str) -> Result<Proposal, ApiError> {
        let about = About { group: "", kind: "pods/binding", name: self.name() };
        let name = self.name();
        let uid = metadata_text(binding, "uid");
        if !uid.is_empty() && uid != metadata_text(old, "uid") {
            let found = metadata_text(old, "uid");
            let problem = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
            return Err(ApiError::conflict(&about, &problem));
        }
        if is_deleting(old) {
            return Err(ApiError::conflict(
                &about,
                &format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        let current = old["spec"]["nodeName"].as_str().unwrap_or_default();
        if !current.is_empty() {
            let problem = format!("pod {name} is already assigned to node {current:?}");
            return Err(ApiError::conflict(&about, &problem));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = node.into();
        for member in ["annotations", "labels"] {
            let Some(added) = binding["metadata"][member].as_object() else { continue };
            let own = new["metadata"]
                .as_object_mut()
                .and_then(|it| it.entry(member).or_insert_with(|| json!({})).as_object_mut());
            if let Some(own) = own {
                own.extend(added.clone());
            }
        }
        set_condition(&mut new, now);
        Ok(Proposal::untracked(new))
    }

    /// Deletes a pod, as a drained node asks for it.
    pub(super) async fn evict(&self) -> Result<Reply, ApiError> {
        let eviction = Document::parse_object(&self.body, Encoding::of(&self.headers)?)?.value;
        let name = metadata_text(&eviction, "name");
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = DeleteOptions::parse(&self.query, &eviction["deleteOptions"])?;
        removal::delete(&self.server, &self.resource, self.namespace(), self.name(), &options).await?;
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(Reply::value(StatusCode::CREATED, Form::Json, &status))
    }
}

/// A pod with a node has been scheduled.
fn set_condition(pod: &mut Value, now: &str) {
    if !pod["status"].is_object() {
        pod["status"] = Value::Object(Map::new());
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(conditions) => {
            conditions.retain(|own| own["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}

/// The `Scale` of an object.
fn scale_of(object: &Value, paths: &Scale) -> Value {
    let number = |path: &str| get_path(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(member) {
            metadata.insert(member.to_owned(), value.clone());
        }
    }
    let mut status = json!({ "replicas": number(&paths.status_replicas) });
    let selector = paths.label_selector.as_ref().and_then(|path| get_path(object, path));
    if let Some(selector) = selector.filter(|selector| selector.is_string()) {
        status["selector"] = selector.clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": number(&paths.spec_replicas) }, "status": status,
    })
}

fn get_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.trim_start_matches('.').split('.').try_fold(object, |value, name| value.get(name))
}

fn set_path(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for name in path.trim_start_matches('.').split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name];
    }
    *place = value;
}
