//! What is served: legacy and aggregated discovery, version, OpenAPI.

mod documents;

use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value, json};

use self::documents::Document;
pub(crate) use self::documents::Documents;
use crate::body::ResponseBody;
use crate::definitions::ResourceDefinition;
use crate::metrics::StoreNumbers;
use crate::registry::Registry;
use crate::reply::{JSON, Reply};
use crate::request::Query;
use crate::server::ApiServer;
use crate::status::ApiError;

/// The Kubernetes release whose behaviour is served.
const KUBERNETES_MINOR: u32 = 34;
const KUBERNETES_PATCH: u32 = 4;

const STORED_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Answers a path that is no resource.
pub(crate) fn answer(
    server: &ApiServer,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ApiError> {
    let registry = &*server.registry();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let value = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => return Ok(Reply::text(StatusCode::OK, "ok").into_response()),
        ["version"] => version(),
        ["metrics"] => return Ok(metrics(server).into_response()),
        ["api"] | ["apis"] => return Ok(groups(registry, parts[0] == "api", headers)),
        ["api", version] if registry.serves("", version) => resource_list(registry, "", version),
        ["apis", group] => group_of(registry, group).ok_or_else(ApiError::no_such_resource)?,
        ["apis", group, version] if !group.is_empty() && registry.serves(group, version) => {
            resource_list(registry, group, version)
        }
        ["openapi", "v3"] => return Ok(open_api_index(registry).answer(JSON, headers, None)),
        ["openapi", "v3", "api", version] => return open_api(registry, version, query, headers),
        ["openapi", "v3", "apis", group, version] => {
            return open_api(registry, &format!("{group}/{version}"), query, headers);
        }
        _ => return Err(ApiError::no_such_resource()),
    };
    Ok(Reply::json(StatusCode::OK, &value).into_response())
}

