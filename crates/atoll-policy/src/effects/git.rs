//! Git: its command line, and what pushes.

use super::Found;
use crate::action::Effect;
use crate::shell::{Command, Word};

/// Options before the subcommand that take the next word as their value.
const VALUE_OPTIONS: [&str; 6] = ["-C", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--attr-source"];

/// Subcommands that are known and do not push. Any other may be an alias.
const HARMLESS: [&str; 112] = [
    "add",
    "am",
    "annotate",
    "apply",
    "archive",
    "backfill",
    "bisect",
    "blame",
    "branch",
    "bugreport",
    "bundle",
    "cat-file",
    "check-attr",
    "check-ignore",
    "check-mailmap",
    "check-ref-format",
    "checkout",
    "checkout-index",
    "cherry",
    "cherry-pick",
    "citool",
    "clean",
    "clone",
    "column",
    "commit",
    "commit-graph",
    "commit-tree",
    "config",
    "count-objects",
    "describe",
    "diagnose",
    "diff",
    "diff-files",
    "diff-index",
    "diff-tree",
    "difftool",
    "fast-export",
    "fast-import",
    "fetch",
    "fetch-pack",
    "filter-branch",
    "fmt-merge-msg",
    "for-each-ref",
    "format-patch",
    "fsck",
    "gc",
    "get-tar-commit-id",
    "grep",
    "gui",
    "hash-object",
    "help",
    "hook",
    "index-pack",
    "init",
    "interpret-trailers",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "mailinfo",
    "mailsplit",
    "maintenance",
    "merge",
    "merge-base",
    "merge-file",
    "merge-index",
    "merge-tree",
    "mergetool",
    "mktag",
    "mktree",
    "multi-pack-index",
    "mv",
    "name-rev",
    "notes",
    "pack-objects",
    "pack-refs",
    "patch-id",
    "prune",
    "pull",
    "range-diff",
    "read-tree",
    "rebase",
    "reflog",
    "refs",
    "remote",
    "repack",
    "replace",
    "replay",
    "rerere",
    "reset",
    "restore",
    "rev-list",
    "rev-parse",
    "revert",
    "rm",
    "shortlog",
    "show",
    "show-branch",
    "show-index",
    "show-ref",
    "sparse-checkout",
    "stage",
    "stash",
    "status",
    "stripspace",
    "submodule",
    "switch",
    "symbolic-ref",
    "tag",
    "update-ref",
    "var",
    "worktree",
];

/// The same, less usual.
const HARMLESS_RARE: [&str; 12] = [
    "unpack-file",
    "unpack-objects",
    "update-index",
    "update-server-info",
    "upload-archive",
    "upload-pack",
    "verify-commit",
    "verify-pack",
    "verify-tag",
    "version",
    "whatchanged",
    "write-tree",
];

/// A git command line, taken apart.
pub(crate) struct GitCall<'w> {
    /// `-c name=value`; a name alone has no value.
    pub(crate) settings: Vec<(String, Option<String>)>,
    /// A setting was given whose name or value is not known.
    pub(crate) settings_unclear: bool,
    pub(crate) subcommand: Option<&'w Word>,
    pub(crate) arguments: &'w [Word],
}

impl<'w> GitCall<'w> {
    /// `words` are those after the program.
    pub(crate) fn parse(words: &'w [Word]) -> Self {
        let mut call = Self { settings: Vec::new(), settings_unclear: false, subcommand: None, arguments: &[] };
        let mut position = 0;
        while let Some(word) = words.get(position) {
            position += 1;
            let text = word.text().unwrap_or_default();
            if text == "-c" {
                call.setting(words.get(position));
                position += 1;
            } else if text == "--config-env" || word.prefix().starts_with("--config-env=") {
                call.settings_unclear = true;
                position += usize::from(text == "--config-env");
            } else if VALUE_OPTIONS.contains(&text) {
                position += 1;
            } else if !word.prefix().starts_with('-') {
                call.subcommand = Some(word);
                call.arguments = &words[position..];
                break;
            }
        }
        call
    }

