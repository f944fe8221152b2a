//! Cluster roles that are put together from others, chosen by label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_store::{ListRequest, StoreError, Watch, WatchError};
use serde_json::Value;

use crate::definitions::Facet;
use crate::registry::Resource;
use crate::request::WriteOptions;
use crate::selectors::LabelSelector;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Proposal, Write};

use super::API_VERSION;

/// After a failure, before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A role may be put together from others that are; so often, at most, rules move on by one.
const ROUNDS_MAX: usize = 8;

/// Puts aggregated roles together, and starts the task that does so whenever a cluster role changes.
pub(crate) async fn start(server: &ApiServer, group: &TaskGroup) -> Result<(), ApiError> {
    let Some(resource) = server.registry().by_path(API_VERSION, "clusterroles") else { return Ok(()) };
    let watch = watch(server, &resource).map_err(|error| crate::writes::store_error(&error))?;
    aggregate(server, &resource).await?;
    let (server, token) = (server.clone(), group.token());
    group.spawn("role-aggregation", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = run(server, resource, watch) => {}
        }
    });
    Ok(())
}

fn watch(server: &ApiServer, resource: &Resource) -> Result<Watch, StoreError> {
    server.store().watch(&resource.folder, server.store().current_revision())
}

async fn run(server: ApiServer, resource: Arc<Resource>, mut changes: Watch) {
    loop {
        match changes.next().await {
            Ok(_) => while matches!(changes.try_next(), Ok(Some(_))) {},
            Err(WatchError::Closed) => return,
            Err(WatchError::Lagged) => match watch(&server, &resource) {
                Ok(again) => changes = again,
                Err(error) => {
                    tracing::error!(cause = %atoll_stdx::chain(&error), "cluster roles cannot be followed");
                    return;
                }
            },
        }
        while let Err(error) = aggregate(&server, &resource).await {
            tracing::warn!(cause = %error, "a cluster role cannot be put together; trying again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

async fn aggregate(server: &ApiServer, resource: &Resource) -> Result<(), ApiError> {
    for _round in 0..ROUNDS_MAX {
        let mut settled = true;
        for (name, rules) in outdated(&roles(server, resource)?) {
            settled = false;
            put(server, resource, &name, &rules).await?;
        }
        if settled {
            return Ok(());
        }
    }
    Ok(())
}

fn roles(server: &ApiServer, resource: &Resource) -> Result<BTreeMap<String, Value>, ApiError> {
    let request = ListRequest { prefix: &resource.folder, ..ListRequest::default() };
    let page = server.store().list(&request).map_err(|error| crate::writes::store_error(&error))?;
    let named = page.records.iter().map(|record| {
        let object = resource.decode(&record.value);
        (object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), object)
    });
    Ok(named.collect())
}

/// The aggregated roles whose rules are not those of the roles that they choose, with those rules.
fn outdated(roles: &BTreeMap<String, Value>) -> Vec<(String, Vec<Value>)> {
    let mut outdated = Vec::new();
    for (name, role) in roles {
        let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else { continue };
        let selectors: Vec<LabelSelector> = selectors.iter().filter_map(LabelSelector::of_object).collect();
        let mut rules: Vec<Value> = Vec::new();
        let chosen = roles
            .iter()
            .filter(|(other, role)| *other != name && selectors.iter().any(|selector| selector.matches_object(role)));
        for rule in chosen.flat_map(|(_, role)| role["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        let current = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        if current != rules {
            outdated.push((name.clone(), rules));
        }
    }
    outdated
}

async fn put(server: &ApiServer, resource: &Resource, name: &str, rules: &[Value]) -> Result<(), ApiError> {
    let options = WriteOptions { manager: "clusterrole-aggregation-controller".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource,
        namespace: None,
        options: &options,
        facet: Facet::Main,
        now: server.now(),
        admission: None,
    };
    let change = |old: &Value| {
        let mut new = old.clone();
        new["rules"] = rules.to_vec().into();
        Ok(Proposal::untracked(new))
    };
    match write.update(name, change).await {
        Err(error) if error.reason != "NotFound" => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chosen_roles_are_put_together_without_repetition() {
        let role = |labels: Value, rules: Value| json!({ "metadata": { "labels": labels }, "rules": rules });
        let (get, list) = (json!({ "verbs": ["get"] }), json!({ "verbs": ["list"] }));
        let mut whole = role(json!({}), json!([get]));
        whole["aggregationRule"] = json!({ "clusterRoleSelectors": [
            { "matchLabels": { "to": "whole" } },
            { "matchExpressions": [{ "key": "kind", "operator": "In", "values": ["a", "b"] }] },
        ] });
        let mut roles: BTreeMap<String, Value> = [
            ("a", role(json!({ "to": "whole" }), json!([get, list]))),
            ("b", role(json!({ "kind": "b" }), json!([get]))),
            ("c", role(json!({ "to": "other" }), json!([{ "verbs": ["*"] }]))),
            ("whole", whole),
        ]
        .into_iter()
        .map(|(name, role)| (name.to_owned(), role))
        .collect();
        assert_eq!(outdated(&roles), [("whole".to_owned(), vec![get.clone(), list.clone()])]);
        roles.get_mut("whole").expect("it is there")["rules"] = json!([get, list]);
        assert_eq!(outdated(&roles), []);
    }
}
