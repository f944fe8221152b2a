//! CustomResourceDefinitions: kinds that are made while the server runs.

use serde_json::{Value, json};

use super::support::{Plane, SANDBOXES, names, sandbox};

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition with two versions, a status and a scale.
pub(crate) fn widgets() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 1, "maximum": 9 },
                    "colour": { "type": "string", "enum": ["red", "blue"], "default": "red" },
                    "replicas": { "type": "integer" },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    "port": { "x-kubernetes-int-or-string": true },
                    "parts": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object", "required": ["name"],
                            "properties": { "name": { "type": "string" }, "weight": { "type": "integer" } },
                        },
                    },
                },
            },
            "status": {
                "type": "object",
                "properties": { "phase": { "type": "string" }, "replicas": { "type": "integer" }, "selector": { "type": "string" } },
            },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wi"], "categories": ["all"] },
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "selectableFields": [{ "jsonPath": ".spec.colour" }],
                    "additionalPrinterColumns": [
                        { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                        { "name": "Colour", "type": "string", "jsonPath": ".spec.colour", "priority": 1 },
                    ],
                },
                {
                    "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                },
            ],
        },
    })
}

pub(crate) fn widget(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

fn condition<'a>(definition: &'a Value, name: &str) -> &'a Value {
    let all = definition["status"]["conditions"].as_array().expect("conditions");
    all.iter().find(|own| own["type"] == name).unwrap_or(&Value::Null)
}

/// Makes a definition and waits until it is established.
pub(crate) async fn establish(plane: &Plane, definition: Value) -> Value {
    let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
    plane.post(CRDS, definition).await.ok();
    let is_established =
        |found: &Value| found["status"]["conditions"].is_array() && condition(found, "Established")["status"] == "True";
    plane.until(&format!("{CRDS}/{name}"), |answer| answer.code == 200 && is_established(&answer.json())).await.ok()
}

