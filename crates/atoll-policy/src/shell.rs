//! Shell scripts, taken apart into simple commands with what is known of their words, and how data flows between them.
//!
//! The tree comes from tree-sitter; words are lexed here by the shell's own rules. Whatever this module does not
//! understand becomes a *problem*, and every command of the tree that was not visited is one too: reading errs on the
//! side of saying so.

mod assignments;
mod embedded;
mod environment;
mod expansions;
mod interpreters;
mod lexer;
pub mod pattern;
mod redirects;
mod walk;
mod word;
mod wrappers;

pub use walk::analyse;
pub use word::{Piece, Word};

/// Longest script that is read, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 64 * 1024;
/// How deep scripts may be nested in each other.
pub const SCRIPT_DEPTH_MAX: usize = 8;
/// How many commands a script may have, nested ones included.
pub const COMMANDS_MAX: usize = 256;

/// A script, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Every simple command, wherever it stands; those inside `sudo`, `bash -c` and the like as well as those around.
    pub commands: Vec<Command>,
    /// Pairs of positions in `commands`: what the first makes, the second takes in.
    pub flows: Vec<(usize, usize)>,
    /// Files that redirections name.
    pub files: Vec<FileUse>,
    /// What could not be understood, for people.
    pub problems: Vec<String>,
}

/// A simple command.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<Word>,
    /// Directories that it may run in; empty when not known.
    pub cwd: Vec<String>,
    /// Standard input, where it is known before the command runs.
    pub input: Input,
    /// The walker replaced it by other commands of the list (an alias, for instance).
    pub replaced: bool,
    /// It runs a file that an earlier command of the script made.
    pub runs_made_file: bool,
}

impl Command {
    /// The program's name without its directory; `None` when it is not known.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        program_name(&self.words)
    }

    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    /// For messages.
    #[must_use]
    pub fn display(&self) -> String {
        self.words.iter().map(Word::display).collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn program_name(words: &[Word]) -> Option<&str> {
    let path = words.first()?.text()?;
    if path.contains(char::is_whitespace) {
        return Some(path);
    }
    Some(path.rsplit_once('/').map_or(path, |(_, name)| name))
}

/// Standard input of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Input {
    /// Nothing is there to read.
    #[default]
    Nothing,
    /// Exactly this text.
    Known(String),
    /// Something.
    Unknown,
}

/// A file that a redirection names.
#[derive(Debug, Clone)]
pub struct FileUse {
    /// Its path as written.
    pub path: Word,
    /// As [`Command::cwd`].
    pub cwd: Vec<String>,
    /// Whether it is written.
    pub writes: bool,
}
