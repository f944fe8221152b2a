//! From a CustomResourceDefinition to the kinds that it makes: one for each version.

use std::sync::Arc;

use serde_json::Value;

use super::keywords::{flag, list, text, texts};
use crate::definitions::{
    ColumnSource, Hooks, NameRule, Origin, PrinterColumn, ResourceDefinition, Scale, Serving, StorageForm, Strategy,
    Subresources, object_metadata,
};
use crate::objects::metadata_text;
use crate::schema::{SchemaError, StructuralSchema};

/// The kinds of a definition that was checked. `changes`: it may be changed while the server runs.
pub(crate) fn kinds(definition: &Value, changes: bool) -> Result<Vec<ResourceDefinition>, SchemaError> {
    let versions = list(&definition["spec"], "versions");
    let relevant = versions.iter().filter(|version| flag(version, "served") || flag(version, "storage"));
    relevant.map(|version| kind(definition, version, changes)).collect()
}

fn kind(definition: &Value, version: &Value, changes: bool) -> Result<ResourceDefinition, SchemaError> {
    let (spec, status) = (&definition["spec"], &definition["status"]);
    let group = text(spec, "group");
    let names = Some(&status["acceptedNames"]).filter(|names| !text(names, "plural").is_empty());
    let names = names.unwrap_or(&spec["names"]);
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let parsed = StructuralSchema::from_openapi_v3(&version["schema"]["openAPIV3Schema"])?;
    Ok(ResourceDefinition {
        group: group.to_owned(),
        version: text(version, "name").to_owned(),
        kind: text(names, "kind").to_owned(),
        plural: text(names, "plural").to_owned(),
        singular: text(names, "singular").to_owned(),
        short_names: owned(texts(names, "shortNames")),
        categories: owned(texts(names, "categories")),
        namespaced: text(spec, "scope") == "Namespaced",
        subresources: subresources(&version["subresources"]),
        printer_columns: columns(list(version, "additionalPrinterColumns")),
        selectable_fields: list(version, "selectableFields")
            .iter()
            .map(|field| dotted(text(field, "jsonPath")))
            .collect(),
        schema: Arc::new(parsed.with_metadata(object_metadata())),
        strategy: Strategy {
            origin: Origin::Custom,
            generation: true,
            create_on_update: false,
            unconditional_update: false,
            graceful_deletion: false,
            answer_only: false,
        },
        storage: storage(group, version, list(spec, "versions")),
        defined_by: Some(metadata_text(definition, "name").into()),
        serving: Serving {
            served: flag(version, "served"),
            accepts_new: !super::conditions::is_terminating(definition),
            changes,
            deprecation: deprecation(group, version, text(names, "kind")),
        },
        name_rule: NameRule::Subdomain,
        hooks: Hooks::NONE,
    })
}

/// Objects are stored in the storage version; the others differ from it in `apiVersion` alone.
fn storage(group: &str, version: &Value, versions: &[Value]) -> Option<StorageForm> {
    if flag(version, "storage") {
        return None;
    }
    let storage = versions.iter().find(|version| flag(version, "storage"))?;
    Some(StorageForm::same_but_for_version(group, text(storage, "name")))
}

fn deprecation(group: &str, version: &Value, kind: &str) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    let warning = version.get("deprecationWarning").and_then(Value::as_str);
    Some(warning.map_or_else(|| format!("{group}/{} {kind} is deprecated", text(version, "name")), str::to_owned))
}

fn subresources(subresources: &Value) -> Subresources {
    let scale = &subresources["scale"];
    Subresources {
        status: subresources.get("status").is_some(),
        scale: scale.is_object().then(|| Scale {
            spec_replicas: dotted(text(scale, "specReplicasPath")),
            status_replicas: dotted(text(scale, "statusReplicasPath")),
            label_selector: Some(dotted(text(scale, "labelSelectorPath"))).filter(|path| !path.is_empty()),
        }),
        others: Vec::new(),
    }
}

/// `.spec.replicas` as `spec.replicas`.
fn dotted(path: &str) -> String {
    path.trim_start_matches('.').to_owned()
}

/// The columns asked for; the age where none are.
fn columns(asked: &[Value]) -> Vec<PrinterColumn> {
    if asked.is_empty() {
        return vec![age()];
    }
    let column = |column: &Value| PrinterColumn {
        name: text(column, "name").to_owned(),
        column_type: text(column, "type").to_owned(),
        format: text(column, "format").to_owned(),
        description: match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {}", text(column, "jsonPath")),
            description => description.to_owned(),
        },
        priority: column["priority"].as_i64().and_then(|it| i32::try_from(it).ok()).unwrap_or_default(),
        source: ColumnSource::JsonPath(text(column, "jsonPath").to_owned()),
    };
    asked.iter().map(column).collect()
}

fn age() -> PrinterColumn {
    PrinterColumn {
        name: "Age".to_owned(),
        column_type: "date".to_owned(),
        format: String::new(),
        description: "Time since creation.".to_owned(),
        priority: 0,
        source: ColumnSource::JsonPath(".metadata.creationTimestamp".to_owned()),
    }
}
