//! What is served, as clients find out.

use serde_json::{Value, json};

use super::support::Plane;

fn find<'a>(list: &'a Value, member: &str, name: &str) -> &'a Value {
    let items = list.as_array().expect("a list");
    items.iter().find(|item| item[member] == name).unwrap_or_else(|| panic!("{name} is not in {list}"))
}

#[tokio::test]
async fn legacy_discovery_names_everything() {
    let plane = Plane::new().await;
    assert_eq!(plane.get("/api").await.ok()["versions"], json!(["v1"]));
    let core = plane.get("/api/v1").await.ok();
    let pods = find(&core["resources"], "name", "pods");
    assert_eq!(
        (&pods["kind"], &pods["namespaced"], &pods["shortNames"]),
        (&json!("Pod"), &json!(true), &json!(["po"]))
    );
    assert_eq!(find(&core["resources"], "name", "pods/binding")["kind"], "Binding");
    assert_eq!(find(&core["resources"], "name", "nodes")["namespaced"], false);
    let groups = plane.get("/apis").await.ok();
    let sandboxes = find(&groups["groups"], "name", "agents.x-k8s.io");
    assert_eq!(sandboxes["preferredVersion"]["groupVersion"], "agents.x-k8s.io/v1beta1");
    let group = plane.get("/apis/extensions.agents.x-k8s.io").await.ok();
    assert_eq!((&group["kind"], &group["name"]), (&json!("APIGroup"), &json!("extensions.agents.x-k8s.io")));
    let list = plane.get("/apis/extensions.agents.x-k8s.io/v1beta1").await.ok();
    let scale = find(&list["resources"], "name", "sandboxwarmpools/scale");
    assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));
    let reviews = plane.get("/apis/authentication.k8s.io/v1").await.ok();
    assert_eq!(find(&reviews["resources"], "name", "tokenreviews")["verbs"], json!(["create"]));
    for path in ["/apis/apps", "/apis/apps/v1", "/api/v2", "/nothing"] {
        plane.get(path).await.refused(404, "NotFound");
    }
    plane.request("POST", "/apis", &[], "").await.refused(405, "MethodNotAllowed");
}

#[tokio::test]
async fn aggregated_discovery_says_it_in_one() {
    let plane = Plane::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let answer = plane.request("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(answer.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let tag = answer.headers["etag"].to_str().expect("text").to_owned();
    let list = answer.ok();
    let group =
        list["items"].as_array().expect("a list").iter().find(|group| group["metadata"]["name"] == "agents.x-k8s.io");
    let resources = &group.expect("it is served")["versions"][0]["resources"];
    let sandboxes = find(resources, "resource", "sandboxes");
    assert_eq!((&sandboxes["scope"], &sandboxes["responseKind"]["kind"]), (&json!("Namespaced"), &json!("Sandbox")));
    assert_eq!(find(&sandboxes["subresources"], "subresource", "status")["verbs"], json!(["get", "patch", "update"]));
    let core = plane.request("GET", "/api", &[("accept", accept)], "").await.ok();
    assert_eq!(core["items"].as_array().expect("a list").len(), 1);
    let again = plane.request("GET", "/apis", &[("accept", accept), ("if-none-match", &tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let plane = Plane::new().await;
    let version = plane.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("34")));
    for path in ["/healthz", "/readyz", "/livez", "/readyz/ping"] {
        let answer = plane.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, "ok"), "{path}");
    }
    let index = plane.get("/openapi/v3").await.ok();
    assert!(index["paths"].is_object());
    plane.get("/openapi/v3/apis/apps/v1").await.refused(404, "NotFound");
}

#[tokio::test]
async fn documents_are_kept() {
    let plane = Plane::new().await;
    let index = plane.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/agents.x-k8s.io/v1beta1"]["serverRelativeURL"].as_str().expect("a path").to_owned();
    let document = plane.get(&url).await;
    assert_eq!(document.headers["cache-control"], "public, immutable, max-age=31536000");
    let tag = document.headers["etag"].to_str().expect("text").to_owned();
    assert!(url.contains(tag.trim_matches('"')), "{url} {tag}");
    let again = plane.request("GET", &url, &[("if-none-match", &tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    // Another kind changes the index, and nothing about this document.
    super::crds::establish(&plane, super::crds::widgets()).await;
    let later = plane.get("/openapi/v3").await.ok();
    assert!(later["paths"].get("apis/example.com/v1").is_some());
    assert_eq!(later["paths"]["apis/agents.x-k8s.io/v1beta1"], index["paths"]["apis/agents.x-k8s.io/v1beta1"]);
}
