//! The default roles and bindings are made, and completed where somebody took something away, at every start.

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use crate::definitions::Facet;
use crate::objects::metadata_text;
use crate::registry::Resource;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Proposal, Write};

use super::rule::{PolicyRule, missing};
use super::{API_VERSION, defaults};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Writes that are under way together: they share the store's commits.
const WRITES_AT_ONCE_MAX: usize = 64;

/// Makes what is missing of the default roles and bindings. What has more than the default keeps it; what says that it
/// is not to be updated is left alone.
pub(crate) async fn bootstrap(server: &ApiServer) -> Result<(), ApiError> {
    for (plural, objects) in [("clusterroles", defaults::roles()), ("clusterrolebindings", defaults::bindings())] {
        let Some(resource) = server.registry().by_path(API_VERSION, plural) else { continue };
        stream::iter(objects)
            .map(Ok)
            .try_for_each_concurrent(WRITES_AT_ONCE_MAX, |object| keep(server, &resource, object))
            .await?;
    }
    Ok(())
}

async fn keep(server: &ApiServer, resource: &Resource, default: Value) -> Result<(), ApiError> {
    let options = WriteOptions { manager: "atoll".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource,
        namespace: None,
        options: &options,
        facet: Facet::Main,
        now: server.now(),
        admission: None,
    };
    let name = metadata_text(&default, "name").to_owned();
    if server.store().get(&resource.key(None, &name)).is_none() {
        return write.create(default, false).await.map(|_| ());
    }
    let change = |old: &Value| Ok(Proposal::untracked(completed(old, &default)));
    write.update(&name, change).await.map(|_| ())
}

/// The object with what the default has and it has not.
fn completed(old: &Value, default: &Value) -> Value {
    let mut new = old.clone();
    if new["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return new;
    }
    for (name, label) in default["metadata"]["labels"].as_object().into_iter().flatten() {
        new["metadata"]["labels"][name] = label.clone();
    }
    if default["aggregationRule"].is_object() {
        new["aggregationRule"] = default["aggregationRule"].clone();
        return new;
    }
    if default["subjects"].is_array() {
        add_missing(&mut new["subjects"], default["subjects"].as_array().into_iter().flatten().cloned());
        return new;
    }
    let rules = |object: &Value| -> Vec<PolicyRule> {
        object["rules"].as_array().into_iter().flatten().map(PolicyRule::read).collect()
    };
    let missing = missing(&rules(old), &rules(default));
    add_missing(&mut new["rules"], missing.iter().map(PolicyRule::to_value));
    new
}

fn add_missing(list: &mut Value, items: impl Iterator<Item = Value>) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    let before = all.len();
    for item in items {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    if all.len() != before {
        *list = all.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_taken_away_comes_back_and_what_was_added_stays() {
        let rule =
            |resource: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
        let default = json!({ "metadata": {}, "rules": [rule("pods", &["get", "list"])] });
        let held = json!({ "metadata": {}, "rules": [rule("pods", &["get"]), rule("secrets", &["get"])] });
        let expected = json!([rule("pods", &["get"]), rule("secrets", &["get"]), rule("pods", &["list"])]);
        assert_eq!(completed(&held, &default)["rules"], expected);
        let mut left_alone = held.clone();
        left_alone["metadata"]["annotations"] = json!({ AUTO_UPDATE: "false" });
        assert_eq!(completed(&left_alone, &default), left_alone);
    }
}
