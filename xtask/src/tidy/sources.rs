//! Rules about files: names, lengths, words.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Lines of a source file; a file longer than this has more than one subject.
const FILE_LINES_MAX: usize = 800;
/// Module names that say nothing.
const EMPTY_NAMES: &[&str] = &["mod.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"];
/// Documents that must name every crate.
const MAP: &str = "ARCHITECTURE.md";

/// Complaints about the files below `root`.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    collect(&root.join("crates"), &mut files)?;
    collect(&root.join("xtask"), &mut files)?;
    for path in &files {
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        let text = fs::read_to_string(path)?;
        complaints.extend(check_source(&name, &text));
    }
    complaints.extend(check_manifests(root)?);
    complaints.extend(check_map(root)?);
    Ok(complaints)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let file = name.rsplit('/').next().unwrap_or(name);
    let is_test = name.contains("/tests/");
    if EMPTY_NAMES.contains(&file) {
        complaints.push(format!("{name}: name the file after what is in it"));
    }
    let lines = text.lines().take_while(|line| !line.starts_with("mod tests")).count();
    if lines > FILE_LINES_MAX && !is_test {
        complaints.push(format!("{name}: {lines} lines, {FILE_LINES_MAX} at most"));
    }
    for (index, line) in text.lines().enumerate() {
        for (word, instead) in banned_words(name, is_test) {
            if line.contains(&word) {
                complaints.push(format!("{name}:{}: {word:?}: {instead}", index + 1));
            }
        }
    }
    complaints
}

/// Words that must not stand in a file, each with what to do instead. Put together at run time, so that this file
/// does not complain of itself.
fn banned_words(name: &str, is_test: bool) -> Vec<(String, &'static str)> {
    let mut words = vec![
        (["TO", "DO"].concat(), "do it, or leave it out"),
        (["FIX", "ME"].concat(), "do it, or leave it out"),
        (["#[allow", "("].concat(), "use #[expect(…, reason = …)]"),
    ];
    if !is_test
        && !name.starts_with("crates/atoll/")
        && !name.ends_with("build.rs")
        && !name.ends_with("build_static.rs")
    {
        words.push((["print", "ln!("].concat(), "only the binary prints; libraries return or log"));
    }
    words
}

fn check_manifests(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("Cargo.toml");
        let text = fs::read_to_string(&path)?;
        if !text.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{}: takes the workspace's lints with [lints] workspace = true", path.display()));
        }
    }
    Ok(complaints)
}

fn check_map(root: &Path) -> Result<Vec<String>> {
    let map = fs::read_to_string(root.join(MAP))?;
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !map.contains(&format!("`{name}`")) {
            complaints.push(format!("{MAP}: does not name `{name}`"));
        }
    }
    for word in map.split('`').filter(|word| word.starts_with("atoll-") && !word.contains([' ', '/', '.'])) {
        if !root.join("crates").join(word).is_dir() && !word.contains("::") {
            complaints.push(format!("{MAP}: names `{word}`, which is no crate"));
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_offender() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        for (name, text, complaint) in [
            ("crates/a/src/utils.rs", "", "name the file"),
            ("crates/a/src/a.rs", long.as_str(), "at most"),
            ("crates/a/src/a.rs", &["// TO", "DO: later"].concat(), "do it"),
            ("crates/a/src/a.rs", &["print", "ln!(\"x\")"].concat(), "only the binary prints"),
        ] {
            let complaints = check_source(name, text);
            assert!(complaints.iter().any(|found| found.contains(complaint)), "{name}: {complaints:?}");
        }
        assert!(check_source("crates/a/src/a.rs", "fn fine() {}\n").is_empty());
    }
}
