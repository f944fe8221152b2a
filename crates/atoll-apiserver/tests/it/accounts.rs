//! Service accounts and their tokens.

use std::time::Duration;

use atoll_apiserver::Identity;
use serde_json::{Value, json};

use super::access::{as_user, from_network};
use super::support::{Answer, PODS, Plane, names, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ME: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn account(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } })
}

async fn request(plane: &Plane, name: &str, spec: Value) -> Answer {
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    plane.post(&format!("{ACCOUNTS}/{name}/token"), body).await
}

async fn token(plane: &Plane, name: &str, spec: Value) -> String {
    request(plane, name, spec).await.ok()["status"]["token"].as_str().expect("a token").to_owned()
}

async fn who(plane: &Plane, token: &str) -> Answer {
    from_network(plane, "POST", ME, Some(token), json!({})).await
}

#[tokio::test]
async fn a_token_speaks_for_its_account_until_it_expires() {
    let plane = Plane::new().await;
    plane.post(ACCOUNTS, account("bot")).await.ok();
    let answer = request(&plane, "bot", json!({ "expirationSeconds": 600 })).await;
    assert_eq!(answer.code, 201);
    let answer = answer.json();
    assert_eq!(answer["spec"], json!({ "audiences": [ISSUER], "expirationSeconds": 600 }));
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T00:10:00Z");
    let token = answer["status"]["token"].as_str().expect("a token");
    let user = who(&plane, token).await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    assert_eq!(user["groups"], groups);
    from_network(&plane, "GET", PODS, Some(token), Value::Null).await.refused(403, "Forbidden");
    plane.clock.advance(Duration::from_secs(599));
    who(&plane, token).await.ok();
    plane.clock.advance(Duration::from_secs(1));
    who(&plane, token).await.refused(401, "Unauthorized");
}

#[tokio::test]
async fn a_token_outlives_a_restart_but_not_its_account() {
    let plane = Plane::new().await;
    plane.post(ACCOUNTS, account("bot")).await.ok();
    let good = token(&plane, "bot", json!({})).await;
    let plane = plane.restart().await;
    who(&plane, &good).await.ok();
    plane.delete(&format!("{ACCOUNTS}/bot"), Value::Null).await.ok();
    who(&plane, &good).await.refused(401, "Unauthorized");
    // Another account of the same name is another account.
    plane.post(ACCOUNTS, account("bot")).await.ok();
    who(&plane, &good).await.refused(401, "Unauthorized");
}

#[tokio::test]
async fn a_bound_token_goes_with_its_pod() {
    let plane = Plane::new().await;
    let made = plane.post(PODS, pod("p")).await.ok();
    let uid = made["metadata"]["uid"].as_str().expect("it has one");
    let bound = |uid: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid } });
    let good = token(&plane, "default", bound(uid)).await;
    let user = who(&plane, &good).await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-uid"], json!([uid]));
    request(&plane, "default", bound("another")).await.refused(409, "Conflict");
    plane.post(ACCOUNTS, account("bot")).await.ok();
    request(&plane, "bot", bound(uid)).await.refused(400, "BadRequest");
    plane.delete(&format!("{PODS}/p"), json!({ "gracePeriodSeconds": 0 })).await.ok();
    plane.until_gone(&format!("{PODS}/p")).await;
    who(&plane, &good).await.refused(401, "Unauthorized");
}

#[tokio::test]
async fn forged_tokens_are_worth_nothing() {
    let plane = Plane::new().await;
    let other = Plane::new().await;
    let good = token(&plane, "default", json!({})).await;
    who(&plane, &good).await.ok();
    let parts: Vec<&str> = good.split('.').collect();
    let [head, claims, signature] = parts.as_slice() else { panic!("three parts: {good}") };
    // No signature at all, that of another content, another server's, one by an algorithm without a key.
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let elsewhere = token(&other, "default", json!({})).await;
    let changed = format!("{head}.{}A.{signature}", &claims[..claims.len() - 1]);
    for forged in [format!("{head}.{claims}."), changed, elsewhere, format!("{none}.{claims}."), "a.b.c".to_owned()] {
        who(&plane, &forged).await.refused(401, "Unauthorized");
    }
}

#[tokio::test]
async fn an_audience_is_asked_for() {
    let plane = Plane::new().await;
    let vault = token(&plane, "default", json!({ "audiences": ["vault"] })).await;
    who(&plane, &vault).await.refused(401, "Unauthorized");
    let review = |audiences: Value| {
        let spec = json!({ "token": vault, "audiences": audiences });
        let plane = &plane;
        async move {
            let path = "/apis/authentication.k8s.io/v1/tokenreviews";
            plane.post(path, json!({ "spec": spec })).await.ok()["status"].clone()
        }
    };
    let good = review(json!(["other", "vault"])).await;
    assert_eq!((&good["authenticated"], &good["audiences"]), (&json!(true), &json!(["vault"])));
    assert_ne!(review(json!(["other"])).await["authenticated"], json!(true));
    assert_ne!(review(json!([])).await["authenticated"], json!(true));
}

