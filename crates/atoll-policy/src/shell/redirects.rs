//! Redirections and here-documents.

use tree_sitter::Node;

use super::environment::MadeFile;
use super::lexer::Context;
use super::walk::{Outcome, Source, Walker};
use super::word::{Word, expand_single};
use super::{FileUse, Input};

/// The redirections of one command.
#[derive(Default)]
pub(super) struct Redirections<'s> {
    pub(super) input: Option<Input>,
    /// Files that get standard output, and whether it is appended.
    pub(super) written: Vec<(Word, bool)>,
    /// Words of the command that the tree has among the redirections.
    pub(super) arguments: Vec<Word>,
    /// What follows a here-document on its first line: operator and statement.
    pub(super) following: Vec<(&'static str, Node<'s>)>,
}

impl Redirections<'_> {
    pub(super) fn source(&self, outer: &Source) -> Source {
        match &self.input {
            Some(input) => Source { input: input.clone(), feeds: Vec::new() },
            None => outer.clone(),
        }
    }
}

impl<'s> Walker<'s, '_> {
    pub(super) fn redirected(&mut self, node: Node<'s>, input: &Source) -> Outcome {
        let is_redirect = |child: &Node<'_>| child.kind().ends_with("_redirect");
        let redirects: Vec<Node<'s>> = self.children(node).into_iter().filter(is_redirect).collect();
        match node.child_by_field_name("body") {
            Some(body) => self.with_redirects(body, &redirects, input),
            None => self.redirected_command(None, &redirects, input),
        }
    }

    /// The tree hangs redirections on a whole list or pipeline; they belong to its last command.
    pub(super) fn with_redirects(&mut self, body: Node<'s>, redirects: &[Node<'s>], input: &Source) -> Outcome {
        if redirects.is_empty() {
            return self.statement(body, input);
        }
        match body.kind() {
            "list" => self.list(body, redirects, input),
            "pipeline" => self.pipeline(body, redirects, input),
            "negated_command" => match body.named_child(0) {
                Some(inner) => self.with_redirects(inner, redirects, input),
                None => Outcome::default(),
            },
            _ => self.redirected_command(Some(body), redirects, input),
        }
    }

    fn redirected_command(&mut self, body: Option<Node<'s>>, redirects: &[Node<'s>], input: &Source) -> Outcome {
        let mut redirections = Redirections::default();
        if let (Some(body), Some(first)) = (body, redirects.first()) {
            redirections.arguments.extend(self.lost_dash(body, *first));
        }
        for redirect in redirects {
            self.redirect(*redirect, &mut redirections);
        }
        let mut feeds = std::mem::take(&mut self.feeds);
        let sinks = std::mem::take(&mut self.sinks);
        let mut source = redirections.source(input);
        source.feeds.extend_from_slice(&feeds);
        let mut outcome = match body {
            Some(body) if body.kind() == "command" => self.command(body, &redirections.arguments, &source),
            Some(body) => {
                if !redirections.arguments.is_empty() {
                    self.problem(format!("`{}` is not understood", self.text(body)));
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
        if redirections.following.is_empty() { outcome } else { self.following(&redirections, outcome, input) }
    }

    /// The `-` of `python3 - <<EOF`, which the grammar takes for a blank.
    fn lost_dash(&mut self, body: Node<'s>, redirect: Node<'s>) -> Vec<Word> {
        let gap = body.end_byte()..redirect.start_byte();
        let Some(text) = self.source.get(gap.clone()).filter(|text| text.trim_matches([' ', '\t']) == "-") else {
            return Vec::new();
        };
        let dash = gap.start + text.find('-').unwrap_or_default();
        if dash == gap.start {
            return Vec::new();
        }
        self.read_gaps.insert(gap.start);
        self.words(dash..dash + 1)
    }

    /// `cat <<EOF | next`, `cat <<EOF && next`: the tree has what follows inside the redirection.
    pub(super) fn following(&mut self, redirections: &Redirections<'s>, first: Outcome, input: &Source) -> Outcome {
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

    pub(super) fn write_files(&mut self, redirections: &Redirections<'_>, outcome: &mut Outcome) {
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

    pub(super) fn redirect(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
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

    pub(super) fn file_redirect(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
        let children = self.children(node);
        let operator = children.iter().find(|child| !child.is_named()).map(|child| child.kind()).unwrap_or_default();
        let descriptor = children.iter().find(|child| child.kind() == "file_descriptor").map(|child| self.text(*child));
        let targets: Vec<Node<'s>> = (0..children.len())
            .filter(|position| node.field_name_for_child(*position as u32) == Some("destination"))
            .map(|position| children[position])
            .collect();
        // What stands after the file belongs to the command.
        let mut spans = self.spans(&targets);
        if matches!(operator, "<&-" | ">&-") {
            spans.insert(0, node.start_byte()..node.start_byte());
        }
        let Some(first) = spans.first() else { return };
        let target = self.single(first.clone());
        for span in &spans[1..] {
            let words = self.words(span.clone());
            into.arguments.extend(words);
        }
        let duplicates = matches!(operator, "<&-" | ">&-")
            || matches!(operator, ">&" | "<&")
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

    pub(super) fn here_document(&mut self, node: Node<'s>, into: &mut Redirections<'s>) {
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