#[tokio::test]
async fn a_definition_is_established_and_its_kind_served() {
    let plane = Plane::new().await;
    plane.get(WIDGETS).await.refused(404, "NotFound");
    let made = establish(&plane, widgets()).await;
    assert_eq!(condition(&made, "NamesAccepted")["reason"], "NoConflicts");
    assert_eq!(condition(&made, "Established")["reason"], "InitialNamesAccepted");
    assert_eq!(made["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(made["spec"]["names"]["singular"], "widget");
    assert_eq!(made["spec"]["conversion"], json!({ "strategy": "None" }));
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["acceptedNames"]["kind"], "Widget");
    assert_eq!(made["metadata"]["generation"], 1);

    let list = plane.get("/apis/example.com/v1").await.ok();
    let found: Vec<&Value> = list["resources"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(found, ["widgets", "widgets/scale", "widgets/status"]);
    let group = plane.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert!(plane.get("/openapi/v3").await.ok()["paths"].get("apis/example.com/v1").is_some());
    let document = plane.get("/openapi/v3/apis/example.com/v1").await.ok();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(schema["properties"]["parts"]["x-kubernetes-list-map-keys"], json!(["name"]));
    let definitions = plane.get(CRDS).await.ok();
    assert!(names(&definitions).contains(&"sandboxes.agents.x-k8s.io"), "what is shipped is a definition too");
}

#[tokio::test]
async fn objects_of_a_definition_are_pruned_defaulted_and_checked() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    let spec = json!({ "size": 3, "unknown": 1, "free": { "any": ["thing"] }, "port": "http" });
    let answer = plane.post(WIDGETS, widget("a", spec)).await;
    assert_eq!(answer.headers["warning"], r#"299 - "unknown field \"spec.unknown\"""#);
    let made = answer.ok();
    assert_eq!(made["spec"], json!({ "size": 3, "free": { "any": ["thing"] }, "port": "http", "colour": "red" }));
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    plane.post(&strict, widget("b", json!({ "size": 3, "unknown": 1 }))).await.refused(400, "BadRequest");
    for (spec, field) in [
        (json!({ "size": 10 }), "spec.size"),
        (json!({}), "spec.size"),
        (json!({ "size": "3" }), "spec.size"),
        (json!({ "size": 1, "colour": "green" }), "spec.colour"),
        (json!({ "size": 1, "port": true }), "spec.port"),
        (json!({ "size": 1, "parts": [{ "name": "a" }, { "name": "a" }] }), "spec.parts[1]"),
    ] {
        let status = plane.post(WIDGETS, widget("c", spec)).await.refused(422, "Invalid");
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
    }
    let mut object = made.clone();
    object["spec"]["size"] = 9.into();
    object["status"] = json!({ "phase": "Up", "replicas": 2, "selector": "a=b" });
    let status = plane.put(&format!("{WIDGETS}/a/status"), object).await.ok();
    assert_eq!((&status["spec"]["size"], &status["status"]["phase"]), (&json!(3), &json!("Up")));
    let scale = plane.get(&format!("{WIDGETS}/a/scale")).await.ok();
    assert_eq!(scale["status"], json!({ "replicas": 2, "selector": "a=b" }));
    plane.merge(&format!("{WIDGETS}/a/scale"), json!({ "spec": { "replicas": 5 } })).await.ok();
    assert_eq!(plane.get(&format!("{WIDGETS}/a")).await.ok()["spec"]["replicas"], 5);
}

#[tokio::test]
async fn columns_and_selectors_are_those_of_the_definition() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    plane.post(WIDGETS, widget("a", json!({ "size": 3 }))).await.ok();
    plane.post(WIDGETS, widget("b", json!({ "size": 4, "colour": "blue" }))).await.ok();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = plane.request("GET", WIDGETS, &[("accept", table)], "").await.ok();
    let heads: Vec<&Value> =
        table["columnDefinitions"].as_array().expect("columns").iter().map(|it| &it["name"]).collect();
    assert_eq!(heads, ["Name", "Size", "Colour"]);
    assert_eq!(table["rows"][1]["cells"], json!(["b", 4, "blue"]));
    let blue = plane.get(&format!("{WIDGETS}?fieldSelector=spec.colour%3Dblue")).await.ok();
    assert_eq!(names(&blue), ["b"]);
    plane.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3")).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn apply_tells_items_apart_by_the_keys_of_the_schema() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    let path = |manager: &str| format!("{WIDGETS}/a?fieldManager={manager}");
    let part = |name: &str, weight: i64| json!({ "name": name, "weight": weight });
    let one = widget("a", json!({ "size": 1, "parts": [part("x", 1)] }));
    plane.patch(&path("one"), "apply", one).await.ok();
    let two = widget("a", json!({ "size": 1, "parts": [part("y", 2)] }));
    let both = plane.patch(&path("two"), "apply", two).await.ok();
    assert_eq!(both["spec"]["parts"], json!([part("x", 1), part("y", 2)]));
    let changed = widget("a", json!({ "size": 1, "parts": [part("x", 7)] }));
    let conflict = plane.patch(&path("two"), "apply", changed).await.refused(409, "Conflict");
    assert_eq!(conflict["details"]["causes"][0]["field"], ".spec.parts[name=\"x\"].weight");
    let without = widget("a", json!({ "size": 1 }));
    let rest = plane.patch(&path("two"), "apply", without).await.ok();
    assert_eq!(rest["spec"]["parts"], json!([part("x", 1)]));
}

#[tokio::test]
async fn versions_show_the_same_objects() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    plane.post(WIDGETS, widget("a", json!({ "size": 3 }))).await.ok();
    let beta = "/apis/example.com/v1beta1/namespaces/default/widgets";
    let answer = plane.get(&format!("{beta}/a")).await;
    assert_eq!(answer.headers["warning"], r#"299 - "example.com/v1beta1 Widget is deprecated""#);
    assert_eq!(answer.json()["apiVersion"], "example.com/v1beta1");
    let mut other = widget("b", json!({ "size": 4, "extra": true }));
    other["apiVersion"] = "example.com/v1beta1".into();
    let made = plane.post(beta, other).await.ok();
    assert_eq!(made["spec"]["extra"], true, "this version keeps everything");
    let list = plane.get(WIDGETS).await.ok();
    assert_eq!((names(&list), &list["items"][1]["apiVersion"]), (vec!["a", "b"], &json!("example.com/v1")));
    assert_eq!(list["items"][1]["spec"], json!({ "size": 4, "colour": "red" }), "and this one what it knows");

    // The other version becomes the one in which objects are stored; those that are there stay as they are.
    let path = format!("{CRDS}/widgets.example.com");
    let switch = json!([
        { "op": "replace", "path": "/spec/versions/0/storage", "value": false },
        { "op": "replace", "path": "/spec/versions/1/storage", "value": true },
    ]);
    let changed = plane.patch(&path, "json", switch).await.ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    assert_eq!(changed["metadata"]["generation"], 2);
    plane.until(&format!("{WIDGETS}/b"), |answer| answer.json()["spec"]["size"] == 4).await;
    plane.merge(&format!("{WIDGETS}/a"), json!({ "spec": { "size": 5 } })).await.ok();
    assert_eq!(plane.get(&format!("{beta}/a")).await.ok()["spec"]["size"], 5);
    let gone = json!([{ "op": "remove", "path": "/spec/versions/0" }]);
    let status = plane.patch(&path, "json", gone).await.refused(422, "Invalid");
    assert_eq!(status["details"]["causes"][0]["field"], "status.storedVersions[0]");
}

#[tokio::test]
async fn a_new_default_shows_in_objects_that_are_there() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    plane.post(WIDGETS, widget("a", json!({ "size": 3 }))).await.ok();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/replicas/default";
    let path = format!("{CRDS}/widgets.example.com");
    plane.patch(&path, "json", json!([{ "op": "add", "path": schema, "value": 2 }])).await.ok();
    plane.until(&format!("{WIDGETS}/a"), |answer| answer.json()["spec"]["replicas"] == 2).await;
}

