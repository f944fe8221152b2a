//! The attack suite: runs every attempt in every tier that there is here, and puts what came of it into
//! `docs/security.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{environment, say};

const DOCUMENT: &str = "docs/security.md";
const BEGIN: &str = "<!-- attacks: made by `cargo xtask attack` -->\n";
const END: &str = "<!-- /attacks -->\n";

/// Class and attack, with the outcome for each tier.
type Table = BTreeMap<(String, String), BTreeMap<String, String>>;

/// True when everything held, and every twin worked.
pub(crate) fn run() -> Result<bool> {
    let report = environment::root().join("target/attacks.tsv");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--package", "atoll-sandbox", "--test", "it", "--", "attacks"]);
    command.current_dir(environment::root()).env("ATOLL_ATTACK_REPORT", &report);
    if let Some(runsc) = environment::runsc() {
        command.env("ATOLL_TEST_RUNSC", runsc);
    }
    let status = command.status().context("cannot run cargo test")?;
    let text = fs::read_to_string(&report).context("no attack was run: the suite needs root")?;
    let table = parse(&text)?;
    let path = environment::root().join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(&path, replaced(&document, &render(&table))?)?;
    say(&format!("{} attacks, written to {DOCUMENT}", table.len()));
    Ok(status.success())
}

fn parse(text: &str) -> Result<Table> {
    let mut table = Table::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let [tier, class, attack, outcome] = cells[..] else { bail!("not a line of the report: {line}") };
        table.entry((class.to_owned(), attack.to_owned())).or_default().insert(tier.to_owned(), outcome.to_owned());
    }
    Ok(table)
}

fn render(table: &Table) -> String {
    let tiers: BTreeSet<&String> = table.values().flat_map(BTreeMap::keys).collect();
    let names: Vec<&str> = tiers.iter().map(|tier| tier.as_str()).collect();
    let mut text = format!("| class | attack | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for ((class, attack), outcomes) in table {
        let cells: Vec<&str> = tiers.iter().map(|tier| outcomes.get(*tier).map_or("-", String::as_str)).collect();
        text.push_str(&format!("| {class} | {attack} | {} |\n", cells.join(" | ")));
    }
    text
}

fn replaced(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("{DOCUMENT} lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{DOCUMENT} lacks {END}"))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_table_in_its_place() {
        let table = parse("native\tseccomp\tloads a BPF map\theld\ngvisor\tseccomp\tloads a BPF map\theld\nnative\tnetwork\tx\theld\n").unwrap();
        let text = render(&table);
        assert_eq!(
            text,
            "| class | attack | gvisor | native |\n|---|---|---|---|\n| network | x | - | held |\n\
             | seccomp | loads a BPF map | held | held |\n"
        );
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let new = replaced(&document, &text).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("after\n") && new.contains("BPF") && !new.contains("old"));
        assert_eq!(replaced(&new, &text).unwrap(), new, "writing it again changes nothing");
        assert!(replaced("nothing", &text).is_err() && parse("one cell").is_err());
    }
}
