//! Command patterns of `blocked_commands` and `allow_commands`.
//!
//! A blocked pattern is matched broadly: a program by its name wherever it lies, flags in any order and spelling,
//! operands anywhere in the command, paths after normalisation, `a | b` wherever what `a` makes flows into `b`, and a
//! shell in the pattern stands for every shell. An allowing pattern is matched narrowly, word by word.

use super::interpreters::is_shell;
use super::word::{Piece, Word};
use super::{Command, Script};
use crate::effects::git::GitCall;
use crate::path::{join, normalise};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Words longer than this, in characters, are not compared with patterns but count as unknown.
const WORD_CHARS_MAX: usize = 4096;

/// A pattern such as `rm -rf /` or `curl * | bash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPattern {
    text: String,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Commands that feed each other.
    Stages(Vec<Stage>),
    /// Anything that is no list of plain commands is compared as text, without blanks.
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stage {
    program: String,
    flags: Vec<String>,
    operands: Vec<String>,
    /// All words as written.
    words: Vec<String>,
}

/// Whether a command fits a pattern. Ordered: a later variant is the stronger answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It does not.
    No,
    /// It depends on what is only known when it runs.
    Maybe,
    /// It does.
    Yes,
}

impl CommandPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        if trimmed.len() > PATTERN_BYTES_MAX {
            return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let plain = !trimmed.contains([';', '&', '(', ')', '{', '}', '<', '>', '\'', '"', '`', '$', '\\', '\n']);
        if !plain || trimmed.contains("||") {
            let squeezed: String = trimmed.split_whitespace().collect();
            return Ok(Self { text: text.to_owned(), shape: Shape::Text(squeezed) });
        }
        let stages: Result<Vec<Stage>, String> = trimmed.split('|').map(Stage::parse).collect();
        Ok(Self { text: text.to_owned(), shape: Shape::Stages(stages?) })
    }

    /// The pattern as it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a script holds a command that fits, read as a blocked pattern. `source` is the script's text.
    #[must_use]
    pub fn blocks(&self, source: &str, script: &Script) -> Fit {
        match &self.shape {
            Shape::Stages(stages) => chain_fit(stages, script),
            Shape::Text(pattern) => {
                let squeezed: String = source.split_whitespace().collect();
                let within = format!("*{pattern}*");
                if intersects(&glob(&within), &literal(&squeezed)) { Fit::Yes } else { Fit::No }
            }
        }
    }

    /// Whether the command is exactly what an allowing pattern describes. `*` stands for any words at the end, for
    /// any characters within a word.
    #[must_use]
    pub fn allows(&self, command: &Command) -> bool {
        match &self.shape {
            Shape::Stages(stages) => stages.iter().any(|stage| stage.allows(command)),
            Shape::Text(_) => false,
        }
    }
}

