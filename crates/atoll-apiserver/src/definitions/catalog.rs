//! The table of kinds.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{
    Hooks, NameRule, Origin, ResourceDefinition, Serving, StorageForm, Strategy, Subresources, bounds, claim, cluster,
    columns, configuration, event, network, pod, rbac, service,
};
use crate::schema::{Definitions, StructuralSchema};

static CORE: &[u8] = include_bytes!("../../../../schemas/core.json");

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Parsed once: the nodes are shared by every list of definitions.
static DEFINITIONS: LazyLock<Vec<ResourceDefinition>> = LazyLock::new(load);
static CORE_TYPES: LazyLock<Definitions> = LazyLock::new(|| definitions_of(&read(CORE)));

pub(super) fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("embedded schemas are JSON")
}

pub(super) fn definitions_of(document: &Value) -> Definitions {
    let schemas = document["definitions"].as_object().expect("embedded schemas have definitions");
    Definitions::parse(schemas).expect("embedded schemas are structural")
}

/// Types of the API machinery and of built-in kinds by name, for documents that describe the API.
pub(crate) fn core_types() -> &'static Definitions {
    &CORE_TYPES
}

pub(super) fn builtin() -> Vec<ResourceDefinition> {
    DEFINITIONS.clone()
}

/// One line of the table of built-in kinds.
struct Line {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    scope: Scope,
    status: bool,
    others: &'static [&'static str],
    selectable: &'static [&'static str],
    traits: Traits,
    name_rule: NameRule,
    hooks: Hooks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespaced,
    Cluster,
}

#[derive(Clone, Copy, Default)]
struct Traits {
    generation: bool,
    create_on_update: bool,
    strict_update: bool,
    graceful: bool,
    answer_only: bool,
}

const PLAIN: Traits =
    Traits { generation: false, create_on_update: false, strict_update: false, graceful: false, answer_only: false };

const LINE: Line = Line {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    short: &[],
    scope: Scope::Namespaced,
    status: false,
    others: &[],
    selectable: &[],
    traits: PLAIN,
    name_rule: NameRule::Subdomain,
    hooks: Hooks::NONE,
};

const POD_FIELDS: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
];
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const NEW_EVENT_FIELDS: &[&str] = &[
    "reason",
    "regarding.apiVersion",
    "regarding.fieldPath",
    "regarding.kind",
    "regarding.name",
    "regarding.namespace",
    "regarding.resourceVersion",
    "regarding.uid",
    "reportingController",
    "type",
];
const ANSWER: Traits = Traits { answer_only: true, ..PLAIN };
const CREATES: Traits = Traits { create_on_update: true, ..PLAIN };

#[rustfmt::skip]
const LINES: &[Line] = &[
    Line { kind: "ConfigMap", plural: "configmaps", short: &["cm"], hooks: configuration::CONFIG_MAP, ..LINE },
    Line { kind: "Event", plural: "events", short: &["ev"], selectable: EVENT_FIELDS, traits: CREATES, hooks: event::CORE, ..LINE },
    Line { kind: "LimitRange", plural: "limitranges", short: &["limits"], traits: CREATES, hooks: bounds::LIMIT_RANGE, ..LINE },
    Line { kind: "Namespace", plural: "namespaces", short: &["ns"], scope: Scope::Cluster, status: true, others: &["finalize"],
        selectable: &["status.phase"], name_rule: NameRule::Label, hooks: cluster::NAMESPACE, ..LINE },
    Line { kind: "Node", plural: "nodes", short: &["no"], scope: Scope::Cluster, status: true, selectable: &["spec.unschedulable"],
        hooks: cluster::NODE, ..LINE },
    Line { kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims", short: &["pvc"], status: true, hooks: claim::HOOKS, ..LINE },
    Line { kind: "Pod", plural: "pods", short: &["po"], status: true,
        others: &["attach", "binding", "eviction", "exec", "log", "portforward"], selectable: POD_FIELDS,
        traits: Traits { generation: true, graceful: true, ..PLAIN }, hooks: pod::HOOKS, ..LINE },
    Line { kind: "ResourceQuota", plural: "resourcequotas", short: &["quota"], status: true, traits: CREATES,
        hooks: bounds::RESOURCE_QUOTA, ..LINE },
    Line { kind: "Secret", plural: "secrets", selectable: &["type"], hooks: configuration::SECRET, ..LINE },
    Line { kind: "Service", plural: "services", short: &["svc"], status: true, selectable: &["spec.clusterIP", "spec.type"],
        name_rule: NameRule::ServiceLabel, traits: CREATES, hooks: service::HOOKS, ..LINE },
    Line { kind: "ServiceAccount", plural: "serviceaccounts", short: &["sa"], others: &["token"], ..LINE },
    Line { group: crate::crds::GROUP, kind: "CustomResourceDefinition", plural: "customresourcedefinitions", short: &["crd", "crds"],
        scope: Scope::Cluster, status: true, traits: Traits { generation: true, strict_update: true, ..PLAIN }, hooks: crate::crds::HOOKS, ..LINE },
    Line { group: "authentication.k8s.io", kind: "SelfSubjectReview", plural: "selfsubjectreviews", scope: Scope::Cluster, traits: ANSWER, ..LINE },
    Line { group: "authentication.k8s.io", kind: "TokenReview", plural: "tokenreviews", scope: Scope::Cluster, traits: ANSWER, ..LINE },
    Line { group: "authorization.k8s.io", kind: "LocalSubjectAccessReview", plural: "localsubjectaccessreviews", traits: ANSWER, ..LINE },
    Line { group: "authorization.k8s.io", kind: "SelfSubjectAccessReview", plural: "selfsubjectaccessreviews", scope: Scope::Cluster,
        traits: ANSWER, ..LINE },
    Line { group: "authorization.k8s.io", kind: "SelfSubjectRulesReview", plural: "selfsubjectrulesreviews", scope: Scope::Cluster,
        traits: ANSWER, ..LINE },
    Line { group: "authorization.k8s.io", kind: "SubjectAccessReview", plural: "subjectaccessreviews", scope: Scope::Cluster,
        traits: ANSWER, ..LINE },
    Line { group: "coordination.k8s.io", kind: "Lease", plural: "leases", traits: CREATES, hooks: network::LEASE, ..LINE },
    Line { group: "discovery.k8s.io", kind: "EndpointSlice", plural: "endpointslices",
        traits: Traits { generation: true, ..PLAIN }, hooks: network::ENDPOINT_SLICE, ..LINE },
    Line { group: "events.k8s.io", kind: "Event", plural: "events", short: &["ev"], selectable: NEW_EVENT_FIELDS, traits: CREATES,
        hooks: event::NEW, ..LINE },
    Line { group: "networking.k8s.io", kind: "NetworkPolicy", plural: "networkpolicies", short: &["netpol"],
        traits: Traits { generation: true, ..PLAIN }, hooks: network::NETWORK_POLICY, ..LINE },
    Line { group: "node.k8s.io", kind: "RuntimeClass", plural: "runtimeclasses", scope: Scope::Cluster, hooks: cluster::RUNTIME_CLASS, ..LINE },
    Line { group: "rbac.authorization.k8s.io", kind: "ClusterRole", plural: "clusterroles", scope: Scope::Cluster, traits: CREATES,
        name_rule: NameRule::PathSegment, hooks: rbac::CLUSTER_ROLE, ..LINE },
    Line { group: "rbac.authorization.k8s.io", kind: "ClusterRoleBinding", plural: "clusterrolebindings", scope: Scope::Cluster,
        traits: CREATES, name_rule: NameRule::PathSegment, hooks: rbac::CLUSTER_ROLE_BINDING, ..LINE },
    Line { group: "rbac.authorization.k8s.io", kind: "Role", plural: "roles", traits: CREATES, name_rule: NameRule::PathSegment,
        hooks: rbac::ROLE, ..LINE },
    Line { group: "rbac.authorization.k8s.io", kind: "RoleBinding", plural: "rolebindings", traits: CREATES,
        name_rule: NameRule::PathSegment, hooks: rbac::ROLE_BINDING, ..LINE },
];

/// What the kind is shown by beside its name: `kubectl get all`.
fn categories(line: &Line) -> &'static [&'static str] {
    match (line.group, line.plural) {
        ("", "pods" | "services") => &["all"],
        (crate::crds::GROUP, _) => &["api-extensions"],
        _ => &[],
    }
}

