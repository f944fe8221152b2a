//! The walk over a script's syntax tree.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use tree_sitter::{Node, Parser, Tree};

use super::environment::{Environment, MadeFile};
use super::lexer::{self, Context, Expansions, Substitution, Value};
use super::word::{Atom, Piece, Word, expand, expand_single};
use super::{COMMANDS_MAX, Command, FileUse, Input, SCRIPT_BYTES_MAX, SCRIPT_DEPTH_MAX, Script};
use crate::path::normalise;

/// A loop over a list of known words is followed round by round, up to so many.
const ROUNDS_MAX: usize = 8;
/// A problem is shown up to so many characters.
const PROBLEM_CHARS_MAX: usize = 200;

/// Variables whose values are commands that some program runs.
const COMMAND_VARIABLES: [&str; 17] = [
    "BROWSER",
    "EDITOR",
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "LESSCLOSE",
    "LESSOPEN",
    "MANPAGER",
    "PAGER",
    "PROMPT_COMMAND",
    "SSH_ASKPASS",
    "VISUAL",
];

/// Words that structure a script. Where one of them is a program's name, the tree was misread.
const RESERVED_WORDS: [&str; 14] =
    ["if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function"];

/// Takes a script apart. `stdin` is what it finds on its standard input.
#[must_use]
pub fn analyse(script: &str, cwd: &str, stdin: Option<&str>) -> Script {
    let mut findings = Findings::default();
    let mut environment = Environment::new(vec![normalise(cwd)]);
    let input = match stdin {
        Some(text) => Source { input: Input::Known(text.to_owned()), feeds: Vec::new() },
        None => Source::default(),
    };
    read_script(script, &mut environment, &input, &mut findings, 0);
    findings.script
}

/// What the walk gathers, over all nested scripts.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) script: Script,
    pub(super) files: BTreeMap<String, MadeFile>,
    pub(super) git_aliases: BTreeMap<String, String>,
    /// A guess is being followed: what it does counts, what is odd about it does not.
    pub(super) guessing: bool,
}

impl Findings {
    pub(super) fn problem(&mut self, what: String) {
        let what: String = what.chars().take(PROBLEM_CHARS_MAX).collect();
        if !self.guessing && !self.script.problems.contains(&what) {
            self.script.problems.push(what);
        }
    }
}

/// What comes in on standard input, and from which commands.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) input: Input,
    pub(super) feeds: Vec<usize>,
}

/// What a piece of script does.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Its commands.
    pub(super) commands: Vec<usize>,
    /// What it writes to standard output, where that is known.
    pub(super) output: Option<String>,
}

impl Outcome {
    fn absorb(&mut self, other: Self) {
        self.commands.extend(other.commands);
        self.output = None;
    }

    fn into_source(self) -> Source {
        Source { input: self.output.map_or(Input::Unknown, Input::Known), feeds: self.commands }
    }
}

/// Reads a whole script in the given environment, which it changes.
pub(super) fn read_script(
    script: &str,
    environment: &mut Environment,
    input: &Source,
    findings: &mut Findings,
    depth: usize,
) -> Outcome {
    if let Some(problem) = unreadable(script, depth) {
        findings.problem(problem);
        return Outcome::default();
    }
    let tree = parse(script);
    let root = tree.root_node();
    if root.has_error() {
        findings.problem(format!("`{script}` does not parse as a shell script"));
        return Outcome::default();
    }
    let mut walker = Walker {
        source: script,
        root,
        environment,
        findings,
        depth,
        feeds: Vec::new(),
        sinks: Vec::new(),
        seen: HashSet::new(),
        read_elsewhere: Vec::new(),
    };
    let outcome = walker.sequence(root, input);
    walker.check_that_all_was_seen();
    outcome
}

fn unreadable(script: &str, depth: usize) -> Option<String> {
    if script.len() > SCRIPT_BYTES_MAX {
        return Some(format!("a script of {} bytes is longer than the {SCRIPT_BYTES_MAX} that are read", script.len()));
    }
    if depth > SCRIPT_DEPTH_MAX {
        return Some(format!("scripts are nested more than {SCRIPT_DEPTH_MAX} deep"));
    }
    let odd = script.chars().find(|character| character.is_control() && !matches!(character, '\n' | '\t'))?;
    Some(format!("the script contains the control character {}", odd.escape_unicode()))
}

fn parse(script: &str) -> Tree {
    thread_local! {
        static PARSER: RefCell<Parser> = RefCell::new({
            let mut parser = Parser::new();
            parser.set_language(&tree_sitter_bash::LANGUAGE.into()).expect("grammar and library are of one version");
            parser
        });
    }
    PARSER.with_borrow_mut(|parser| parser.parse(script, None)).expect("a language is set and nothing cancels")
}

