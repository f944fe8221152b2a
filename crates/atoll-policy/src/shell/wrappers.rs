//! Commands that run other commands, and builtins that change what is known.

use super::environment::MadeFile;
use super::walk::{Outcome, Source, Walker};
use super::word::{Piece, Word};
use super::{Input, program_name};

/// How a program that starts another one is written.
struct Launcher {
    name: &'static str,
    /// Short options that take a value.
    short_values: &'static str,
    /// Long options that take a value, without dashes.
    long_values: &'static [&'static str],
    /// Operands before the command.
    operands: usize,
    /// `NAME=value` words may come before the command.
    assignments: bool,
}

const fn launcher(name: &'static str, short_values: &'static str, long_values: &'static [&'static str]) -> Launcher {
    Launcher { name, short_values, long_values, operands: 0, assignments: false }
}

/// Programs whose options are known.
const LAUNCHERS: [Launcher; 34] = [
    Launcher { assignments: true, ..launcher("sudo", "ugpCrtThDUR", &SUDO_OPTIONS) },
    Launcher { assignments: true, ..launcher("env", "uC", &["unset", "chdir", "argv0"]) },
    Launcher { operands: 1, ..launcher("timeout", "ks", &["kill-after", "signal"]) },
    Launcher { operands: 1, ..launcher("gtimeout", "ks", &["kill-after", "signal"]) },
    Launcher { operands: 1, ..launcher("chroot", "", &["userspec", "groups"]) },
    Launcher { operands: 1, ..launcher("chrt", "TPD", &["sched-runtime", "sched-period", "sched-deadline"]) },
    Launcher { operands: 1, ..launcher("taskset", "", &[]) },
    Launcher { operands: 1, ..launcher("setarch", "", &[]) },
    Launcher { operands: 1, ..launcher("flock", "wE", &["timeout", "wait", "conflict-exit-code"]) },
    Launcher { operands: 1, ..launcher("ssh", "BbcDEeFIiJLlmOopPQRSWw", &[]) },
    launcher("doas", "uC", &[]),
    launcher("nice", "n", &["adjustment"]),
    launcher("ionice", "cn", &["class", "classdata"]),
    launcher("nohup", "", &[]),
    launcher("setsid", "", &[]),
    launcher("time", "fo", &["format", "output"]),
    launcher("stdbuf", "ioe", &["input", "output", "error"]),
    launcher("command", "", &[]),
    launcher("builtin", "", &[]),
    launcher("exec", "a", &[]),
    launcher("noglob", "", &[]),
    launcher("fakeroot", "lbsi", &["lib", "faked", "save-file", "load-file"]),
    launcher("unbuffer", "", &[]),
    launcher("xvfb-run", "nfewps", &["server-num", "auth-file", "error-file", "wait", "xauth-protocol", "server-args"]),
    launcher("catchsegv", "", &[]),
    launcher("chronic", "", &[]),
    launcher("eatmydata", "", &[]),
    launcher("pkexec", "", &["user"]),
    launcher("dbus-run-session", "", &["config-file", "dbus-daemon"]),
    launcher("busybox", "", &[]),
    launcher("toybox", "", &[]),
    launcher("{", "", &[]),
    launcher("!", "", &[]),
    launcher("ltrace", "aAeFlnopsuxDw", &["output", "config", "library"]),
];

const SUDO_OPTIONS: [&str; 11] = [
    "user",
    "group",
    "prompt",
    "close-from",
    "role",
    "type",
    "command-timeout",
    "host",
    "chdir",
    "chroot",
    "other-user",
];

/// Programs that start another one somewhere after their own options, which are not known in detail: every place
/// where the command could begin is followed.
const LOOSE_LAUNCHERS: [&str; 22] = [
    "bwrap",
    "cgexec",
    "conda",
    "direnv",
    "entr",
    "firejail",
    "flatpak-spawn",
    "hyperfine",
    "mise",
    "npx",
    "nsenter",
    "numactl",
    "parallel",
    "prlimit",
    "proot",
    "proxychains",
    "proxychains4",
    "runuser",
    "setpriv",
    "strace",
    "systemd-run",
    "unshare",
];

