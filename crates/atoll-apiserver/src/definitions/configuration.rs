//! ConfigMaps and Secrets.

use base64::Engine as _;
use serde_json::{Value, json};

use super::view::View;
use super::{Facet, Hooks, names};
use crate::schema::Cause;

/// What distinguishes ConfigMaps from other kinds.
pub(crate) const CONFIG_MAP: Hooks = Hooks {
    default: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    check: validate_config_map,
    check_change: validate_config_map_change,
    required_texts: false,
};

/// What distinguishes Secrets from other kinds.
pub(crate) const SECRET: Hooks = Hooks {
    default: merge_string_data,
    create: |_| {},
    update: |_, _, _| {},
    check: validate_secret,
    check_change: validate_secret_change,
    required_texts: false,
};

const DATA_BYTES_MAX: u64 = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

fn check_keys(data: &View<'_>, causes: &mut Vec<Cause>) {
    for (key, entry) in data.entries() {
        causes.extend(names::config_key(key).iter().map(|problem| Cause::invalid(&entry.path, key, problem)));
    }
}

fn validate_config_map(map: &Value, causes: &mut Vec<Cause>) {
    let (data, binary) = (View::root(map, "data"), View::root(map, "binaryData"));
    check_keys(&data, causes);
    for (key, entry) in data.entries() {
        if binary.value.get(key).is_some() {
            causes.push(Cause::invalid(&entry.path, key, "duplicate of key present in binaryData"));
        }
    }
    check_keys(&binary, causes);
    let texts: usize = data.entries().map(|(_, entry)| entry.text().len()).sum();
    let bytes: usize = binary.entries().map(|(_, entry)| decoded_length(entry.text())).sum();
    if (texts + bytes) as u64 > DATA_BYTES_MAX {
        causes.push(Cause::too_long("", DATA_BYTES_MAX));
    }
}

fn check_frozen(object: &Value, old: &Value, parts: &[&str], causes: &mut Vec<Cause>) {
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if object["immutable"] != Value::Bool(true) {
        causes.push(Cause::forbidden("immutable", FROZEN));
    }
    for part in parts {
        if object[*part] != old[*part] {
            causes.push(Cause::forbidden(part, FROZEN));
        }
    }
}

fn validate_config_map_change(map: &Value, old: &Value, _facet: Facet, causes: &mut Vec<Cause>) {
    check_frozen(map, old, &["data", "binaryData"], causes);
    validate_config_map(map, causes);
}

/// `stringData` is for writing only: it ends up in `data`.
fn merge_string_data(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| json!({}));
    for (key, text) in texts {
        let text = text.as_str().unwrap_or_default();
        data[&key] = Value::String(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

/// How many bytes a base64 text stands for.
fn decoded_length(text: &str) -> usize {
    base64::decoded_len_estimate(text.trim_end_matches('=').len())
}

fn validate_secret(secret: &Value, causes: &mut Vec<Cause>) {
    let data = View::root(secret, "data");
    check_keys(&data, causes);
    let bytes: usize = data.entries().map(|(_, entry)| decoded_length(entry.text())).sum();
    if bytes as u64 > DATA_BYTES_MAX {
        causes.push(Cause::too_long("data", DATA_BYTES_MAX));
    }
    let require_key = |key: &str, causes: &mut Vec<Cause>| {
        if data.value.get(key).is_none() {
            causes.push(Cause::required(data.path.key(key), ""));
        }
    };
    match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if View::root(secret, "metadata").field("annotations").field(ACCOUNT).is_empty() {
                causes.push(Cause::required(format!("metadata.annotations[{ACCOUNT}]"), ""));
            }
        }
        "kubernetes.io/dockercfg" => require_key(".dockercfg", causes),
        "kubernetes.io/dockerconfigjson" => require_key(".dockerconfigjson", causes),
        "kubernetes.io/basic-auth" if !["username", "password"].iter().any(|key| data.field(key).is_set()) => {
            require_key("username", causes);
            require_key("password", causes);
        }
        "kubernetes.io/ssh-auth" if data.field("ssh-privatekey").is_empty() => {
            causes.push(Cause::required(data.path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            require_key("tls.crt", causes);
            require_key("tls.key", causes);
        }
        _ => {}
    }
}

fn validate_secret_change(secret: &Value, old: &Value, _facet: Facet, causes: &mut Vec<Cause>) {
    if secret["type"] != old["type"] {
        causes.push(Cause::invalid("type", secret["type"].clone(), "field is immutable"));
    }
    check_frozen(secret, old, &["data"], causes);
    validate_secret(secret, causes);
}
