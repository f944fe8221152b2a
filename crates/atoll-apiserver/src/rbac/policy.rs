//! Who holds which rules: roles and bindings put together, looked up by user and group.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::authn::{Identity, account_user};

use super::rule::PolicyRule;

/// A role that is bound: its namespace (empty: the whole cluster's) and name.
pub(super) type RoleKey = (Box<str>, Box<str>);

/// A binding as it is stored.
#[derive(Debug)]
pub(super) struct Binding {
    /// Empty: holds in the whole cluster.
    pub(super) namespace: Box<str>,
    name: Box<str>,
    role: RoleKey,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
    Account { namespace: Box<str>, name: Box<str> },
}

impl Binding {
    pub(super) fn read(object: &Value) -> Self {
        let text = |value: &Value| Box::<str>::from(value.as_str().unwrap_or_default());
        let namespace = text(&object["metadata"]["namespace"]);
        let reference = &object["roleRef"];
        let role_namespace = if reference["kind"] == "Role" { namespace.clone() } else { Box::default() };
        let subject = |subject: &Value| match subject["kind"].as_str() {
            Some("User") => Some(Subject::User(text(&subject["name"]))),
            Some("Group") => Some(Subject::Group(text(&subject["name"]))),
            Some("ServiceAccount") => {
                let own = text(&subject["namespace"]);
                let namespace = if own.is_empty() { namespace.clone() } else { own };
                Some(Subject::Account { namespace, name: text(&subject["name"]) })
            }
            _ => None,
        };
        Self {
            name: text(&object["metadata"]["name"]),
            role: (role_namespace, text(&reference["name"])),
            subjects: object["subjects"].as_array().into_iter().flatten().filter_map(subject).collect(),
            namespace,
        }
    }
}

/// The rules that one binding gives to one subject.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    rules: Arc<[PolicyRule]>,
    binding: Arc<Binding>,
    subject: usize,
}

impl fmt::Display for Grant {
    /// `ClusterRoleBinding "x" of ClusterRole "y" to User "z"`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { namespace, name, role, subjects } = &*self.binding;
        if namespace.is_empty() {
            write!(formatter, "ClusterRoleBinding {name:?}")?;
        } else {
            write!(formatter, "RoleBinding {:?}", format!("{name}/{namespace}"))?;
        }
        let kind = if role.0.is_empty() { "ClusterRole" } else { "Role" };
        write!(formatter, " of {kind} {:?} to ", role.1)?;
        match &subjects[self.subject] {
            Subject::User(name) => write!(formatter, "User {name:?}"),
            Subject::Group(name) => write!(formatter, "Group {name:?}"),
            Subject::Account { namespace, name } => {
                write!(formatter, "ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Holders {
    users: HashMap<Box<str>, Vec<Grant>>,
    groups: HashMap<Box<str>, Vec<Grant>>,
}

impl Holders {
    fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Grant> {
        let user = self.users.get(identity.name.as_str());
        let groups = identity.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        user.into_iter().chain(groups).flatten()
    }

    fn add(&mut self, rules: &Arc<[PolicyRule]>, binding: &Arc<Binding>) {
        for (index, subject) in binding.subjects.iter().enumerate() {
            let grant = Grant { rules: Arc::clone(rules), binding: Arc::clone(binding), subject: index };
            let holders = match subject {
                Subject::User(name) => self.users.entry(name.clone()),
                Subject::Group(name) => self.groups.entry(name.clone()),
                Subject::Account { namespace, name } => self.users.entry(account_user(namespace, name).into()),
            };
            holders.or_default().push(grant);
        }
    }
}

/// Roles and bindings of one moment.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    cluster: Holders,
    namespaces: HashMap<Box<str>, Holders>,
    roles: HashMap<RoleKey, Arc<[PolicyRule]>>,
}

impl Policy {
    pub(super) fn new<'a>(
        roles: HashMap<RoleKey, Arc<[PolicyRule]>>,
        bindings: impl Iterator<Item = &'a Arc<Binding>>,
    ) -> Self {
        let mut policy = Self { roles, ..Self::default() };
        for binding in bindings {
            // A binding of a role that does not exist gives nothing, until the role comes.
            let Some(rules) = policy.roles.get(&binding.role) else { continue };
            if binding.namespace.is_empty() {
                policy.cluster.add(rules, binding);
            } else {
                policy.namespaces.entry(binding.namespace.clone()).or_default().add(rules, binding);
            }
        }
        policy
    }

    /// What somebody holds in a namespace, or (with an empty one) in the whole cluster.
    fn grants<'a>(&'a self, identity: &'a Identity, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = self.namespaces.get(namespace).map(|holders| holders.of(identity));
        self.cluster.of(identity).chain(local.into_iter().flatten())
    }

    /// The first grant with a rule that allows what is wanted.
    pub(crate) fn find<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &str,
        allows: impl Fn(&PolicyRule) -> bool,
    ) -> Option<&'a Grant> {
        self.grants(identity, namespace).find(|grant| grant.rules.iter().any(&allows))
    }

    /// All rules that somebody holds in a namespace.
    pub(crate) fn rules_of(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        self.grants(identity, namespace).flat_map(|grant| grant.rules.iter().cloned()).collect()
    }

    /// The rules of a role; of a cluster role with an empty namespace. `None` if it does not exist.
    pub(crate) fn role(&self, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        self.roles.get(&(namespace.into(), name.into())).map(|rules| &**rules)
    }
}
