//! Deterministic files: sorted keys, one definition a line, a newline at the end.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::Value;

const MANIFEST_HEADER: &str = "# Made by `cargo xtask schemas`. Do not edit.\n";

/// Writes a document of two levels with one second-level entry a line, so that a change is a readable diff.
pub fn write_document(path: &Path, document: &Value) -> io::Result<()> {
    let mut text = String::from("{\n");
    let sections = document.as_object().expect("a document is an object");
    for (position, (section, entries)) in sections.iter().enumerate() {
        let entries = entries.as_object().expect("a section is an object");
        writeln!(text, "{}:{{", Value::from(section.as_str())).expect("writing to a string");
        for (position, (name, entry)) in entries.iter().enumerate() {
            let separator = if position + 1 < entries.len() { "," } else { "" };
            writeln!(text, "{}:{entry}{separator}", Value::from(name.as_str())).expect("writing to a string");
        }
        text.push_str(if position + 1 < sections.len() { "},\n" } else { "}\n" });
    }
    text.push_str("}\n");
    write_if_changed(path, &text)
}

/// Writes a CustomResourceDefinition to `<group>_<plural>.yaml`.
pub fn write_manifest(directory: &Path, manifest: &Value) -> io::Result<()> {
    let group = manifest["spec"]["group"].as_str().expect("a group");
    let plural = manifest["spec"]["names"]["plural"].as_str().expect("a plural");
    let yaml = serde_yaml_ng::to_string(manifest).map_err(io::Error::other)?;
    write_if_changed(&directory.join(format!("{group}_{plural}.yaml")), &format!("{MANIFEST_HEADER}{yaml}"))
}

/// Leaves the file's time alone when nothing changed, so that nothing is compiled again.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text)
}
