//! What is known, at one point of a script, of variables, directory, aliases and files.

use std::collections::{BTreeMap, BTreeSet};

use super::word::{Piece, Word};
use crate::path::{join, normalise};

/// Directories that a command may run in are followed up to so many alternatives.
const DIRECTORIES_MAX: usize = 4;

/// The shell's own state.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    variables: BTreeMap<String, Vec<Piece>>,
    /// Names that are never known: assigned in a loop, in a function, or in ways that are not followed.
    volatile: BTreeSet<String>,
    /// Nothing is known of any variable.
    opaque: bool,
    /// Empty: not known.
    pub(super) directories: Vec<String>,
    pub(super) splits_by_blanks: bool,
    pub(super) aliases: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn new(directories: Vec<String>) -> Self {
        Self {
            variables: BTreeMap::new(),
            volatile: BTreeSet::new(),
            opaque: false,
            directories,
            splits_by_blanks: true,
            aliases: BTreeMap::new(),
        }
    }

    pub(super) fn variable(&self, name: &str) -> Option<Vec<Piece>> {
        if self.opaque || self.volatile.contains(name) {
            return None;
        }
        match (name, self.directories.as_slice()) {
            ("PWD", [directory]) => Some(vec![Piece::Text(directory.clone())]),
            _ => self.variables.get(name).cloned(),
        }
    }

    pub(super) fn assign(&mut self, name: &str, value: Vec<Piece>) {
        if name == "IFS" {
            self.splits_by_blanks = false;
        }
        self.variables.insert(name.to_owned(), value);
    }

    /// From here on nobody knows this variable.
    pub(super) fn forget(&mut self, name: &str) {
        if name == "IFS" {
            self.splits_by_blanks = false;
        }
        self.variables.remove(name);
    }

    pub(super) fn forget_for_good(&mut self, name: &str) {
        self.forget(name);
        self.volatile.insert(name.to_owned());
    }

    pub(super) fn forget_everything(&mut self) {
        self.opaque = true;
    }

    /// After `cd`; `None` for a directory that is not known.
    pub(super) fn change_directory(&mut self, target: Option<&str>) {
        let Some(target) = target else {
            self.directories.clear();
            return;
        };
        if target.starts_with('/') {
            self.directories = vec![normalise(target)];
        } else {
            for directory in &mut self.directories {
                *directory = join(directory, target);
            }
        }
    }

    /// What is known when either this or the other may be the case.
    pub(super) fn merge(&mut self, other: &Self) {
        self.variables.retain(|name, value| other.variables.get(name) == Some(value));
        self.volatile.extend(other.volatile.iter().cloned());
        self.opaque |= other.opaque;
        self.splits_by_blanks &= other.splits_by_blanks;
        self.aliases.extend(other.aliases.iter().map(|(name, text)| (name.clone(), text.clone())));
        if self.directories.is_empty() || other.directories.is_empty() {
            self.directories.clear();
            return;
        }
        for directory in &other.directories {
            if !self.directories.contains(directory) {
                self.directories.push(directory.clone());
            }
        }
        if self.directories.len() > DIRECTORIES_MAX {
            self.directories.clear();
        }
    }

    /// The absolute path of a word, where it is known and there is one directory.
    pub(super) fn path(&self, word: &Word) -> Option<String> {
        let text = word.text().filter(|text| !text.is_empty())?;
        match (text.starts_with('/'), self.directories.as_slice()) {
            (true, _) => Some(normalise(text)),
            (false, [directory]) => Some(join(directory, text)),
            (false, _) => None,
        }
    }
}

/// A file that the script itself makes.
#[derive(Debug, Clone)]
pub(super) struct MadeFile {
    /// `None`: not known.
    pub(super) content: Option<String>,
    /// Positions of the commands that make it.
    pub(super) makers: Vec<usize>,
    /// Made by a redirection, not by a program of its own accord (a compiler, for instance).
    pub(super) by_redirection: bool,
}
