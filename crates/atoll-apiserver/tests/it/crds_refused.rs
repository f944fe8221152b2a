//! Definitions that are refused, with the causes that a Kubernetes API server gives.

use serde_json::{Value, json};

use super::crds::{CRDS, establish, widgets};
use super::support::Plane;

/// One change to a sound definition, the field of the cause and a part of its message.
type Case = (&'static str, Value, &'static str, &'static str);

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

fn cases() -> Vec<Case> {
    vec![
        ("/metadata/name", json!("other.example.com"), "metadata.name", "must be spec.names.plural+\".\"+spec.group"),
        ("/spec/group", json!("example"), "spec.group", "should be a domain with at least one dot"),
        ("/spec/scope", json!("World"), "spec.scope", "supported values: \"Cluster\", \"Namespaced\""),
        ("/spec/names/kind", json!("wid get"), "spec.names.kind", "may have mixed case, but should otherwise match"),
        ("/spec/names/listKind", json!("Widget"), "spec.names.listKind", "kind and listKind may not be the same"),
        ("/spec/names/shortNames", json!(["W"]), "spec.names.shortNames[0]", "a DNS-1035 label must consist of"),
        (
            "/spec/versions/0/storage",
            json!(false),
            "spec.versions",
            "must have exactly one version marked as storage version",
        ),
        ("/spec/versions/1/name", json!("v1"), "spec.versions", "must contain unique version names"),
        ("/spec/versions/1/name", json!("V1"), "spec.versions[1].name", "a DNS-1035 label must consist of"),
        ("/spec/versions/1/schema", json!({}), "spec.versions[1].schema.openAPIV3Schema", "Required value"),
        (
            "/spec/versions/0/deprecationWarning",
            json!("soon"),
            "spec.versions[0].deprecationWarning",
            "can only be set for deprecated versions",
        ),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            "spec.preserveUnknownFields",
            "set x-kubernetes-preserve-unknown-fields to true",
        ),
        ("/spec/conversion", json!({ "strategy": "Magic" }), "spec.conversion.strategy", "Unsupported value"),
        (
            "/spec/conversion",
            json!({ "strategy": "Webhook", "webhook": webhook() }),
            "spec.conversion.strategy",
            "no conversion of its own between v1beta1 and v1 of widgets.example.com: serve v1 alone",
        ),
        (
            "/spec/conversion",
            json!({ "strategy": "Webhook" }),
            "spec.conversion.webhookClientConfig",
            "required when strategy is set to Webhook",
        ),
        (
            "/spec/conversion",
            json!({ "strategy": "Webhook", "webhook": { "clientConfig": {}, "conversionReviewVersions": ["v9"] } }),
            "spec.conversion.conversionReviewVersions",
            "must include at least one of v1, v1beta1",
        ),
        (
            "/spec/versions/0/subresources/scale/specReplicasPath",
            json!(".status.x"),
            "spec.versions[0].subresources.scale.specReplicasPath",
            "should be a json path under .spec",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns/0/type",
            json!("text"),
            "spec.versions[0].additionalPrinterColumns[0].type",
            "must be one of boolean,date,integer,number,string",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns/0/jsonPath",
            json!("spec"),
            "spec.versions[0].additionalPrinterColumns[0].JSONPath",
            "must be a simple json path starting with .",
        ),
        (
            "/spec/versions/0/selectableFields/0/jsonPath",
            json!(".spec.nothing"),
            "spec.versions[0].selectableFields[0].jsonPath",
            "is an invalid path",
        ),
    ]
}

fn webhook() -> Value {
    let service = json!({ "name": "webhook", "namespace": "default", "path": "/convert" });
    json!({ "clientConfig": { "service": service }, "conversionReviewVersions": ["v1"] })
}

