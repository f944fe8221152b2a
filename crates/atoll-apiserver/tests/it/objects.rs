//! Making and reading single objects.

use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, PODS, Plane, SANDBOXES, config_map, pod, sandbox, version};

#[tokio::test]
async fn a_new_object_gets_what_the_server_decides() {
    let plane = Plane::new().await;
    let mut body = sandbox("one");
    body["metadata"]["uid"] = "mine".into();
    body["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    body["metadata"]["generation"] = 7.into();
    body["status"] = json!({ "nodeName": "n" });
    let made = plane.post(SANDBOXES, body).await.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["uid"].as_str().expect("a uid").len(), 36);
    assert!(version(&made) > 0);
    assert_eq!(made["status"], Value::Null);
    assert_eq!(made["spec"]["operatingMode"], "Running", "defaults are filled in");
    let read = plane.get(&format!("{SANDBOXES}/one")).await.ok();
    assert_eq!(read, made);
    assert_eq!(plane.post(SANDBOXES, sandbox("one")).await.code, 409);
}

#[tokio::test]
async fn names_are_generated_and_do_not_clash() {
    let plane = Plane::new().await;
    let mut body = config_map("x", json!({}));
    body["metadata"] = json!({ "generateName": "job-" });
    let mut names = std::collections::HashSet::new();
    for _ in 0..200 {
        let made = plane.post(CONFIG_MAPS, body.clone()).await.ok();
        let name = made["metadata"]["name"].as_str().expect("a name").to_owned();
        assert!(name.starts_with("job-") && name.len() == 9, "{name}");
        assert!(names.insert(name));
    }
}

