//! Roles and bindings: what they give, when, and what nobody can give themselves.

use atoll_apiserver::Identity;
use serde_json::{Value, json};

use super::access::{as_user, with_headers};
use super::support::{Answer, CONFIG_MAPS, PODS, Plane, SANDBOXES, config_map, names, pod, sandbox};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn jo() -> Identity {
    Identity::new("jo", &["devs"])
}

fn role(kind: &str, name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "rules": rules,
    })
}

fn binding(kind: &str, name: &str, (role_kind, role): (&str, &str), subject: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role },
        "subjects": [subject],
    })
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "name": name })
}

async fn list_pods(plane: &Plane, identity: Identity) -> Answer {
    as_user(plane, identity, "GET", PODS, Value::Null).await
}

#[tokio::test]
async fn a_binding_gives_the_verbs_of_its_role_and_no_others() {
    let plane = Plane::new().await;
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    plane.post(ROLES, role("Role", "reader", rules)).await.ok();
    list_pods(&plane, jo()).await.refused(403, "Forbidden");
    plane.post(BINDINGS, binding("RoleBinding", "jo-reads", ("Role", "reader"), user("jo"))).await.ok();
    list_pods(&plane, jo()).await.ok();
    as_user(&plane, jo(), "POST", PODS, pod("p")).await.refused(403, "Forbidden");
    as_user(&plane, jo(), "GET", &format!("{PODS}/p"), Value::Null).await.refused(403, "Forbidden");
    as_user(&plane, jo(), "GET", "/api/v1/pods", Value::Null).await.refused(403, "Forbidden");
    as_user(&plane, jo(), "GET", "/api/v1/namespaces/kube-system/pods", Value::Null).await.refused(403, "Forbidden");
    list_pods(&plane, Identity::new("ann", &[])).await.refused(403, "Forbidden");

    // What is taken away is gone with the answer to the request that took it.
    plane.delete(&format!("{ROLES}/reader"), Value::Null).await.ok();
    list_pods(&plane, jo()).await.refused(403, "Forbidden");
    let rules = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    plane.post(ROLES, role("Role", "reader", rules)).await.ok();
    list_pods(&plane, jo()).await.ok();
    plane.delete(&format!("{BINDINGS}/jo-reads"), Value::Null).await.ok();
    list_pods(&plane, jo()).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn groups_and_service_accounts_are_subjects_too() {
    let plane = Plane::new().await;
    let group = json!({ "kind": "Group", "name": "devs" });
    let account = json!({ "kind": "ServiceAccount", "name": "bot", "namespace": "kube-system" });
    for (name, subject) in [("devs", group), ("bot", account)] {
        plane.post(BINDINGS, binding("RoleBinding", name, ("ClusterRole", "view"), subject)).await.ok();
    }
    let bot = |namespace: &str| Identity::new(&format!("system:serviceaccount:{namespace}:bot"), &[]);
    list_pods(&plane, jo()).await.ok();
    list_pods(&plane, bot("kube-system")).await.ok();
    list_pods(&plane, bot("default")).await.refused(403, "Forbidden");
    list_pods(&plane, Identity::new("jo", &[])).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn names_and_subresources_are_apart() {
    let plane = Plane::new().await;
    let rules = json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get", "update"] },
        { "apiGroups": ["agents.x-k8s.io"], "resources": ["sandboxes/status"], "verbs": ["get"] },
    ]);
    plane.post(ROLES, role("Role", "narrow", rules)).await.ok();
    plane.post(BINDINGS, binding("RoleBinding", "narrow", ("Role", "narrow"), user("jo"))).await.ok();
    for name in ["mine", "theirs"] {
        plane.post(CONFIG_MAPS, config_map(name, json!({}))).await.ok();
    }
    plane.post(SANDBOXES, sandbox("s")).await.ok();
    let get = |path: String| {
        let plane = &plane;
        async move { as_user(plane, jo(), "GET", &path, Value::Null).await.code }
    };
    assert_eq!(get(format!("{CONFIG_MAPS}/mine")).await, 200);
    assert_eq!(get(format!("{CONFIG_MAPS}/theirs")).await, 403);
    assert_eq!(get(CONFIG_MAPS.to_owned()).await, 403);
    assert_eq!(get(format!("{SANDBOXES}/s/status")).await, 200);
    assert_eq!(get(format!("{SANDBOXES}/s")).await, 403);
}