fn load() -> Vec<ResourceDefinition> {
    LINES.iter().map(builtin_definition).collect()
}

fn builtin_definition(line: &Line) -> ResourceDefinition {
    let package = match line.group {
        "" => "api.core",
        crate::crds::GROUP => "apiextensions-apiserver.pkg.apis.apiextensions",
        group => &format!("api.{}", group.split('.').next().unwrap_or_default()),
    };
    let name = format!("io.k8s.{package}.{}.{}", line.version, line.kind);
    let root = CORE_TYPES.get(&name).expect("every kind of the table has a schema");
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    ResourceDefinition {
        group: line.group.to_owned(),
        version: line.version.to_owned(),
        kind: line.kind.to_owned(),
        plural: line.plural.to_owned(),
        singular: line.kind.to_lowercase(),
        short_names: owned(line.short),
        categories: owned(categories(line)),
        namespaced: line.scope == Scope::Namespaced,
        subresources: Subresources { status: line.status, scale: None, others: owned(line.others) },
        printer_columns: columns::of(line.group, line.plural),
        selectable_fields: owned(line.selectable),
        schema: Arc::new(StructuralSchema::from_node(Arc::clone(root))),
        strategy: Strategy {
            origin: Origin::Builtin,
            generation: line.traits.generation,
            create_on_update: line.traits.create_on_update,
            unconditional_update: !line.traits.strict_update,
            graceful_deletion: line.traits.graceful,
            answer_only: line.traits.answer_only,
        },
        storage: (line.group == "events.k8s.io").then(|| StorageForm {
            group: String::new(),
            version: "v1".to_owned(),
            to: event::to_core,
            from: event::from_core,
        }),
        defined_by: None,
        serving: Serving::FIXED,
        name_rule: line.name_rule,
        hooks: line.hooks,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facet;
    use super::*;

    #[test]
    fn every_kind_has_names_and_a_schema() {
        let definitions = builtin();
        assert_eq!(definitions.len(), LINES.len());
        for definition in &definitions {
            assert!(definition.schema.root().properties.contains_key("metadata"), "{}", definition.kind);
            assert!(definition.plural.ends_with('s'), "{}", definition.plural);
        }
    }

    #[test]
    fn status_is_a_facet_where_the_table_says_so() {
        let with_status: Vec<String> = builtin()
            .iter()
            .filter(|definition| definition.subresources.status)
            .map(ResourceDefinition::qualified_plural)
            .collect();
        assert_eq!(
            with_status,
            [
                "namespaces",
                "nodes",
                "persistentvolumeclaims",
                "pods",
                "resourcequotas",
                "services",
                "customresourcedefinitions.apiextensions.k8s.io",
            ]
        );
        assert_eq!(builtin()[0].reset_fields(Facet::Main), [] as [&[&str]; 0]);
    }
}