/// The same, where the command comes after words that are no options.
const EVERYWHERE: [&str; 11] =
    ["coproc", "docker", "lxc", "machinectl", "nerdctl", "podman", "runcon", "screen", "tmux", "vagrant", "watch"];

/// The same, where it takes a subcommand: program and subcommand.
const LOOSE_SUBCOMMANDS: [(&str, &str); 14] = [
    ("bundle", "exec"),
    ("hatch", "run"),
    ("nix", "develop"),
    ("nix", "run"),
    ("nix", "shell"),
    ("npm", "exec"),
    ("pdm", "run"),
    ("pipenv", "run"),
    ("pnpm", "exec"),
    ("poetry", "run"),
    ("rustup", "run"),
    ("rye", "run"),
    ("uv", "run"),
    ("yarn", "exec"),
];

impl Walker<'_, '_> {
    /// What a command does beyond being itself: the commands it runs, the state it changes, what it writes.
    pub(super) fn follow(&mut self, id: usize, words: &[Word], input: &Source) -> Outcome {
        let Some(name) = program_name(words) else { return Outcome::default() };
        if name.contains(char::is_whitespace) {
            // `sudo -s 'git push'` and the like: a whole command in one word.
            return self.joined_script(words, input);
        }
        if let Some(alias) = self.environment.aliases.remove(name) {
            self.findings.script.commands[id].replaced = true;
            let outcome = self.alias(&alias, &words[1..], input);
            self.environment.aliases.insert(name.to_owned(), alias);
            return outcome;
        }
        if let Some(launcher) = LAUNCHERS.iter().find(|launcher| launcher.name == name) {
            return self.launch(launcher, words, input);
        }
        let second = words.get(1).and_then(Word::text).unwrap_or_default();
        if LOOSE_LAUNCHERS.contains(&name) {
            return self.guess(&words[1..], false, input);
        }
        if EVERYWHERE.contains(&name) {
            return self.guess(&words[1..], true, input);
        }
        if LOOSE_SUBCOMMANDS.contains(&(name, second)) {
            return self.guess(&words[2..], false, input);
        }
        match name {
            "xargs" => self.xargs(words, input),
            "find" => self.find(words, input),
            "su" | "script" | "nix-shell" | "at" | "batch" | "crontab" => self.script_option(name, words, input),
            "git" => self.git(id, words, input),
            _ => self.builtin(id, name, words, input).unwrap_or_else(|| self.interpreter(id, name, words, input)),
        }
    }

    fn builtin(&mut self, id: usize, name: &str, words: &[Word], input: &Source) -> Option<Outcome> {
        let arguments = &words[1..];
        match name {
            "eval" => return Some(self.eval(arguments, input)),
            "trap" => return Some(self.trap(arguments)),
            "alias" => return Some(self.define_aliases(arguments)),
            "cd" | "pushd" => {
                let target = arguments.iter().find(|word| !word.prefix().starts_with('-'));
                let target = target.and_then(Word::text).map(str::to_owned);
                self.environment.change_directory(target.as_deref());
            }
            "popd" => self.environment.change_directory(None),
            "read" | "mapfile" | "readarray" | "getopts" | "let" | "unset" | "printf" => {
                self.forget_arguments(name, arguments)
            }
            "source" | "." => {
                let outcome = self.file(id, arguments, input);
                self.environment.forget_everything();
                return Some(outcome);
            }
            "hash" if arguments.iter().any(|word| word.prefix().starts_with("-p")) => {
                self.findings.problem("`hash -p` gives a program another name".to_owned());
            }
            "enable" if arguments.iter().any(|word| word.prefix().starts_with("-f")) => {
                self.findings.problem("`enable -f` loads code into the shell".to_owned());
            }
            "export" | "declare" | "typeset" | "local" | "readonly" => self.environment.forget_everything(),
            _ => {}
        }
        let output = match name {
            "echo" => Some(echo(arguments)),
            "printf" => Some(printf(arguments)),
            "pwd" if arguments.is_empty() => Some(match self.environment.directories.as_slice() {
                [directory] => Some(directory.clone()),
                _ => None,
            }),
            "true" | ":" | "cd" => Some(Some(String::new())),
            "cat" => Some(self.cat(arguments, input)),
            "tee" => {
                self.tee(id, arguments, input);
                Some(match &input.input {
                    Input::Known(text) => Some(text.clone()),
                    _ => None,
                })
            }
            _ => None,
        };
        output.map(|output| Outcome { commands: Vec::new(), output })
    }

