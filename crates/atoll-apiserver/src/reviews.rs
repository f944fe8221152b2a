//! Kinds that are questions: who bears a token, who am I, what may I do, what may they do.

use http::StatusCode;
use serde_json::{Value, json};

use crate::authn::{self, Identity};
use crate::authz::{self, Access};
use crate::objects::{metadata_mut, time_text};
use crate::payload::{Document, Encoding};
use crate::reply::Reply;
use crate::schema::Cause;
use crate::server::ApiServer;
use crate::status::{About, ApiError};
use crate::verbs::Call;

/// Answers a question.
pub(crate) fn answer(call: &Call) -> Result<Reply, ApiError> {
    let mut question = Document::parse_object(&call.body, Encoding::of(&call.headers)?)?.value;
    let definition = &call.resource.definition;
    question["apiVersion"] = definition.api_version().into();
    question["kind"] = definition.kind.as_str().into();
    let (server, spec) = (&call.server, &question["spec"]);
    let status = match definition.kind.as_str() {
        "TokenReview" => token_review(server, spec)?,
        "SelfSubjectReview" => json!({ "userInfo": user_info(&call.identity) }),
        "SelfSubjectAccessReview" => access_review(server, &call.identity, spec, &about(&definition.kind))?,
        "SubjectAccessReview" => {
            access_review(server, &subject(spec, &definition.kind)?, spec, &about(&definition.kind))?
        }
        "LocalSubjectAccessReview" => {
            check_namespace(call, spec)?;
            access_review(server, &subject(spec, &definition.kind)?, spec, &about(&definition.kind))?
        }
        "SelfSubjectRulesReview" => rules_review(server, &call.identity, spec)?,
        _ => return Err(ApiError::no_such_resource()),
    };
    let now = time_text(call.server.now());
    metadata_mut(&mut question).insert("creationTimestamp".to_owned(), now.into());
    question["status"] = status;
    Ok(Reply::value(StatusCode::CREATED, call.form, &question))
}

fn about(kind: &str) -> About<'_> {
    About { group: "authorization.k8s.io", kind, name: "" }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn token_review(server: &ApiServer, spec: &Value) -> Result<Value, ApiError> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    Ok(match authn::bearer(server, token, &texts(&spec["audiences"])) {
        Ok(bearer) => json!({
            "authenticated": true, "user": user_info(&bearer.identity), "audiences": bearer.audiences,
        }),
        Err(error) => json!({ "user": {}, "error": error.to_string() }),
    })
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({ "username": identity.name, "groups": identity.groups });
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// Who is asked about.
fn subject(spec: &Value, kind: &str) -> Result<Identity, ApiError> {
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let cause = Cause::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(ApiError::invalid(&about(kind), &[cause]));
    }
    let uid = spec["uid"].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.to_lowercase(), texts(values))).collect();
    Ok(Identity { name, groups, uid, extra })
}

/// A local question is about its own namespace.
fn check_namespace(call: &Call, spec: &Value) -> Result<(), ApiError> {
    let namespace = call.path.namespace.as_deref().unwrap_or_default();
    let asked = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
    if asked == namespace {
        return Ok(());
    }
    let message = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
    Err(ApiError::bad_request(message))
}

fn access_review(server: &ApiServer, identity: &Identity, spec: &Value, about: &About<'_>) -> Result<Value, ApiError> {
    let (path, wanted) = (&spec["nonResourceAttributes"], &spec["resourceAttributes"]);
    if path.is_object() == wanted.is_object() {
        let problem = if path.is_object() {
            "cannot be specified in combination with resourceAttributes"
        } else {
            "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        };
        return Err(ApiError::invalid(about, &[Cause::invalid("spec.resourceAttributes", Value::Null, problem)]));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if path.is_object() {
        let allowed = authz::allows_path(server, identity, &text(&path["verb"]), &text(&path["path"]));
        return Ok(json!({ "allowed": allowed }));
    }
    let field = |name: &str| wanted[name].as_str().unwrap_or_default();
    let access = Access {
        verb: field("verb"),
        group: field("group"),
        resource: field("resource"),
        subresource: field("subresource"),
        namespace: field("namespace"),
        name: field("name"),
    };
    let reason = authz::reason(server, identity, &access);
    let mut status = json!({ "allowed": reason.is_some() });
    let words = reason.map(|reason| reason.to_string()).unwrap_or_default();
    if !words.is_empty() {
        status["reason"] = words.into();
    }
    Ok(status)
}

/// All that somebody may do in a namespace.
fn rules_review(server: &ApiServer, identity: &Identity, spec: &Value) -> Result<Value, ApiError> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = server.rbac().policy(server.store()).rules_of(identity, namespace);
    let (on_paths, on_resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.urls.is_empty());
    let values =
        |rules: Vec<&crate::rbac::PolicyRule>| rules.into_iter().map(|rule| rule.to_value()).collect::<Vec<_>>();
    Ok(json!({
        "resourceRules": values(on_resources), "nonResourceRules": values(on_paths), "incomplete": false,
    }))
}
