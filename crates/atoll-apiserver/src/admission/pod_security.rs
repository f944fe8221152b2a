//! Pod Security Standards: what a namespace's labels demand of its Pods.
//!
//! Levels, labels and words: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

mod checks;

use std::collections::BTreeMap;
use std::fmt;

use atoll_store::ListRequest;
use serde_json::Value;

use crate::namespaces;
use crate::objects::metadata_text;
use crate::schema::Cause;
use crate::server::ApiServer;
use crate::status::{About, ApiError};

use checks::Violation;

const PREFIX: &str = "pod-security.kubernetes.io/";
const LEVELS: &str = "privileged, baseline, restricted";
/// Pods that are looked at when a namespace's level is raised.
const PODS_CHECKED_MAX: usize = 3000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// A level as some minor version of Kubernetes meant it; `None`: the latest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Demand {
    level: Level,
    minor: Option<u32>,
}

impl fmt::Display for Demand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(formatter, "{level}:v1.{minor}"),
            None => write!(formatter, "{level}:latest"),
        }
    }
}

/// What a namespace demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Demands {
    enforce: Demand,
    audit: Demand,
    warn: Demand,
}

impl Demands {
    /// By the labels of a namespace, with what is wrong with them.
    fn read(namespace: &Value) -> (Self, Vec<Cause>) {
        let labels = &namespace["metadata"]["labels"];
        let mut causes = Vec::new();
        let label = |mode: &str| labels[format!("{PREFIX}{mode}")].as_str();
        let mut demand = |mode: &str, if_wrong: Level| {
            let mut demand = Demand::default();
            if let Some(text) = label(mode) {
                demand.level = parse_level(text).unwrap_or_else(|| {
                    causes.push(wrong(mode, text, &format!("must be one of {LEVELS}")));
                    if_wrong
                });
            }
            let version = format!("{mode}-version");
            if let Some(text) = label(&version) {
                match parse_version(text) {
                    Some(minor) => demand.minor = minor,
                    None => causes.push(wrong(&version, text, "must be \"latest\" or \"v1.x\"")),
                }
            }
            demand
        };
        let mut demands = Self {
            // What cannot be understood is enforced strictly, and neither audited nor warned of.
            enforce: demand("enforce", Level::Restricted),
            audit: demand("audit", Level::Privileged),
            warn: demand("warn", Level::Privileged),
        };
        let enforced = label("enforce").and_then(parse_level).is_some();
        if label("warn").is_none() && enforced && demands.enforce.level > demands.warn.level {
            demands.warn.level = demands.enforce.level;
            if label("warn-version").is_none() {
                demands.warn.minor = demands.enforce.minor;
            }
        }
        (demands, causes)
    }
}

fn wrong(label: &str, text: &str, problem: &str) -> Cause {
    Cause::invalid(format!("metadata.labels[{PREFIX}{label}]"), text, problem)
}

fn parse_level(text: &str) -> Option<Level> {
    Some(match text {
        "privileged" => Level::Privileged,
        "baseline" => Level::Baseline,
        "restricted" => Level::Restricted,
        _ => return None,
    })
}

fn parse_version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let canonical = minor == "0" || !minor.starts_with('0');
    let digits = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { minor.parse().ok().map(Some) } else { None }
}

/// What of a Pod a demand forbids, in words; `None` if nothing.
fn violations(demand: Demand, pod: &Value) -> Option<Violations> {
    let found = checks::run(demand, pod);
    (!found.is_empty()).then_some(Violations(found))
}

struct Violations(Vec<Violation>);

impl Violations {
    fn reasons(&self) -> String {
        self.0.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |it: &Violation| format!("{} ({})", it.reason, it.detail);
        formatter.write_str(&self.0.iter().map(words).collect::<Vec<_>>().join(", "))
    }
}

/// Judges a new or changed Pod. Returns the warnings for its sender.
pub(super) fn check_pod(
    server: &ApiServer,
    namespace: &str,
    old: Option<&Value>,
    pod: &Value,
) -> Result<Vec<String>, ApiError> {
    let Some(resource) = namespaces::resource(server) else { return Ok(Vec::new()) };
    let Some(record) = server.store().get(&resource.key(None, namespace)) else { return Ok(Vec::new()) };
    // Most namespaces demand nothing: that is seen without parsing them.
    if !mentions_labels(&record.value) || old.is_some_and(|old| same_containers(old, pod)) {
        return Ok(Vec::new());
    }
    let (demands, _) = Demands::read(&resource.decode(&record.value));
    let name = metadata_text(pod, "name");
    if let Some(found) = violations(demands.enforce, pod) {
        let problem = format!("violates PodSecurity \"{}\": {found}", demands.enforce);
        return Err(ApiError::forbidden(&About { group: "", kind: "pods", name }, &problem));
    }
    if let Some(found) = violations(demands.audit, pod) {
        let demand = demands.audit.to_string();
        tracing::warn!(target: "audit", namespace, pod = name, demand, violations = %found, "a pod violates what is audited");
    }
    let warning = violations(demands.warn, pod);
    Ok(warning.map(|found| format!("would violate PodSecurity \"{}\": {found}", demands.warn)).into_iter().collect())
}