#[tokio::test]
async fn refusals_are_those_of_a_real_server() {
    let plane = Plane::new().await;
    plane.post(CONFIG_MAPS, config_map("there", json!({}))).await.ok();
    let wrong_kind = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x" } });
    let elsewhere =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x", "namespace": "other" } });
    let nameless = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
    let mut unnamed_sandbox = sandbox("x");
    unnamed_sandbox["kind"] = "".into();
    let nowhere = "/api/v1/namespaces/nowhere/configmaps";
    let cases = [
        (
            "POST",
            CONFIG_MAPS,
            config_map("there", json!({})),
            409,
            "AlreadyExists",
            "configmaps \"there\" already exists",
        ),
        ("POST", CONFIG_MAPS, wrong_kind, 400, "BadRequest", "does not match the expected kind"),
        ("POST", CONFIG_MAPS, elsewhere, 400, "BadRequest", "the namespace of the provided object does not match"),
        ("POST", CONFIG_MAPS, nameless, 422, "Invalid", "name or generateName is required"),
        ("POST", CONFIG_MAPS, config_map("Not Good", json!({})), 422, "Invalid", "metadata.name: Invalid value"),
        ("POST", CONFIG_MAPS, json!([]), 400, "BadRequest", ""),
        ("POST", SANDBOXES, unnamed_sandbox, 400, "BadRequest", "Object 'Kind' is missing"),
        ("POST", nowhere, config_map("x", json!({})), 404, "NotFound", "namespaces \"nowhere\" not found"),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/gone",
            json!(null),
            404,
            "NotFound",
            "configmaps \"gone\" not found",
        ),
        (
            "GET",
            "/apis/apps/v1/deployments",
            json!(null),
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        ("GET", "/api/v1/namespaces/default/pods/x/nothing", json!(null), 404, "NotFound", "could not find"),
        ("PUT", CONFIG_MAPS, json!({}), 405, "MethodNotAllowed", ""),
        ("POST", "/api/v1/configmaps", config_map("x", json!({})), 405, "MethodNotAllowed", ""),
        ("DELETE", "/api/v1/configmaps", json!(null), 405, "MethodNotAllowed", ""),
        ("POST", "/api/v1/namespaces/default/configmaps/there", json!({}), 405, "MethodNotAllowed", ""),
        (
            "PUT",
            "/api/v1/namespaces/default/configmaps/there",
            config_map("other", json!({})),
            400,
            "BadRequest",
            "does not match the name on the URL (there)",
        ),
    ];
    for (method, path, body, code, reason, words) in cases {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let status =
            plane.request(method, path, &[("content-type", "application/json")], &text).await.refused(code, reason);
        let message = status["message"].as_str().expect("a message");
        assert!(message.contains(words), "{method} {path}: {message}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let plane = Plane::new().await;
    let deep = "[".repeat(5000);
    for text in ["", "{", "null", "7", "\u{1}", &deep, r#"{"metadata": 3}"#, r#"{"metadata": {"name": 3}}"#] {
        let answer = plane.request("POST", CONFIG_MAPS, &[("content-type", "application/json")], text).await;
        answer.refused(400, "BadRequest");
    }
    let large = format!(r#"{{"data": {{"x": "{}"}}}}"#, "x".repeat(3 * 1024 * 1024));
    let answer = plane.request("POST", CONFIG_MAPS, &[("content-type", "application/json")], &large).await;
    answer.refused(413, "RequestEntityTooLarge");
    let answer = plane.request("POST", CONFIG_MAPS, &[("content-type", "application/xml")], "<a/>").await;
    answer.refused(415, "UnsupportedMediaType");
    let answer = plane.request("GET", CONFIG_MAPS, &[("accept", "application/xml")], "").await;
    answer.refused(406, "NotAcceptable");
    assert_eq!(plane.get(CONFIG_MAPS).await.ok()["items"], json!([]), "nothing was kept");
}

#[tokio::test]
async fn unknown_fields_are_ignored_warned_of_or_refused() {
    let plane = Plane::new().await;
    let mut body = sandbox("one");
    body["spec"]["colour"] = "blue".into();
    let path = |validation: &str| format!("{SANDBOXES}?fieldValidation={validation}");
    let strict = plane.post(&path("Strict"), body.clone()).await.refused(400, "BadRequest");
    let words = "Sandbox in version \"v1beta1\" cannot be handled as a Sandbox: strict decoding error: unknown field \"spec.colour\"";
    assert_eq!(strict["message"], words);
    plane.post(&path("Never"), body.clone()).await.refused(422, "Invalid");
    let warned = plane.post(SANDBOXES, body.clone()).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.colour\\\"\"");
    assert_eq!(warned.ok()["spec"]["colour"], Value::Null, "it is dropped all the same");
    body["metadata"]["name"] = "two".into();
    let silent = plane.post(&path("Ignore"), body).await;
    assert!(!silent.headers.contains_key("warning"));
    silent.ok();
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","name":"c"},"data":{"a":"1","a":"2"}}"#;
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let json = [("content-type", "application/json")];
    let refused = plane.request("POST", &strict, &json, twice).await.refused(400, "BadRequest");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("duplicate field \"metadata.name\", duplicate field \"data.a\""), "{message}");
}

#[tokio::test]
async fn a_dry_run_decides_as_a_real_one_and_keeps_nothing() {
    let plane = Plane::new().await;
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    let before = plane.store.current_revision();
    let proposed = plane.post(&dry, config_map("one", json!({ "a": "1" }))).await.ok();
    assert_eq!(proposed["data"]["a"], "1");
    assert_eq!(proposed["metadata"]["resourceVersion"], Value::Null);
    plane.get(&format!("{CONFIG_MAPS}/one")).await.refused(404, "NotFound");
    plane.post(&dry, config_map("Not Good", json!({}))).await.refused(422, "Invalid");
    assert_eq!(plane.store.current_revision(), before);
    let made = plane.post(CONFIG_MAPS, config_map("one", json!({ "a": "1" }))).await.ok();
    plane.post(&dry, config_map("one", json!({}))).await.refused(409, "AlreadyExists");
    let path = format!("{CONFIG_MAPS}/one?dryRun=All");
    assert_eq!(plane.merge(&path, json!({ "data": { "a": "2" } })).await.ok()["data"]["a"], "2");
    plane.delete(&path, json!(null)).await.ok();
    plane.delete(&format!("{CONFIG_MAPS}/one"), json!({ "dryRun": ["All"] })).await.ok();
    assert_eq!(plane.get(&format!("{CONFIG_MAPS}/one")).await.ok(), made);
    plane.post(&format!("{CONFIG_MAPS}?dryRun=Some"), config_map("x", json!({}))).await.refused(422, "Invalid");
}

#[tokio::test]
async fn yaml_is_understood_and_given() {
    let plane = Plane::new().await;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  a: \"1\"\n";
    let answer = plane.request("POST", CONFIG_MAPS, &[("content-type", "application/yaml")], text).await;
    assert_eq!(answer.ok()["data"]["a"], "1");
    let yaml = plane.request("GET", &format!("{CONFIG_MAPS}/one"), &[("accept", "application/yaml")], "").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text.contains("name: one"), "{}", yaml.text);
}