    fn forget_arguments(&mut self, name: &str, arguments: &[Word]) {
        if name == "printf" && arguments.first().is_none_or(|word| word.text() != Some("-v")) {
            return;
        }
        for word in arguments {
            match word.text() {
                Some(text) => {
                    let end = text.find(['=', '[', '+', '-', '*']).unwrap_or(text.len());
                    self.environment.forget(&text[..end]);
                }
                None => self.environment.forget_everything(),
            }
        }
    }

    fn launch(&mut self, launcher: &Launcher, words: &[Word], input: &Source) -> Outcome {
        let special = match launcher.name {
            "env" => self.env_split(words, input),
            "flock" => self.flock_script(words, input),
            _ => None,
        };
        if let Some(outcome) = special {
            return outcome;
        }
        let mut position = 1;
        let mut operands = launcher.operands;
        while let Some(word) = words.get(position) {
            let Some(text) = word.text() else { break };
            if text == "--" {
                position += 1;
                break;
            } else if text == "-" && launcher.name == "env" {
                position += 1;
            } else if text.len() > 1 && text.starts_with('-') {
                position += 1 + usize::from(takes_next(text, launcher));
            } else if launcher.assignments && is_assignment(text) {
                let (name, value) = text.split_once('=').expect("an assignment has one");
                self.command_variable(name, &Word::literal(value));
                position += 1;
            } else if operands > 0 {
                operands -= 1;
                position += 1;
            } else {
                break;
            }
        }
        let asks_only = launcher.name == "command"
            && words[1..position.min(words.len())].iter().any(|word| matches!(word.text(), Some("-v" | "-V")));
        if asks_only || position >= words.len() {
            return Outcome { commands: Vec::new(), output: None };
        }
        if launcher.name == "ssh" {
            return self.joined_script(&words[position..], input);
        }
        self.run(words[position..].to_vec(), input, &[])
    }

    /// `flock FILE -c 'script'`.
    fn flock_script(&mut self, words: &[Word], input: &Source) -> Option<Outcome> {
        let at = words.iter().position(|word| matches!(word.text(), Some("-c" | "--command")))?;
        Some(self.joined_script(words.get(at + 1..).unwrap_or_default(), input))
    }

    /// `env -S 'command line'`.
    fn env_split(&mut self, words: &[Word], input: &Source) -> Option<Outcome> {
        let is_split = |word: &Word| word.prefix().starts_with("-S") || word.prefix().starts_with("--split-string");
        let position = words.iter().position(is_split)?;
        let text = words[position].text().map(|text| {
            let attached = text.trim_start_matches("--split-string").trim_start_matches("-S").trim_start_matches('=');
            attached.to_owned()
        });
        let rest = if text.as_deref() == Some("") { &words[position + 1..] } else { &words[position..] };
        let mut line: Vec<Word> = rest.to_vec();
        if let (Some(text), Some(first)) = (text.filter(|text| !text.is_empty()), line.first_mut()) {
            *first = Word::literal(&text);
        }
        Some(self.joined_script(&line, input))
    }

    /// Words that a shell joins and reads as a script.
    pub(super) fn joined_script(&mut self, words: &[Word], input: &Source) -> Outcome {
        match join(words) {
            Some(script) => self.run_script(&script, input),
            None => {
                let shown: Vec<String> = words.iter().map(Word::display).collect();
                self.findings.problem(format!("the command `{}` is only known when it runs", shown.join(" ")));
                Outcome::default()
            }
        }
    }

