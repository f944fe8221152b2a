//! What a command does to the world beyond the sandbox: pushes, deploys, database writes.
//!
//! Where it is not certain, the answer is that it may.

mod database;
mod deploy;
pub(crate) mod git;

use crate::action::Effect;
use crate::shell::{Command, Word};

/// An effect that a command has, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) effect: Effect,
    pub(crate) certain: bool,
}

impl Found {
    fn certain(effect: Effect) -> Self {
        Self { effect, certain: true }
    }

    fn possible(effect: Effect) -> Self {
        Self { effect, certain: false }
    }
}

/// The effects of one simple command. Those of the commands it runs are theirs.
pub(crate) fn of_command(command: &Command) -> Vec<Found> {
    let Some(program) = command.program() else { return Vec::new() };
    if command.replaced {
        return Vec::new();
    }
    let found = [git::effect(program, command), deploy::effect(program, command), database::effect(program, command)];
    found.into_iter().flatten().collect()
}

/// The words that are no options, `value_options` and their values skipped. Ends early at a word that may be several.
fn operands<'w>(words: &'w [Word], value_options: &[&str]) -> Vec<&'w Word> {
    let mut operands = Vec::new();
    let mut skip_next = false;
    for word in words {
        if std::mem::take(&mut skip_next) {
            continue;
        }
        if word.prefix().starts_with('-') && word.prefix().len() > 1 {
            skip_next = word.text().is_some_and(|text| value_options.contains(&text));
            continue;
        }
        operands.push(word);
    }
    operands
}

/// Whether the first operands are these words: yes, no, or it depends (`None`).
fn begins_with(operands: &[&Word], path: &[&str]) -> Option<bool> {
    for (position, wanted) in path.iter().enumerate() {
        let Some(word) = operands.get(position) else { return Some(false) };
        match word.text() {
            Some(text) if text == *wanted => {}
            Some(_) => return Some(false),
            None => return None,
        }
    }
    Some(true)
}