#[tokio::test]
async fn an_object_can_be_had_as_a_table_or_as_metadata() {
    let plane = Plane::new().await;
    plane.post(SANDBOXES, sandbox("one")).await.ok();
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let list = plane.request("GET", SANDBOXES, &table, "").await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(list["rows"][0]["object"]["metadata"]["name"], "one");
    assert!(list["metadata"]["resourceVersion"].is_string());
    let one = plane.request("GET", &format!("{SANDBOXES}/one"), &table, "").await.ok();
    assert_eq!(one["rows"].as_array().expect("rows").len(), 1);
    let metadata = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json")];
    let list = plane.request("GET", SANDBOXES, &metadata, "").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!((&list["items"][0]["kind"], &list["items"][0]["spec"]), (&json!("PartialObjectMetadata"), &json!(null)));
}

#[tokio::test]
async fn events_are_one_kind_under_two_names() {
    let plane = Plane::new().await;
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let old = "/api/v1/namespaces/default/events";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "e" },
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "tester.io/x", "reportingInstance": "x",
        "action": "Starting", "reason": "Started", "type": "Normal", "note": "it started",
        "regarding": { "apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "default" },
    });
    let made = plane.post(new, event).await.ok();
    assert_eq!(made["apiVersion"], "events.k8s.io/v1");
    let seen = plane.get(&format!("{old}/e")).await.ok();
    assert_eq!((&seen["apiVersion"], &seen["message"]), (&json!("v1"), &json!("it started")));
    let found = plane.get(&format!("{old}?fieldSelector=involvedObject.name=p,involvedObject.kind=Pod")).await.ok();
    assert_eq!(found["items"].as_array().expect("a list").len(), 1);
    let found = plane.get(&format!("{new}?fieldSelector=regarding.name%3Dp")).await.ok();
    assert_eq!((&found["kind"], &found["items"][0]["note"]), (&json!("EventList"), &json!("it started")));
    let none = plane.get(&format!("{new}?fieldSelector=regarding.name%21%3Dp")).await.ok();
    assert_eq!(none["items"], json!([]));
    plane.clock.advance(std::time::Duration::from_secs(10));
    plane.delete(&format!("{new}/e"), json!(null)).await.ok();
    plane.get(&format!("{old}/e")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_pod_keeps_its_defaults() {
    let plane = Plane::new().await;
    let made = plane.post(PODS, pod("p")).await.ok();
    assert_eq!((&made["spec"]["restartPolicy"], &made["status"]["phase"]), (&json!("Always"), &json!("Pending")));
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn protobuf_is_read_where_a_kind_has_it() {
    let plane = Plane::new().await;
    let media_type = [("content-type", "application/vnd.kubernetes.protobuf")];
    // `k8s\0`, apiVersion v1, kind ConfigMap, and an object whose metadata has the name x.
    let body = "k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x03\x0a\x01x\x1a\x00\x22\x00";
    let made = plane.request("POST", CONFIG_MAPS, &media_type, body).await;
    assert_eq!((made.code, &made.json()["metadata"]["name"]), (201, &json!("x")), "{}", made.text);
    plane.request("POST", CONFIG_MAPS, &media_type, "k8s\0\x0a\x7f").await.refused(400, "BadRequest");
    plane.request("POST", CONFIG_MAPS, &media_type, "{}").await.refused(400, "BadRequest");
    plane.request("POST", SANDBOXES, &media_type, body).await.refused(415, "UnsupportedMediaType");
}