pub(super) struct Walker<'s, 'f> {
    source: &'s str,
    root: Node<'s>,
    pub(super) environment: &'f mut Environment,
    pub(super) findings: &'f mut Findings,
    pub(super) depth: usize,
    /// Commands whose output went into the words lexed since this was last taken.
    feeds: Vec<usize>,
    /// Commands that read what the command at hand writes to one of its arguments, `>(…)`.
    sinks: Vec<usize>,
    seen: HashSet<usize>,
    /// Byte ranges that were read as scripts of their own.
    read_elsewhere: Vec<Range<usize>>,
}

impl<'s> Walker<'s, '_> {
    fn text(&self, node: Node<'_>) -> &'s str {
        &self.source[node.byte_range()]
    }

    fn children(&self, node: Node<'s>) -> Vec<Node<'s>> {
        node.children(&mut node.walk()).collect()
    }

    fn problem(&mut self, what: String) {
        self.findings.problem(what);
    }

    /// Statements one after the other.
    fn sequence(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let children = self.children(node);
        let mut outcome = Outcome::default();
        let mut statements = 0;
        for (position, child) in children.iter().enumerate().filter(|(_, child)| child.is_named()) {
            if child.kind() == "comment" {
                self.comment(*child);
                continue;
            }
            let before = self.environment.clone();
            let in_background = children.get(position + 1).is_some_and(|next| next.kind() == "&");
            let part = self.statement(*child, input);
            if in_background {
                self.environment.clone_from(&before);
            } else if child.kind() == "list" {
                self.environment.merge(&before);
            } else if self.environment.directories != before.directories {
                // `cd` can fail.
                let mut either = before;
                either.merge(self.environment);
                self.environment.directories = either.directories;
            }
            statements += 1;
            let output = part.output.clone().filter(|_| statements == 1 && !in_background);
            outcome.absorb(part);
            outcome.output = output;
        }
        outcome
    }

    fn comment(&mut self, node: Node<'s>) {
        let before = self.source[..node.start_byte()].chars().next_back();
        let begins_a_word = before.is_none_or(|character| character.is_whitespace() || ";|&()".contains(character));
        if !begins_a_word {
            self.problem(format!("`{}` may or may not be a comment", self.text(node)));
        }
    }

    fn statement(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        match node.kind() {
            "command" => self.command(node, &[], input, false),
            "redirected_statement" => self.redirected(node, input),
            "list" => self.list(node, input),
            "pipeline" => {
                let stages = self.children(node).into_iter().filter(Node::is_named).collect::<Vec<_>>();
                self.pipeline(&stages, input)
            }
            "negated_command" => {
                let inner = node.named_child(0);
                inner.map_or_else(Outcome::default, |inner| self.statement(inner, input))
            }
            "compound_statement" if node.child(0).is_some_and(|first| first.kind() == "((") => self.expression(node),
            "compound_statement" | "do_group" | "else_clause" => self.sequence(node, input),
            "subshell" => {
                let before = self.environment.clone();
                let outcome = self.sequence(node, input);
                *self.environment = before;
                outcome
            }
            "variable_assignment" => self.assignment(node, true),
            "variable_assignments" => self.each(node, |walker, child| walker.assignment(child, true)),
            "declaration_command" => self.declaration(node),
            "unset_command" => self.unset(node),
            "test_command" => self.expression(node),
            "if_statement" | "elif_clause" => self.conditional(node, input),
            "while_statement" | "for_statement" | "c_style_for_statement" => self.repeated(node, input),
            "case_statement" => self.case(node, input),
            "function_definition" => self.function(node),
            "comment" => {
                self.comment(node);
                Outcome::default()
            }
            other => {
                self.problem(format!("`{}` ({other}) is not understood", self.text(node)));
                Outcome::default()
            }
        }
    }

    fn each(&mut self, node: Node<'s>, mut visit: impl FnMut(&mut Self, Node<'s>) -> Outcome) -> Outcome {
        let mut outcome = Outcome::default();
        for child in self.children(node).into_iter().filter(Node::is_named) {
            let part = visit(self, child);
            outcome.absorb(part);
        }
        outcome
    }

    /// `a && b`, `a || b`.
    fn list(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let (Some(left), Some(operator), Some(right)) = (node.child(0), node.child(1), node.child(2)) else {
            self.problem(format!("`{}` is not understood", self.text(node)));
            return Outcome::default();
        };
        let before = self.environment.clone();
        let mut outcome = self.statement(left, input);
        if operator.kind() != "&&" {
            self.environment.merge(&before);
        }
        let middle = self.environment.clone();
        let part = self.statement(right, input);
        if operator.kind() != "&&" {
            self.environment.merge(&middle);
        }
        outcome.absorb(part);
        outcome
    }

    fn pipeline(&mut self, stages: &[Node<'s>], input: &Source) -> Outcome {
        let mut source = input.clone();
        let mut all = Vec::new();
        let mut output = None;
        for stage in stages.iter().filter(|stage| stage.kind() != "comment") {
            // Each stage is a process of its own.
            let before = self.environment.clone();
            let outcome = self.statement(*stage, &source);
            *self.environment = before;
            all.extend(outcome.commands.iter().copied());
            output.clone_from(&outcome.output);
            source = outcome.into_source();
        }
        Outcome { commands: all, output }
    }

    fn conditional(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let before = self.environment.clone();
        let outcome = self.each(node, |walker, child| match child.kind() {
            "elif_clause" | "else_clause" => {
                let taken = walker.environment.clone();
                walker.environment.merge(&before);
                let part = walker.statement(child, input);
                walker.environment.merge(&taken);
                part
            }
            _ => walker.statement(child, input),
        });
        self.environment.merge(&before);
        outcome
    }

    fn repeated(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let before = self.environment.clone();
        self.forget_what_changes_in(node);
        let mut outcome = Outcome::default();
        if node.kind() == "for_statement" {
            outcome = self.for_loop(node, input);
        } else {
            for child in self.children(node).into_iter().filter(Node::is_named) {
                let part = match child.kind() {
                    "do_group" | "compound_statement" => self.statement(child, input),
                    _ if node.kind() == "c_style_for_statement" => self.expression(child),
                    _ => self.statement(child, input),
                };
                outcome.absorb(part);
            }
        }
        self.environment.merge(&before);
        outcome
    }

    fn for_loop(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let children = self.children(node);
        let name = node.child_by_field_name("variable").map(|name| self.text(name)).unwrap_or_default();
        let values: Vec<Node<'s>> = (0..children.len())
            .filter(|position| node.field_name_for_child(*position as u32) == Some("value"))
            .map(|position| children[position])
            .collect();
        let Some(body) = node.child_by_field_name("body") else {
            self.problem(format!("`{}` is not understood", self.text(node)));
            return Outcome::default();
        };
        let has_list = children.iter().any(|child| child.kind() == "in");
        let words: Vec<Word> = values.into_iter().flat_map(|value| self.words(value.byte_range())).collect();
        let feeds = std::mem::take(&mut self.feeds);
        let known = has_list && words.len() <= ROUNDS_MAX && !words.iter().any(Word::may_split) && feeds.is_empty();
        let rounds = if known { words } else { vec![Word::unknown_words()] };
        let mut outcome = Outcome { commands: feeds, output: None };
        for word in rounds {
            self.environment.assign(name, word.pieces);
            let part = self.statement(body, input);
            outcome.absorb(part);
        }
        self.environment.forget(name);
        outcome
    }

    fn case(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let before = self.environment.clone();
        let mut outcome = Outcome::default();
        for child in self.children(node).into_iter().filter(Node::is_named) {
            let part = if child.kind() == "case_item" {
                let item = self.case_item(child, input);
                self.environment.merge(&before);
                item
            } else {
                self.expression(child)
            };
            outcome.absorb(part);
        }
        outcome
    }

    fn case_item(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let mut outcome = Outcome::default();
        for (position, child) in self.children(node).into_iter().enumerate().filter(|(_, child)| child.is_named()) {
            let is_pattern = node.field_name_for_child(position as u32) == Some("value");
            let part = if is_pattern { self.expression(child) } else { self.statement(child, input) };
            outcome.absorb(part);
        }
        outcome
    }

    /// The body is judged where it stands. Called later, it sees other variables and arguments.
    fn function(&mut self, node: Node<'s>) -> Outcome {
        self.seen.insert(node.id());
        self.forget_what_changes_in(node);
        let before = self.environment.clone();
        self.environment.forget_everything();
        self.environment.directories.clear();
        let mut outcome = Outcome::default();
        let anything = Source { input: Input::Unknown, feeds: Vec::new() };
        for child in self.children(node).into_iter().filter(Node::is_named) {
            let part = match child.kind() {
                "word" => Outcome::default(),
                "file_redirect" | "herestring_redirect" | "heredoc_redirect" => {
                    self.redirect(child, &mut Redirections::default());
                    Outcome::default()
                }
                _ => self.statement(child, &anything),
            };
            outcome.absorb(part);
        }
        *self.environment = before;
        outcome.output = None;
        outcome
    }

    /// Finds substitutions in what is no command: tests, arithmetic, patterns.
    fn expression(&mut self, node: Node<'s>) -> Outcome {
        let mut outcome = Outcome::default();
        match node.kind() {
            "command_substitution" | "process_substitution" => {
                let part = self.substituted(node);
                outcome.absorb(part);
                return outcome;
            }
            "variable_assignment" => return self.assignment(node, true),
            "binary_expression" | "postfix_expression" | "unary_expression" => {
                if let Some(name) = node.child(0).filter(|first| matches!(first.kind(), "variable_name" | "word")) {
                    self.environment.forget(self.text(name));
                }
            }
            _ => {}
        }
        for child in self.children(node) {
            let part = self.expression(child);
            outcome.absorb(part);
        }
        outcome
    }

    /// The inside of `$(…)`, `` `…` ``, `<(…)`, `>(…)`.
    fn substituted(&mut self, node: Node<'s>) -> Outcome {
        if self.text(node).starts_with('`') {
            let mut inner = self.text(node).to_owned();
            inner.pop();
            let script = inner.split_off(1).replace("\\`", "`").replace("\\$", "$").replace("\\\\", "\\");
            self.read_elsewhere.push(node.byte_range());
            return self.nested(&script, &Source::default());
        }
        let before = self.environment.clone();
        let feeds = std::mem::take(&mut self.feeds);
        let sinks = std::mem::take(&mut self.sinks);
        let input = match self.text(node).starts_with('>') {
            true => Source { input: Input::Unknown, feeds: Vec::new() },
            false => Source::default(),
        };
        let outcome = match self.children(node).get(1) {
            // `$(< file)`
            Some(redirect) if redirect.kind() == "file_redirect" => {
                self.redirect(*redirect, &mut Redirections::default());
                Outcome::default()
            }
            _ => self.sequence(node, &input),
        };
        self.feeds = feeds;
        self.sinks = sinks;
        *self.environment = before;
        outcome
    }

    /// A script within this one, run by a shell that shares nothing with it but the directory.
    fn nested(&mut self, script: &str, input: &Source) -> Outcome {
        let mut environment = Environment::new(self.environment.directories.clone());
        environment.forget_everything();
        read_script(script, &mut environment, input, self.findings, self.depth + 1)
    }

    fn assignment(&mut self, node: Node<'s>, lasting: bool) -> Outcome {
        let Some(name) = node.child_by_field_name("name") else {
            self.problem(format!("`{}` is not understood", self.text(node)));
            return Outcome::default();
        };
        let value = node.child_by_field_name("value");
        let feeds_before = self.feeds.len();
        let known = match value {
            _ if name.kind() != "variable_name" => None,
            None => Some(Word::default()),
            Some(value) if value.kind() == "array" => None,
            Some(value) => Some(self.single(value.start_byte()..node.end_byte())),
        };
        let mut outcome = Outcome::default();
        if known.is_none() {
            outcome = self.expression(node_or(value, name));
            self.feeds.extend(outcome.commands.iter().copied());
            if let Some(index) = name.child_by_field_name("index") {
                let part = self.expression(index);
                outcome.absorb(part);
            }
        }
        let fed = self.feeds.len() > feeds_before;
        let variable = self.text(name.child_by_field_name("name").unwrap_or(name));
        let appends = self.children(node).iter().any(|child| child.kind() == "+=");
        match known {
            Some(word) if lasting && !appends && !fed => {
                outcome.absorb(self.command_variable(variable, &word));
                self.environment.assign(variable, word.pieces);
            }
            // Before a command, `IFS` holds for that command alone.
            Some(word) if lasting || variable != "IFS" => {
                outcome.absorb(self.command_variable(variable, &word));
                self.environment.forget(variable);
            }
            Some(_) => {}
            None => self.environment.forget(variable),
        }
        if lasting {
            outcome.commands.extend(self.feeds.drain(feeds_before..));
        }
        outcome
    }

    /// A variable that some program runs as a command.
    pub(super) fn command_variable(&mut self, name: &str, value: &Word) -> Outcome {
        if !COMMAND_VARIABLES.contains(&name) {
            return Outcome::default();
        }
        match value.text() {
            Some(script) => self.nested(script, &Source { input: Input::Unknown, feeds: Vec::new() }),
            None => {
                self.problem(format!("`{name}` is a command, and is only known when it runs"));
                Outcome::default()
            }
        }
    }

    fn declaration(&mut self, node: Node<'s>) -> Outcome {
        self.seen.insert(node.id());
        let mut outcome = Outcome::default();
        let is_reference = self.children(node).iter().any(|child| {
            let text = self.text(*child);
            child.kind() == "word" && text.starts_with('-') && text.contains('n')
        });
        let keyword = node.child(0).map(|keyword| self.text(keyword)).unwrap_or_default();
        if is_reference && keyword != "export" {
            self.environment.forget_everything();
        }
        for child in self.children(node).into_iter().filter(Node::is_named) {
            match child.kind() {
                "variable_assignment" => {
                    let part = self.assignment(child, true);
                    outcome.absorb(part);
                }
                "variable_name" => {}
                "comment" => self.comment(child),
                _ => {
                    // `export "$NAME=value"` can name any variable.
                    let words = self.words(child.byte_range());
                    let is_option =
                        words.iter().all(|word| word.text().is_some_and(|text| text.starts_with(['-', '+'])));
                    if !is_option {
                        self.environment.forget_everything();
                    }
                }
            }
        }
        outcome.commands.append(&mut self.feeds);
        outcome
    }

    fn unset(&mut self, node: Node<'s>) -> Outcome {
        self.seen.insert(node.id());
        for child in self.children(node).into_iter().filter(Node::is_named) {
            match child.kind() {
                "variable_name" => self.environment.forget(self.text(child)),
                _ => self.environment.forget_everything(),
            }
        }
        self.expression(node)
    }

    /// Variables that are assigned, and directories that are changed, somewhere below this node: within a loop or a
    /// function the order of things is not the order of the text.
    fn forget_what_changes_in(&mut self, node: Node<'s>) {
        let mut names = BTreeSet::new();
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            match node.kind() {
                "variable_assignment" | "binary_expression" | "postfix_expression" | "unary_expression" => {
                    let name = node.child_by_field_name("name").or_else(|| node.named_child(0));
                    let base = name.map(|name| name.child_by_field_name("name").unwrap_or(name));
                    names.extend(base.map(|base| self.text(base)));
                }
                "command" => {
                    let words: Vec<&str> = self.text(node).split_whitespace().collect();
                    match words.first().copied().unwrap_or_default() {
                        "cd" | "pushd" | "popd" => self.environment.directories.clear(),
                        "read" | "mapfile" | "readarray" | "getopts" | "printf" | "let" | "eval" | "source" | "." => {
                            names.extend(words);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
            pending.extend(self.children(node));
        }
        for name in names {
            self.environment.forget_for_good(name);
        }
    }

    fn redirected(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let mut redirections = Redirections::default();
        for child in self.children(node) {
            if matches!(child.kind(), "file_redirect" | "heredoc_redirect" | "herestring_redirect") {
                self.redirect(child, &mut redirections);
            }
        }
        let mut feeds = std::mem::take(&mut self.feeds);
        let sinks = std::mem::take(&mut self.sinks);
        let mut source = redirections.source(input);
        source.feeds.extend_from_slice(&feeds);
        let mut outcome = match node.child_by_field_name("body") {
            Some(body) if body.kind() == "command" => self.command(body, &redirections.arguments, &source, true),
            Some(body) => {
                if !redirections.arguments.is_empty() {
                    self.problem(format!("`{}` is not understood", self.text(node)));
                }
                self.statement(body, &source)
            }
            // `> file command` keeps the command among the words after the file.
            None if !redirections.arguments.is_empty() => self.run(redirections.arguments.clone(), &source, &[]),
            None => Outcome { commands: Vec::new(), output: source_text(&source) },
        };
        for sink in sinks {
            self.findings.script.flows.extend(outcome.commands.iter().map(|command| (*command, sink)));
        }
        outcome.commands.append(&mut feeds);
        self.write_files(&redirections, &mut outcome);
        if redirections.following.is_empty() {
            return outcome;
        }
        self.following(&redirections, outcome, input)
    }

    /// `cat <<EOF | next`, `cat <<EOF && next`: the tree has what follows inside the redirection.
    fn following(&mut self, redirections: &Redirections<'s>, first: Outcome, input: &Source) -> Outcome {
        let mut all = first.commands.clone();
        let mut last = first;
        for (operator, node) in &redirections.following {
            let before = self.environment.clone();
            let source = if *operator == "|" { std::mem::take(&mut last).into_source() } else { input.clone() };
            last = self.statement(*node, &source);
            all.extend(last.commands.iter().copied());
            if *operator != "&&" {
                self.environment.merge(&before);
            }
        }
        Outcome {
            commands: all,
            output: last.output.filter(|_| redirections.following.iter().all(|(op, _)| *op == "|")),
        }
    }

    fn write_files(&mut self, redirections: &Redirections<'_>, outcome: &mut Outcome) {
        for (path, appends) in &redirections.written {
            let Some(path) = self.environment.path(path) else { continue };
            let content = outcome.output.clone().filter(|_| !appends && !self.findings.files.contains_key(&path));
            let makers = outcome.commands.clone();
            self.made_file(path, MadeFile { content, makers, by_redirection: true });
        }
        if !redirections.written.is_empty() {
            outcome.output = Some(String::new());
        }
    }

    pub(super) fn made_file(&mut self, path: String, file: MadeFile) {
        let entry = self.findings.files.entry(path);
        entry
            .and_modify(|earlier| {
                earlier.content = None;
                earlier.makers.extend(file.makers.iter().copied());
                earlier.by_redirection |= file.by_redirection;
            })
            .or_insert(file);
    }

    fn redirect(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
        match node.kind() {
            "file_redirect" => self.file_redirect(node, into),
            "heredoc_redirect" => self.here_document(node, into),
            _ => {
                let Some(operator) = node.child(0) else { return };
                let word = self.single(operator.end_byte()..node.end_byte());
                let text = word.text().map(|text| format!("{text}\n"));
                into.input = Some(text.map_or(Input::Unknown, Input::Known));
            }
        }
    }

    fn file_redirect(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
        let children = self.children(node);
        let operator = children.iter().find(|child| !child.is_named()).map(|child| child.kind()).unwrap_or_default();
        let descriptor = children.iter().find(|child| child.kind() == "file_descriptor").map(|child| self.text(*child));
        let targets: Vec<Node<'s>> = (0..children.len())
            .filter(|position| node.field_name_for_child(*position as u32) == Some("destination"))
            .map(|position| children[position])
            .collect();
        // What stands after the file belongs to the command.
        let spans = self.spans(&targets);
        let Some(first) = spans.first() else { return };
        let target = self.single(first.clone());
        for span in &spans[1..] {
            let words = self.words(span.clone());
            into.arguments.extend(words);
        }
        let duplicates = matches!(operator, ">&" | "<&")
            && target.text().is_some_and(|text| text == "-" || text.chars().all(|digit| digit.is_ascii_digit()));
        if duplicates {
            return;
        }
        let writes = operator != "<" && operator != "<&";
        let substituted = self.source[first.clone()].starts_with(['<', '>']);
        if writes && !substituted && matches!(descriptor, None | Some("1")) {
            into.written.push((target.clone(), operator.contains(">>")));
        } else if !writes && matches!(descriptor, None | Some("0")) {
            let made = self.environment.path(&target).and_then(|path| self.findings.files.get(&path));
            into.input = Some(made.and_then(|file| file.content.clone()).map_or(Input::Unknown, Input::Known));
            self.feeds.extend(made.map(|file| file.makers.clone()).unwrap_or_default());
        }
        if !substituted {
            let cwd = self.environment.directories.clone();
            self.findings.script.files.push(FileUse { path: target, cwd, writes });
        }
    }

    fn here_document(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
        let mut operator = "";
        let mut quoted = false;
        let strips_tabs = node.child(0).is_some_and(|first| first.kind() == "<<-");
        for child in self.children(node) {
            match child.kind() {
                "heredoc_start" => quoted = self.text(child).contains(['\'', '"', '\\']),
                "heredoc_body" if quoted => {
                    into.input = Some(Input::Known(document_text(self.text(child), strips_tabs)));
                }
                "heredoc_body" => {
                    let atoms = self.lex(child.byte_range(), Context::HereDocument);
                    let word = expand_single(&atoms);
                    let text = word.text().map(|text| document_text(text, strips_tabs));
                    into.input = Some(text.map_or(Input::Unknown, Input::Known));
                }
                "heredoc_end" | "comment" => {}
                "file_redirect" | "herestring_redirect" | "heredoc_redirect" => self.redirect(child, into),
                "pipeline" => {
                    let stages = self.children(child).into_iter().filter(Node::is_named);
                    into.following.extend(stages.map(|stage| ("|", stage)));
                }
                "&&" | "||" => operator = child.kind(),
                "<<" | "<<-" | "file_descriptor" => {}
                _ if child.is_named() && !operator.is_empty() => into.following.push((operator, child)),
                _ if child.is_named() => {
                    let words = self.words(child.byte_range());
                    into.arguments.extend(words);
                }
                _ => self.problem(format!("`{}` is not understood", self.text(node))),
            }
        }
        into.input.get_or_insert(Input::Known(String::new()));
    }

    /// Groups of nodes that make one word each, as byte ranges: without a blank between them they are one word.
    fn spans(&self, nodes: &[Node<'s>]) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for node in nodes {
            let joined = spans.last().is_some_and(|last| {
                let gap = &self.source[last.end..node.start_byte()];
                gap.replace("\\\n", "").is_empty()
            });
            match spans.last_mut() {
                Some(last) if joined => last.end = node.end_byte(),
                _ => spans.push(node.byte_range()),
            }
        }
        spans
    }

    fn command(&mut self, node: Node<'s>, more: &[Word], input: &Source, redirected: bool) -> Outcome {
        self.seen.insert(node.id());
        let children = self.children(node);
        let mut redirections = Redirections::default();
        let mut word_nodes = Vec::new();
        let outer_feeds = std::mem::take(&mut self.feeds);
        let mut outcome = Outcome::default();
        let mut splits_otherwise = false;
        for (position, child) in children.iter().enumerate() {
            match child.kind() {
                "variable_assignment" => {
                    splits_otherwise |= self.text(*child).starts_with("IFS=");
                    let part = self.assignment(*child, false);
                    outcome.absorb(part);
                }
                "file_redirect" | "herestring_redirect" | "heredoc_redirect" => {
                    self.redirect(*child, &mut redirections)
                }
                "command_name" => word_nodes.push(*child),
                _ if node.field_name_for_child(position as u32) == Some("argument") => word_nodes.push(*child),
                _ => {
                    let words = self.text(*child).to_owned();
                    self.problem(format!("`{words}` is not understood"));
                }
            }
        }
        let mut words = std::mem::take(&mut redirections.arguments);
        for span in self.spans(&word_nodes) {
            let expanded = self.words(span);
            words.extend(expanded);
        }
        words.extend_from_slice(more);
        if splits_otherwise && matches!(words.first().and_then(Word::text), Some("eval" | "source" | ".")) {
            self.problem(format!("`{}` splits words in a way of its own", self.text(node)));
        }
        let feeds = std::mem::replace(&mut self.feeds, outer_feeds);
        let source = redirections.source(input);
        let part = self.run(words, &source, &feeds);
        outcome.output = part.output;
        outcome.commands.extend(part.commands);
        self.write_files(&redirections, &mut outcome);
        if !redirections.following.is_empty() && !redirected {
            return self.following(&redirections, outcome, input);
        }
        outcome
    }

    /// A simple command whose words are known as far as they can be.
    pub(super) fn run(&mut self, words: Vec<Word>, input: &Source, feeds: &[usize]) -> Outcome {
        let Some(first) = words.first() else {
            return Outcome { commands: feeds.to_vec(), output: Some(String::new()) };
        };
        if self.findings.script.commands.len() >= COMMANDS_MAX {
            self.problem(format!("the script has more than {COMMANDS_MAX} commands"));
            return Outcome::default();
        }
        let command = Command {
            words: words.clone(),
            cwd: self.environment.directories.clone(),
            input: input.input.clone(),
            replaced: false,
            runs_made_file: false,
        };
        let id = self.findings.script.commands.len();
        self.findings.script.commands.push(command);
        for feeder in feeds.iter().chain(&input.feeds) {
            self.findings.script.flows.push((*feeder, id));
        }
        for sink in std::mem::take(&mut self.sinks) {
            self.findings.script.flows.push((id, sink));
        }
        let mut outcome = Outcome { commands: vec![id], output: None };
        match first.text() {
            None => self.problem(format!("which program `{}` is, is only known when it runs", first.display())),
            Some(name) if RESERVED_WORDS.contains(&name) => {
                self.problem(format!("`{name}` stands where a program is expected"));
            }
            Some(_) => {
                let part = self.follow(id, &words, input);
                outcome.output = part.output;
                outcome.commands.extend(part.commands);
            }
        }
        outcome.commands.extend_from_slice(feeds);
        outcome
    }

    /// A script inside another command's argument, in an environment of its own.
    pub(super) fn run_script(&mut self, script: &str, input: &Source) -> Outcome {
        self.nested(script, input)
    }

    /// A script that the shell itself runs, as `eval` does.
    pub(super) fn run_here(&mut self, script: &str, input: &Source) -> Outcome {
        read_script(script, self.environment, input, self.findings, self.depth + 1)
    }

    fn lex(&mut self, range: Range<usize>, context: Context) -> Vec<Atom> {
        lexer::lex(self.source, range.start, range.end, context, self)
    }

    fn words(&mut self, range: Range<usize>) -> Vec<Word> {
        expand(&self.lex(range, Context::Word))
    }

    fn single(&mut self, range: Range<usize>) -> Word {
        let start = range.start + self.source[range.clone()].len() - self.source[range.clone()].trim_start().len();
        expand_single(&self.lex(start..range.end, Context::Word))
    }

    /// The safety net: a command of the tree that no rule above reached.
    fn check_that_all_was_seen(&mut self) {
        let mut pending = vec![self.root];
        while let Some(node) = pending.pop() {
            let is_command = matches!(node.kind(), "command" | "declaration_command" | "unset_command");
            let elsewhere = self.read_elsewhere.iter().any(|range| range.contains(&node.start_byte()));
            if elsewhere {
                continue;
            }
            if is_command && !self.seen.contains(&node.id()) {
                self.problem(format!("`{}` stands where it cannot be judged", self.text(node)));
            }
            pending.extend(self.children(node));
        }
    }
}

fn node_or<'s>(value: Option<Node<'s>>, otherwise: Node<'s>) -> Node<'s> {
    value.unwrap_or(otherwise)
}

fn source_text(source: &Source) -> Option<String> {
    match &source.input {
        Input::Known(text) => Some(text.clone()),
        Input::Nothing => Some(String::new()),
        Input::Unknown => None,
    }
}

fn document_text(body: &str, strips_tabs: bool) -> String {
    if !strips_tabs {
        return body.to_owned();
    }
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The redirections of one command.
#[derive(Default)]
struct Redirections<'s> {
    input: Option<Input>,
    /// Files that get standard output, and whether it is appended.
    written: Vec<(Word, bool)>,
    /// Words of the command that the tree has among the redirections.
    arguments: Vec<Word>,
    /// What follows a here-document on its first line: operator and statement.
    following: Vec<(&'static str, Node<'s>)>,
}

impl Redirections<'_> {
    fn source(&self, outer: &Source) -> Source {
        match &self.input {
            Some(input) => Source { input: input.clone(), feeds: Vec::new() },
            None => outer.clone(),
        }
    }
}

impl Expansions for Walker<'_, '_> {
    fn variable(&mut self, name: &str) -> Option<Vec<Piece>> {
        self.environment.variable(name)
    }

    fn substitution(&mut self, start: usize) -> Substitution {
        let Some(node) = substitution_at(self.root, start) else {
            return Substitution { end: start, value: Value::Unknown };
        };
        let value = match node.kind() {
            "arithmetic_expansion" => {
                let outcome = self.expression(node);
                self.feeds.extend(outcome.commands);
                Value::Number
            }
            "expansion" => self.parameter(node),
            "process_substitution" => {
                let outcome = self.substituted(node);
                let reads = self.text(node).starts_with('>');
                if reads { &mut self.sinks } else { &mut self.feeds }.extend(outcome.commands);
                Value::FileName
            }
            _ => {
                let outcome = self.substituted(node);
                self.feeds.extend(outcome.commands);
                let output = outcome.output.map(|text| vec![Piece::Text(text.trim_end_matches('\n').to_owned())]);
                output.map_or(Value::Unknown, Value::Known)
            }
        };
        Substitution { end: node.end_byte(), value }
    }

    fn backquotes(&mut self, script: &str, range: Range<usize>) -> Option<String> {
        self.read_elsewhere.push(range);
        let mut environment = self.environment.clone();
        let outcome = read_script(script, &mut environment, &Source::default(), self.findings, self.depth + 1);
        self.feeds.extend(outcome.commands);
        outcome.output.map(|text| text.trim_end_matches('\n').to_owned())
    }

    fn splits_by_blanks(&self) -> bool {
        self.environment.splits_by_blanks
    }

    fn problem(&mut self, what: String) {
        self.findings.problem(what);
    }
}

impl<'s> Walker<'s, '_> {
    /// `${…}`.
    fn parameter(&mut self, node: Node<'s>) -> Value {
        let outcome = self.expression(node);
        self.feeds.extend(outcome.commands);
        let children = self.children(node);
        let operators: Vec<&str> =
            children.iter().filter(|child| !child.is_named()).map(|child| child.kind()).collect();
        let name = children.iter().find(|child| child.kind() == "variable_name").map(|name| self.text(*name));
        let value = name.and_then(|name| self.environment.variable(name));
        match (operators.as_slice(), value) {
            (["${", "}"], Some(value)) if children.len() == 3 => Value::Known(value),
            (["${", "#", "}"], _) => Value::Number,
            (["${", ":-" | "-", "}"], Some(value)) if !value.is_empty() => Value::Known(value),
            (["${", ":=" | "=", "}"], _) => {
                if let Some(name) = name {
                    self.environment.forget_for_good(name);
                }
                Value::Unknown
            }
            _ => Value::Unknown,
        }
    }
}

fn substitution_at(root: Node<'_>, start: usize) -> Option<Node<'_>> {
    let mut node = root.descendant_for_byte_range(start, start + 1)?;
    loop {
        let fits = matches!(
            node.kind(),
            "command_substitution" | "expansion" | "arithmetic_expansion" | "process_substitution"
        );
        if fits && node.start_byte() == start {
            return Some(node);
        }
        if node.start_byte() < start {
            return None;
        }
        node = node.parent()?;
    }
}