#[tokio::test]
async fn requests_for_tokens_are_checked() {
    let plane = Plane::new().await;
    request(&plane, "default", json!({ "expirationSeconds": 60 })).await.refused(422, "Invalid");
    request(&plane, "nobody", json!({})).await.refused(404, "NotFound");
    let secret = json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "ConfigMap", "name": "x" } });
    request(&plane, "default", secret).await.refused(400, "BadRequest");
    let jo = Identity::new("jo", &[]);
    let path = format!("{ACCOUNTS}/default/token");
    as_user(&plane, jo, "POST", &path, json!({ "spec": {} })).await.refused(403, "Forbidden");

    // A node asks for the Pods that it runs, and for nothing else.
    let node = || Identity::new("system:node:one", &["system:nodes"]);
    let mut here = pod("here");
    here["spec"]["nodeName"] = "one".into();
    let mut there = pod("there");
    there["spec"]["nodeName"] = "two".into();
    for pod in [here, there] {
        plane.post(PODS, pod).await.ok();
    }
    let bound =
        |name: &str| json!({ "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name } } });
    as_user(&plane, node(), "POST", &path, bound("here")).await.ok();
    as_user(&plane, node(), "POST", &path, bound("there")).await.refused(403, "Forbidden");
    as_user(&plane, node(), "POST", &path, json!({ "spec": {} })).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn every_namespace_has_its_account() {
    let plane = Plane::new().await;
    assert_eq!(names(&plane.get("/api/v1/namespaces/kube-system/serviceaccounts").await.ok()), ["default"]);
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "new" } });
    plane.post("/api/v1/namespaces", namespace).await.ok();
    let path = "/api/v1/namespaces/new/serviceaccounts/default";
    let first = plane.get(path).await.ok()["metadata"]["uid"].clone();
    plane.delete(path, Value::Null).await.ok();
    plane.until(path, |answer| answer.code == 200 && answer.json()["metadata"]["uid"] != first).await;
    plane.delete("/api/v1/namespaces/new", Value::Null).await.ok();
    plane.until_gone("/api/v1/namespaces/new").await;
    plane.get(path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn who_may_what_can_be_asked() {
    let plane = Plane::new().await;
    let bound = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "jo" },
        "roleRef": { "kind": "ClusterRole", "name": "view" }, "subjects": [{ "kind": "User", "name": "jo" }],
    });
    plane.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", bound).await.ok();
    let authorization = "/apis/authorization.k8s.io/v1";
    let wanted = |verb: &str, namespace: &str| json!({ "verb": verb, "resource": "pods", "namespace": namespace });
    for (verb, namespace, expected) in [("get", "default", true), ("delete", "default", false), ("get", "other", false)]
    {
        let own = json!({ "spec": { "resourceAttributes": wanted(verb, namespace) } });
        let path = format!("{authorization}/selfsubjectaccessreviews");
        let answer = from_network(&plane, "POST", &path, Some("jo-token"), own).await.ok();
        assert_eq!(answer["status"]["allowed"], expected, "{verb} {namespace}");
        let theirs = json!({ "spec": { "user": "jo", "resourceAttributes": wanted(verb, namespace) } });
        let answer = plane.post(&format!("{authorization}/subjectaccessreviews"), theirs.clone()).await.ok();
        assert_eq!(answer["status"]["allowed"], expected, "{verb} {namespace}");
        let path = format!("{authorization}/namespaces/default/localsubjectaccessreviews");
        let local = plane.post(&path, theirs).await;
        if namespace == "default" {
            assert_eq!(local.ok()["status"]["allowed"], expected, "{verb}");
        } else {
            local.refused(400, "BadRequest");
        }
    }
    let granted = json!({ "spec": { "user": "jo", "resourceAttributes": wanted("get", "default") } });
    let answer = plane.post(&format!("{authorization}/subjectaccessreviews"), granted).await.ok();
    let reason = "RBAC: allowed by RoleBinding \"jo/default\" of ClusterRole \"view\" to User \"jo\"";
    assert_eq!(answer["status"]["reason"], reason);
    let nobody = json!({ "spec": { "resourceAttributes": wanted("get", "default") } });
    plane.post(&format!("{authorization}/subjectaccessreviews"), nobody).await.refused(422, "Invalid");

    let path = format!("{authorization}/selfsubjectrulesreviews");
    let spec = json!({ "spec": { "namespace": "default" } });
    let rules = from_network(&plane, "POST", &path, Some("jo-token"), spec).await.ok()["status"].clone();
    let reads_pods = |rule: &Value| rule["resources"].as_array().is_some_and(|it| it.contains(&json!("pods")));
    assert!(rules["resourceRules"].as_array().expect("rules").iter().any(reads_pods), "{rules}");
    let discovers = |rule: &Value| rule["nonResourceURLs"].as_array().is_some_and(|it| it.contains(&json!("/apis/*")));
    assert!(rules["nonResourceRules"].as_array().expect("rules").iter().any(discovers), "{rules}");
    let path = format!("{authorization}/subjectaccessreviews");
    from_network(&plane, "POST", &path, Some("jo-token"), json!({ "spec": {} })).await.refused(403, "Forbidden");
}