    fn eval(&mut self, arguments: &[Word], input: &Source) -> Outcome {
        match join(arguments) {
            Some(script) => self.run_here(&script, input),
            None => {
                self.findings.problem("what `eval` runs is only known when it runs".to_owned());
                self.environment.forget_everything();
                Outcome::default()
            }
        }
    }

    fn trap(&mut self, arguments: &[Word]) -> Outcome {
        let Some(first) = arguments.iter().find(|word| !matches!(word.text(), Some("--" | "-p" | "-l"))) else {
            return Outcome::default();
        };
        match first.text() {
            Some("-" | "") => Outcome::default(),
            Some(script) if arguments.len() > 1 => self.run_script(script, &Source::default()),
            Some(_) => Outcome::default(),
            None => {
                self.findings.problem("what `trap` runs is only known when it runs".to_owned());
                Outcome::default()
            }
        }
    }

    fn define_aliases(&mut self, arguments: &[Word]) -> Outcome {
        let mut outcome = Outcome::default();
        for word in arguments {
            match word.text().map(|text| text.split_once('=')) {
                Some(Some((name, script))) => {
                    self.environment.aliases.insert(name.to_owned(), script.to_owned());
                    let part = self.run_script(script, &Source { input: Input::Unknown, feeds: Vec::new() });
                    outcome.commands.extend(part.commands);
                }
                Some(None) => {}
                None => self.findings.problem("an alias is defined that is only known when it runs".to_owned()),
            }
        }
        outcome
    }

    fn alias(&mut self, alias: &str, arguments: &[Word], input: &Source) -> Outcome {
        let plain = alias.chars().all(|character| character.is_alphanumeric() || " -_./=:".contains(character));
        if !plain {
            return self.run_here(alias, input);
        }
        let words = alias.split_whitespace().map(Word::literal).chain(arguments.iter().cloned());
        self.run(words.collect(), input, &[])
    }

    /// Follows every place among the words where a command may begin: the first word that is no option, and those
    /// after it while they may be values of options. `everywhere` follows every word.
    fn guess(&mut self, words: &[Word], everywhere: bool, input: &Source) -> Outcome {
        let guessing = std::mem::replace(&mut self.findings.guessing, true);
        let is_option = |word: &Word| word.prefix().starts_with('-');
        let mut outcome = Outcome::default();
        for (position, word) in words.iter().enumerate().filter(|(_, word)| !is_option(word)) {
            if word.text().is_some() {
                let part = self.run(words[position..].to_vec(), input, &[]);
                outcome.commands.extend(part.commands);
            }
            let may_be_value = position > 0 && is_option(&words[position - 1]);
            if !may_be_value && !everywhere {
                break;
            }
        }
        self.findings.guessing = guessing;
        outcome
    }

