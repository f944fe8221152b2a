//! Commands inside the options of programs that are no launchers: git's configuration, `tar --to-command`, editors.

use super::Input;
use super::walk::{Outcome, Source, Walker};
use super::word::Word;
use crate::effects::git::GitCall;

/// Programs with options whose value is a command.
const COMMAND_OPTIONS: [(&str, &[&str]); 8] = [
    (
        "tar",
        &[
            "--to-command",
            "--use-compress-program",
            "-I",
            "--rsh-command",
            "--info-script",
            "--new-volume-script",
            "-F",
        ],
    ),
    ("rsync", &["-e", "--rsh", "--rsync-path"]),
    ("scp", &["-S"]),
    ("zip", &["-TT", "--unzip-command"]),
    ("man", &["-P", "--pager"]),
    ("sort", &["--compress-program"]),
    ("split", &["--filter"]),
    ("ncat", &["-e", "-c", "--exec", "--sh-exec"]),
];

/// Programs whose commands can run others by `!` or in words of their own.
const EDITORS: [&str; 14] =
    ["vi", "vim", "nvim", "ex", "view", "ed", "red", "emacs", "gdb", "lldb", "less", "expect", "socat", "nc"];

/// Git settings whose value is a command.
const GIT_COMMAND_SETTINGS: [&str; 16] = [
    "core.askpass",
    "core.editor",
    "core.fsmonitor",
    "core.gitproxy",
    "core.hookspath",
    "core.pager",
    "core.sshcommand",
    "credential.helper",
    "diff.external",
    "gpg.program",
    "interactive.difffilter",
    "sequence.editor",
    "uploadpack.packobjectshook",
    "man.viewer",
    "web.browser",
    "init.templatedir",
];

