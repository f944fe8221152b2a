//! `core.json`: the kinds that the server has built in.

use k8s_openapi::api::{
    authentication, authorization, autoscaling, coordination, core, discovery, events, networking, node, policy,
    rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use serde_json::{Value, json};

use crate::generator::{Definitions, Generator};
use crate::{defaults, presence, topology};

/// The document: `{"definitions": {name: schema}}`.
pub fn document() -> Value {
    let mut definitions = definitions();
    defaults::correct_required(&mut definitions);
    defaults::builtin(&mut definitions);
    topology::annotate(&mut definitions, true);
    presence::annotate(&mut definitions);
    definitions.retain(|name, _| !name.contains(".JSONSchemaPropsOr") && !name.ends_with(".v1.JSON"));
    definitions[SCHEMA] = json!({"type": "object"});
    for name in FREE_FORM {
        definitions[*name]["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    json!({ "definitions": definitions })
}

/// Types that hold anything.
const FREE_FORM: &[&str] = &["io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", SCHEMA];
/// Contains itself, and has more to it than a schema can say: the server checks it by code.
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn definitions() -> Definitions {
    let mut generator = Generator::default();
    generator.add::<core::v1::Binding>();
    generator.add::<core::v1::ConfigMap>();
    generator.add::<core::v1::Event>();
    generator.add::<core::v1::Namespace>();
    generator.add::<core::v1::LimitRange>();
    generator.add::<core::v1::Node>();
    generator.add::<core::v1::PersistentVolumeClaim>();
    generator.add::<core::v1::Pod>();
    generator.add::<core::v1::ResourceQuota>();
    generator.add::<core::v1::Secret>();
    generator.add::<core::v1::Service>();
    generator.add::<core::v1::ServiceAccount>();
    generator.add::<authentication::v1::SelfSubjectReview>();
    generator.add::<authentication::v1::TokenRequest>();
    generator.add::<authentication::v1::TokenReview>();
    generator.add::<authorization::v1::LocalSubjectAccessReview>();
    generator.add::<authorization::v1::SelfSubjectAccessReview>();
    generator.add::<authorization::v1::SelfSubjectRulesReview>();
    generator.add::<authorization::v1::SubjectAccessReview>();
    generator.add::<autoscaling::v1::Scale>();
    generator.add::<coordination::v1::Lease>();
    generator.add::<discovery::v1::EndpointSlice>();
    generator.add::<events::v1::Event>();
    generator.add::<networking::v1::NetworkPolicy>();
    generator.add::<node::v1::RuntimeClass>();
    generator.add::<policy::v1::Eviction>();
    generator.add::<rbac::v1::ClusterRole>();
    generator.add::<rbac::v1::ClusterRoleBinding>();
    generator.add::<rbac::v1::Role>();
    generator.add::<rbac::v1::RoleBinding>();
    generator.add::<apiextensions::v1::CustomResourceDefinition>();
    generator.add::<meta::v1::DeleteOptions>();
    generator.add::<meta::v1::ListMeta>();
    generator.add::<meta::v1::Status>();
    generator.definitions()
}