    fn xargs(&mut self, words: &[Word], input: &Source) -> Outcome {
        const SHORT_VALUES: &str = "adEILnPs";
        const LONG_VALUES: [&str; 7] =
            ["arg-file", "delimiter", "max-lines", "max-args", "max-procs", "max-chars", "eof"];
        let mut position = 1;
        let mut placeholder = None;
        while let Some(text) = words.get(position).and_then(Word::text).filter(|text| text.starts_with('-')) {
            position += 1;
            if text == "--" {
                break;
            }
            if let Some(long) = text.strip_prefix("--") {
                match long.split_once('=') {
                    Some(("replace", value)) => placeholder = Some(value.to_owned()),
                    None if long == "replace" => placeholder = Some("{}".to_owned()),
                    None if LONG_VALUES.contains(&long) => position += 1,
                    _ => {}
                }
                continue;
            }
            let letters = &text[1..];
            let Some(at) = letters.find(|letter| SHORT_VALUES.contains(letter) || letter == 'i') else { continue };
            let attached = &letters[at + 1..];
            match (&letters[at..=at], attached) {
                ("I", "") => {
                    placeholder = words.get(position).and_then(Word::text).map(str::to_owned);
                    position += 1;
                }
                ("I", value) => placeholder = Some(value.to_owned()),
                ("i", value) => placeholder = Some(if value.is_empty() { "{}" } else { value }.to_owned()),
                (_, "") => position += 1,
                _ => {}
            }
        }
        let item = self.listed_item(input);
        let mut command = words.get(position..).unwrap_or_default().to_vec();
        if command.is_empty() {
            return Outcome::default();
        }
        match placeholder {
            Some(mark) => command = command.iter().map(|word| replace(word, &mark, &item)).collect(),
            None if item.may_split() => command.push(item),
            None => command.extend([item.clone(), item]),
        }
        // The command's own standard input is empty; it is `xargs` that reads.
        let nothing = Source { input: Input::Nothing, feeds: input.feeds.clone() };
        self.run(command, &nothing, &[])
    }

    /// What one line that a command lists looks like: `find dir` lists names that begin with `dir`.
    fn listed_item(&self, input: &Source) -> Word {
        let lister = input.feeds.last().map(|feeder| &self.findings.script.commands[*feeder]);
        match lister {
            Some(command) if command.program() == Some("find") && input.feeds.len() == 1 => {
                found_path(command.arguments())
            }
            _ => Word::unknown_words(),
        }
    }

    fn find(&mut self, words: &[Word], input: &Source) -> Outcome {
        let mut outcome = Outcome::default();
        let path = found_path(&words[1..]);
        let mut position = 1;
        while position < words.len() {
            let is_exec = matches!(words[position].text(), Some("-exec" | "-execdir" | "-ok" | "-okdir"));
            position += 1;
            if !is_exec {
                continue;
            }
            let rest = &words[position..];
            let ends = |at: usize| match rest[at].text() {
                Some(";") => true,
                Some("+") => at > 0 && rest[at - 1].text() == Some("{}"),
                _ => false,
            };
            let length = (0..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len());
            let command = rest[..length].iter().map(|word| replace(word, "{}", &path)).collect();
            let nothing = Source { input: Input::Nothing, feeds: input.feeds.clone() };
            let part = self.run(command, &nothing, &[]);
            outcome.commands.extend(part.commands);
            position += length;
        }
        outcome
    }

    /// Programs that take a script after an option, or on standard input.
    fn script_option(&mut self, name: &str, words: &[Word], input: &Source) -> Outcome {
        let takes_script = |word: &Word| match word.text() {
            Some("--command" | "--run") => true,
            Some(text) => text.starts_with('-') && !text.starts_with("--") && text.ends_with('c'),
            None => false,
        };
        match words.iter().position(takes_script) {
            Some(at) if name != "crontab" => {
                let script = words.get(at + 1).cloned().unwrap_or_else(Word::unknown);
                return self.joined_script(&[script], input);
            }
            _ => {}
        }
        let lists_only = words.get(1).is_some_and(|word| matches!(word.text(), Some("-l" | "-r")));
        match (name, &input.input) {
            ("at" | "batch", Input::Known(script)) => self.run_script(&script.clone(), &Source::default()),
            ("at" | "batch", Input::Unknown) | ("crontab", _) if !lists_only => {
                self.findings.problem(format!("`{name}` runs commands that cannot be read"));
                Outcome::default()
            }
            _ => Outcome::default(),
        }
    }

    fn cat(&self, arguments: &[Word], input: &Source) -> Option<String> {
        if arguments.is_empty() || matches!(arguments, [only] if only.text() == Some("-")) {
            return match &input.input {
                Input::Known(text) => Some(text.clone()),
                Input::Nothing => Some(String::new()),
                Input::Unknown => None,
            };
        }
        let [file] = arguments else { return None };
        let path = self.environment.path(file)?;
        self.findings.files.get(&path)?.content.clone()
    }

