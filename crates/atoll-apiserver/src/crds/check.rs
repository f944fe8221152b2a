//! What a CustomResourceDefinition must be like. Causes are those of a Kubernetes API server.
//!
//! A server keeps what all versions share (a schema, subresources, columns) once, and says `spec.validation` of it where
//! the client wrote `spec.versions[0].schema`: paths here do the same.

use serde_json::{Value, json};

use super::keywords::{flag, list, text, texts};
use super::{schema_rules, structural};
use crate::definitions::{names, shipped};
use crate::schema::{Cause, FieldPath, StructuralSchema};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const SELECTABLE_MAX: usize = 8;
const DEPRECATION_BYTES_MAX: usize = 256;
const APPROVAL: &str = "api-approved.kubernetes.io";
const APPROVAL_HELP: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What is wrong with a new definition, its metadata apart.
pub(super) fn check(definition: &Value, causes: &mut Vec<Cause>) {
    let spec = &definition["spec"];
    let (plural, group) = (text(&spec["names"], "plural"), text(spec, "group"));
    let name = text(&definition["metadata"], "name");
    if !name.is_empty() && name != format!("{plural}.{group}") {
        causes.push(Cause::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
    check_spec(spec, causes);
    check_stored_versions(definition, causes);
    check_approval(definition, causes);
    if flag(spec, "preserveUnknownFields") {
        let rule = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
            spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", true, rule));
    }
}

/// What is wrong with a changed definition.
pub(super) fn check_change(definition: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (spec, before) = (&definition["spec"], &old["spec"]);
    check_spec(spec, causes);
    let mut fixed = vec!["/group", "/names/plural"];
    if super::conditions::is_true(old, super::conditions::ESTABLISHED) {
        fixed.extend(["/scope", "/names/kind"]);
    }
    for pointer in fixed {
        let (value, old_value) = (spec.pointer(pointer), before.pointer(pointer));
        if value != old_value {
            let field = format!("spec{}", pointer.replace('/', "."));
            causes.push(Cause::invalid(field, value.cloned().unwrap_or_default(), "field is immutable"));
        }
    }
    check_stored_versions(definition, causes);
    if definition["metadata"]["annotations"].get(APPROVAL) != old["metadata"]["annotations"].get(APPROVAL) {
        check_approval(definition, causes);
    }
}

fn check_spec(spec: &Value, causes: &mut Vec<Cause>) {
    let group = text(spec, "group");
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let problems @ [_, ..] = names::subdomain(group).as_slice() {
        causes.push(Cause::invalid("spec.group", group, &problems.join(",")));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    match text(spec, "scope") {
        "Cluster" | "Namespaced" => {}
        "" => causes.push(Cause::required("spec.scope", "")),
        scope => causes.push(Cause::not_supported("spec.scope", scope, &["Cluster", "Namespaced"])),
    }
    check_versions(spec, causes);
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], name).is_empty() {
            causes.push(Cause::required(format!("spec.names.{name}"), ""));
        }
    }
    check_names(&spec["names"], &FieldPath::new("spec.names"), causes);
    check_conversion(spec, causes);
}

/// Where a part of a version is reported: shared parts belong to the whole spec.
fn place(versions: &[Value], index: usize, part: &str, shared: &str) -> Option<FieldPath> {
    let of = |version: &Value| version.get(part).cloned();
    let first = of(versions.first()?);
    if first.is_some() && versions.iter().all(|version| of(version) == first) {
        return (index == 0).then(|| FieldPath::new("spec").field(shared));
    }
    Some(FieldPath::new("spec.versions").index(index).field(part))
}

