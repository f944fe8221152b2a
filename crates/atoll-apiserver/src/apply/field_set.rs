//! Sets of fields: which parts of an object somebody owns, and their wire form (`fieldsV1`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path. The order is that of the wire form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathElement {
    /// A field of an object: `f:name`.
    Field(Box<str>),
    /// An item of a keyed list, by its keys as a JSON object with sorted names: `k:{"name":"a"}`.
    Key(Box<str>),
    /// An item of a set, as JSON: `v:"a"`.
    Value(Box<str>),
    /// An item of a list by its place: `i:0`.
    Index(usize),
}

impl PathElement {
    /// A field by name.
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// An item by its keys.
    pub(crate) fn key(keys: &BTreeMap<&str, &Value>) -> Self {
        let fields: Vec<String> = keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
        Self::Key(format!("{{{}}}", fields.join(",")).into())
    }

    /// An item of a set.
    pub(crate) fn value(value: &Value) -> Self {
        Self::Value(value.to_string().into())
    }

    fn parse(text: &str) -> Option<Self> {
        let (sort, rest) = text.split_once(':')?;
        match sort {
            "f" => Some(Self::field(rest)),
            "k" => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::key(&keys.iter().map(|(name, value)| (name.as_str(), value)).collect()))
            }
            "v" => Some(Self::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn wire(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

impl fmt::Display for PathElement {
    /// `.name`, `[name="a"]`, `[="a"]`, `[0]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(formatter, ".{name}"),
            Self::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(formatter, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(formatter, "[={value}]"),
            Self::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}

/// A set of paths. A path's ancestors are not in the set unless they were put there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    members: BTreeSet<PathElement>,
    /// Never holds an empty set.
    children: BTreeMap<PathElement, FieldSet>,
}

impl FieldSet {
    /// A set of paths made of field names.
    pub(crate) fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// Adds a path. The empty path is nobody's.
    pub(crate) fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Whether the one-step path is in the set.
    pub(crate) fn has(&self, element: &PathElement) -> bool {
        self.members.contains(element)
    }

    /// The paths below `element`, without that step.
    pub(crate) fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.children.get(element)
    }

    /// Steps below which there is something, and what.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&PathElement, &FieldSet)> {
        self.children.iter()
    }

    /// Steps of which this set knows something.
    pub(crate) fn elements(&self) -> impl Iterator<Item = (&PathElement, bool, Option<&FieldSet>)> {
        let names: BTreeSet<&PathElement> = self.members.iter().chain(self.children.keys()).collect();
        names.into_iter().map(|element| (element, self.members.contains(element), self.children.get(element)))
    }

    /// Paths in either set.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.extend(other);
        result
    }

    fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (element, set) in &other.children {
            self.children.entry(element.clone()).or_default().extend(set);
        }
    }

    /// Paths in both sets.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let shared =
            self.children.iter().filter_map(|(element, set)| Some((element, set, other.children.get(element)?)));
        let children = shared
            .map(|(element, set, other)| (element.clone(), set.intersection(other)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        Self { members, children }
    }

    /// Paths in this set and not in the other; ancestors and descendants do not matter.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// Paths in this set that neither are in the other nor below one that is.
    pub(crate) fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, recursive: bool) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter(|(element, _)| !recursive || !other.members.contains(*element))
            .map(|(element, set)| {
                let rest =
                    other.children.get(element).map_or_else(|| set.clone(), |other| set.without(other, recursive));
                (element.clone(), rest)
            })
            .filter(|(_, set)| !set.is_empty())
            .collect();
        Self { members, children }
    }

    /// The set with every ancestor that `is_member` accepts. It is told the steps down to there.
    pub(crate) fn with_members(
        mut members: BTreeSet<PathElement>,
        children: BTreeMap<PathElement, FieldSet>,
        base: &Self,
    ) -> Self {
        members.extend(base.members.iter().cloned());
        Self { members, children }
    }

    /// Every path, in order.
    pub(crate) fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
        for element in &self.members {
            prefix.push(element.clone());
            paths.push(prefix.clone());
            prefix.pop();
        }
        for (element, set) in &self.children {
            prefix.push(element.clone());
            set.collect_paths(prefix, paths);
            prefix.pop();
        }
    }

    /// The wire form: `{"f:spec":{"f:replicas":{}}}`.
    pub(crate) fn to_wire(&self) -> Value {
        Value::Object(self.wire_fields())
    }

    fn wire_fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (element, is_member, below) in self.elements() {
            let mut inner = Map::new();
            if let Some(below) = below {
                if is_member {
                    inner.insert(".".to_owned(), Value::Object(Map::new()));
                }
                inner.extend(below.wire_fields());
            }
            fields.insert(element.wire(), Value::Object(inner));
        }
        fields
    }

    /// Reads the wire form. Steps of unknown sorts are dropped.
    pub(crate) fn from_wire(wire: &Value) -> Self {
        let mut set = Self::default();
        for (name, inner) in wire.as_object().into_iter().flatten() {
            let Some(element) = PathElement::parse(name) else { continue };
            let below = Self::from_wire(inner);
            let fields = inner.as_object();
            if fields.is_none_or(|fields| fields.is_empty() || fields.contains_key(".")) {
                set.members.insert(element.clone());
            }
            if !below.is_empty() {
                set.children.insert(element, below);
            }
        }
        set
    }
}

/// `.spec.containers[name="a"].image`.
pub(crate) fn path_text(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(wire: Value) -> FieldSet {
        FieldSet::from_wire(&wire)
    }

    #[test]
    fn the_wire_form_is_read_and_written() {
        let wire = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}},
                "f:finalizers": {"v:\"x/y\"": {}},
                "f:replicas": {},
            },
        });
        assert_eq!(set(wire.clone()).to_wire(), wire);
        assert_eq!(set(json!({"k:{\"b\":1,\"a\":2}": {}, "z:new": {}})).to_wire(), json!({"k:{\"a\":2,\"b\":1}": {}}));
    }

    #[test]
    fn sets_combine_as_sets() {
        let left = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let right = set(json!({"f:a": {"f:b": {}, "f:d": {}}}));
        assert_eq!(left.union(&right).to_wire(), json!({"f:a": {".": {}, "f:b": {}, "f:d": {}}, "f:c": {}}));
        assert_eq!(left.intersection(&right).to_wire(), json!({"f:a": {"f:b": {}}}));
        assert_eq!(left.difference(&right).to_wire(), json!({"f:a": {}, "f:c": {}}));
        let whole = set(json!({"f:a": {}}));
        assert_eq!(left.difference(&whole).to_wire(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
        assert_eq!(left.recursive_difference(&whole).to_wire(), json!({"f:c": {}}));
        assert!(left.difference(&left).is_empty());
    }

    #[test]
    fn paths_read_as_in_conflicts() {
        let set = set(
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:name": {}}}, "f:set": {"v:\"x\"": {}}}}),
        );
        let texts: Vec<String> = set.paths().iter().map(|path| path_text(path)).collect();
        assert_eq!(texts, [".spec.ports[port=80,protocol=\"TCP\"].name", ".spec.set[=\"x\"]"]);
    }
}
