//! Checks of a pod's volumes.

use std::collections::HashSet;

use super::super::names;
use super::super::quantity::Quantity;
use super::super::view::View;
use super::containers;
use crate::schema::{Cause, FieldPath};

const MODE_RULE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// What a file can take from the pod.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks all volumes and returns the names of the good ones.
pub(crate) fn validate<'a>(volumes: &View<'a>, causes: &mut Vec<Cause>) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for volume in volumes.items() {
        let before = causes.len();
        check_source(&volume, causes);
        let name = volume.field("name");
        if !name.require(causes) {
            name.report(&names::label(name.text()), causes);
        }
        if names.contains(name.text()) {
            causes.push(Cause::duplicate(&name.path, name.text()));
        }
        if causes.len() == before {
            names.insert(name.text());
        }
    }
    names
}

/// Tokens of service accounts need one.
pub(crate) fn forbid_tokens(volumes: &View<'_>, causes: &mut Vec<Cause>) {
    for source in
        volumes.items().flat_map(|volume| volume.field("projected").field("sources").items().collect::<Vec<_>>())
    {
        let token = source.field("serviceAccountToken");
        if token.is_set() {
            causes.push(Cause::forbidden(&token.path, "must not be specified when serviceAccountName is not set"));
        }
    }
}

fn check_source(volume: &View<'_>, causes: &mut Vec<Cause>) {
    let mut found = false;
    for (name, value) in volume.value.as_object().into_iter().flatten() {
        if name == "name" || !value.is_object() {
            continue;
        }
        let source = volume.field(name);
        if found {
            causes.push(Cause::forbidden(&source.path, "may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        check_kind(name, &source, causes);
    }
    if !found {
        causes.push(Cause::required(&volume.path, "must specify a volume type"));
    }
}

fn check_kind(name: &str, source: &View<'_>, causes: &mut Vec<Cause>) {
    match name {
        "emptyDir" => {
            let limit = source.field("sizeLimit");
            if Quantity::parse(limit.text()).is_some_and(Quantity::is_negative) {
                causes.push(Cause::forbidden(&limit.path, "SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => {
            let path = source.field("path");
            if path.require(causes) {
                return;
            }
            if path.text().split('/').any(|part| part == "..") {
                path.report(&["must not contain '..'".to_owned()], causes);
            }
            source.field("type").one_of_if_set(&HOST_PATH_TYPES, causes);
        }
        "secret" => {
            source.field("secretName").require(causes);
            check_files(source, causes);
        }
        "configMap" => {
            source.field("name").require(causes);
            check_files(source, causes);
        }
        "persistentVolumeClaim" => {
            source.field("claimName").require(causes);
        }
        "downwardAPI" => {
            check_mode(&source.field("defaultMode"), causes);
            source.field("items").items().for_each(|file| check_pod_file(&file, &source.path, causes));
        }
        "projected" => check_projection(source, causes),
        "ephemeral" => {
            let template = source.field("volumeClaimTemplate");
            if template.is_set() {
                super::super::claim::validate_spec(&template.field("spec"), causes);
            } else {
                causes.push(Cause::required(&template.path, ""));
            }
        }
        _ => {}
    }
}

fn check_mode(mode: &View<'_>, causes: &mut Vec<Cause>) {
    if mode.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        mode.report(&[MODE_RULE.to_owned()], causes);
    }
}

fn check_files(source: &View<'_>, causes: &mut Vec<Cause>) {
    check_mode(&source.field("defaultMode"), causes);
    source.field("items").items().for_each(|item| check_item(&item, causes));
}

fn check_item(item: &View<'_>, causes: &mut Vec<Cause>) {
    item.field("key").require(causes);
    let path = item.field("path");
    path.require(causes);
    check_local(path.text(), &path.path, causes);
    check_mode(&item.field("mode"), causes);
}

/// A relative path that does not begin with two dots.
fn check_local(text: &str, path: &FieldPath, causes: &mut Vec<Cause>) {
    containers::check_relative(text, path, causes);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        causes.push(Cause::invalid(path, text, "must not start with '..'"));
    }
}

fn check_pod_file(file: &View<'_>, path: &FieldPath, causes: &mut Vec<Cause>) {
    let at = View { value: file.value, path: path.clone() };
    let name = at.field("path");
    name.require(causes);
    check_local(name.text(), &name.path, causes);
    let (field, resource) = (at.field("fieldRef"), at.field("resourceFieldRef"));
    if field.is_set() {
        containers::check_field_source(&field, &FILE_FIELDS, causes);
        if resource.is_set() {
            let problem = "fieldRef and resourceFieldRef can not be specified simultaneously";
            causes.push(Cause::invalid(path, "resource", problem));
        }
    } else if resource.is_set() {
        resource.field("containerName").require(causes);
        resource.field("resource").require(causes);
    } else {
        causes.push(Cause::required(path, "one of fieldRef and resourceFieldRef is required"));
    }
    check_mode(&at.field("mode"), causes);
}

fn check_projection(projection: &View<'_>, causes: &mut Vec<Cause>) {
    const LIFETIME_MIN_S: i64 = 600;
    check_mode(&projection.field("defaultMode"), causes);
    for source in projection.field("sources").items() {
        for name in ["secret", "configMap"] {
            let part = source.field(name);
            if part.is_set() {
                part.field("name").require(causes);
                part.field("items").items().for_each(|item| check_item(&item, causes));
            }
        }
        let downward = source.field("downwardAPI");
        downward.field("items").items().for_each(|file| check_pod_file(&file, &downward.path, causes));
        let token = source.field("serviceAccountToken");
        if token.is_set() {
            let lifetime = token.field("expirationSeconds");
            if lifetime.number().is_some_and(|seconds| seconds < LIFETIME_MIN_S) {
                lifetime.report(&["may not specify a duration less than 10 minutes".to_owned()], causes);
            }
            if token.field("path").is_empty() {
                causes.push(Cause::required(projection.path.field("path"), ""));
            } else {
                check_local(token.field("path").text(), &projection.path.field("path"), causes);
            }
        }
        let count =
            source.value.as_object().map_or(0, |fields| fields.values().filter(|part| part.is_object()).count());
        if count > 1 {
            causes.push(Cause::forbidden(&source.path, "may not specify more than 1 volume type per source"));
        }
    }
}