/// One change to the schema, the rest of the field and a part of the message.
fn schema_cases() -> Vec<Case> {
    vec![
        ("/type", json!("string"), ".type", "must be object at the root"),
        ("/nullable", json!(true), ".nullable", "nullable cannot be true at the root"),
        (
            "/properties/spec/properties/size",
            json!({}),
            ".properties[spec].properties[size].type",
            "must not be empty for specified object fields",
        ),
        (
            "/properties/spec/properties/size/type",
            json!("int"),
            ".properties[spec].properties[size].type",
            "supported values: \"array\"",
        ),
        (
            "/properties/spec/properties/size/pattern",
            json!("("),
            ".properties[spec].properties[size].pattern",
            "must be a valid regular expression",
        ),
        (
            "/properties/spec/properties/size/default",
            json!("x"),
            ".properties[spec].properties[size].default",
            "must be of type integer",
        ),
        (
            "/properties/spec/default",
            json!({ "size": 1, "x": 1 }),
            ".properties[spec].default",
            "must not have unknown fields",
        ),
        (
            "/properties/spec/properties/parts/items",
            json!(null),
            ".properties[spec].properties[parts].items",
            "must be specified",
        ),
        (
            "/properties/spec/properties/parts/uniqueItems",
            json!(true),
            ".properties[spec].properties[parts].uniqueItems",
            "quadratic",
        ),
        (
            "/properties/spec/properties/parts/x-kubernetes-list-map-keys",
            json!(["weight"]),
            ".properties[spec].properties[parts].items.properties[weight].default",
            "must have a default or be a required property",
        ),
        (
            "/properties/spec/properties/parts/x-kubernetes-list-map-keys",
            json!(["none"]),
            ".properties[spec].properties[parts].x-kubernetes-list-map-keys",
            "entries must all be names of item properties",
        ),
        (
            "/properties/spec/properties/parts/x-kubernetes-list-type",
            json!("bag"),
            ".properties[spec].properties[parts].x-kubernetes-list-type",
            "Unsupported value",
        ),
        ("/properties/spec/properties/free/additionalProperties", json!(false), "", ""),
        (
            "/properties/spec/additionalProperties",
            json!({ "type": "string" }),
            ".properties[spec].additionalProperties",
            "mutual exclusive",
        ),
        (
            "/properties/spec/anyOf",
            json!([{ "properties": { "size": { "type": "integer" } } }]),
            ".properties[spec].anyOf[0].properties[size].type",
            "must be empty to be structural",
        ),
        (
            "/properties/spec/anyOf",
            json!([{ "properties": { "new": { "minimum": 1 } } }]),
            ".properties[spec].properties[new]",
            "because it is defined in",
        ),
        ("/properties/spec/$ref", json!("#/x"), ".properties[spec].$ref", "is not supported"),
        (
            "/properties/spec/x-kubernetes-preserve-unknown-fields",
            json!(false),
            ".properties[spec].x-kubernetes-preserve-unknown-fields",
            "must be true or undefined",
        ),
        (
            "/properties/metadata",
            json!({ "type": "object", "properties": { "labels": { "type": "object" } } }),
            ".properties[metadata]",
            "must not specify anything other than name and generateName",
        ),
        (
            "/properties/spec/x-kubernetes-validations",
            json!([{ "rule": " " }]),
            ".properties[spec].x-kubernetes-validations[0].rule",
            "rule is not specified",
        ),
        (
            "/properties/spec/x-kubernetes-validations",
            json!([{ "rule": "true", "message": "a\nb" }]),
            ".properties[spec].x-kubernetes-validations[0].message",
            "must not contain line breaks",
        ),
        (
            "/properties/spec/x-kubernetes-validations",
            json!([{ "rule": "true", "reason": "Why" }]),
            ".properties[spec].x-kubernetes-validations[0].reason",
            "Unsupported value",
        ),
    ]
}

