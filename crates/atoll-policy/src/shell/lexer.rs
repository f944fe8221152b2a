//! From the text of a word to atoms: quotes, escapes, expansions. The shell's own rules, applied to the source;
//! the syntax tree is asked only where a substitution ends.

use std::ops::Range;

use super::word::{Atom, Piece, Quoting};

/// What the lexer asks of the walker that knows tree, variables and commands.
pub(crate) trait Expansions {
    /// The value of `$name`; `None` when it is not known.
    fn variable(&mut self, name: &str) -> Option<Vec<Piece>>;
    /// Takes in the `$(…)`, `${…}`, `$((…))`, `<(…)` that begins at this byte of the source.
    fn substitution(&mut self, start: usize) -> Substitution;
    /// Takes in the inside of a pair of backquotes, its escapes removed.
    /// They stand at `range` of the source.
    fn backquotes(&mut self, script: &str, range: Range<usize>) -> Option<String>;
    /// Whether word splitting goes by blanks.
    fn splits_by_blanks(&self) -> bool;
    /// Something that cannot be understood.
    fn problem(&mut self, what: String);
}

/// A substitution as found in the tree.
pub(crate) struct Substitution {
    /// First byte after it.
    pub(crate) end: usize,
    /// What it comes to.
    pub(crate) value: Value,
}

/// What a substitution comes to.
pub(crate) enum Value {
    /// Exactly this, before word splitting.
    Known(Vec<Piece>),
    /// A number.
    Number,
    /// A file name of the shell's making: one word.
    FileName,
    /// Not known.
    Unknown,
}

/// Where the text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// A word of a command.
    Word,
    /// The body of a here-document that expands.
    HereDocument,
}