#[tokio::test]
async fn the_usual_roles_exist_and_come_back() {
    let plane = Plane::new().await;
    let roles = plane.get(&format!("{RBAC}/clusterroles")).await.ok();
    for name in ["admin", "cluster-admin", "edit", "view", "system:discovery", "system:node", "system:atoll:router"] {
        assert!(names(&roles).contains(&name), "{name}");
    }
    // Put together from their parts: who may edit makes sandboxes, who may view does not.
    for (role, verb, expected) in [("edit", "create", true), ("view", "create", false), ("view", "get", true)] {
        let role = plane.get(&format!("{RBAC}/clusterroles/{role}")).await.ok();
        let has = |rule: &Value| {
            rule["resources"].as_array().is_some_and(|it| it.contains(&json!("sandboxes")))
                && rule["verbs"].as_array().is_some_and(|it| it.contains(&json!(verb)))
        };
        assert_eq!(role["rules"].as_array().expect("rules").iter().any(has), expected, "{verb} {role}");
    }
    plane.delete(&format!("{RBAC}/clusterrolebindings/system:discovery"), Value::Null).await.ok();
    as_user(&plane, jo(), "GET", "/apis", Value::Null).await.refused(403, "Forbidden");
    let plane = plane.restart().await;
    as_user(&plane, jo(), "GET", "/apis", Value::Null).await.ok();
}

#[tokio::test]
async fn aggregated_roles_follow_their_parts() {
    let plane = Plane::new().await;
    let mut part = role(
        "ClusterRole",
        "part",
        json!([{ "apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"] }]),
    );
    part["metadata"]["labels"] = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    plane.post(&format!("{RBAC}/clusterroles"), part).await.ok();
    for whole in ["view", "edit", "admin"] {
        plane.until(&format!("{RBAC}/clusterroles/{whole}"), |answer| answer.text.contains("example.com")).await;
    }
    plane.delete(&format!("{RBAC}/clusterroles/part"), Value::Null).await.ok();
    plane.until(&format!("{RBAC}/clusterroles/admin"), |answer| !answer.text.contains("example.com")).await;
}

/// Jo administers the namespace, but holds nothing beyond `admin` there.
async fn with_admin_jo() -> Plane {
    let plane = Plane::new().await;
    plane.post(BINDINGS, binding("RoleBinding", "jo", ("ClusterRole", "admin"), user("jo"))).await.ok();
    plane
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_hold() {
    let plane = with_admin_jo().await;
    let held = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] }]);
    as_user(&plane, jo(), "POST", ROLES, role("Role", "held", held)).await.ok();
    let beyond = json!([{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "delete"] }]);
    let status =
        as_user(&plane, jo(), "POST", ROLES, role("Role", "beyond", beyond.clone())).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "roles.rbac.authorization.k8s.io \"beyond\" is forbidden: user \"jo\" (groups=[\"devs\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}"
    );
    let path = format!("{ROLES}/held");
    as_user(&plane, jo(), "PATCH", &path, json!({ "rules": beyond })).await.refused(403, "Forbidden");
    let whole = ("ClusterRole", "cluster-admin");
    let bind = binding("RoleBinding", "up", whole, user("jo"));
    as_user(&plane, jo(), "POST", BINDINGS, bind.clone()).await.refused(403, "Forbidden");
    let bind_view = binding("RoleBinding", "friend", ("ClusterRole", "view"), user("ann"));
    as_user(&plane, jo(), "POST", BINDINGS, bind_view).await.ok();
    let missing = binding("RoleBinding", "none", ("ClusterRole", "nothing"), user("ann"));
    as_user(&plane, jo(), "POST", BINDINGS, missing).await.refused(404, "NotFound");

    // The control switched off: with the verbs for it, the same succeeds.
    let verbs = json!([
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"] },
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"] },
    ]);
    plane.post(ROLES, role("Role", "trusted", verbs)).await.ok();
    plane.post(BINDINGS, binding("RoleBinding", "trusted", ("Role", "trusted"), user("jo"))).await.ok();
    as_user(&plane, jo(), "PATCH", &path, json!({ "rules": beyond })).await.ok();
    as_user(&plane, jo(), "POST", BINDINGS, bind).await.ok();
}

