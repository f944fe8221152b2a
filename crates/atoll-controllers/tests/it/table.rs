//! The table of what the controllers keep names tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

/// Everything in backticks that looks like a test.
fn named(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| {
            name.matches('_').count() >= 2 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .collect()
}

fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("the file can be read");
            let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('(').map(|(name, _)| name));
            found.extend(functions.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_in_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("it is in a workspace");
    let table = std::fs::read_to_string(root.join("docs/controllers.md")).expect("the table is there");
    let mut found = BTreeSet::new();
    for folder in
        ["atoll-api/src", "atoll-controllers/src", "atoll-controllers/tests", "atoll-sim/src", "atoll-sim/tests"]
    {
        tests_below(&root.join("crates").join(folder), &mut found);
    }
    let named = named(&table);
    assert!(named.len() > 60, "the table is read: {named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "the table names tests that do not exist: {missing:?}");
}
