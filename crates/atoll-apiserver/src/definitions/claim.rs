//! PersistentVolumeClaims.

use serde_json::{Value, json};

use super::quantity::Quantity;
use super::view::View;
use super::{Facet, Hooks, names};
use crate::schema::Cause;

/// What distinguishes claims from other kinds.
pub(crate) const HOOKS: Hooks = Hooks {
    default: |_| {},
    create: prepare,
    update: |_, _, _| {},
    check: validate,
    check_change: validate_change,
    required_texts: false,
};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const IMMUTABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn prepare(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
}

fn validate(claim: &Value, causes: &mut Vec<Cause>) {
    validate_spec(&View::root(claim, "spec"), causes);
}

/// Checks what is claimed; pods claim in place too.
pub(crate) fn validate_spec(spec: &View<'_>, causes: &mut Vec<Cause>) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        causes.push(Cause::required(&modes.path, "at least 1 access mode is required"));
    }
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            causes.push(Cause::not_supported(&modes.path, mode.text(), &ACCESS_MODES));
        }
    }
    if modes.items().count() > 1 && modes.items().any(|mode| mode.text() == "ReadWriteOncePod") {
        causes.push(Cause::forbidden(&modes.path, "may not use ReadWriteOncePod with other access modes"));
    }
    let size = spec.field("resources").field("requests").field("storage");
    let path = spec.path.field("resources").key("storage");
    match Quantity::parse(size.text()) {
        None => causes.push(Cause::required(&path, "")),
        Some(amount) if amount.is_negative() || amount.is_zero() => {
            causes.push(Cause::invalid(&path, size.text(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    for name in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.field(name);
        if !class.is_empty() {
            class.report(&names::subdomain(class.text()), causes);
        }
    }
    spec.field("volumeMode").one_of_if_set(&["Block", "Filesystem"], causes);
}

fn validate_change(claim: &Value, old: &Value, facet: Facet, causes: &mut Vec<Cause>) {
    if facet != Facet::Main {
        return;
    }
    validate(claim, causes);
    let (mut munged, before) = (claim["spec"].clone(), &old["spec"]);
    if before.get("volumeName").is_none()
        && let Some(fields) = munged.as_object_mut()
    {
        fields.remove("volumeName");
    }
    let bound = claim["status"]["phase"] == "Bound";
    if bound {
        let size = before["resources"]["requests"]["storage"].clone();
        if munged["resources"].get("requests").is_some() {
            munged["resources"]["requests"]["storage"] = size;
        }
    }
    if munged != *before {
        causes.push(Cause::forbidden("spec", IMMUTABLE));
    }
    let amount = |value: &Value| value.as_str().and_then(Quantity::parse);
    let wanted = |spec: &Value| amount(&spec["resources"]["requests"]["storage"]);
    let shrinks = wanted(&claim["spec"]) < wanted(before);
    if let (true, Some(new), Some(found)) =
        (shrinks, wanted(&claim["spec"]), amount(&old["status"]["capacity"]["storage"]))
        && new <= found
    {
        let problem = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", problem));
    }
}