    fn tee(&mut self, id: usize, arguments: &[Word], input: &Source) {
        let mut content = match &input.input {
            Input::Known(text) => Some(text.clone()),
            _ => None,
        };
        if arguments.iter().any(|word| matches!(word.text(), Some("-a" | "--append"))) {
            content = None;
        }
        for word in arguments.iter().filter(|word| !word.prefix().starts_with('-')) {
            if let Some(path) = self.environment.path(word) {
                let content = content.clone().filter(|_| !self.findings.files.contains_key(&path));
                self.made_file(path, MadeFile { content, makers: vec![id], by_redirection: true });
            }
        }
    }
}

fn takes_next(option: &str, launcher: &Launcher) -> bool {
    match option.strip_prefix("--") {
        Some(long) => launcher.long_values.contains(&long),
        None => {
            let at = option[1..].find(|letter| launcher.short_values.contains(letter));
            at.is_some_and(|at| at + 2 == option.len())
        }
    }
}

fn is_assignment(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|character| character == '_' || character.is_ascii_alphanumeric())
    };
    text.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Words as one text, if all are known.
fn join(words: &[Word]) -> Option<String> {
    let texts: Option<Vec<&str>> = words.iter().map(Word::text).collect();
    texts.map(|texts| texts.join(" "))
}

/// A path as `find` prints it: one of its starting points and whatever lies below.
fn found_path(arguments: &[Word]) -> Word {
    let is_start = |word: &&Word| !word.prefix().starts_with(['-', '(', '!']);
    let skip = arguments.iter().take_while(|word| matches!(word.text(), Some("-H" | "-L" | "-P"))).count();
    let starts: Vec<&Word> = arguments[skip..].iter().take_while(is_start).collect();
    match starts.as_slice() {
        [] => Word::literal(".").followed_by(&Word::unknown()),
        [start] if !start.may_split() => (*start).clone().followed_by(&Word::unknown()),
        starts if starts.iter().all(|start| !start.prefix().is_empty()) && starts[0].prefix().starts_with('.') => {
            Word::literal(".").followed_by(&Word::unknown())
        }
        _ => Word::unknown_words(),
    }
}

/// The word with every `mark` in it replaced.
fn replace(word: &Word, mark: &str, by: &Word) -> Word {
    if mark.is_empty() {
        return word.clone();
    }
    let mut replaced = Word::default();
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => {
                for (position, part) in text.split(mark).enumerate() {
                    if position > 0 {
                        replaced = replaced.followed_by(by);
                    }
                    replaced.push(Piece::Text(part.to_owned()));
                }
            }
            other => replaced.push(other.clone()),
        }
    }
    replaced
}

fn echo(arguments: &[Word]) -> Option<String> {
    let is_option = |word: &&Word| {
        word.text()
            .is_some_and(|text| text.len() > 1 && text.starts_with('-') && text[1..].chars().all(|c| "neE".contains(c)))
    };
    let options: String = arguments.iter().take_while(is_option).filter_map(Word::text).collect();
    let text = join(&arguments[arguments.iter().take_while(is_option).count()..])?;
    if text.contains('\\') {
        return None;
    }
    Some(if options.contains('n') { text } else { format!("{text}\n") })
}

fn printf(arguments: &[Word]) -> Option<String> {
    let texts: Vec<&str> = arguments.iter().map(Word::text).collect::<Option<_>>()?;
    let (format, values) = texts.split_first()?;
    let format = format.replace("\\n", "\n");
    if format.contains('\\') || *texts.first()? == "-v" {
        return None;
    }
    let parts: Vec<&str> = format.split("%s").collect();
    if parts.iter().any(|part| part.contains('%')) {
        return None;
    }
    match (parts.as_slice(), values) {
        ([whole], []) => Some((*whole).to_owned()),
        ([before, after], values) if !values.is_empty() => {
            Some(values.iter().map(|value| format!("{before}{value}{after}")).collect())
        }
        _ => None,
    }
}
