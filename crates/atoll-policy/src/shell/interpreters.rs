//! Shells and other languages: what is said of the code they are given.

use super::Input;
use super::environment::MadeFile;
use super::walk::{Outcome, Source, Walker};
use super::word::Word;

/// Shells of the Bourne family, whose scripts are read.
const SHELLS: [&str; 9] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "rbash", "bash5"];
/// Shells with a language of their own.
const FOREIGN_SHELLS: [&str; 7] = ["fish", "csh", "tcsh", "nu", "xonsh", "pwsh", "elvish"];

/// Whether scripts given to this program are shell scripts.
pub(crate) fn is_shell(program: &str) -> bool {
    SHELLS.contains(&program) || FOREIGN_SHELLS.contains(&program)
}

/// A programming language that takes code on its command line.
struct Language {
    programs: &'static [&'static str],
    /// Options whose value is code; a single letter may also end a group of short options.
    code_options: &'static [&'static str],
    /// The code is the first operand where no option gives it.
    code_operand: bool,
    /// The code is read from standard input where there is no operand.
    code_stdin: bool,
    /// What starts other programs, or code that is not there to be read.
    markers: &'static [&'static str],
}

const LANGUAGES: [Language; 6] = [
    Language {
        programs: &["python", "python2", "python3", "pypy", "pypy3", "ipython"],
        code_options: &["-c"],
        code_operand: false,
        code_stdin: true,
        markers: &[
            "subprocess",
            "os.system",
            "popen",
            "os.exec",
            "os.spawn",
            "posix_spawn",
            "pty.spawn",
            "exec(",
            "eval(",
            "__import__",
            "importlib",
            "b64decode",
            "getattr(os",
            "urlopen",
            "asyncio.create_sub",
            "socket",
            "commands.get",
            "ctypes",
        ],
    },
    Language {
        programs: &["perl"],
        code_options: &["-e", "-E"],
        code_operand: false,
        code_stdin: true,
        markers: &["system", "exec", "`", "qx", "open(", "open ", "eval", "socket", "fork", "IO::"],
    },
    Language {
        programs: &["ruby", "irb"],
        code_options: &["-e"],
        code_operand: false,
        code_stdin: true,
        markers: &["system", "exec", "`", "%x", "spawn", "popen", "open3", "eval", "fork", "open("],
    },
    Language {
        programs: &["node", "nodejs", "bun", "deno", "php", "lua", "luajit", "tclsh", "osascript", "Rscript", "guile"],
        code_options: &["-e", "--eval", "-p", "--print", "-r", "-pe"],
        code_operand: false,
        code_stdin: true,
        markers: &[
            "child_process",
            "exec",
            "spawn",
            "system",
            "popen",
            "eval",
            "`",
            "Function(",
            "fetch(",
            "passthru",
            "execute",
        ],
    },
    Language {
        programs: &["awk", "gawk", "mawk", "nawk"],
        code_options: &["-e", "--source"],
        code_operand: true,
        code_stdin: false,
        markers: &["system(", "system (", "| getline", "|getline", "| \"", "|\"", "|&", "\" |", "\"|"],
    },
    Language {
        programs: &["sed", "gsed"],
        code_options: &["-e", "--expression"],
        code_operand: true,
        code_stdin: false,
        markers: &[],
    },
];

impl Walker<'_, '_> {
    /// A program that may be given code.
    pub(super) fn interpreter(&mut self, id: usize, name: &str, words: &[Word], input: &Source) -> Outcome {
        if SHELLS.contains(&name) {
            return self.shell(id, name, words, input);
        }
        if FOREIGN_SHELLS.contains(&name) {
            return self.foreign_shell(id, name, words, input);
        }
        let base = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
        let fits = |language: &&Language| language.programs.contains(&name) || language.programs.contains(&base);
        if let Some(language) = LANGUAGES.iter().find(fits) {
            return self.language(id, language, name, words, input);
        }
        let outcome = self.command_options(name, words);
        self.downloaded_files(id, name, words);
        self.made_program(id, words, input);
        outcome
    }

