//! Lists: selectors, pages, moments.

use atoll_store::StoreOptions;
use serde_json::{Value, json};

use super::support::{CONFIG_MAPS, PODS, Plane, config_map, names, pod, version};

async fn labelled(plane: &Plane, name: &str, labels: Value) {
    let mut object = config_map(name, json!({}));
    object["metadata"]["labels"] = labels;
    plane.post(CONFIG_MAPS, object).await.ok();
}

#[tokio::test]
async fn selectors_select() {
    let plane = Plane::new().await;
    labelled(&plane, "a", json!({ "app": "web", "tier": "1" })).await;
    labelled(&plane, "b", json!({ "app": "db" })).await;
    labelled(&plane, "c", json!({})).await;
    let cases = [
        ("labelSelector=app%3Dweb", vec!["a"]),
        ("labelSelector=app!%3Dweb", vec!["b", "c"]),
        ("labelSelector=app+in+(web,db)", vec!["a", "b"]),
        ("labelSelector=app+notin+(web)", vec!["b", "c"]),
        ("labelSelector=!app", vec!["c"]),
        ("labelSelector=app,tier", vec!["a"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name!%3Db", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Db&labelSelector=app%3Dweb", vec![]),
        ("fieldSelector=metadata.namespace%3Ddefault", vec!["a", "b", "c"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(names(&plane.get(&format!("{CONFIG_MAPS}?{query}")).await.ok()), expected, "{query}");
        let everywhere = plane.get(&format!("/api/v1/configmaps?{query}")).await.ok();
        assert_eq!(names(&everywhere), expected, "{query} everywhere");
    }
    let status = plane.get(&format!("{CONFIG_MAPS}?fieldSelector=data.x%3D1")).await.refused(400, "BadRequest");
    assert_eq!(status["message"], "field label not supported: data.x");
    plane.get(&format!("{CONFIG_MAPS}?labelSelector=a%3D%3D%3D")).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_list_has_the_form_of_its_kind() {
    let plane = Plane::new().await;
    let list = plane.get(CONFIG_MAPS).await.ok();
    assert_eq!(
        (&list["kind"], &list["apiVersion"], &list["items"]),
        (&json!("ConfigMapList"), &json!("v1"), &json!([]))
    );
    plane.post(CONFIG_MAPS, config_map("a", json!({}))).await.ok();
    plane.post(super::support::SANDBOXES, super::support::sandbox("s")).await.ok();
    let builtin = plane.get(CONFIG_MAPS).await.ok();
    assert_eq!(builtin["items"][0]["kind"], Value::Null, "built-in kinds leave it to the list");
    let custom = plane.get(super::support::SANDBOXES).await.ok();
    assert_eq!(custom["items"][0]["kind"], "Sandbox");
    assert!(version(&custom) >= version(&custom["items"][0]));
}

#[tokio::test]
async fn pages_show_one_moment() {
    let plane = Plane::new().await;
    for number in 0..10 {
        plane.post(CONFIG_MAPS, config_map(&format!("c{number}"), json!({}))).await.ok();
    }
    let first = plane.get(&format!("{CONFIG_MAPS}?limit=4")).await.ok();
    assert_eq!(names(&first), ["c0", "c1", "c2", "c3"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    plane.delete(&format!("{CONFIG_MAPS}/c5"), json!(null)).await.ok();
    plane.post(CONFIG_MAPS, config_map("c55", json!({}))).await.ok();
    let token = first["metadata"]["continue"].as_str().expect("there is more").to_owned();
    let second = plane.get(&format!("{CONFIG_MAPS}?limit=4&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c4", "c5", "c6", "c7"], "as it was when the list began");
    assert_eq!(version(&second), version(&first));
    let token = second["metadata"]["continue"].as_str().expect("there is more").to_owned();
    let third = plane.get(&format!("{CONFIG_MAPS}?limit=4&continue={token}")).await.ok();
    assert_eq!((names(&third), &third["metadata"]["continue"]), (vec!["c8", "c9"], &Value::Null));
    assert_eq!(names(&plane.get(CONFIG_MAPS).await.ok()).len(), 10);
    plane.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.refused(400, "BadRequest");
    let both = format!("{CONFIG_MAPS}?limit=4&continue={token}&resourceVersion=5");
    plane.get(&both).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn pages_are_full_though_a_selector_leaves_much_out() {
    let plane = Plane::new().await;
    for number in 0..20 {
        labelled(&plane, &format!("c{number:02}"), json!({ "odd": (number % 2).to_string() })).await;
    }
    let first = plane.get(&format!("{CONFIG_MAPS}?limit=3&labelSelector=odd%3D1")).await.ok();
    assert_eq!(names(&first), ["c01", "c03", "c05"]);
    assert_eq!(first["metadata"]["remainingItemCount"], Value::Null, "it is not known");
    let mut seen = 3;
    let mut token = first["metadata"]["continue"].as_str().map(str::to_owned);
    while let Some(next) = token {
        let page = plane.get(&format!("{CONFIG_MAPS}?limit=3&labelSelector=odd%3D1&continue={next}")).await.ok();
        seen += names(&page).len();
        token = page["metadata"]["continue"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, 10);
}

#[tokio::test]
async fn a_token_that_is_too_old_is_gone_with_a_way_on() {
    let options = StoreOptions { history_events_max: 50, ..StoreOptions::default() };
    let plane = Plane::with(options).await;
    for number in 0..6 {
        plane.post(CONFIG_MAPS, config_map(&format!("c{number}"), json!({}))).await.ok();
    }
    let first = plane.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    let token = first["metadata"]["continue"].as_str().expect("there is more").to_owned();
    for number in 0..300 {
        plane.merge(&format!("{CONFIG_MAPS}/c0"), json!({ "data": { "n": number.to_string() } })).await.ok();
    }
    let status = plane.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.refused(410, "Expired");
    let token = status["metadata"]["continue"].as_str().expect("a way on").to_owned();
    let rest = plane.get(&format!("{CONFIG_MAPS}?limit=9&continue={token}")).await.ok();
    assert_eq!(names(&rest), ["c2", "c3", "c4", "c5"]);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact", version(&first));
    plane.get(&exact).await.refused(410, "Expired");
}

#[tokio::test]
async fn a_moment_can_be_asked_for() {
    let plane = Plane::new().await;
    let one = plane.post(CONFIG_MAPS, config_map("one", json!({}))).await.ok();
    let two = plane.post(CONFIG_MAPS, config_map("two", json!({}))).await.ok();
    let list = |query: String| {
        let plane = &plane;
        async move { plane.get(&format!("{CONFIG_MAPS}?{query}")).await }
    };
    let then = version(&one);
    let exact = list(format!("resourceVersion={then}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!((names(&exact), version(&exact)), (vec!["one"], then));
    for query in [
        format!("resourceVersion={then}"),
        format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"),
        "resourceVersion=0".to_owned(),
        "resourceVersion=0&limit=1".to_owned(),
    ] {
        assert_eq!(names(&list(query.clone()).await.ok()), ["one", "two"], "{query}");
    }
    let future = version(&two) + 1000;
    let status = list(format!("resourceVersion={future}")).await.refused(504, "Timeout");
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    list("resourceVersionMatch=Exact".to_owned()).await.refused(422, "Invalid");
    list("resourceVersion=many".to_owned()).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_long_list_comes_whole() {
    let plane = Plane::new().await;
    for number in 0..300 {
        let mut object = pod(&format!("p{number:03}"));
        object["metadata"]["annotations"] = json!({ "filler": "x".repeat(700) });
        plane.post(PODS, object).await.ok();
    }
    let list = plane.get("/api/v1/pods").await.ok();
    let found = names(&list);
    assert_eq!(found.len(), 300);
    assert!(found.is_sorted());
}
