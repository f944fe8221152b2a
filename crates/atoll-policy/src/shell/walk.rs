//! The walk over a script's syntax tree.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use tree_sitter::{Node, Parser, Tree};

use super::environment::{Environment, MadeFile};
use super::redirects::Redirections;
use super::word::Word;
use super::{COMMANDS_MAX, Command, Input, SCRIPT_BYTES_MAX, SCRIPT_DEPTH_MAX, Script};
use crate::path::normalise;

/// A loop over a list of known words is followed round by round, up to so many.
const ROUNDS_MAX: usize = 8;
/// A problem is shown up to so many characters.
const PROBLEM_CHARS_MAX: usize = 200;

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
    /// Commands whose output went into a variable.
    pub(super) variable_feeds: BTreeMap<String, Vec<usize>>,
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
    pub(super) fn absorb(&mut self, other: Self) {
        self.commands.extend(other.commands);
        self.output = None;
    }

    pub(super) fn into_source(self) -> Source {
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
        read_gaps: HashSet::new(),
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
    pub(super) source: &'s str,
    pub(super) root: Node<'s>,
    pub(super) environment: &'f mut Environment,
    pub(super) findings: &'f mut Findings,
    pub(super) depth: usize,
    /// Commands whose output went into the words lexed since this was last taken.
    pub(super) feeds: Vec<usize>,
    /// Commands that read what the command at hand writes to one of its arguments, `>(…)`.
    pub(super) sinks: Vec<usize>,
    pub(super) seen: HashSet<usize>,
    /// Byte ranges that were read as scripts of their own.
    pub(super) read_elsewhere: Vec<Range<usize>>,
    /// Where text that the tree leaves out, a word it parts or drops, was read nevertheless.
    pub(super) read_gaps: HashSet<usize>,
}

impl<'s> Walker<'s, '_> {
    pub(super) fn text(&self, node: Node<'_>) -> &'s str {
        &self.source[node.byte_range()]
    }

    pub(super) fn children(&self, node: Node<'s>) -> Vec<Node<'s>> {
        node.children(&mut node.walk()).collect()
    }

    pub(super) fn problem(&mut self, what: String) {
        self.findings.problem(what);
    }

    /// Statements one after the other.
    pub(super) fn sequence(&mut self, node: Node<'s>, input: &Source) -> Outcome {
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

    pub(super) fn comment(&mut self, node: Node<'s>) {
        let before = self.source[..node.start_byte()].chars().next_back();
        let begins_a_word = before.is_none_or(|character| character.is_whitespace() || ";|&()".contains(character));
        if !begins_a_word {
            self.problem(format!("`{}` may or may not be a comment", self.text(node)));
        }
    }

    pub(super) fn statement(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        match node.kind() {
            "command" => self.command(node, &[], input),
            "redirected_statement" => self.redirected(node, input),
            "list" => self.list(node, &[], input),
            "pipeline" => self.pipeline(node, &[], input),
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
    pub(super) fn list(&mut self, node: Node<'s>, redirects: &[Node<'s>], input: &Source) -> Outcome {
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
        let part = self.with_redirects(right, redirects, input);
        if operator.kind() != "&&" {
            self.environment.merge(&middle);
        }
        outcome.absorb(part);
        outcome
    }

    pub(super) fn pipeline(&mut self, node: Node<'s>, redirects: &[Node<'s>], input: &Source) -> Outcome {
        let is_stage = |child: &Node<'_>| child.is_named() && child.kind() != "comment";
        let stages: Vec<Node<'s>> = self.children(node).into_iter().filter(is_stage).collect();
        let mut source = input.clone();
        let mut all = Vec::new();
        let mut output = None;
        for (position, stage) in stages.iter().enumerate() {
            // Each stage is a process of its own.
            let before = self.environment.clone();
            let is_last = position + 1 == stages.len();
            let outcome = self.with_redirects(*stage, if is_last { redirects } else { &[] }, &source);
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
    pub(super) fn expression(&mut self, node: Node<'s>) -> Outcome {
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
        let children = self.children(node);
        let quoted = matches!(node.kind(), "raw_string" | "ansi_c_string" | "comment");
        // The grammar takes some patterns as one leaf, substitutions included.
        if children.is_empty() && node.is_named() && !quoted && self.text(node).contains(['$', '`']) {
            self.problem(format!("`{}` is not understood", self.text(node)));
        }
        for child in children {
            let part = self.expression(child);
            outcome.absorb(part);
        }
        outcome
    }

    pub(super) fn command(&mut self, node: Node<'s>, more: &[Word], input: &Source) -> Outcome {
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
        if redirections.following.is_empty() { outcome } else { self.following(&redirections, outcome, input) }
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

    /// The safety net: a command of the tree that no rule above reached, and text that the tree left out.
    fn check_that_all_was_seen(&mut self) {
        let mut pending = vec![self.root];
        while let Some(node) = pending.pop() {
            let elsewhere = self.read_elsewhere.iter().any(|range| range.contains(&node.start_byte()));
            let is_command = matches!(node.kind(), "command" | "declaration_command" | "unset_command");
            if is_command && !elsewhere && !self.seen.contains(&node.id()) {
                self.problem(format!("`{}` stands where it cannot be judged", self.text(node)));
            }
            pending.extend(self.children(node));
        }
        self.check_gaps(0, self.root, self.source.len());
    }

    /// Looks between the leaves of a node. Within text in quotes the words are read from the source whatever the tree
    /// says, so there only the substitutions are looked at.
    fn check_gaps(&mut self, start: usize, top: Node<'s>, until: usize) {
        let mut end = start;
        let mut pending = vec![top];
        while let Some(node) = pending.pop() {
            let children = self.children(node);
            let is_text = matches!(node.kind(), "string" | "heredoc_body" | "expansion") && node.id() != top.id();
            if is_text {
                for child in children.iter().filter(|child| child.child_count() > 0) {
                    self.check_gaps(child.start_byte(), *child, child.end_byte());
                }
            }
            if is_text || children.is_empty() {
                self.check_gap(end, node.start_byte());
                end = end.max(node.end_byte());
            } else {
                pending.extend(children.into_iter().rev());
            }
        }
        self.check_gap(end, until);
    }

    /// The grammar takes an escaped blank for a blank; to the shell it is a word. And it parts words at the end of a
    /// line that goes on; to the shell they are one.
    fn check_gap(&mut self, from: usize, to: usize) {
        let Some(gap) = self.source.get(from..to) else { return };
        let blanks = gap.replace("\\\n", "");
        if self.read_gaps.contains(&from) {
            return;
        }
        if !blanks.trim().is_empty() {
            self.problem(format!("`{}` cannot be told apart from what stands around it", gap.trim()));
        } else if blanks.is_empty() && !gap.is_empty() {
            self.problem("a word goes on in the next line in a place where it cannot be judged".to_owned());
        }
    }
}