    fn shell(&mut self, id: usize, name: &str, words: &[Word], input: &Source) -> Outcome {
        let mut takes_script = false;
        let mut takes_stdin = false;
        let mut position = 1;
        while let Some(word) = words.get(position) {
            if word.text().is_none() && word.prefix().is_empty() && !word.may_split() && takes_script {
                break;
            }
            let Some(text) = word.text() else { break };
            if !text.starts_with(['-', '+']) || text.len() == 1 {
                break;
            }
            position += 1;
            match text {
                "--" => break,
                "--rcfile" | "--init-file" => position += 1,
                _ if text.starts_with("--") => {}
                _ => {
                    takes_script |= text.starts_with('-') && text.contains('c');
                    takes_stdin |= text.starts_with('-') && text.contains('s');
                    position += usize::from(text.ends_with(['o', 'O']));
                }
            }
        }
        let operand = words.get(position);
        match operand {
            Some(script) if takes_script => match script.text() {
                Some(script) => self.run_script(script, input),
                None => {
                    self.findings.problem(format!("the script that `{name} -c` runs is only known when it runs"));
                    Outcome::default()
                }
            },
            Some(word) if !takes_stdin && word.text() != Some("-") => self.file(id, &words[position..], input),
            _ => self.script_from_input(name, input),
        }
    }

    fn script_from_input(&mut self, name: &str, input: &Source) -> Outcome {
        match &input.input {
            Input::Known(script) => {
                let script = script.clone();
                self.run_script(&script, &Source::default())
            }
            Input::Nothing => Outcome::default(),
            Input::Unknown => {
                self.findings.problem(format!("`{name}` runs a script that cannot be read before it runs"));
                Outcome::default()
            }
        }
    }

    fn foreign_shell(&mut self, id: usize, name: &str, words: &[Word], input: &Source) -> Outcome {
        let operand = words.iter().skip(1).find(|word| !word.prefix().starts_with('-'));
        let has_option = words.iter().skip(1).any(|word| word.prefix().starts_with('-') || word.may_split());
        match operand {
            Some(file) if !has_option => self.file(id, std::slice::from_ref(file), input),
            None if !has_option && input.input == Input::Nothing => Outcome::default(),
            _ => {
                self.findings.problem(format!("scripts of `{name}` are not understood"));
                Outcome::default()
            }
        }
    }

    /// A script file: `bash FILE`, `source FILE`. What the same script wrote into it is read; other files are
    /// programs like any other.
    pub(super) fn file(&mut self, id: usize, arguments: &[Word], input: &Source) -> Outcome {
        let Some(file) = arguments.first() else { return Outcome::default() };
        if file.text().is_none() {
            let is_substitution = file.prefix().is_empty();
            if is_substitution {
                self.findings.problem(format!("the script `{}` is only known when it runs", file.display()));
            }
            return Outcome::default();
        }
        if matches!(file.text(), Some("/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0")) {
            return self.script_from_input("the shell", input);
        }
        let Some(path) = self.environment.path(file) else { return Outcome::default() };
        self.made_script(id, &path, input)
    }

    fn made_script(&mut self, id: usize, path: &str, input: &Source) -> Outcome {
        let Some(made) = self.findings.files.get(path).cloned() else { return Outcome::default() };
        self.findings.script.flows.extend(made.makers.iter().map(|maker| (*maker, id)));
        self.findings.script.commands[id].runs_made_file = true;
        match made.content {
            Some(content) => match content.lines().next().filter(|line| line.starts_with("#!")) {
                Some(line) if !SHELLS.iter().any(|shell| line.trim_end().ends_with(shell)) => {
                    self.code_of_other_language(line, &content);
                    Outcome::default()
                }
                _ => self.run_script(&content, input),
            },
            None if made.by_redirection => {
                self.findings.problem(format!("`{path}` is written and run in one go, and cannot be read before"));
                Outcome::default()
            }
            None => Outcome::default(),
        }
    }

