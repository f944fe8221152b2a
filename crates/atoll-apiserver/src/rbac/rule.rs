//! One rule of a role: what it allows, and whether it covers another one. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::authz::Access;

const ALL: &str = "*";

/// Some verbs on some resources of some groups, or on some paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PolicyRule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    /// Empty: objects of any name.
    pub(crate) names: Vec<String>,
    pub(crate) urls: Vec<String>,
}

impl PolicyRule {
    pub(crate) fn read(rule: &Value) -> Self {
        let texts = |name: &str| {
            let items = rule[name].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut rule = json!({});
        let members = [
            ("apiGroups", &self.groups),
            ("nonResourceURLs", &self.urls),
            ("resourceNames", &self.names),
            ("resources", &self.resources),
            ("verbs", &self.verbs),
        ];
        for (name, texts) in members {
            if !texts.is_empty() {
                rule[name] = texts.clone().into();
            }
        }
        rule
    }

    /// Whether it allows something to be done to a resource.
    pub(crate) fn allows(&self, access: &Access<'_>) -> bool {
        has(&self.verbs, access.verb)
            && has(&self.groups, access.group)
            && self.resources.iter().any(|own| own == ALL || matches(own, access.resource, access.subresource))
            && (self.names.is_empty() || self.names.iter().any(|own| own == access.name))
    }

    /// Whether it allows something to be done to a path that is no resource.
    pub(crate) fn allows_path(&self, verb: &str, path: &str) -> bool {
        has(&self.verbs, verb) && self.urls.iter().any(|own| url_covers(own, path))
    }

    /// Whether everything that a rule taken apart allows is allowed by this one, too.
    fn covers(&self, part: &Self) -> bool {
        let verbs = part.verbs.iter().all(|verb| has(&self.verbs, verb));
        let groups = part.groups.iter().all(|group| has(&self.groups, group));
        let resources = part.resources.iter().all(|resource| {
            let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            self.resources.iter().any(|own| own == ALL || own == resource || matches(own, plural, subresource))
        });
        let names = self.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)));
        let urls = part.urls.iter().all(|url| self.urls.iter().any(|own| url_covers(own, url)));
        verbs && groups && resources && names && urls
    }

    /// One rule for each verb on each resource and name, and on each path.
    fn parts(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            parts.extend(self.urls.iter().map(|url| Self { verbs: one(verb), urls: one(url), ..Self::default() }));
            for (group, resource) in
                self.groups.iter().flat_map(|group| self.resources.iter().map(move |it| (group, it)))
            {
                let part = Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                if self.names.is_empty() {
                    parts.push(part);
                } else {
                    parts.extend(self.names.iter().map(|name| Self { names: one(name), ..part.clone() }));
                }
            }
        }
        parts
    }
}

fn has(own: &[String], wanted: &str) -> bool {
    own.iter().any(|own| own == ALL || own == wanted)
}

/// `pods`, `pods/status` or `*/status`.
fn matches(own: &str, plural: &str, subresource: &str) -> bool {
    match own.split_once('/') {
        None => subresource.is_empty() && own == plural,
        Some((own_plural, own_subresource)) => {
            own_subresource == subresource && !subresource.is_empty() && (own_plural == ALL || own_plural == plural)
        }
    }
}

fn url_covers(own: &str, path: &str) -> bool {
    own == path || own.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

/// What the wanted rules allow beyond those held, put together by resource: empty if nothing.
pub(crate) fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    type Place = (Vec<String>, Vec<String>, Vec<String>, Vec<String>);
    let parts = wanted.iter().flat_map(PolicyRule::parts);
    let missing = parts.filter(|part| !held.iter().any(|held| held.covers(part)));
    let mut by_place: BTreeMap<Place, Vec<String>> = BTreeMap::new();
    for part in missing {
        let verbs = by_place.entry((part.groups, part.resources, part.names, part.urls)).or_default();
        verbs.extend(part.verbs.into_iter().filter(|verb| !verbs.contains(verb)).collect::<Vec<_>>());
    }
    let rule = |((groups, resources, names, urls), verbs)| PolicyRule { verbs, groups, resources, names, urls };
    by_place.into_iter().map(rule).collect()
}