fn check_versions(spec: &Value, causes: &mut Vec<Cause>) {
    let versions = list(spec, "versions");
    for (index, version) in versions.iter().enumerate() {
        let path = FieldPath::new("spec.versions").index(index);
        if version["schema"].get("openAPIV3Schema").is_none() {
            causes.push(Cause::required(path.field("schema").field("openAPIV3Schema"), ""));
        }
    }
    for (index, version) in versions.iter().enumerate() {
        let path = FieldPath::new("spec.versions").index(index);
        let name = text(version, "name");
        if let problems @ [_, ..] = names::service_label(name).as_slice() {
            causes.push(Cause::invalid(path.field("name"), name, &problems.join(",")));
        }
        check_deprecation(version, &path.field("deprecationWarning"), causes);
        if let Some(path) = place(versions, index, "schema", "validation") {
            check_schema(version, &path.field("openAPIV3Schema"), causes);
        }
        if let Some(path) = place(versions, index, "subresources", "subresources") {
            check_scale(&version["subresources"]["scale"], &path, causes);
        }
        if let Some(path) = place(versions, index, "additionalPrinterColumns", "additionalPrinterColumns") {
            for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
                check_column(column, &path.index(index), causes);
            }
        }
        if let Some(path) = place(versions, index, "selectableFields", "selectableFields") {
            check_selectable(version, &path, causes);
        }
    }
    let found: Vec<&str> = versions.iter().map(|version| text(version, "name")).collect();
    if (1..found.len()).any(|index| found[..index].contains(&found[index])) {
        causes.push(Cause::invalid("spec.versions", json!(found), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let rule = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", json!(found), rule));
    }
}

fn check_deprecation(version: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut problems = Vec::new();
    if !flag(version, "deprecated") {
        problems.push("can only be set for deprecated versions");
    } else if warning.is_empty() {
        problems.push("must not be an empty string");
    }
    if warning.len() > DEPRECATION_BYTES_MAX {
        problems.push("must be <= 256 characters long");
    }
    if warning.chars().any(char::is_control) {
        problems.push("must only contain printable UTF-8 characters");
    }
    causes.extend(problems.iter().map(|problem| Cause::invalid(path, warning, problem)));
}

fn check_schema(version: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let Some(schema) = version["schema"].get("openAPIV3Schema") else { return };
    let found = structural::check(schema, path);
    let structural = found.is_empty();
    causes.extend(found);
    let with_status = version["subresources"].get("status").is_some();
    let found = schema_rules::check(schema, with_status, path);
    let sound = structural && found.is_empty();
    causes.extend(found);
    if !sound {
        return;
    }
    match StructuralSchema::from_openapi_v3(schema) {
        Ok(parsed) => {
            let found = parsed.check_defaults(path);
            if found.is_empty() {
                causes.extend(parsed.check_own_rules(path));
            }
            causes.extend(found);
        }
        Err(error) => causes.push(Cause::invalid(path, "", &error.to_string())),
    }
}

fn check_json_path(path: &str, field: &FieldPath, causes: &mut Vec<Cause>) -> bool {
    if path.starts_with('.') {
        return true;
    }
    causes.push(Cause::invalid(field, path, "must be a simple json path starting with ."));
    false
}

fn check_scale(scale: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    if !scale.is_object() {
        return;
    }
    for (name, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let (found, field) = (text(scale, name), path.field("scale").field(name));
        if found.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if check_json_path(found, &field, causes) && !found.starts_with(below) {
            let rule = format!("should be a json path under {}", below.trim_end_matches('.'));
            causes.push(Cause::invalid(field, found, &rule));
        }
    }
    let (found, field) = (text(scale, "labelSelectorPath"), path.field("scale").field("labelSelectorPath"));
    let is_below = found.starts_with(".spec.") || found.starts_with(".status.");
    if !found.is_empty() && check_json_path(found, &field, causes) && !is_below {
        causes.push(Cause::invalid(field, found, "should be a json path under either .spec or .status"));
    }
}

fn check_column(column: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    if text(column, "name").is_empty() {
        causes.push(Cause::required(path.field("name"), ""));
    }
    let rule = format!("must be one of {}", COLUMN_TYPES.join(","));
    match text(column, "type") {
        "" => causes.push(Cause::required(path.field("type"), &rule)),
        found if !COLUMN_TYPES.contains(&found) => causes.push(Cause::invalid(path.field("type"), found, &rule)),
        _ => {}
    }
    let format = text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let rule = format!("must be one of {}", COLUMN_FORMATS.join(","));
        causes.push(Cause::invalid(path.field("format"), format, &rule));
    }
    match text(column, "jsonPath") {
        "" => causes.push(Cause::required(path.field("JSONPath"), "")),
        found => {
            check_json_path(found, &path.field("JSONPath"), causes);
        }
    }
}

fn check_selectable(version: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let fields = list(version, "selectableFields");
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (found, path) = (text(field, "jsonPath"), path.index(index).field("jsonPath"));
        if found.is_empty() {
            causes.push(Cause::required(path, ""));
            continue;
        }
        let mut schema = &version["schema"]["openAPIV3Schema"];
        for name in found.trim_start_matches('.').split('.') {
            schema = &schema["properties"][name];
        }
        if !found.starts_with('.') || schema.is_null() {
            causes.push(Cause::invalid(&path, found, "is an invalid path: does not refer to a valid field"));
            continue;
        }
        if found.starts_with(".metadata") {
            causes.push(Cause::invalid(&path, found, "must not point to fields in metadata"));
        }
        if !matches!(text(schema, "type"), "string" | "boolean" | "integer") {
            let rule = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                formats are allowed.";
            causes.push(Cause::invalid(&path, found, rule));
        }
        if seen.contains(&found) {
            causes.push(Cause::duplicate(&path, found));
        }
        seen.push(found);
    }
    if seen.len() > SELECTABLE_MAX {
        causes.push(Cause::too_many(path, seen.len() as u64, SELECTABLE_MAX as u64));
    }
}

/// Checks names of the spec, or those accepted.
fn check_names(found: &Value, path: &FieldPath, causes: &mut Vec<Cause>) {
    let mut check = |name: &str, path: FieldPath, before: &str| {
        let form = if before.is_empty() { name.to_owned() } else { name.to_lowercase() };
        if let problems @ [_, ..] = names::service_label(&form).as_slice()
            && !name.is_empty()
        {
            causes.push(Cause::invalid(path, name, &format!("{before}{}", problems.join(","))));
        }
    };
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    for (name, before) in [("plural", ""), ("singular", ""), ("kind", MIXED), ("listKind", MIXED)] {
        check(text(found, name), path.field(name), before);
    }
    for many in ["shortNames", "categories"] {
        for (index, name) in texts(found, many).iter().enumerate() {
            check(name, path.field(many).index(index), "");
        }
    }
    let kind = text(found, "kind");
    if !kind.is_empty() && kind == text(found, "listKind") {
        causes.push(Cause::invalid(path.field("listKind"), kind, "kind and listKind may not be the same"));
    }
}

