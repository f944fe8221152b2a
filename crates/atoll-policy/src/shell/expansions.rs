//! Words, and the substitutions in them.

use std::ops::Range;

use tree_sitter::Node;

use super::Input;
use super::environment::Environment;
use super::lexer::{self, Context, Expansions, Substitution, Value};
use super::redirects::Redirections;
use super::walk::{Outcome, Source, Walker, read_script};
use super::word::{Atom, Piece, Word, expand, expand_single};

impl Expansions for Walker<'_, '_> {
    fn variable(&mut self, name: &str) -> Option<Vec<Piece>> {
        if let Some(feeds) = self.findings.variable_feeds.get(name) {
            self.feeds.extend_from_slice(feeds);
        }
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
    /// The inside of `$(…)`, `` `…` ``, `<(…)`, `>(…)`.
    pub(super) fn substituted(&mut self, node: Node<'s>) -> Outcome {
        if self.text(node).starts_with('`') {
            let mut inner = self.text(node).to_owned();
            inner.pop();
            let script = inner.split_off(1).replace("\\`", "`").replace("\\$", "$").replace("\\\\", "\\");
            self.read_elsewhere.push(node.byte_range());
            return self.nested(&script, &Source::default());
        }
        if goes_on_after_a_here_document(node) {
            self.findings
                .problem("commands after a here-document in `$(…)` are not run as they are written".to_owned());
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
    pub(super) fn nested(&mut self, script: &str, input: &Source) -> Outcome {
        let mut environment = Environment::new(self.environment.directories.clone());
        environment.forget_everything();
        read_script(script, &mut environment, input, self.findings, self.depth + 1)
    }

    pub(super) fn lex(&mut self, range: Range<usize>, context: Context) -> Vec<Atom> {
        lexer::lex(self.source, range.start, range.end, context, self)
    }

    pub(super) fn words(&mut self, range: Range<usize>) -> Vec<Word> {
        expand(&self.lex(range, Context::Word))
    }

    pub(super) fn single(&mut self, range: Range<usize>) -> Word {
        let start = range.start + self.source[range.clone()].len() - self.source[range.clone()].trim_start().len();
        expand_single(&self.lex(start..range.end, Context::Word))
    }

    /// Groups of nodes that make one word each, as byte ranges: without a blank between them they are one word.
    pub(super) fn spans(&mut self, nodes: &[Node<'s>]) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for node in nodes {
            match spans.last_mut() {
                Some(last) if self.source[last.end..node.start_byte()].replace("\\\n", "").is_empty() => {
                    self.read_gaps.insert(last.end);
                    last.end = node.end_byte();
                }
                _ => spans.push(node.byte_range()),
            }
        }
        spans
    }

    /// `${…}`.
    fn parameter(&mut self, node: Node<'s>) -> Value {
        let outcome = self.expression(node);
        self.feeds.extend(outcome.commands);
        let children = self.children(node);
        let operators: Vec<&str> =
            children.iter().filter(|child| !child.is_named()).map(|child| child.kind()).collect();
        let name = children.iter().find(|child| child.kind() == "variable_name").map(|name| self.text(*name));
        let value = name.and_then(|name| self.variable(name));
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

/// Whether a substitution has further commands after a here-document. bash runs it from its own print of what it read,
/// and bash 5.2 leaves out a `;` there: `$(cat <<E⏎E⏎rm -rf; /)` runs `rm -rf /`.
fn goes_on_after_a_here_document(substitution: Node<'_>) -> bool {
    let mut is_after = false;
    // Nodes in the order of the text, the next one last.
    let mut waiting = vec![substitution];
    while let Some(node) = waiting.pop() {
        if is_after && is_run(node.kind()) {
            return true;
        }
        is_after |= node.kind() == "heredoc_redirect";
        // What is substituted within is looked at by itself.
        let is_elsewhere = matches!(node.kind(), "heredoc_body" | "command_substitution" | "process_substitution");
        if node == substitution || !is_elsewhere {
            let mut cursor = node.walk();
            let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
            waiting.extend(children.into_iter().rev());
        }
    }
    false
}

/// Kinds of nodes that are run.
fn is_run(kind: &str) -> bool {
    kind.ends_with("command")
        || kind.ends_with("statement")
        || matches!(kind, "function_definition" | "list" | "pipeline" | "subshell" | "variable_assignment")
}