/// Lexes `source[start..end]`.
pub(crate) fn lex(source: &str, start: usize, end: usize, context: Context, on: &mut dyn Expansions) -> Vec<Atom> {
    let mut lexer = Lexer { source, position: start, end, context, on, atoms: Vec::new() };
    match context {
        Context::Word => lexer.unquoted(),
        Context::HereDocument => lexer.expanding_text(None),
    }
    lexer.atoms
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
    end: usize,
    context: Context,
    on: &'a mut dyn Expansions,
    atoms: Vec<Atom>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.source[self.position..self.end].chars().next()
    }

    fn rest(&self) -> &str {
        &self.source[self.position..self.end]
    }

    fn take(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += character.len_utf8();
        Some(character)
    }

    fn quoted(&mut self, text: &str) {
        self.atoms.extend(text.chars().map(|character| Atom::Char(character, Quoting::Quoted)));
    }

    fn unquoted(&mut self) {
        while let Some(character) = self.peek() {
            match character {
                '\\' => {
                    self.position += 1;
                    match self.take() {
                        Some('\n') => {}
                        Some(escaped) => self.atoms.push(Atom::Char(escaped, Quoting::Quoted)),
                        None => self.atoms.push(Atom::Char('\\', Quoting::Quoted)),
                    }
                }
                '\'' => {
                    self.position += 1;
                    self.single_quotes();
                }
                '"' => self.double_quotes(),
                '$' if self.rest().starts_with("$'") => {
                    self.position += 2;
                    self.ansi_quotes();
                }
                '$' if self.rest().starts_with("$\"") => {
                    self.position += 1;
                    self.double_quotes();
                }
                '$' => self.dollar(false),
                '`' => self.backquotes(false),
                '<' | '>' if self.rest()[1..].starts_with('(') => self.tree_substitution(false),
                ' ' | '\t' | '\n' | ';' | '|' | '&' | '<' | '>' | '(' | ')' => {
                    self.on.problem(format!("`{}` stands where a word should end", self.rest()));
                    return;
                }
                _ => {
                    self.position += character.len_utf8();
                    self.atoms.push(Atom::Char(character, Quoting::None));
                }
            }
        }
    }

    fn single_quotes(&mut self) {
        let length = self.rest().find('\'').unwrap_or(self.rest().len());
        let text = self.rest()[..length].to_owned();
        self.atoms.push(Atom::EmptyQuotes);
        self.quoted(&text);
        self.position = (self.position + length + 1).min(self.end);
    }

    fn double_quotes(&mut self) {
        self.position += 1;
        self.atoms.push(Atom::EmptyQuotes);
        self.expanding_text(Some('"'));
    }

    /// Text in which `$`, backquotes and some escapes work, up to the closing character.
    fn expanding_text(&mut self, close: Option<char>) {
        while let Some(character) = self.peek() {
            match character {
                _ if Some(character) == close => {
                    self.position += 1;
                    return;
                }
                '\\' => {
                    self.position += 1;
                    match self.peek() {
                        Some('\n') => self.position += 1,
                        Some(escaped @ ('$' | '`' | '\\')) => {
                            self.position += 1;
                            self.atoms.push(Atom::Char(escaped, Quoting::Quoted));
                        }
                        Some('"') if close == Some('"') => {
                            self.position += 1;
                            self.atoms.push(Atom::Char('"', Quoting::Quoted));
                        }
                        _ => self.atoms.push(Atom::Char('\\', Quoting::Quoted)),
                    }
                }
                '$' => self.dollar(true),
                '`' => self.backquotes(true),
                _ => {
                    self.position += character.len_utf8();
                    self.atoms.push(Atom::Char(character, Quoting::Quoted));
                }
            }
        }
        if close.is_some() {
            self.on.problem("a quotation mark is not closed".to_owned());
        }
    }

    fn dollar(&mut self, in_quotes: bool) {
        let after = &self.rest()[1..];
        match after.chars().next() {
            Some('(' | '{' | '[') => self.tree_substitution(in_quotes),
            Some(first) if first == '_' || first.is_ascii_alphabetic() => {
                let is_name = |character: char| character == '_' || character.is_ascii_alphanumeric();
                let length = after.find(|character| !is_name(character)).unwrap_or(after.len());
                let name = after[..length].to_owned();
                self.position += 1 + length;
                let value = self.on.variable(&name);
                self.value(value.map_or(Value::Unknown, Value::Known), in_quotes);
            }
            Some('?' | '#' | '$' | '!') => {
                self.position += 2;
                self.value(Value::Number, in_quotes);
            }
            // `"$@"` is any number of words even in quotes.
            Some('@') => {
                self.position += 2;
                self.atoms.push(Atom::Unknown(Piece::Words));
            }
            Some(first) if first.is_ascii_digit() || matches!(first, '*' | '-') => {
                self.position += 2;
                self.value(Value::Unknown, in_quotes);
            }
            _ => {
                self.position += 1;
                self.atoms.push(Atom::Char('$', Quoting::Quoted));
            }
        }
    }

    fn tree_substitution(&mut self, in_quotes: bool) {
        let found = self.on.substitution(self.position);
        if found.end <= self.position || found.end > self.end {
            self.on.problem(format!("`{}` cannot be read", self.rest()));
            self.position = self.end;
            self.atoms.push(Atom::Unknown(Piece::Words));
            return;
        }
        self.position = found.end;
        self.value(found.value, in_quotes);
    }

    fn backquotes(&mut self, in_quotes: bool) {
        let start = self.position;
        self.position += 1;
        let mut script = String::new();
        loop {
            match self.take() {
                Some('`') => break,
                Some('\\') => match self.take() {
                    Some(escaped @ ('`' | '\\' | '$')) => script.push(escaped),
                    Some('"') if in_quotes && self.context == Context::Word => script.push('"'),
                    Some(other) => script.extend(['\\', other]),
                    None => {}
                },
                Some(character) => script.push(character),
                None => {
                    self.on.problem("a backquote is not closed".to_owned());
                    break;
                }
            }
        }
        let output = self.on.backquotes(&script, start..self.position);
        self.value(output.map_or(Value::Unknown, |text| Value::Known(vec![Piece::Text(text)])), in_quotes);
    }

    fn value(&mut self, value: Value, in_quotes: bool) {
        match value {
            Value::Number => self.atoms.push(Atom::Unknown(Piece::Segment)),
            Value::FileName => self.atoms.push(Atom::Unknown(Piece::Any)),
            Value::Unknown => self.atoms.push(Atom::Unknown(if in_quotes { Piece::Any } else { Piece::Words })),
            Value::Known(_) if !in_quotes && !self.on.splits_by_blanks() => {
                self.atoms.push(Atom::Unknown(Piece::Words));
            }
            Value::Known(pieces) => {
                for piece in pieces {
                    self.piece(piece, in_quotes);
                }
            }
        }
    }

    fn piece(&mut self, piece: Piece, in_quotes: bool) {
        match piece {
            Piece::Text(text) if in_quotes => self.quoted(&text),
            Piece::Text(text) => {
                self.atoms.extend(text.chars().map(|character| match character {
                    ' ' | '\t' | '\n' => Atom::Break,
                    _ => Atom::Char(character, Quoting::Expanded),
                }));
            }
            Piece::Any | Piece::Words if !in_quotes => self.atoms.push(Atom::Unknown(Piece::Words)),
            Piece::Words => self.atoms.push(Atom::Unknown(Piece::Any)),
            known_shape => self.atoms.push(Atom::Unknown(known_shape)),
        }
    }

    /// `$'…'`.
    fn ansi_quotes(&mut self) {
        self.atoms.push(Atom::EmptyQuotes);
        loop {
            match self.take() {
                Some('\'') => return,
                Some('\\') => self.ansi_escape(),
                Some(character) => self.atoms.push(Atom::Char(character, Quoting::Quoted)),
                None => {
                    self.on.problem("a quotation mark is not closed".to_owned());
                    return;
                }
            }
        }
    }

    fn ansi_escape(&mut self) {
        let simple = match self.peek() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('e' | 'E') => '\u{1b}',
            Some('f') => '\u{c}',
            Some('v') => '\u{b}',
            Some(same @ ('\\' | '\'' | '"' | '?')) => same,
            Some('x') => return self.numeric_escape(1, 2, 16),
            Some('u') => return self.numeric_escape(1, 4, 16),
            Some('U') => return self.numeric_escape(1, 8, 16),
            Some('0'..='7') => return self.numeric_escape(0, 3, 8),
            _ => {
                self.take();
                self.atoms.push(Atom::Unknown(Piece::Any));
                return;
            }
        };
        self.take();
        self.atoms.push(Atom::Char(simple, Quoting::Quoted));
    }

    fn numeric_escape(&mut self, skip: usize, digits_max: usize, radix: u32) {
        self.position += skip;
        let digits: String = self.rest().chars().take(digits_max).take_while(|digit| digit.is_digit(radix)).collect();
        self.position += digits.len();
        // Above 127, `\x` makes bytes that need not be a character.
        let character = u32::from_str_radix(&digits, radix).ok().filter(|code| *code < 128).and_then(char::from_u32);
        self.atoms.push(match character {
            Some(character) => Atom::Char(character, Quoting::Quoted),
            None => Atom::Unknown(Piece::Any),
        });
    }
}