fn mentions_labels(stored: &[u8]) -> bool {
    stored.windows(PREFIX.len()).any(|window| window == PREFIX.as_bytes())
}

/// Whether a change leaves the images and the number of containers as they are: nothing else of interest can change.
fn same_containers(old: &Value, new: &Value) -> bool {
    ["containers", "initContainers", "ephemeralContainers"].iter().all(|list| {
        let images = |pod: &Value| -> Vec<Value> {
            let containers = pod["spec"][*list].as_array().into_iter().flatten();
            containers.map(|container| container["image"].clone()).collect()
        };
        images(old) == images(new)
    })
}

/// Judges the labels of a new or changed namespace. Returns warnings about Pods that a raised level would not let in.
pub(super) fn check_namespace(server: &ApiServer, old: Option<&Value>, new: &Value) -> Result<Vec<String>, ApiError> {
    let (demands, causes) = Demands::read(new);
    let name = metadata_text(new, "name");
    let before = old.map(Demands::read);
    let known = before.as_ref().is_some_and(|(_, known)| *known == causes);
    if !causes.is_empty() && !known {
        return Err(ApiError::invalid(&About { group: "", kind: "Namespace", name }, &causes));
    }
    let Some((before, _)) = before else { return Ok(Vec::new()) };
    let (enforce, enforced) = (demands.enforce, before.enforce);
    let relaxed = enforce.minor == enforced.minor && enforce.level <= enforced.level;
    if enforce.level == Level::Privileged || relaxed {
        return Ok(Vec::new());
    }
    Ok(existing_violations(server, name, enforce))
}

fn existing_violations(server: &ApiServer, namespace: &str, demand: Demand) -> Vec<String> {
    let Some(resource) = server.registry().by_path("v1", "pods") else { return Vec::new() };
    let prefix = resource.prefix(Some(namespace));
    let request = ListRequest { prefix: &prefix, limit: Some(PODS_CHECKED_MAX), ..ListRequest::default() };
    let Ok(page) = server.store().list(&request) else {
        return vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
    };
    let mut warnings = Vec::new();
    let checked = page.records.len();
    if page.remaining > 0 {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
            checked + page.remaining
        ));
    }
    let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in &page.records {
        let pod = resource.decode(&record.value);
        if let Some(found) = violations(demand, &pod) {
            pods.entry(found.reasons()).or_default().push(metadata_text(&pod, "name").to_owned());
        }
    }
    if !pods.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{demand}\""
        ));
    }
    let mut each: Vec<String> = pods
        .iter()
        .map(|(reasons, names)| match names.as_slice() {
            [name] => format!("{name}: {reasons}"),
            [name, _] => format!("{name} (and 1 other pod): {reasons}"),
            names => format!("{} (and {} other pods): {reasons}", names[0], names.len() - 1),
        })
        .collect();
    each.sort();
    warnings.append(&mut each);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn demands(labels: &[(&str, &str)]) -> (Demands, usize) {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))).collect();
        let (demands, causes) = Demands::read(&json!({ "metadata": { "labels": labels } }));
        (demands, causes.len())
    }

    #[test]
    fn labels_are_read() {
        let restricted = Demand { level: Level::Restricted, minor: None };
        let old_baseline = Demand { level: Level::Baseline, minor: Some(24) };
        assert_eq!(demands(&[]), (Demands::default(), 0));
        let both = Demands { enforce: restricted, warn: restricted, ..Demands::default() };
        assert_eq!(demands(&[("enforce", "restricted")]), (both, 0));
        let quiet = Demands { enforce: restricted, ..Demands::default() };
        assert_eq!(demands(&[("enforce", "restricted"), ("warn", "privileged")]), (quiet, 0));
        let audited = Demands { audit: old_baseline, ..Demands::default() };
        assert_eq!(demands(&[("audit", "baseline"), ("audit-version", "v1.24")]), (audited, 0));
        assert_eq!(demands(&[("enforce", "strict")]), (quiet, 1));
        for version in ["v1", "1.24", "v1.024", "newest", "v2.1"] {
            assert_eq!(demands(&[("enforce-version", version)]).1, 1, "{version}");
        }
    }
}