    fn code_of_other_language(&mut self, first_line: &str, content: &str) {
        let language = LANGUAGES.iter().find(|language| language.programs.iter().any(|name| first_line.contains(name)));
        match language {
            Some(language) => self.code(language, first_line, content),
            None => self.findings.problem(format!("a script for `{first_line}` is not understood")),
        }
    }

    /// A program that the script itself made: `./x` after `curl -o x`.
    fn made_program(&mut self, id: usize, words: &[Word], input: &Source) {
        let Some(program) = words.first().filter(|word| word.text().is_some_and(|text| text.contains('/'))) else {
            return;
        };
        if let Some(path) = self.environment.path(program) {
            self.made_script(id, &path, input);
        }
    }

    /// `curl -o FILE`, `wget -O FILE`, and compilers: files that later commands may run.
    fn downloaded_files(&mut self, id: usize, name: &str, words: &[Word]) {
        let short = match name {
            "curl" | "aria2c" | "cc" | "gcc" | "g++" | "clang" | "openssl" | "base64" => "-o",
            "wget" => "-O",
            _ => return,
        };
        let long = if name == "wget" { "--output-document" } else { "--output" };
        for (position, word) in words.iter().enumerate().skip(1) {
            let Some(text) = word.text() else { continue };
            let target = if text == short
                || text == long
                || (text.starts_with('-') && !text.starts_with("--") && text.ends_with(&short[1..]) && name != "gcc")
            {
                words.get(position + 1).cloned()
            } else if let Some(attached) = text.strip_prefix(short).or_else(|| text.strip_prefix(&format!("{long}="))) {
                Some(Word::literal(attached))
            } else if matches!(text, "-O" | "-OJ" | "-LO" | "--remote-name") && name == "curl" {
                words.iter().rev().find_map(|url| url.text()?.rsplit_once('/').map(|(_, file)| Word::literal(file)))
            } else {
                None
            };
            if let Some(path) = target.and_then(|target| self.environment.path(&target)) {
                self.made_file(path, MadeFile { content: None, makers: vec![id], by_redirection: false });
            }
        }
        let bare = name == "wget" && !words.iter().any(|word| word.prefix().starts_with("-O"));
        if bare {
            let file =
                words.iter().rev().find_map(|url| url.text()?.rsplit_once('/').map(|(_, file)| Word::literal(file)));
            if let Some(path) = file.and_then(|file| self.environment.path(&file)) {
                self.made_file(path, MadeFile { content: None, makers: vec![id], by_redirection: false });
            }
        }
    }

    fn language(&mut self, id: usize, language: &Language, name: &str, words: &[Word], input: &Source) -> Outcome {
        let mut code_given = false;
        let mut position = 1;
        while let Some(word) = words.get(position) {
            position += 1;
            if !word.prefix().starts_with('-') || word.text() == Some("-") {
                position -= 1;
                break;
            }
            match code_option(language, word) {
                Some(CodeOption::Next) => {
                    code_given = true;
                    let code = words.get(position).cloned().unwrap_or_else(Word::unknown);
                    self.code_word(language, name, &code);
                    position += 1;
                }
                Some(CodeOption::Attached(code)) => {
                    code_given = true;
                    self.code_word(language, name, &code);
                }
                None if takes_file(word, name) => {
                    code_given = true;
                    position += 1;
                }
                None => {}
            }
        }
        let operand = words.get(position).filter(|word| word.text() != Some("-"));
        match operand {
            _ if code_given => {}
            Some(code) if language.code_operand => self.code_word(language, name, code),
            Some(file) if file.text().is_some() => self.code_file(id, language, name, file),
            Some(_) => {}
            None if language.code_stdin && !asks_only(words) => match &input.input {
                Input::Known(code) => {
                    let code = code.clone();
                    self.code(language, name, &code);
                }
                Input::Nothing => {}
                Input::Unknown => {
                    self.findings.problem(format!("`{name}` runs code that cannot be read before it runs"));
                }
            },
            None => {}
        }
        Outcome::default()
    }

