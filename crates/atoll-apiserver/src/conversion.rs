//! Conversion between the versions of the sandbox kinds, for API servers that ask a webhook: `ConversionReview` in,
//! `ConversionReview` out (apiextensions.k8s.io/v1). Pure.

use serde_json::{Value, json};

use crate::crds::with_older_version;
use crate::definitions::{ResourceDefinition, shipped};

/// Why a body is no review. Whoever sent it gets 400; objects that cannot be converted are told within the answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON.
    #[error("the body is not JSON")]
    Json(#[from] serde_json::Error),
    /// Another kind of object, or another version of this one.
    #[error("expected a ConversionReview of apiextensions.k8s.io/v1 or v1beta1 with a request, found {0}")]
    Kind(String),
}

/// Answers a review.
///
/// # Errors
/// [`ReviewError`] if the body is none.
pub fn review(body: &[u8]) -> Result<Value, ReviewError> {
    let mut review: Value = serde_json::from_slice(body)?;
    let (version, kind) = (text(&review, "apiVersion").to_owned(), text(&review, "kind").to_owned());
    let known = matches!(&*version, "apiextensions.k8s.io/v1" | "apiextensions.k8s.io/v1beta1");
    if !known || kind != "ConversionReview" || !review["request"].is_object() {
        return Err(ReviewError::Kind(format!("{version:?} {kind:?}")));
    }
    let mut request = review["request"].take();
    let desired = text(&request, "desiredAPIVersion").to_owned();
    let objects = request["objects"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let converted: Result<Vec<Value>, String> = objects.into_iter().map(|object| convert(object, &desired)).collect();
    let response = match converted {
        Ok(objects) => {
            json!({ "uid": request["uid"], "convertedObjects": objects, "result": { "status": "Success" } })
        }
        Err(problem) => json!({ "uid": request["uid"], "result": { "status": "Failure", "message": problem } }),
    };
    Ok(json!({ "apiVersion": version, "kind": kind, "response": response }))
}

fn convert(mut object: Value, desired: &str) -> Result<Value, String> {
    let (current, kind) = (text(&object, "apiVersion").to_owned(), text(&object, "kind").to_owned());
    if current == desired {
        return Ok(object);
    }
    let unknown = || format!("{kind} cannot be converted from {current} to {desired}");
    let of = |api_version: &str| definition(&kind, api_version).ok_or_else(unknown);
    let (from, to) = (of(&current)?, of(desired)?);
    if from.group != to.group {
        return Err(unknown());
    }
    // By way of the stored form: each older version knows the way to it and back.
    from.to_storage(&mut object);
    to.from_storage(&mut object);
    object["apiVersion"] = desired.into();
    Ok(object)
}

fn definition(kind: &str, api_version: &str) -> Option<&'static ResourceDefinition> {
    let all = shipped().iter().flat_map(|shipped| &shipped.definitions);
    all.into_iter().find(|it| it.kind == kind && it.api_version() == api_version)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The names of the definitions whose versions are converted here.
#[must_use]
pub fn definition_names() -> Vec<&'static str> {
    shipped().iter().map(|shipped| shipped.name.as_str()).collect()
}

/// The definitions of the sandbox kinds with their older version beside the newer one, converted by a webhook.
/// `client_config` is where it is reached: a `WebhookClientConfig` with `service` or `url`.
#[must_use]
pub fn definitions_with_older_version(client_config: &Value) -> Vec<Value> {
    shipped().iter().map(|shipped| with_older_version(shipped, client_config)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(desired: &str, objects: &[Value]) -> Value {
        let request = json!({ "uid": "u-1", "desiredAPIVersion": desired, "objects": objects });
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request,
        });
        let answer = review_text(&review);
        assert_eq!((&answer["kind"], &answer["response"]["uid"]), (&json!("ConversionReview"), &json!("u-1")));
        assert!(answer.get("request").is_none());
        answer["response"].clone()
    }

    fn review_text(review: &Value) -> Value {
        super::review(review.to_string().as_bytes()).expect("it is a review")
    }

    fn alpha(replicas: i64) -> Value {
        json!({
            "apiVersion": "agents.x-k8s.io/v1alpha1", "kind": "Sandbox", "metadata": { "name": "a", "uid": "x" },
            "spec": { "podTemplate": { "spec": {} }, "replicas": replicas },
        })
    }

    #[test]
    fn all_objects_of_a_review_are_converted_in_order() {
        let up = answer("agents.x-k8s.io/v1beta1", &[alpha(0), alpha(1)]);
        assert_eq!(up["result"], json!({ "status": "Success" }));
        let objects = up["convertedObjects"].as_array().expect("objects");
        let modes: Vec<&Value> = objects.iter().map(|object| &object["spec"]["operatingMode"]).collect();
        assert_eq!(modes, ["Suspended", "Running"]);
        assert!(objects.iter().all(|object| object["apiVersion"] == "agents.x-k8s.io/v1beta1"));
        let down = answer("agents.x-k8s.io/v1alpha1", objects);
        assert_eq!(down["convertedObjects"], json!([alpha(0), alpha(1)]));
    }

    #[test]
    fn an_object_that_is_as_desired_stays_as_it_is() {
        assert_eq!(answer("agents.x-k8s.io/v1alpha1", &[alpha(1)])["convertedObjects"], json!([alpha(1)]));
    }

    #[test]
    fn what_cannot_be_converted_is_told_and_nothing_else_comes_back() {
        let mut foreign = alpha(1);
        foreign["kind"] = "Deployment".into();
        for (desired, objects) in [
            ("agents.x-k8s.io/v9", vec![alpha(1)]),
            ("extensions.agents.x-k8s.io/v1beta1", vec![alpha(1)]),
            ("agents.x-k8s.io/v1beta1", vec![alpha(1), foreign]),
            ("agents.x-k8s.io/v1beta1", vec![json!("no object")]),
        ] {
            let response = answer(desired, &objects);
            assert_eq!(response["result"]["status"], "Failure", "{desired}");
            let message = response["result"]["message"].as_str().expect("a message");
            assert!(message.contains(desired) && response.get("convertedObjects").is_none(), "{message}");
        }
    }

    #[test]
    fn what_is_no_review_is_refused() {
        for body in ["", "[]", "null", r#"{"kind": "ConversionReview"}"#, r#"{"apiVersion": "v1", "kind": "Pod"}"#] {
            assert!(review(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn definitions_with_the_older_version_ask_for_the_webhook() {
        let client = json!({ "url": "https://localhost:9443/convert" });
        let definitions = definitions_with_older_version(&client);
        assert_eq!(definitions.len(), 4);
        for definition in definitions {
            let names: Vec<&Value> =
                definition["spec"]["versions"].as_array().expect("versions").iter().map(|it| &it["name"]).collect();
            assert_eq!(names, ["v1beta1", "v1alpha1"]);
            assert_eq!(definition["spec"]["versions"][1]["storage"], false);
            assert_eq!(definition["spec"]["conversion"]["webhook"]["clientConfig"], client);
        }
    }
}