impl Walker<'_, '_> {
    /// Options of any program whose value is a command.
    pub(super) fn command_options(&mut self, name: &str, words: &[Word]) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some((_, options)) = COMMAND_OPTIONS.iter().find(|(program, _)| *program == name) {
            for script in option_values(&words[1..], options) {
                let part = self.embedded(name, &script);
                outcome.commands.extend(part.commands);
            }
        }
        let checkpoint =
            words.iter().filter_map(Word::text).find_map(|text| text.strip_prefix("--checkpoint-action=exec="));
        if let Some(script) = checkpoint.map(Word::literal) {
            let part = self.embedded(name, &script);
            outcome.commands.extend(part.commands);
        }
        let asks_only = words.iter().skip(1).any(|word| matches!(word.text(), Some("--version" | "--help")));
        let runs = |word: &Word| {
            let text = word.display().to_ascii_lowercase();
            word.text().is_none()
                || ["!", "exec", "shell", "system", "-e", "--eval", "-c", "spawn"]
                    .iter()
                    .any(|mark| text.contains(mark))
        };
        if EDITORS.contains(&name) && !asks_only && words.iter().skip(1).any(runs) {
            self.findings.problem(format!("`{name}` can run commands by what it is given"));
        }
        outcome
    }

    fn embedded(&mut self, name: &str, script: &Word) -> Outcome {
        match script.text() {
            Some(script) => self.run_script(script, &Source { input: Input::Unknown, feeds: Vec::new() }),
            None => {
                self.findings.problem(format!("the command given to `{name}` is only known when it runs"));
                Outcome::default()
            }
        }
    }

    /// Git runs commands out of its settings, its aliases and some options.
    pub(super) fn git(&mut self, id: usize, words: &[Word], input: &Source) -> Outcome {
        let call = GitCall::parse(&words[1..]);
        let mut outcome = Outcome::default();
        for (setting, value) in &call.settings {
            let part = self.git_setting(setting, value.as_deref().map(Word::literal));
            outcome.commands.extend(part.commands);
        }
        if call.settings_unclear {
            self.findings.problem("a setting given to git is only known when it runs".to_owned());
        }
        let Some(subcommand) = call.subcommand.and_then(Word::text) else { return outcome };
        if let Some(alias) = self.findings.git_aliases.remove(subcommand) {
            self.findings.script.commands[id].replaced = true;
            let part = self.git_alias(&alias, call.arguments, input);
            outcome.commands.extend(part.commands);
            self.findings.git_aliases.insert(subcommand.to_owned(), alias);
            return outcome;
        }
        let part = self.git_subcommand(subcommand, call.arguments, input);
        outcome.commands.extend(part.commands);
        outcome
    }

    fn git_setting(&mut self, setting: &str, value: Option<Word>) -> Outcome {
        let key = setting.to_ascii_lowercase();
        let value = value.unwrap_or_default();
        if let Some(alias) = key.strip_prefix("alias.") {
            return match value.text() {
                Some(text) => {
                    self.findings.git_aliases.insert(alias.to_owned(), text.to_owned());
                    self.git_alias(text, &[], &Source::default())
                }
                None => {
                    self.findings.problem(format!("the git alias `{alias}` is only known when it runs"));
                    Outcome::default()
                }
            };
        }
        let is_pathlike = matches!(key.as_str(), "core.hookspath" | "init.templatedir");
        let in_section =
            |section: &str, ends: &[&str]| key.starts_with(section) && ends.iter().any(|end| key.ends_with(end));
        let is_command = GIT_COMMAND_SETTINGS.contains(&key.as_str())
            || in_section("diff.", &[".textconv", ".command"])
            || in_section("filter.", &[".clean", ".smudge", ".process"])
            || in_section("merge.", &[".driver"])
            || in_section("difftool.", &[".cmd"])
            || in_section("mergetool.", &[".cmd"])
            || in_section("credential.", &[".helper"])
            || in_section("pager.", &[""])
            || in_section("remote.", &[".uploadpack", ".receivepack"])
            || in_section("gpg.", &[".program"])
            || in_section("trailer.", &[".cmd", ".command"]);
        match value.text() {
            _ if is_pathlike && value.text() != Some("/dev/null") => {
                self.findings.problem(format!("the git setting `{setting}` makes git run programs"));
                Outcome::default()
            }
            Some("" | "true" | "false" | "cat") => Outcome::default(),
            _ if is_command => self.embedded("git", &value),
            _ => Outcome::default(),
        }
    }

    fn git_alias(&mut self, alias: &str, arguments: &[Word], input: &Source) -> Outcome {
        if let Some(script) = alias.strip_prefix('!') {
            let arguments: Vec<String> = arguments.iter().map(Word::display).collect();
            return self.run_script(&format!("{script} {}", arguments.join(" ")), input);
        }
        let words = ["git"].into_iter().chain(alias.split_whitespace()).map(Word::literal);
        self.run(words.chain(arguments.iter().cloned()).collect(), input, &[])
    }

    fn git_subcommand(&mut self, subcommand: &str, arguments: &[Word], input: &Source) -> Outcome {
        let options: &[&str] = match subcommand {
            "rebase" => &["-x", "--exec"],
            "clone" | "fetch" | "pull" | "ls-remote" => &["-u", "--upload-pack"],
            "push" | "send-pack" => &["--receive-pack", "--exec"],
            "archive" => &["--exec"],
            "difftool" => &["-x", "--extcmd"],
            "grep" => &["-O", "--open-files-in-pager"],
            "filter-branch" => &[
                "--env-filter",
                "--tree-filter",
                "--index-filter",
                "--parent-filter",
                "--msg-filter",
                "--commit-filter",
                "--tag-name-filter",
                "--setup",
            ],
            _ => &[],
        };
        let mut outcome = Outcome::default();
        for script in option_values(arguments, options) {
            let part = self.embedded("git", &script);
            outcome.commands.extend(part.commands);
        }
        let first = arguments.first().and_then(Word::text);
        let rest = arguments.get(1..).unwrap_or_default();
        let part = match (subcommand, first) {
            ("bisect", Some("run")) => self.run(rest.to_vec(), input, &[]),
            ("submodule", _) => match arguments.iter().position(|word| word.text() == Some("foreach")) {
                Some(at) => {
                    let command = arguments[at + 1..].iter().filter(|word| word.text() != Some("--recursive")).cloned();
                    self.joined_script(&command.collect::<Vec<_>>(), input)
                }
                None => Outcome::default(),
            },
            ("config", _) => self.git_config(arguments),
            ("clone" | "fetch" | "pull" | "remote" | "ls-remote" | "push", _) => {
                let runs = arguments.iter().any(|word| word.prefix().starts_with("ext::"));
                if runs {
                    self.findings.problem("an `ext::` address makes git run a command".to_owned());
                }
                Outcome::default()
            }
            _ => Outcome::default(),
        };
        outcome.commands.extend(part.commands);
        outcome
    }

    fn git_config(&mut self, arguments: &[Word]) -> Outcome {
        let operands: Vec<&Word> = arguments.iter().filter(|word| !word.prefix().starts_with('-')).collect();
        let operands = match operands.as_slice() {
            [first, rest @ ..] if matches!(first.text(), Some("set")) => rest,
            other => other,
        };
        match operands {
            [name, value, ..] => match name.text() {
                Some(setting) => self.git_setting(setting, Some((*value).clone())),
                None => {
                    self.findings.problem("a git setting is only known when it runs".to_owned());
                    Outcome::default()
                }
            },
            _ => Outcome::default(),
        }
    }
}

/// Values of the options: `--option value`, `--option=value`, `-xvalue`.
fn option_values(words: &[Word], options: &[&str]) -> Vec<Word> {
    let mut values = Vec::new();
    for (position, word) in words.iter().enumerate() {
        for option in options {
            if word.text() == Some(option) {
                values.extend(words.get(position + 1).cloned());
            } else if let Some(attached) = word.prefix().strip_prefix(option) {
                let attached = match attached.strip_prefix('=') {
                    Some(value) => Some(value),
                    None if option.len() == 2 => Some(attached),
                    None => None,
                };
                if let Some(value) = attached.filter(|_| word.prefix() != *option) {
                    values.push(if word.text().is_some() { Word::literal(value) } else { Word::unknown() });
                }
            }
        }
    }
    values
}
