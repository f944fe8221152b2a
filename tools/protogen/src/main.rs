//! Writes the table of protobuf fields that the API server embeds.
//!
//! Usage: protogen API_MODULE APIMACHINERY_MODULE FILE
//!
//! Field numbers and types come from the `generated.proto` files of the Go modules `k8s.io/api` and `k8s.io/apimachinery`,
//! the names that fields have in JSON from the struct tags beside them.

mod go;
mod proto;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Packages whose messages are clients' bodies or parts of them: module and folder.
const PACKAGES: &[(Module, &str)] = &[
    (Module::Api, "authentication/v1"),
    (Module::Api, "authorization/v1"),
    (Module::Api, "autoscaling/v1"),
    (Module::Api, "coordination/v1"),
    (Module::Api, "core/v1"),
    (Module::Api, "discovery/v1"),
    (Module::Api, "events/v1"),
    (Module::Api, "networking/v1"),
    (Module::Api, "node/v1"),
    (Module::Api, "policy/v1"),
    (Module::Api, "rbac/v1"),
    (Module::Machinery, "pkg/api/resource"),
    (Module::Machinery, "pkg/apis/meta/v1"),
    (Module::Machinery, "pkg/runtime"),
    (Module::Machinery, "pkg/util/intstr"),
];

#[derive(Clone, Copy)]
enum Module {
    Api,
    Machinery,
}

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [api, machinery, file] = arguments.as_slice() else {
        eprintln!("usage: protogen API_MODULE APIMACHINERY_MODULE FILE");
        return ExitCode::from(2);
    };
    match table(api, machinery).and_then(|text| Ok(std::fs::write(file, text)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("protogen: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn table(api: &Path, machinery: &Path) -> Result<String> {
    let mut messages = BTreeMap::new();
    for (module, folder) in PACKAGES {
        let folder = match module {
            Module::Api => api,
            Module::Machinery => machinery,
        }
        .join(folder);
        let structs = go::structs(&folder)?;
        let text = std::fs::read_to_string(folder.join("generated.proto"))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        for message in proto::messages(&text)? {
            messages.insert(message.name.clone(), lines(&message, &structs));
        }
    }
    let mut text = String::from("# Made by `cargo xtask protobuf`. Do not edit.\n");
    for (name, lines) in messages {
        write!(text, "{name}{lines}")?;
    }
    Ok(text)
}

/// What follows the name of a message: ` list` if it is one in JSON, then a line `NUMBER NAME TYPE` for each field.
/// A field whose members belong to the message itself in JSON has the name `.`.
fn lines(message: &proto::Message, structs: &go::Structs) -> String {
    let short = message.name.rsplit('.').next().unwrap_or_default();
    let mut text = String::from(if structs.lists.contains(short) { " list\n" } else { "\n" });
    for field in &message.fields {
        let name = structs.json_name(short, field.number).unwrap_or(&field.name);
        let line = format!("{} {name} {}\n", field.number, field.value_type);
        text.push_str(&line);
    }
    text
}