#[tokio::test]
async fn deletion_takes_the_objects_along() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    plane.post(WIDGETS, widget("a", json!({ "size": 3 }))).await.ok();
    let mut held = widget("held", json!({ "size": 3 }));
    held["metadata"]["finalizers"] = json!(["example.com/mine"]);
    plane.post(WIDGETS, held).await.ok();
    let path = format!("{CRDS}/widgets.example.com");
    let going = plane.delete(&path, json!(null)).await.ok();
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(condition(&going, "Terminating")["reason"], "InstanceDeletionPending");
    plane.until_gone(&format!("{WIDGETS}/a")).await;
    let refused = plane.post(WIDGETS, widget("late", json!({ "size": 3 }))).await.refused(405, "MethodNotAllowed");
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");
    plane.get(&path).await.ok();
    plane.merge(&format!("{WIDGETS}/held"), json!({ "metadata": { "finalizers": null } })).await.ok();
    plane.until_gone(&path).await;
    plane.until(WIDGETS, |answer| answer.code == 404).await;
    // Made anew, it has no objects.
    establish(&plane, widgets()).await;
    assert_eq!(plane.get(WIDGETS).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn definitions_survive_a_restart() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    plane.post(WIDGETS, widget("a", json!({ "size": 3 }))).await.ok();
    plane.post(SANDBOXES, sandbox("s")).await.ok();
    let plane = plane.restart().await;
    assert_eq!(names(&plane.get(WIDGETS).await.ok()), ["a"]);
    plane.get(&format!("{SANDBOXES}/s")).await.ok();
}

