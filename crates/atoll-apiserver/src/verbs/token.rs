//! TokenRequest: a token for a service account.

use http::StatusCode;
use serde_json::{Value, json};

use crate::accounts::{Account, Claims, ISSUER, Named};
use crate::authn::account_user;
use crate::objects::{View, metadata_mut, time_text};
use crate::payload::{Document, Encoding};
use crate::reply::Reply;
use crate::schema::Cause;
use crate::status::{About, ApiError};

use super::Call;

const LIFETIME_DEFAULT_S: i64 = 3600;
const LIFETIME_MIN_S: i64 = 10 * 60;
const LIFETIME_MAX_S: i64 = 1 << 32;
const AUDIENCES_MAX: usize = 64;
const NODE_PREFIX: &str = "system:node:";

impl Call {
    /// Makes a token for the service account of the path.
    pub(super) fn request_token(&self) -> Result<Reply, ApiError> {
        let mut request = Document::parse_object(&self.body, Encoding::of(&self.headers)?)?.value;
        if !matches!(request["kind"].as_str(), None | Some("" | "TokenRequest")) {
            return Err(ApiError::bad_request("the body of a token request must be of kind TokenRequest"));
        }
        let name = self.name();
        let record = self.server.store().get(&self.resource.key(self.namespace(), name));
        let record = record.ok_or_else(|| ApiError::not_found(&self.resource.about(name)))?;
        let uid = View::of(&record, &self.resource).uid.to_string();
        let (audiences, lifetime_s) = settle(&mut request)?;
        let mut account = Account {
            namespace: self.namespace().unwrap_or_default().to_owned(),
            serviceaccount: Named { name: name.to_owned(), uid },
            pod: None,
            secret: None,
            node: None,
        };
        self.tie(&request["spec"]["boundObjectRef"], &mut account)?;
        let now = self.server.now();
        let claims = Claims {
            aud: audiences,
            exp: now.as_second() + lifetime_s,
            iat: now.as_second(),
            iss: ISSUER.to_owned(),
            jti: atoll_rt::ids::uuid(),
            nbf: now.as_second(),
            sub: account_user(&account.namespace, name),
            account,
        };
        let expires = jiff::Timestamp::from_second(claims.exp).unwrap_or(jiff::Timestamp::MAX);
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["kind"] = "TokenRequest".into();
        request["status"] =
            json!({ "token": self.server.account_tokens().sign(&claims), "expirationTimestamp": time_text(expires) });
        let metadata = metadata_mut(&mut request);
        metadata.insert("name".to_owned(), name.into());
        metadata.insert("namespace".to_owned(), claims.account.namespace.as_str().into());
        metadata.insert("creationTimestamp".to_owned(), time_text(now).into());
        Ok(Reply::value(StatusCode::CREATED, self.form, &request))
    }

    /// Ties the token to a Pod, Secret or Node: when that goes, the token is no longer good.
    fn tie(&self, reference: &Value, account: &mut Account) -> Result<(), ApiError> {
        let field = |name: &str| reference[name].as_str().unwrap_or_default();
        let node = self.identity.name.strip_prefix(NODE_PREFIX);
        if reference.is_null() {
            return match node {
                Some(_) => Err(self.refused("node requested token not bound to a pod")),
                None => Ok(()),
            };
        }
        let kind = field("kind");
        let (plural, namespace) = match (field("apiVersion"), kind) {
            ("v1", "Pod") => ("pods", self.namespace()),
            ("v1", "Secret") => ("secrets", self.namespace()),
            ("v1", "Node") => ("nodes", None),
            (version, kind) => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        };
        let resource = self.server.registry().by_path("v1", plural).ok_or_else(ApiError::no_such_resource)?;
        let name = field("name");
        let record = self.server.store().get(&resource.key(namespace, name));
        let record = record.ok_or_else(|| ApiError::not_found(&resource.about(name)))?;
        let uid = View::of(&record, &resource).uid.to_string();
        if !field("uid").is_empty() && field("uid") != uid {
            let problem = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                field("uid")
            );
            return Err(ApiError::conflict(&About { group: "", kind, name }, &problem));
        }
        let named = Named { name: name.to_owned(), uid };
        if kind != "Pod" && node.is_some() {
            return Err(self.refused("node requested token not bound to a pod"));
        }
        match kind {
            "Pod" => {
                let pod = resource.decode(&record.value);
                self.check_pod(&pod, node)?;
                account.pod = Some(named);
                account.node = self.node_of(&pod);
            }
            "Secret" => account.secret = Some(named),
            _ => account.node = Some(named),
        }
        Ok(())
    }

    fn check_pod(&self, pod: &Value, node: Option<&str>) -> Result<(), ApiError> {
        let own = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or("default");
        if own != self.name() {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                self.name()
            )));
        }
        if node.is_some_and(|node| pod["spec"]["nodeName"] != node) {
            return Err(self.refused("node requested token bound to a pod scheduled on a different node"));
        }
        Ok(())
    }

    fn node_of(&self, pod: &Value) -> Option<Named> {
        let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
        let resource = self.server.registry().by_path("v1", "nodes")?;
        let record = self.server.store().get(&resource.key(None, name))?;
        Some(Named { name: name.to_owned(), uid: View::of(&record, &resource).uid.to_string() })
    }

    fn refused(&self, problem: &str) -> ApiError {
        ApiError::forbidden(&self.resource.about(self.name()), problem)
    }
}

/// Fills in what a request leaves open, and checks the rest: the audiences and the lifetime in seconds.
fn settle(request: &mut Value) -> Result<(Vec<String>, i64), ApiError> {
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let spec = &mut request["spec"];
    let given = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> = given.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let lifetime_s = spec["expirationSeconds"].as_i64().unwrap_or(LIFETIME_DEFAULT_S);
    let field = "spec.expirationSeconds";
    let problem = if lifetime_s < LIFETIME_MIN_S {
        Some(Cause::invalid(field, lifetime_s, "may not specify a duration less than 10 minutes"))
    } else if lifetime_s > LIFETIME_MAX_S {
        Some(Cause::invalid(field, lifetime_s, "may not specify a duration larger than 2^32 seconds"))
    } else if audiences.len() > AUDIENCES_MAX {
        Some(Cause::too_many("spec.audiences", audiences.len() as u64, AUDIENCES_MAX as u64))
    } else {
        None
    };
    if let Some(cause) = problem {
        return Err(ApiError::invalid(
            &About { group: "authentication.k8s.io", kind: "TokenRequest", name: "" },
            &[cause],
        ));
    }
    spec["audiences"] = audiences.clone().into();
    spec["expirationSeconds"] = lifetime_s.into();
    Ok((audiences, lifetime_s))
}