/// A rule on the spec, where it is wrong, and a part of the message.
const RULES: &[(&str, &str, &str)] = &[
    (r#"{"rule": "self.nothing == 1"}"#, "rule", "undefined field 'nothing'"),
    (r#"{"rule": "self.size == 'x'"}"#, "rule", "found no matching overload for '_==_' applied to '(int, string)'"),
    (r#"{"rule": "self.size =="}"#, "rule", "Syntax error"),
    (r#"{"rule": "self.size"}"#, "rule", "cel expression must evaluate to a bool"),
    (r#"{"rule": "self.parts.all(a, self.parts.all(b, a.name != b.name))"}"#, "rule", "exceeds budget by factor of"),
    (r#"{"rule": "true", "messageExpression": "1"}"#, "messageExpression", "must evaluate to a string"),
    (r#"{"rule": "true", "fieldPath": ".nothing"}"#, "fieldPath", "must be a valid path"),
];

#[tokio::test]
async fn rules_that_do_not_fit_the_schema_are_refused() {
    let plane = Plane::new().await;
    for (rule, place, message) in RULES {
        let rule: Value = serde_json::from_str(rule).expect("it is JSON");
        let definition = changed(&format!("{SCHEMA}/properties/spec/x-kubernetes-validations"), &json!([rule]));
        let answer = plane.post(&format!("{CRDS}?dryRun=All"), definition).await;
        assert_eq!(answer.code, 422, "{rule}");
        let status = answer.refused(422, "Invalid");
        let field =
            format!("spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].{place}");
        assert!(has_cause(&status, &field, message), "{rule}: {status:#}");
    }
    let old = json!([{ "rule": "oldSelf == self" }]);
    let tags = json!({ "type": "array", "items": { "type": "string", "x-kubernetes-validations": old } });
    let definition = changed(&format!("{SCHEMA}/properties/spec/properties/tags"), &tags);
    let status = plane.post(CRDS, definition).await.refused(422, "Invalid");
    assert!(status["message"].as_str().expect("text").contains("oldSelf cannot be used on the uncorrelatable portion"));
}

fn changed(pointer: &str, value: &Value) -> Value {
    let mut definition = widgets();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    definition.pointer_mut(parent).expect("it is there")[name] = value.clone();
    definition
}

fn has_cause(status: &Value, field: &str, message: &str) -> bool {
    let causes = status["details"]["causes"].as_array().expect("causes");
    causes
        .iter()
        .any(|cause| cause["field"] == field && cause["message"].as_str().is_some_and(|it| it.contains(message)))
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let plane = Plane::new().await;
    for (pointer, value, field, message) in cases() {
        let answer = plane.post(&format!("{CRDS}?dryRun=All"), changed(pointer, &value)).await;
        assert_eq!(answer.code, 422, "{pointer} {value}");
        let status = answer.refused(422, "Invalid");
        assert!(has_cause(&status, field, message), "{pointer} {value}: {status:#}");
    }
    for (pointer, value, field, message) in schema_cases() {
        let answer = plane.post(&format!("{CRDS}?dryRun=All"), changed(&format!("{SCHEMA}{pointer}"), &value)).await;
        if field.is_empty() {
            answer.ok();
            continue;
        }
        assert_eq!(answer.code, 422, "{pointer} {value}");
        let status = answer.refused(422, "Invalid");
        let field = format!("spec.versions[0].schema.openAPIV3Schema{field}");
        assert!(has_cause(&status, &field, message), "{pointer} {value}: {status:#}");
    }
    let mut single = changed(&format!("{SCHEMA}/properties/spec/properties/size"), &json!({}));
    single["spec"]["versions"].as_array_mut().expect("versions").truncate(1);
    let status = plane.post(CRDS, single).await.refused(422, "Invalid");
    let field = "spec.validation.openAPIV3Schema.properties[spec].properties[size].type";
    assert!(has_cause(&status, field, "must not be empty"), "what all versions share belongs to the spec: {status:#}");
}

#[tokio::test]
async fn what_is_no_definition_is_refused() {
    let plane = Plane::new().await;
    let wrong_type = changed(&format!("{SCHEMA}/properties/spec/properties/size/minimum"), &json!("one"));
    plane.post(CRDS, wrong_type).await.refused(400, "BadRequest");
    let unknown = changed(&format!("{SCHEMA}/properties/spec/minItem"), &json!(1));
    let answer = plane.post(&format!("{CRDS}?fieldValidation=Strict"), unknown.clone()).await;
    let status = answer.refused(400, "BadRequest");
    let path = "spec.versions[0].schema.openAPIV3Schema.properties[spec].minItem";
    assert!(status["message"].as_str().expect("a message").contains(path), "{status}");
    let answer = plane.post(&format!("{CRDS}?dryRun=All"), unknown).await;
    assert!(answer.headers["warning"].to_str().expect("text").contains(path));
    let mut deep = json!({ "type": "object" });
    for _ in 0..100 {
        deep = json!({ "type": "object", "properties": { "x": deep } });
    }
    plane.post(CRDS, changed(&format!("{SCHEMA}/properties/spec"), &deep)).await.refused(400, "BadRequest");
    let mut protected = widgets();
    protected["metadata"]["name"] = "widgets.apps.k8s.io".into();
    protected["spec"]["group"] = "apps.k8s.io".into();
    let status = plane.post(CRDS, protected).await.refused(422, "Invalid");
    assert!(has_cause(&status, "metadata.annotations[api-approved.kubernetes.io]", "protected groups must have"));
}

#[tokio::test]
async fn what_objects_depend_on_can_not_change() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    let path = format!("{CRDS}/widgets.example.com");
    for (pointer, value) in [
        ("/spec/scope", json!("Cluster")),
        ("/spec/names/kind", json!("Gadget")),
        ("/spec/group", json!("other.example.com")),
    ] {
        let patch = json!([{ "op": "replace", "path": pointer, "value": value }]);
        let status = plane.patch(&path, "json", patch).await.refused(422, "Invalid");
        let field = pointer.trim_start_matches('/').replace('/', ".");
        assert!(has_cause(&status, &field, "field is immutable"), "{status:#}");
    }
}