/// Nothing here calls a webhook. A definition that asks for one is accepted where there is nothing to convert, or where
/// this server ships the conversion itself; otherwise it is refused instead of serving objects unconverted.
fn check_conversion(spec: &Value, causes: &mut Vec<Cause>) {
    const CLIENT: &str = "spec.conversion.webhookClientConfig";
    const REVIEWS: &str = "spec.conversion.conversionReviewVersions";
    let conversion = &spec["conversion"];
    match text(conversion, "strategy") {
        "None" if conversion.get("webhook").is_some() => {
            let rule = "should not be set when strategy is not set to Webhook";
            causes.push(Cause::forbidden(CLIENT, rule));
        }
        "None" => {}
        "Webhook" => {
            let client = &conversion["webhook"]["clientConfig"];
            match (client.get("url").is_some(), client.get("service").is_some()) {
                _ if !client.is_object() => {
                    causes.push(Cause::required(CLIENT, "required when strategy is set to Webhook"));
                }
                (true, false) | (false, true) => {}
                _ => causes.push(Cause::required(CLIENT, "exactly one of url or service is required")),
            }
            let reviews = texts(&conversion["webhook"], "conversionReviewVersions");
            if reviews.is_empty() {
                causes.push(Cause::required(REVIEWS, ""));
            } else if !reviews.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
                let rule = "must include at least one of v1, v1beta1";
                causes.push(Cause::invalid(REVIEWS, json!(reviews), rule));
            }
            check_convertible(spec, causes);
        }
        "" => causes.push(Cause::required("spec.conversion.strategy", "")),
        strategy => {
            causes.push(Cause::not_supported("spec.conversion.strategy", strategy, &["None", "Webhook"]));
        }
    }
}

fn check_convertible(spec: &Value, causes: &mut Vec<Cause>) {
    let versions = list(spec, "versions");
    let Some(storage) = versions.iter().find(|version| flag(version, "storage")) else { return };
    let storage = text(storage, "name");
    let others = versions.iter().filter(|version| flag(version, "served") && text(version, "name") != storage);
    let (plural, group) = (text(&spec["names"], "plural"), text(spec, "group"));
    let unknown: Vec<&str> = others
        .map(|version| text(version, "name"))
        .filter(|version| !converts(&format!("{plural}.{group}"), version, storage))
        .collect();
    if !unknown.is_empty() {
        let rule = format!(
            "this server calls no webhooks, and has no conversion of its own between {} and {storage} of {plural}.{group}: \
             serve {storage} alone, or use the strategy None where the versions have the same fields",
            unknown.join(", ")
        );
        causes.push(Cause::forbidden("spec.conversion.strategy", &rule));
    }
}

/// Whether this server ships the conversion between a version and the one that is stored.
fn converts(name: &str, version: &str, storage: &str) -> bool {
    let shipped = shipped().iter().filter(|shipped| shipped.name == name).flat_map(|shipped| &shipped.definitions);
    let forms = shipped.filter(|kind| kind.version == version).filter_map(|kind| kind.storage.as_ref());
    forms.into_iter().any(|form| form.version == storage)
}

fn check_stored_versions(definition: &Value, causes: &mut Vec<Cause>) {
    let path = FieldPath::new("status.storedVersions");
    let stored = texts(&definition["status"], "storedVersions");
    if stored.is_empty() {
        causes.push(Cause::invalid(path, json!([]), "must have at least one stored version"));
        return;
    }
    let versions = list(&definition["spec"], "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        let name = text(version, "name");
        if !stored.contains(&name) {
            causes.push(Cause::invalid(&path, json!(stored), &format!("must have the storage version {name}")));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| text(version, "name") == *name) {
            let rule = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            causes.push(Cause::invalid(path.index(index), *name, &rule));
        }
    }
}

/// Groups of the Kubernetes project itself want a sign that they may be used.
fn check_approval(definition: &Value, causes: &mut Vec<Cause>) {
    let group = text(&definition["spec"], "group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    if !protected {
        return;
    }
    let field = format!("metadata.annotations[{APPROVAL}]");
    match definition["metadata"]["annotations"].get(APPROVAL).and_then(Value::as_str) {
        None | Some("") => {
            let rule = format!("protected groups must have approval annotation {APPROVAL:?}, {APPROVAL_HELP}");
            causes.push(Cause::required(field, &rule));
        }
        Some(approval) if approval.starts_with("unapproved") || approval.starts_with("https://") => {}
        Some(approval) => {
            let rule = format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \
                 \"unapproved\", {APPROVAL_HELP}"
            );
            causes.push(Cause::invalid(field, approval, &rule));
        }
    }
}
