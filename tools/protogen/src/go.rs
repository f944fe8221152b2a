//! Reading struct tags of Go types: what a field is called in JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Result;

#[derive(Default)]
pub(crate) struct Structs {
    /// By struct and protobuf number; `.` for members that are the struct's own.
    names: BTreeMap<(String, u32), String>,
    /// Named types that are lists: `type ExtraValue []string`.
    pub(crate) lists: BTreeSet<String>,
}

impl Structs {
    pub(crate) fn json_name(&self, name: &str, number: u32) -> Option<&String> {
        self.names.get(&(name.to_owned(), number))
    }
}

/// Reads all Go files of a folder.
pub(crate) fn structs(folder: &Path) -> Result<Structs> {
    let mut structs = Structs::default();
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "go");
        if is_source && !path.to_string_lossy().ends_with("_test.go") {
            read(&std::fs::read_to_string(&path)?, &mut structs);
        }
    }
    Ok(structs)
}

fn read(text: &str, structs: &mut Structs) {
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            let (name, definition) = rest.split_once(' ').unwrap_or((rest, ""));
            current = name.to_owned();
            if definition.starts_with("[]") && name != "List" {
                structs.lists.insert(current.clone());
            }
        }
        let (Some(json), Some(protobuf)) = (tag(line, "json"), tag(line, "protobuf")) else { continue };
        let Some(number) = protobuf.split(',').nth(1).and_then(|number| number.parse().ok()) else { continue };
        let name = match json.split_once(',') {
            Some(("", "inline")) => ".",
            Some((name, _)) => name,
            // Not in JSON at all: the protobuf name stands.
            None if json == "-" => continue,
            None => json,
        };
        structs.names.insert((current.clone(), number), name.to_owned());
    }
}

/// The value of `key:"value"` in a line.
fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("{key}:\""))? + key.len() + 2;
    let rest = &line[start..];
    Some(&rest[..rest.find('"')?])
}