impl Stage {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let Some(program) = words.first().cloned() else {
            return Err("there is no command on one side of `|`".to_owned());
        };
        let rest = words[1..].iter().filter(|word| *word != "*");
        let (flags, operands): (Vec<_>, Vec<_>) =
            rest.cloned().partition(|word| word.len() > 1 && word.starts_with('-'));
        Ok(Self { program, flags, operands, words })
    }

    fn allows(&self, command: &Command) -> bool {
        let open_ended = self.words.len() > 1 && self.words.last().is_some_and(|last| last == "*");
        let exact = &self.words[..self.words.len() - usize::from(open_ended)];
        let fits = |(position, (pattern, word)): (usize, (&String, &Word))| {
            let Some(text) = word.text() else { return false };
            let name = if position == 0 && !pattern.contains('/') { command.program().unwrap_or(text) } else { text };
            spells(pattern, name)
        };
        let enough = command.words.len() == exact.len() || (open_ended && command.words.len() >= exact.len());
        enough && exact.iter().zip(&command.words).enumerate().all(fits)
    }

    fn blocks(&self, command: &Command) -> Fit {
        let program = self.program_fit(command);
        if program == Fit::No { Fit::No } else { program.min(self.words_fit(command)) }
    }

    fn program_fit(&self, command: &Command) -> Fit {
        let Some(word) = command.words.first() else { return Fit::No };
        let Some(path) = word.text() else {
            return if intersects(&glob(&format!("*{}", self.program)), &pieces(word)) { Fit::Maybe } else { Fit::No };
        };
        let name = command.program().unwrap_or(path);
        let by_name = spells(&self.program, name) || spells(&self.program, path);
        let runs_scripts = is_shell(name) || matches!(name, "eval" | "source" | ".") || command.runs_made_file;
        if by_name || (is_shell(&self.program) && runs_scripts) { Fit::Yes } else { Fit::No }
    }

    /// Flags and operands. Every one that is not there for certain must find an unknown word of its own.
    fn words_fit(&self, command: &Command) -> Fit {
        let given = Given::of(command);
        if let (Some(first), "git") = (self.operands.first(), self.program.as_str()) {
            let subcommand = given.operands.first().copied().and_then(Word::text);
            if subcommand.is_some_and(|subcommand| !spells(first, subcommand)) {
                return Fit::No;
            }
        }
        let mut missing = 0_usize;
        let mut unsure = false;
        missing += usize::from(self.flags.iter().any(|flag| !given.has_flag(flag)));
        let mut position = 0;
        for operand in &self.operands {
            let fits = |word: &&Word| operand_fit(operand, word, command);
            let rest = &given.operands[position.min(given.operands.len())..];
            match rest.iter().position(|word| fits(word) == Fit::Yes) {
                Some(at) => position += at + 1,
                None if rest.iter().any(|word| fits(word) == Fit::Maybe) => unsure = true,
                None => missing += 1,
            }
        }
        match missing {
            0 if !unsure => Fit::Yes,
            0 => Fit::Maybe,
            missing if given.unknown_many || given.unknown_single >= missing => Fit::Maybe,
            _ => Fit::No,
        }
    }
}

/// The words of a command, sorted.
struct Given<'c> {
    flags: Vec<&'c str>,
    operands: Vec<&'c Word>,
    /// Words that may be anything.
    unknown_single: usize,
    unknown_many: bool,
    program: &'c str,
}

impl<'c> Given<'c> {
    fn of(command: &'c Command) -> Self {
        let program = command.program().unwrap_or_default();
        let mut given =
            Self { flags: Vec::new(), operands: Vec::new(), unknown_single: 0, unknown_many: false, program };
        let call = (program == "git").then(|| GitCall::parse(command.arguments()));
        let words: Vec<&Word> = match &call {
            Some(call) => call.subcommand.into_iter().chain(call.arguments).collect(),
            None => command.arguments().iter().collect(),
        };
        let mut only_operands = false;
        for word in words {
            given.unknown_many |= word.may_split();
            match word.text() {
                Some("--") => only_operands = true,
                Some(flag) if !only_operands && flag.len() > 1 && flag.starts_with('-') => given.flags.push(flag),
                Some(_) => given.operands.push(word),
                None => {
                    given.unknown_single += usize::from(word.prefix().is_empty() || word.prefix().starts_with('-'));
                    given.operands.push(word);
                }
            }
        }
        given
    }

    fn has_flag(&self, wanted: &str) -> bool {
        if self.flags.contains(&wanted) {
            return true;
        }
        if let Some(long) = wanted.strip_prefix("--") {
            let name = long.split('=').next().unwrap_or(long);
            return self.has_long(name) || short_of(name).is_some_and(|letter| self.has_letter(letter));
        }
        wanted[1..]
            .chars()
            .all(|letter| self.has_letter(letter) || long_of(letter).is_some_and(|long| self.has_long(long)))
    }

    /// Long options may be shortened.
    fn has_long(&self, name: &str) -> bool {
        self.flags.iter().filter_map(|flag| flag.strip_prefix("--")).any(|flag| {
            let flag = flag.split('=').next().unwrap_or(flag);
            flag.len() >= 3 && name.starts_with(flag)
        })
    }

