//! LimitRanges: what containers are given where they say nothing, and how much one thing may ask for.

use atoll_store::ListRequest;
use serde_json::{Value, json};

use crate::definitions::quantity::Quantity;
use crate::objects::metadata_text;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;

use super::amounts::{self, Amounts};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The limit ranges of a namespace, by name.
fn ranges(server: &ApiServer, namespace: &str) -> Vec<Value> {
    let Some(resource) = server.registry().by_path("v1", "limitranges") else { return Vec::new() };
    let prefix = resource.prefix(Some(namespace));
    let page = server.store().list(&ListRequest { prefix: &prefix, ..ListRequest::default() });
    let records = page.map(|page| page.records).unwrap_or_default();
    records.iter().map(|record| resource.decode(&record.value)).collect()
}

fn limits<'a>(ranges: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let limits = ranges.iter().flat_map(|range| range["spec"]["limits"].as_array().into_iter().flatten());
    limits.filter(move |limit| limit["type"] == kind)
}

/// Gives the containers of a new Pod what their namespace gives to those that say nothing.
pub(super) fn give_defaults(server: &ApiServer, namespace: &str, pod: &mut Value) {
    for range in ranges(server, namespace) {
        apply_defaults(&range, pod);
    }
}

fn apply_defaults(range: &Value, pod: &mut Value) {
    let (mut requests, mut of_limits) = (json!({}), json!({}));
    for limit in limits(std::slice::from_ref(range), "Container") {
        for (all, member) in [(&mut requests, "defaultRequest"), (&mut of_limits, "default")] {
            for (name, amount) in limit[member].as_object().into_iter().flatten() {
                all[name] = amount.clone();
            }
        }
    }
    let mut remarks = Vec::new();
    for (list, noun) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (member, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &of_limits)] {
                let given = fill(&mut container["resources"], member, defaults);
                if !given.is_empty() {
                    remarks.push(format!("{} {word} for {noun} {name}", given.join(", ")));
                }
            }
        }
    }
    if !remarks.is_empty() {
        pod["metadata"]["annotations"][ANNOTATION] = format!("LimitRanger plugin set: {}", remarks.join("; ")).into();
    }
}

/// Puts in what is missing; returns its names.
fn fill(resources: &mut Value, member: &str, defaults: &Value) -> Vec<String> {
    let mut given = Vec::new();
    for (name, amount) in defaults.as_object().into_iter().flatten() {
        if resources[member][name].is_null() {
            resources[member][name] = amount.clone();
            given.push(name.clone());
        }
    }
    given
}

/// Refuses a Pod or claim that asks for less or more than its namespace's limit ranges allow.
pub(super) fn check(server: &ApiServer, resource: &Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
    for range in ranges(server, namespace) {
        let problems = match resource.definition.plural.as_str() {
            "pods" => pod_problems(&range, object),
            _ => claim_problems(&range, object),
        };
        let problem = match problems.as_slice() {
            [] => continue,
            [problem] => problem.clone(),
            problems => format!("[{}]", problems.join(", ")),
        };
        return Err(ApiError::forbidden(&resource.about(metadata_text(object, "name")), &problem));
    }
    Ok(())
}

fn pod_problems(range: &Value, pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let ranges = std::slice::from_ref(range);
    for limit in limits(ranges, "Container") {
        let lists = ["containers", "initContainers"].into_iter();
        for container in lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten()) {
            let of = |member: &str| amounts::read(&container["resources"][member]);
            Ask { kind: "Container", requests: of("requests"), limits: of("limits") }.check(limit, &mut problems);
        }
    }
    for limit in limits(ranges, "Pod") {
        let of = |member: &str| amounts::of_pod(pod, member);
        Ask { kind: "Pod", requests: of("requests"), limits: of("limits") }.check(limit, &mut problems);
    }
    problems.dedup();
    problems
}

fn claim_problems(range: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = amounts::read(&claim["spec"]["resources"]["requests"]);
    let ask = Ask { kind: KIND, requests, limits: Amounts::new() };
    let mut problems = Vec::new();
    for limit in limits(std::slice::from_ref(range), KIND) {
        problems.extend(amounts::read(&limit["min"]).iter().filter_map(|(name, least)| ask.too_little(name, *least)));
        problems.extend(amounts::read(&limit["max"]).iter().filter_map(|(name, most)| {
            let words = |what: &str| Some(format!("maximum {name} usage per {KIND} is {}{what}", most.canonical()));
            match ask.requests.get(name) {
                None => words(".  No request is specified"),
                Some(request) if request > most => words(&format!(", but request is {}", request.canonical())),
                Some(_) => None,
            }
        }));
    }
    problems
}

