//! Kinds that are questions: who bears a token, who am I, what may I do.

use http::StatusCode;
use serde_json::{Value, json};

use crate::authn::Identity;
use crate::authz::{self, Access};
use crate::objects::{metadata_mut, time_text};
use crate::payload::{Document, Encoding};
use crate::reply::Reply;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::verbs::Call;

/// Answers a question.
pub(crate) fn answer(call: &Call) -> Result<Reply, ApiError> {
    let mut question = Document::parse_object(&call.body, Encoding::of(&call.headers)?)?.value;
    let definition = &call.resource.definition;
    question["apiVersion"] = definition.api_version().into();
    question["kind"] = definition.kind.as_str().into();
    let status = match definition.kind.as_str() {
        "TokenReview" => token_review(&call.server, &question["spec"]),
        "SelfSubjectReview" => json!({ "userInfo": user_info(&call.identity) }),
        "SelfSubjectAccessReview" => access_review(&call.identity, &question["spec"]),
        "SubjectAccessReview" => access_review(&subject(&question["spec"]), &question["spec"]),
        _ => return Err(ApiError::no_such_resource()),
    };
    let now = time_text(call.server.now());
    metadata_mut(&mut question).insert("creationTimestamp".to_owned(), now.into());
    question["status"] = status;
    Ok(Reply::value(StatusCode::CREATED, call.form, &question))
}

fn token_review(server: &ApiServer, spec: &Value) -> Value {
    match server.tokens().bearer(spec["token"].as_str().unwrap_or_default()) {
        Some(identity) => json!({ "authenticated": true, "user": user_info(identity) }),
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    }
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({ "username": identity.name, "groups": identity.groups });
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    info
}

fn subject(spec: &Value) -> Identity {
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    Identity { name, groups, uid: String::new() }
}

fn access_review(identity: &Identity, spec: &Value) -> Value {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let path = &spec["nonResourceAttributes"];
    if path.is_object() {
        return json!({ "allowed": authz::allows_path(Some(identity), &text(&path["verb"]), &text(&path["path"])) });
    }
    let wanted = &spec["resourceAttributes"];
    let field = |name: &str| wanted[name].as_str().unwrap_or_default();
    let access = Access {
        verb: field("verb"),
        group: field("group"),
        resource: field("resource"),
        subresource: field("subresource"),
        namespace: field("namespace"),
        name: field("name"),
    };
    json!({ "allowed": authz::allows(identity, &access) })
}