    fn setting(&mut self, word: Option<&Word>) {
        match word.map(Word::text) {
            Some(Some(text)) => {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (text, None),
                };
                self.settings.push((name.to_owned(), value));
            }
            Some(None) => {
                // `-c user.name="$NAME"`: the name is enough for settings that run nothing.
                let prefix = word.map(Word::prefix).unwrap_or_default();
                let harmless =
                    ["user.", "color.", "author.", "committer."].iter().any(|section| prefix.starts_with(section));
                self.settings_unclear |= !(harmless && prefix.contains('='));
            }
            None => {}
        }
    }
}

pub(super) fn effect(program: &str, command: &Command) -> Option<Found> {
    let arguments = command.arguments();
    let first = arguments.first().and_then(Word::text).unwrap_or_default();
    match program {
        "git" => {
            let call = GitCall::parse(arguments);
            call.subcommand.and_then(|subcommand| subcommand_effect(subcommand.text(), call.arguments))
        }
        "hub" | "gh" | "glab" | "tea" => forge_effect(arguments),
        "jj" | "gt" | "arc" | "git-town" | "av" | "spr" => {
            let pushes =
                arguments.iter().any(|word| matches!(word.text(), Some("push" | "submit" | "land" | "ship" | "sync")));
            pushes.then(|| Found::certain(Effect::GitPush))
        }
        "hg" | "bzr" | "fossil" if first == "push" => Some(Found::certain(Effect::GitPush)),
        "svn" if matches!(first, "commit" | "ci") => Some(Found::certain(Effect::GitPush)),
        _ => {
            let subcommand = program.strip_prefix("git-")?;
            subcommand_effect(Some(subcommand), arguments).filter(|found| found.certain)
        }
    }
}

fn subcommand_effect(subcommand: Option<&str>, arguments: &[Word]) -> Option<Found> {
    let has = |wanted: &[&str]| arguments.iter().any(|word| word.text().is_none_or(|text| wanted.contains(&text)));
    match subcommand {
        None => Some(Found::possible(Effect::GitPush)),
        Some("push" | "send-pack" | "http-push" | "cvsexportcommit") => Some(Found::certain(Effect::GitPush)),
        Some("svn") => has(&["dcommit", "commit-diff", "branch", "tag"]).then(|| Found::certain(Effect::GitPush)),
        Some("p4") => has(&["submit"]).then(|| Found::certain(Effect::GitPush)),
        Some("subtree" | "lfs" | "subrepo") => has(&["push"]).then(|| Found::certain(Effect::GitPush)),
        Some("annex") => has(&["sync", "push", "assist", "copy", "move"]).then(|| Found::certain(Effect::GitPush)),
        Some(known) if HARMLESS.contains(&known) || HARMLESS_RARE.contains(&known) => None,
        // It may be an alias, or a program on the path.
        Some(_) => Some(Found::possible(Effect::GitPush)),
    }
}

/// `gh pr create` and the like push, or change the repository on the forge.
fn forge_effect(arguments: &[Word]) -> Option<Found> {
    let operands = super::operands(arguments, &["-R", "--repo", "--hostname"]);
    let noun = operands.first().copied().and_then(Word::text);
    let verb = operands.get(1).copied().and_then(Word::text);
    let writes = |verb: &str| {
        [
            "create",
            "merge",
            "edit",
            "close",
            "reopen",
            "delete",
            "sync",
            "rename",
            "archive",
            "fork",
            "update-branch",
            "revert",
        ]
        .contains(&verb)
    };
    match (noun, verb) {
        (None, _) if !operands.is_empty() => Some(Found::possible(Effect::GitPush)),
        (Some("push" | "pull-request" | "sync"), _) => Some(Found::certain(Effect::GitPush)),
        (Some("pr" | "mr" | "repo"), Some(verb)) if writes(verb) => Some(Found::certain(Effect::GitPush)),
        (Some("pr" | "mr" | "repo"), None) if operands.len() > 1 => Some(Found::possible(Effect::GitPush)),
        (Some("api"), _) => {
            let reads = !arguments.iter().any(|word| {
                let text = word.display();
                text.starts_with("-X")
                    || text.starts_with("--method")
                    || text.starts_with("-f")
                    || text.starts_with("-F")
                    || text.starts_with("--input")
                    || text.starts_with("--field")
                    || text.starts_with("--raw-field")
            });
            (!reads).then(|| Found::possible(Effect::GitPush))
        }
        _ => None,
    }
}
