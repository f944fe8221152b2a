//! Conditions of kinds whose status has no place for them: in an annotation, for those who ask for it.

use atoll_api::{annotations, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::owner::annotation;
use crate::write::{Target, Write, Written};

/// One condition: type, status, reason and message.
pub(crate) type Statement = (&'static str, &'static str, &'static str, String);

/// Whether somebody wants to see the object's conditions.
pub(crate) fn is_wanted(metadata: &ObjectMeta) -> bool {
    annotation(metadata, annotations::REPORT_CONDITIONS) == Some("true")
}

/// The write that has the object carry these conditions; nothing when it does, or when nobody wants to see them.
pub(crate) fn write<K: Written>(object: &K, statements: Vec<Statement>, now: Timestamp) -> Option<Write> {
    let metadata = object.meta();
    if !is_wanted(metadata) {
        return None;
    }
    let present = present(metadata);
    let mut wanted = present.clone();
    let types: Vec<&str> = statements.iter().map(|(type_, ..)| *type_).collect();
    wanted.retain(|condition| types.contains(&condition.type_.as_str()));
    for (type_, status, reason, message) in statements {
        conditions::set(&mut wanted, conditions::new(type_, status, reason, message, metadata.generation, Time(now)));
    }
    if wanted == present {
        return None;
    }
    let text = serde_json::to_string(&wanted).expect("conditions are always JSON");
    let patch = json!({"metadata": {"annotations": {annotations::CONDITIONS: text}}});
    Some(Write::Merge { target: Target::of(object), patch })
}

/// What the object carries; nothing when that can not be read.
fn present(metadata: &ObjectMeta) -> Vec<Condition> {
    let text = annotation(metadata, annotations::CONDITIONS).unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}