#[tokio::test]
async fn roles_that_make_no_sense_are_refused() {
    let plane = Plane::new().await;
    let cases = [
        (ROLES, role("Role", "r", json!([{ "apiGroups": [""], "resources": ["pods"] }])), "rules[0].verbs"),
        (ROLES, role("Role", "r", json!([{ "resources": ["pods"], "verbs": ["get"] }])), "rules[0].apiGroups"),
        (
            ROLES,
            role("Role", "r", json!([{ "nonResourceURLs": ["/x"], "verbs": ["get"] }])),
            "rules[0].nonResourceURLs",
        ),
        (BINDINGS, binding("RoleBinding", "b", ("Thing", "x"), user("jo")), "roleRef.kind"),
        (
            BINDINGS,
            binding("RoleBinding", "b", ("Role", "x"), json!({ "kind": "Robot", "name": "x" })),
            "subjects[0].kind",
        ),
    ];
    for (path, object, field) in cases {
        let status = plane.post(path, object).await.refused(422, "Invalid");
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
    }
    let bound = binding("RoleBinding", "b", ("Role", "x"), user("jo"));
    let mut bound = plane.post(BINDINGS, bound).await.ok();
    assert_eq!(bound["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    bound["roleRef"]["name"] = "y".into();
    let status = plane.put(&format!("{BINDINGS}/b"), bound).await.refused(422, "Invalid");
    assert!(status["message"].as_str().expect("text").contains("cannot change roleRef"), "{status}");
}

#[tokio::test]
async fn acting_as_somebody_else_needs_to_be_allowed() {
    let plane = Plane::new().await;
    plane.post(BINDINGS, binding("RoleBinding", "ann", ("ClusterRole", "view"), user("ann"))).await.ok();
    let as_ann = [("impersonate-user", "ann")];
    let status = with_headers(&plane, jo(), "GET", PODS, &as_ann).await.refused(403, "Forbidden");
    assert_eq!(
        status["message"],
        "users \"ann\" is forbidden: User \"jo\" cannot impersonate resource \"users\" in API group \"\" at the cluster \
         scope"
    );
    let rules =
        json!([{ "apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"], "verbs": ["impersonate"] }]);
    let clusterwide = format!("{RBAC}/clusterroles");
    plane.post(&clusterwide, role("ClusterRole", "as-ann", rules)).await.ok();
    let bound = binding("ClusterRoleBinding", "as-ann", ("ClusterRole", "as-ann"), user("jo"));
    plane.post(&format!("{RBAC}/clusterrolebindings"), bound).await.ok();
    with_headers(&plane, jo(), "GET", PODS, &as_ann).await.ok();
    // Ann's rights, not both together; nobody else's; and no group that was not allowed.
    with_headers(&plane, jo(), "GET", "/api/v1/nodes", &as_ann).await.refused(403, "Forbidden");
    with_headers(&plane, jo(), "GET", PODS, &[("impersonate-user", "root")]).await.refused(403, "Forbidden");
    let masters = [("impersonate-user", "ann"), ("impersonate-group", "system:masters")];
    with_headers(&plane, jo(), "GET", PODS, &masters).await.refused(403, "Forbidden");
    let root = Identity::administrator("root");
    with_headers(&plane, root.clone(), "GET", "/api/v1/nodes", &as_ann).await.refused(403, "Forbidden");
    with_headers(&plane, root, "GET", "/api/v1/nodes", &masters).await.ok();
}