    fn has_letter(&self, letter: char) -> bool {
        let folds_case =
            matches!(self.program, "rm" | "cp" | "chmod" | "chown" | "chgrp") && letter.eq_ignore_ascii_case(&'r');
        self.flags
            .iter()
            .filter(|flag| !flag.starts_with("--"))
            .any(|flag| flag.contains(letter) || (folds_case && flag.to_ascii_lowercase().contains('r')))
    }
}

fn short_of(long: &str) -> Option<char> {
    match long {
        "recursive" => Some('r'),
        "force" => Some('f'),
        _ => None,
    }
}

fn long_of(letter: char) -> Option<&'static str> {
    match letter {
        'r' | 'R' => Some("recursive"),
        'f' => Some("force"),
        _ => None,
    }
}

fn operand_fit(pattern: &str, word: &Word, command: &Command) -> Fit {
    let wanted = glob(pattern);
    let by_path = pattern.starts_with('/');
    if let Some(text) = word.text() {
        let fits = |form: &str| intersects(&wanted, &literal(form));
        if fits(text) {
            return Fit::Yes;
        }
        if !by_path || text.is_empty() {
            return Fit::No;
        }
        return paths(text, &command.cwd, fits);
    }
    if by_path && let Some(directory) = listed_directory(word) {
        // `dir/*` is as good as `dir`.
        let fits = |form: &str| intersects(&wanted, &literal(form));
        let whole = if directory.is_empty() { "." } else { directory };
        if !pattern.contains('*') && paths(whole, &command.cwd, fits) == Fit::Yes {
            return Fit::Yes;
        }
        if directory.is_empty() && !command.cwd.is_empty() {
            return Fit::No;
        }
    }
    let relative = by_path && !word.prefix().is_empty() && !word.prefix().starts_with('/');
    let certain_start = word.prefix().split('/').all(|part| part != "..");
    if relative && certain_start && !command.cwd.is_empty() {
        let inside = command.cwd.iter().map(|cwd| literal(&format!("{}/", cwd.trim_end_matches('/'))));
        let forms: Vec<Vec<Token>> = inside.map(|start| [start, pieces(word)].concat()).collect();
        return if forms.iter().any(|form| intersects(&wanted, form)) { Fit::Maybe } else { Fit::No };
    }
    if intersects(&wanted, &pieces(word)) { Fit::Maybe } else { Fit::No }
}

fn paths(text: &str, directories: &[String], fits: impl Fn(&str) -> bool) -> Fit {
    if text.starts_with('/') {
        return if fits(&normalise(text)) { Fit::Yes } else { Fit::No };
    }
    if directories.is_empty() {
        // Somewhere; only a path that climbs can be anywhere.
        let climbs = normalise_relative_climbs(text);
        return if climbs { Fit::Maybe } else { Fit::No };
    }
    if directories.iter().any(|directory| fits(&join(directory, text))) { Fit::Yes } else { Fit::No }
}

fn normalise_relative_climbs(text: &str) -> bool {
    matches!(text, "." | "./" | "*") || text.split('/').any(|part| part == "..")
}

/// For `dir/*`, the directory; empty for a lone `*`.
fn listed_directory(word: &Word) -> Option<&str> {
    match word.pieces.as_slice() {
        [Piece::Segment] => Some(""),
        [Piece::Text(text), Piece::Segment] if text.ends_with('/') => Some(text),
        _ => None,
    }
}

/// The strongest fit of a chain of commands in which each feeds the next, directly or through others.
fn chain_fit(stages: &[Stage], script: &Script) -> Fit {
    let Some((first, rest)) = stages.split_first() else { return Fit::No };
    let mut fits: Vec<Fit> = script.commands.iter().map(|command| first.blocks(command)).collect();
    for stage in rest {
        let mut next = vec![Fit::No; fits.len()];
        for (start, fit) in fits.iter().enumerate().filter(|(_, fit)| **fit != Fit::No) {
            for reached in reachable(start, script) {
                let both = stage.blocks(&script.commands[reached]).min(*fit);
                next[reached] = next[reached].max(both);
            }
        }
        fits = next;
    }
    fits.into_iter().max().unwrap_or(Fit::No)
}