impl fmt::Display for PolicyRule {
    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`, as refusals have it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let words: Vec<String> = members
            .into_iter()
            .filter(|(_, texts)| !texts.is_empty())
            .map(|(name, texts)| format!("{name}:{}", quoted_list(texts)))
            .collect();
        write!(formatter, "{{{}}}", words.join(", "))
    }
}

/// `["a" "b"]`.
pub(crate) fn quoted_list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        PolicyRule {
            verbs: owned(verbs),
            groups: owned(groups),
            resources: owned(resources),
            names: owned(names),
            urls: Vec::new(),
        }
    }

    fn access<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Access<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Access { verb, group, resource, subresource, namespace: "ns", name }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let cases = [
            (rule(&[""], &["pods"], &["get"], &[]), access("get", "", "pods", "p"), true),
            (rule(&[""], &["pods"], &["get"], &[]), access("get", "", "pods/log", "p"), false),
            (rule(&[""], &["pods/log"], &["get"], &[]), access("get", "", "pods/log", "p"), true),
            (rule(&[""], &["pods/log"], &["get"], &[]), access("get", "", "pods", "p"), false),
            (rule(&[""], &["*/log"], &["get"], &[]), access("get", "", "pods/log", "p"), true),
            (rule(&[""], &["*/log"], &["get"], &[]), access("get", "", "pods/exec", "p"), false),
            (rule(&[""], &["*"], &["*"], &[]), access("delete", "", "pods/log", "p"), true),
            (rule(&[""], &["*"], &["*"], &[]), access("get", "apps", "pods", "p"), false),
            (rule(&["*"], &["pods"], &["get"], &[]), access("get", "apps", "pods", "p"), true),
            (rule(&[""], &["pods"], &["get"], &["p"]), access("get", "", "pods", "p"), true),
            (rule(&[""], &["pods"], &["get"], &["p"]), access("get", "", "pods", "q"), false),
            (rule(&[""], &["pods"], &["list"], &["p"]), access("list", "", "pods", ""), false),
        ];
        for (rule, access, expected) in cases {
            assert_eq!(rule.allows(&access), expected, "{rule} {access:?}");
        }
    }

    #[test]
    fn paths_are_whole_or_end_in_a_star() {
        let rule = PolicyRule::read(&json!({ "verbs": ["get"], "nonResourceURLs": ["/version", "/api/*"] }));
        for (verb, path, expected) in [
            ("get", "/version", true),
            ("get", "/version/x", false),
            ("get", "/api/v1", true),
            ("get", "/api", false),
            ("post", "/version", false),
        ] {
            assert_eq!(rule.allows_path(verb, path), expected, "{verb} {path}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let held = [rule(&[""], &["pods"], &["get", "list"], &[]), rule(&[""], &["secrets"], &["get"], &["mine"])];
        let cases = [
            (rule(&[""], &["pods"], &["get"], &["p"]), vec![]),
            (rule(&[""], &["secrets"], &["get"], &["mine"]), vec![]),
            (
                rule(&[""], &["secrets"], &["get"], &[]),
                vec![r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#],
            ),
            (
                rule(&["", "apps"], &["pods"], &["get", "delete", "watch"], &[]),
                vec![
                    r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}"#,
                    r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete" "watch"]}"#,
                ],
            ),
            (rule(&[""], &["*"], &["get"], &[]), vec![r#"{APIGroups:[""], Resources:["*"], Verbs:["get"]}"#]),
        ];
        for (wanted, expected) in cases {
            let missing: Vec<String> = missing(&held, &[wanted]).iter().map(ToString::to_string).collect();
            assert_eq!(missing, expected);
        }
    }
}