    /// Code in a file: read if the script itself made it.
    fn code_file(&mut self, id: usize, language: &Language, name: &str, file: &Word) {
        let Some(path) = self.environment.path(file) else { return };
        let Some(made) = self.findings.files.get(&path).cloned() else { return };
        self.findings.script.flows.extend(made.makers.iter().map(|maker| (*maker, id)));
        match made.content {
            Some(content) => self.code(language, name, &content),
            None => self.findings.problem(format!("`{path}` is made and run in one go, and cannot be read before")),
        }
    }

    fn code_word(&mut self, language: &Language, name: &str, code: &Word) {
        match code.text() {
            Some(code) => self.code(language, name, code),
            // With parts that are not known, the known ones are still read.
            None if language.programs[0] == "awk" || language.programs[0] == "sed" => {
                self.code(language, name, &code.display());
            }
            None => self.findings.problem(format!("the code given to `{name}` is only known when it runs")),
        }
    }

    fn code(&mut self, language: &Language, name: &str, code: &str) {
        if language.programs[0] == "sed" {
            if sed_runs_commands(code) {
                self.findings.problem("a `sed` script runs commands".to_owned());
            }
            return;
        }
        if let Some(marker) = language.markers.iter().find(|marker| code.contains(*marker)) {
            let marker = marker.trim();
            self.findings
                .problem(format!("the code given to `{name}` uses `{marker}`, so what it runs cannot be judged"));
        }
    }
}

enum CodeOption {
    Next,
    Attached(Word),
}

fn code_option(language: &Language, word: &Word) -> Option<CodeOption> {
    for option in language.code_options {
        if word.text() == Some(option) {
            return Some(CodeOption::Next);
        }
        let is_short = option.len() == 2;
        let prefix = word.prefix();
        if is_short && prefix.starts_with(option) {
            let rest = word.display().split_off(option.len());
            return Some(CodeOption::Attached(if word.text().is_some() {
                Word::literal(&rest)
            } else {
                Word::unknown()
            }));
        }
        // `perl -lane 'code'`: the letter ends a group of short options.
        let in_group =
            is_short && !prefix.starts_with("--") && word.text().is_some_and(|text| text.ends_with(&option[1..]));
        if in_group && matches!(language.programs[0], "perl" | "ruby" | "sed") {
            return Some(CodeOption::Next);
        }
        if !is_short && prefix.starts_with(&format!("{option}=")) {
            let rest = word.display().split_off(option.len() + 1);
            return Some(CodeOption::Attached(Word::literal(&rest)));
        }
    }
    None
}

/// Options that say that the code is elsewhere: a module, a file.
fn takes_file(word: &Word, name: &str) -> bool {
    match word.text() {
        Some("-m" | "-W" | "-X") => name.starts_with(['p', 'i']),
        Some("-f" | "--file") => true,
        Some("-v") => name.ends_with("awk"),
        _ => false,
    }
}

fn asks_only(words: &[Word]) -> bool {
    words.iter().skip(1).any(|word| matches!(word.text(), Some("--version" | "-V" | "-v" | "--help" | "-h")))
}

/// GNU sed's `e` command, and the `e` flag of `s`.
fn sed_runs_commands(script: &str) -> bool {
    script.split([';', '\n', '{', '}']).any(|command| {
        let command = command.trim_start_matches(|character: char| {
            character.is_ascii_digit() || character.is_whitespace() || "$,~!+".contains(character)
        });
        let command = match command.strip_prefix('/') {
            Some(rest) => rest.rsplit_once('/').map_or(rest, |(_, after)| after).trim_start(),
            None => command,
        };
        let executes = command == "e" || command.starts_with("e ");
        let delimiter = command.strip_prefix('s').and_then(|rest| rest.chars().next());
        let flags = delimiter
            .filter(|delimiter| !delimiter.is_alphanumeric())
            .and_then(|delimiter| command.rsplit_once(delimiter))
            .map(|(_, flags)| flags);
        let flag_executes = flags.is_some_and(|flags| flags.len() < 8 && flags.contains('e') && !flags.contains(' '));
        executes || flag_executes
    })
}