/// What one thing asks for.
struct Ask {
    kind: &'static str,
    requests: Amounts,
    limits: Amounts,
}

impl Ask {
    fn check(&self, limit: &Value, problems: &mut Vec<String>) {
        let each = |member: &str| amounts::read(&limit[member]).into_iter();
        problems.extend(each("min").filter_map(|(name, least)| self.too_little(&name, least)));
        problems.extend(each("max").filter_map(|(name, most)| self.too_much(&name, most)));
        problems.extend(each("maxLimitRequestRatio").filter_map(|(name, most)| self.too_wide(&name, most)));
    }

    fn too_little(&self, name: &str, least: Quantity) -> Option<String> {
        let words = |what: &str| Some(format!("minimum {name} usage per {} is {}{what}", self.kind, least.canonical()));
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => words(".  No request is specified"),
            (Some(request), _) if *request < least => words(&format!(", but request is {}", request.canonical())),
            (_, Some(limit)) if *limit < least => words(&format!(", but limit is {}", limit.canonical())),
            _ => None,
        }
    }

    fn too_much(&self, name: &str, most: Quantity) -> Option<String> {
        let words = |what: &str| Some(format!("maximum {name} usage per {} is {}{what}", self.kind, most.canonical()));
        match (self.limits.get(name), self.requests.get(name)) {
            (None, _) => words(".  No limit is specified"),
            (Some(limit), _) if *limit > most => words(&format!(", but limit is {}", limit.canonical())),
            (_, Some(request)) if *request > most => words(&format!(", but request is {}", request.canonical())),
            _ => None,
        }
    }

    fn too_wide(&self, name: &str, most: Quantity) -> Option<String> {
        let words = |what: &str| {
            format!("{name} max limit to request ratio per {} is {}, but {what}", self.kind, most.canonical())
        };
        let set = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
        let Some(request) = set(&self.requests) else {
            return Some(words("no request is specified or request is 0"));
        };
        let Some(limit) = set(&self.limits) else { return Some(words("no limit is specified or limit is 0")) };
        let ratio = limit.ratio(request)?;
        (ratio > most.ratio(Quantity::whole(1))?).then(|| words(&format!("provided ratio is {ratio:.6}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({ "spec": { "limits": [limit] } })
    }

    fn pod(resources: Value) -> Value {
        json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "resources": resources }] } })
    }

    #[test]
    fn what_is_missing_is_given_and_said() {
        let range = range(json!({
            "type": "Container", "default": { "cpu": "1", "memory": "1Gi" }, "defaultRequest": { "cpu": "100m" },
        }));
        let mut given = pod(json!({ "limits": { "cpu": "2" } }));
        apply_defaults(&range, &mut given);
        let expected = json!({ "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "100m" } });
        assert_eq!(given["spec"]["containers"][0]["resources"], expected);
        let remark = "LimitRanger plugin set: cpu request for container a; memory limit for container a";
        assert_eq!(given["metadata"]["annotations"][ANNOTATION], remark);
    }

    #[test]
    fn bounds_hold_in_the_words_of_a_real_server() {
        let container = |member: &str, amounts: Value| range(json!({ "type": "Container", member: amounts }));
        let asks =
            |request: &str, limit: &str| pod(json!({ "requests": { "cpu": request }, "limits": { "cpu": limit } }));
        let cases = [
            (
                container("min", json!({ "cpu": "200m" })),
                asks("100m", "1"),
                "minimum cpu usage per Container is 200m, but request is 100m",
            ),
            (
                container("max", json!({ "cpu": "1" })),
                asks("1", "2"),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                container("max", json!({ "memory": "1Gi" })),
                asks("1", "2"),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                container("maxLimitRequestRatio", json!({ "cpu": "2" })),
                asks("500m", "2"),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            ),
            (
                range(json!({ "type": "Pod", "max": { "cpu": "1" } })),
                asks("1", "2"),
                "maximum cpu usage per Pod is 1, but limit is 2",
            ),
        ];
        for (range, pod, expected) in cases {
            assert_eq!(pod_problems(&range, &pod), [expected]);
        }
        assert_eq!(pod_problems(&container("max", json!({ "cpu": "2" })), &asks("1", "2")), [""; 0]);
        let storage = range(json!({ "type": "PersistentVolumeClaim", "max": { "storage": "1Gi" } }));
        let claim = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
        let expected = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
        assert_eq!(claim_problems(&storage, &claim), [expected]);
    }
}