fn reachable(start: usize, script: &Script) -> Vec<usize> {
    let mut seen = vec![false; script.commands.len()];
    let mut pending = vec![start];
    let mut reached = Vec::new();
    while let Some(from) = pending.pop() {
        for (_, to) in script.flows.iter().filter(|(source, _)| *source == from) {
            if !std::mem::replace(&mut seen[*to], true) {
                reached.push(*to);
                pending.push(*to);
            }
        }
    }
    reached
}

/// A part of a text of which some is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// Any characters.
    Any,
    /// Any characters but a slash.
    Segment,
}

fn glob(pattern: &str) -> Vec<Token> {
    pattern.chars().map(|character| if character == '*' { Token::Any } else { Token::Char(character) }).collect()
}

fn literal(text: &str) -> Vec<Token> {
    if text.len() > WORD_CHARS_MAX {
        return vec![Token::Any];
    }
    text.chars().map(Token::Char).collect()
}

fn pieces(word: &Word) -> Vec<Token> {
    let mut tokens = Vec::new();
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => tokens.extend(literal(text)),
            Piece::Segment => tokens.push(Token::Segment),
            Piece::Any | Piece::Words => tokens.push(Token::Any),
        }
    }
    tokens
}

/// Whether a text fits a pattern. Most patterns have no wildcard and most words do not fit, so the plain comparison comes
/// first.
fn spells(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') && text.len() <= WORD_CHARS_MAX {
        return pattern == text;
    }
    intersects(&glob(pattern), &literal(text))
}

/// Whether some text fits both.
fn intersects(left: &[Token], right: &[Token]) -> bool {
    // reached[j]: the first i tokens of `left` and the first j of `right` can spell the same text.
    let skips = |token: Token| !matches!(token, Token::Char(_));
    let mut reached = vec![false; right.len() + 1];
    reached[0] = true;
    for j in 0..right.len() {
        reached[j + 1] = reached[j] && skips(right[j]);
    }
    for token in left {
        let mut next = vec![false; right.len() + 1];
        next[0] = reached[0] && skips(*token);
        for j in 0..right.len() {
            let other = right[j];
            next[j + 1] = match (*token, other) {
                (Token::Char(a), Token::Char(b)) => a == b && reached[j],
                // Either the wildcard is done, or it takes one more character.
                (Token::Char(a), wildcard) => next[j] || (reached[j + 1] && takes(wildcard, a)),
                (wildcard, Token::Char(b)) => reached[j + 1] || (next[j] && takes(wildcard, b)),
                _ => next[j] || reached[j + 1],
            };
        }
        reached = next;
    }
    reached[right.len()]
}

fn takes(wildcard: Token, character: char) -> bool {
    wildcard == Token::Any || character != '/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersection_of_wildcards() {
        for (left, right, expected) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "b", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("mkfs*", "mkfs.ext4", true),
            ("mkfs*", "mkf", false),
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("*x*", "*y*", true),
            ("of=/dev/*", "of=/dev/sda", true),
        ] {
            assert_eq!(intersects(&glob(left), &glob(right)), expected, "{left:?} {right:?}");
            assert_eq!(intersects(&glob(right), &glob(left)), expected, "{right:?} {left:?}");
        }
        assert!(!intersects(&literal("a/b"), &[Token::Segment]));
        assert!(intersects(&literal("a/b"), &[Token::Segment, Token::Char('/'), Token::Segment]));
    }

    #[test]
    fn patterns_that_say_nothing_are_refused() {
        assert!(CommandPattern::parse("  ").is_err());
        assert!(CommandPattern::parse("curl * |").is_err());
        assert!(CommandPattern::parse(":(){ :|:& };:").is_ok());
    }
}