#[tokio::test]
async fn a_name_that_another_kind_has_is_not_accepted() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    let mut other = widgets();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Gadget", "shortNames": ["wi"] });
    plane.post(CRDS, other).await.ok();
    let path = format!("{CRDS}/gadgets.example.com");
    let found = plane.until(&path, |answer| answer.json()["status"]["conditions"][0]["status"] == "False").await.ok();
    let accepted = condition(&found, "NamesAccepted");
    assert_eq!(
        (&accepted["reason"], &accepted["message"]),
        (&json!("ShortNamesConflict"), &json!("\"wi\" is already in use"))
    );
    assert_eq!(condition(&found, "Established")["reason"], "NotAccepted");
    plane.get("/apis/example.com/v1/namespaces/default/gadgets").await.refused(404, "NotFound");
    plane.delete(&path, json!(null)).await.ok();
    plane.until_gone(&path).await;
}

#[tokio::test]
async fn a_watch_ends_when_its_kind_goes() {
    let plane = Plane::new().await;
    establish(&plane, widgets()).await;
    let path = format!("{WIDGETS}?watch=true&resourceVersion=0");
    let watching = plane.get(&path);
    let deleting = async {
        tokio::task::yield_now().await;
        plane.delete(&format!("{CRDS}/widgets.example.com"), json!(null)).await.ok();
    };
    let (watched, ()) = tokio::join!(watching, deleting);
    assert_eq!(watched.code, 200);
}

const SANDBOXES_CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sandboxes.agents.x-k8s.io";
const SANDBOXES_KEY: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/-/sandboxes.agents.x-k8s.io";

/// Makes the shipped definition what an older release has left: another spec, of the same generation.
async fn make_older(plane: &Plane, marked: bool) {
    let record = plane.store.get(SANDBOXES_KEY).expect("it is shipped");
    let mut definition: Value = serde_json::from_slice(&record.value).expect("it is JSON");
    definition["spec"]["versions"][0].as_object_mut().expect("a version").remove("additionalPrinterColumns");
    if !marked {
        definition["metadata"].as_object_mut().expect("metadata").remove("annotations");
    }
    let value = atoll_store::keys::Value::plain(definition.to_string());
    let expect = atoll_store::Expect::Revision(record.revision);
    plane.store.put(atoll_store::PutRequest { key: SANDBOXES_KEY.to_owned(), value, expect }).await.expect("it is put");
}

#[tokio::test]
async fn a_newer_release_replaces_the_definitions_that_an_older_one_shipped() {
    for marked in [true, false] {
        let plane = Plane::new().await;
        let shipped = plane.get(SANDBOXES_CRD).await.ok();
        make_older(&plane, marked).await;
        let plane = plane.restart().await;
        let upgraded = plane.get(SANDBOXES_CRD).await.ok();
        assert_eq!(upgraded["spec"], shipped["spec"], "marked: {marked}");
        assert_eq!(upgraded["metadata"]["uid"], shipped["metadata"]["uid"]);
        assert_eq!(upgraded["metadata"]["generation"], 2);
        let revision = upgraded["metadata"]["resourceVersion"].clone();
        let plane = plane.restart().await;
        assert_eq!(plane.get(SANDBOXES_CRD).await.ok()["metadata"]["resourceVersion"], revision, "once is enough");
        make_older(&plane, true).await;
        let plane = plane.restart().await;
        assert_eq!(plane.get(SANDBOXES_CRD).await.ok()["metadata"]["generation"], 3);
    }
}

#[tokio::test]
async fn a_shipped_definition_that_somebody_changed_stays_as_it_is() {
    let plane = Plane::new().await;
    plane.merge(SANDBOXES_CRD, json!({ "spec": { "names": { "categories": ["agents"] } } })).await.ok();
    let changed = plane.get(SANDBOXES_CRD).await.ok();
    assert_eq!(changed["spec"]["names"]["categories"], json!(["agents"]));
    let plane = plane.restart().await;
    assert_eq!(plane.get(SANDBOXES_CRD).await.ok()["spec"], changed["spec"]);
}
