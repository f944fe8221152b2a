//! Variables: what assigns them, and what they are worth knowing for.

use std::collections::BTreeSet;

use tree_sitter::Node;

use super::Input;
use super::walk::{Outcome, Source, Walker};
use super::word::Word;

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

impl<'s> Walker<'s, '_> {
    pub(super) fn assignment(&mut self, node: Node<'s>, lasting: bool) -> Outcome {
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
        if fed {
            let feeds = self.findings.variable_feeds.entry(variable.to_owned()).or_default();
            feeds.extend_from_slice(&self.feeds[feeds_before..]);
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

    pub(super) fn declaration(&mut self, node: Node<'s>) -> Outcome {
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

    pub(super) fn unset(&mut self, node: Node<'s>) -> Outcome {
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
    pub(super) fn forget_what_changes_in(&mut self, node: Node<'s>) {
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
}

fn node_or<'s>(value: Option<Node<'s>>, otherwise: Node<'s>) -> Node<'s> {
    value.unwrap_or(otherwise)
}