fn open_api(
    registry: &Registry,
    group_version: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ApiError> {
    let document = registry.documents().open_api(group_version).ok_or_else(ApiError::no_such_resource)?;
    Ok(document.answer(JSON, headers, query.get("hash")))
}

fn metrics(server: &ApiServer) -> Reply {
    let (watches, cut) = server.store().watch_counts();
    let text = server.metrics().render(&StoreNumbers {
        watches,
        watches_cut: cut,
        revision: server.store().current_revision(),
        compacted: server.store().compacted_revision(),
    });
    Reply::text(StatusCode::OK, text)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": KUBERNETES_MINOR.to_string(),
        "gitVersion": format!("v1.{KUBERNETES_MINOR}.{KUBERNETES_PATCH}+atoll"),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

/// The groups and their versions, in the order of the table of kinds.
fn group_versions(registry: &Registry, core: bool) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for resource in registry.resources() {
        let ResourceDefinition { group, version, .. } = &resource.definition;
        if group.is_empty() != core {
            continue;
        }
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    groups
}

fn groups(registry: &Registry, core: bool, headers: &HeaderMap) -> Response<ResponseBody> {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let aggregated = accepted.split(',').find_map(|range| {
        let has = |parameter: &str| range.split(';').any(|own| own.trim() == parameter);
        let wanted = has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io");
        ["v2", "v2beta1"].into_iter().find(|version| wanted && has(&format!("v={version}")))
    });
    let Some(version) = aggregated else {
        return Reply::json(StatusCode::OK, &legacy_groups(registry, core)).into_response();
    };
    let (content_type, place) = match version {
        "v2" => ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", 0),
        _ => ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", 1),
    };
    let document = registry.documents().groups[place + 2 * usize::from(core)]
        .get_or_init(|| Document::new(aggregated_groups(registry, core, version).to_string()));
    document.answer(content_type, headers, None)
}

/// The path of every group version's OpenAPI document, with its hash.
fn open_api_index(registry: &Registry) -> &Document {
    let documents = registry.documents();
    documents.open_api_index.get_or_init(|| {
        let mut paths = Map::new();
        for group_version in documents.group_versions() {
            let Some(document) = documents.open_api(group_version) else { continue };
            let prefix = if group_version.contains('/') { "apis" } else { "api" };
            let path = format!("{prefix}/{group_version}");
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
        Document::new(json!({ "paths": paths }).to_string())
    })
}

fn legacy_groups(registry: &Registry, core: bool) -> Value {
    if core {
        let versions: Vec<String> = group_versions(registry, true).into_iter().flat_map(|(_, it)| it).collect();
        return json!({
            "kind": "APIVersions", "versions": versions,
            "serverAddressByClientCIDRs": [],
        });
    }
    let groups: Vec<Value> =
        group_versions(registry, false).iter().map(|(name, versions)| group(name, versions)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions[0] })
}

fn group_of(registry: &Registry, name: &str) -> Option<Value> {
    let groups = group_versions(registry, false);
    let (_, versions) = groups.iter().find(|(own, _)| own == name)?;
    let mut group = group(name, versions);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn definitions<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a ResourceDefinition> {
    let all = registry.resources().iter().map(|resource| &resource.definition);
    all.filter(move |definition| definition.group == group && definition.version == version)
}

fn verbs(definition: &ResourceDefinition) -> Vec<&'static str> {
    if definition.strategy.answer_only { vec!["create"] } else { STORED_VERBS.to_vec() }
}

/// A subresource: its name, its kind's group, version and kind, its verbs.
type Subresource = (&'static str, String, String, String, &'static [&'static str]);

fn subresources(definition: &ResourceDefinition) -> Vec<Subresource> {
    let mut found = Vec::new();
    let own = || (definition.group.clone(), definition.version.clone(), definition.kind.clone());
    let changing: &[&str] = &["get", "patch", "update"];
    let has = |name: &str| definition.subresources.others.iter().any(|own| own == name);
    if has("binding") {
        found.push(("binding", String::new(), "v1".to_owned(), "Binding".to_owned(), &["create"] as &[&str]));
    }
    if has("eviction") {
        found.push(("eviction", "policy".to_owned(), "v1".to_owned(), "Eviction".to_owned(), &["create"]));
    }
    if definition.subresources.scale.is_some() {
        found.push(("scale", "autoscaling".to_owned(), "v1".to_owned(), "Scale".to_owned(), changing));
    }
    if definition.subresources.status {
        let (group, version, kind) = own();
        found.push(("status", group, version, kind, changing));
    }
    found
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for definition in definitions(registry, group, version) {
        let mut entry = json!({
            "name": definition.plural, "singularName": definition.singular,
            "namespaced": definition.namespaced, "kind": definition.kind, "verbs": verbs(definition),
        });
        insert_names(&mut entry, definition);
        resources.push(entry);
        for (name, sub_group, sub_version, kind, verbs) in subresources(definition) {
            let mut entry = json!({
                "name": format!("{}/{name}", definition.plural), "singularName": "",
                "namespaced": definition.namespaced, "kind": kind, "verbs": verbs,
            });
            if (sub_group.as_str(), sub_version.as_str()) != (group, version) {
                entry["group"] = sub_group.into();
                entry["version"] = sub_version.into();
            }
            resources.push(entry);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    })
}

fn insert_names(entry: &mut Value, definition: &ResourceDefinition) {
    if !definition.short_names.is_empty() {
        entry["shortNames"] = definition.short_names.clone().into();
    }
    if !definition.categories.is_empty() {
        entry["categories"] = definition.categories.clone().into();
    }
}

fn aggregated_groups(registry: &Registry, core: bool, version: &str) -> Value {
    let groups: Vec<Value> = group_versions(registry, core)
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = definitions(registry, name, version).map(aggregated_resource).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata =
                if name.is_empty() { Map::new() } else { Map::from_iter([("name".to_owned(), name.as_str().into())]) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": groups,
    })
}

fn aggregated_resource(definition: &ResourceDefinition) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut entry = json!({
        "resource": definition.plural,
        "responseKind": kind(&definition.group, &definition.version, &definition.kind),
        "scope": if definition.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": definition.singular,
        "verbs": verbs(definition),
    });
    insert_names(&mut entry, definition);
    let subresources: Vec<Value> = subresources(definition)
        .into_iter()
        .map(|(name, group, version, sub_kind, verbs)| {
            json!({ "subresource": name, "responseKind": kind(&group, &version, &sub_kind), "verbs": verbs })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
