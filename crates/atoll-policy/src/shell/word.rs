//! Words of a command as far as they are known before it runs, and the expansions that make words out of text.

/// At most so many words come of one text by brace expansion.
const BRACE_WORDS_MAX: usize = 64;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Exactly this.
    Text(String),
    /// Something without a slash, within one word: a file-name pattern, a number.
    Segment,
    /// Anything, within one word.
    Any,
    /// Anything, as any number of words (none included).
    Words,
}

/// One word after expansion, or a place where any number of words may come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// Neighbouring `Text` pieces are joined; an empty list is the empty word.
    pub pieces: Vec<Piece>,
}

impl Word {
    /// A word that is fully known.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        Self { pieces: vec![Piece::Text(text.to_owned())] }
    }

    /// One word of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { pieces: vec![Piece::Any] }
    }

    /// Any number of unknown words.
    #[must_use]
    pub fn unknown_words() -> Self {
        Self { pieces: vec![Piece::Words] }
    }

    /// The text, if all of it is known.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What the word certainly begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it may be more or fewer words than one.
    #[must_use]
    pub fn may_split(&self) -> bool {
        self.pieces.contains(&Piece::Words)
    }

    /// For messages: unknown parts are shown as `…`, file-name patterns as `*`.
    #[must_use]
    pub fn display(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Segment => "*",
                Piece::Any | Piece::Words => "…",
            })
            .collect()
    }

    pub(crate) fn push(&mut self, piece: Piece) {
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
            (_, Piece::Text(text)) if text.is_empty() => {}
            (Some(last), piece) if *last == piece && piece != Piece::Words => {}
            (_, piece) => self.pieces.push(piece),
        }
    }

    /// This word followed by another.
    #[must_use]
    pub(crate) fn followed_by(mut self, other: &Self) -> Self {
        for piece in &other.pieces {
            self.push(piece.clone());
        }
        self
    }
}

/// How a character stood in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// Plain: braces and file-name patterns are special.
    None,
    /// Out of a variable: file-name patterns are special.
    Expanded,
    /// Nothing is special.
    Quoted,
}

/// The smallest parts of the text of a word, before expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Atom {
    Char(char, Quoting),
    /// `""`: makes an empty word where there would be none.
    EmptyQuotes,
    /// The end of a word within the value of a variable.
    Break,
    Unknown(Piece),
}

/// Brace expansion, word splitting and file-name patterns, in the shell's order.
pub(crate) fn expand(atoms: &[Atom]) -> Vec<Word> {
    let Some(texts) = expand_braces(atoms) else { return vec![Word::unknown_words()] };
    texts.iter().flat_map(|text| text.split(|atom| *atom == Atom::Break)).filter_map(word_of).collect()
}

/// The same without brace expansion and splitting: for assignments, redirections and here-strings.
pub(crate) fn expand_single(atoms: &[Atom]) -> Word {
    let mut word = Word::default();
    for atom in atoms {
        match atom {
            Atom::Char(character, _) => word.push(Piece::Text(character.to_string())),
            Atom::Break => word.push(Piece::Text(" ".to_owned())),
            Atom::Unknown(Piece::Words) => word.push(Piece::Any),
            Atom::Unknown(piece) => word.push(piece.clone()),
            Atom::EmptyQuotes => {}
        }
    }
    word
}

fn word_of(atoms: &[Atom]) -> Option<Word> {
    if atoms.is_empty() {
        return None;
    }
    let mut word = Word::default();
    let mut rest = atoms;
    if let [Atom::Char('~', Quoting::None), after @ ..] = rest {
        let end = after.iter().position(|atom| matches!(atom, Atom::Char('/', _))).unwrap_or(after.len());
        word.push(Piece::Any);
        rest = &after[end..];
    }
    while let [atom, after @ ..] = rest {
        rest = after;
        match atom {
            Atom::Char('*', quoting) if *quoting != Quoting::Quoted => {
                // With `globstar`, two of them match slashes too.
                let doubled = matches!(after.first(), Some(Atom::Char('*', quoting)) if *quoting != Quoting::Quoted);
                word.push(if doubled { Piece::Any } else { Piece::Segment });
            }
            Atom::Char('?', quoting) if *quoting != Quoting::Quoted => word.push(Piece::Segment),
            Atom::Char('[', quoting) if *quoting != Quoting::Quoted => match bracket_end(after) {
                Some(length) => {
                    word.push(Piece::Segment);
                    rest = &after[length..];
                }
                None => word.push(Piece::Text("[".to_owned())),
            },
            Atom::Char(character, _) => word.push(Piece::Text(character.to_string())),
            Atom::Unknown(piece) => word.push(piece.clone()),
            Atom::EmptyQuotes | Atom::Break => {}
        }
    }
    Some(word)
}

/// How many atoms a `[…]` pattern has after its opening bracket; `None` when it is not closed.
fn bracket_end(atoms: &[Atom]) -> Option<usize> {
    let first_member = usize::from(matches!(atoms.first(), Some(Atom::Char('!' | '^', _)))) + 1;
    let close = atoms.iter().skip(first_member).position(|atom| matches!(atom, Atom::Char(']', _)))?;
    Some(first_member + close + 1)
}

/// `None` when there are too many.
fn expand_braces(atoms: &[Atom]) -> Option<Vec<Vec<Atom>>> {
    let Some((open, close, choices)) = find_braces(atoms) else { return Some(vec![atoms.to_vec()]) };
    let mut texts = Vec::new();
    for choice in choices {
        for tail in expand_braces(&atoms[close + 1..])? {
            for middle in expand_braces(&choice)? {
                texts.push([&atoms[..open], &middle, &tail].concat());
                if texts.len() > BRACE_WORDS_MAX {
                    return None;
                }
            }
        }
    }
    Some(texts)
}

/// The first brace expression that expands: where it opens, where it closes, and its choices.
fn find_braces(atoms: &[Atom]) -> Option<(usize, usize, Vec<Vec<Atom>>)> {
    let plain = |atom: &Atom, wanted: char| *atom == Atom::Char(wanted, Quoting::None);
    for open in (0..atoms.len()).filter(|position| plain(&atoms[*position], '{')) {
        let mut depth = 0_usize;
        let mut commas = Vec::new();
        for (position, atom) in atoms.iter().enumerate().skip(open + 1) {
            if plain(atom, '{') {
                depth += 1;
            } else if plain(atom, ',') && depth == 0 {
                commas.push(position);
            } else if plain(atom, '}') && depth > 0 {
                depth -= 1;
            } else if plain(atom, '}') {
                if let Some(choices) = brace_choices(atoms, open, position, &commas) {
                    return Some((open, position, choices));
                }
                break;
            }
        }
    }
    None
}

fn brace_choices(atoms: &[Atom], open: usize, close: usize, commas: &[usize]) -> Option<Vec<Vec<Atom>>> {
    if commas.is_empty() {
        return brace_range(&atoms[open + 1..close]);
    }
    let mut choices = Vec::new();
    let mut start = open + 1;
    for end in commas.iter().copied().chain([close]) {
        choices.push(atoms[start..end].to_vec());
        start = end + 1;
    }
    Some(choices)
}

/// `1..3` or `a..c`; anything else that looks like a range becomes unknown.
fn brace_range(atoms: &[Atom]) -> Option<Vec<Vec<Atom>>> {
    let text: String = atoms
        .iter()
        .map(|atom| match atom {
            Atom::Char(character, Quoting::None) => Some(*character),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let (from, to) = text.split_once("..")?;
    let word = |text: String| text.chars().map(|character| Atom::Char(character, Quoting::None)).collect();
    let numbers = from.parse::<i32>().ok().zip(to.parse::<i32>().ok());
    if let Some((from, to)) = numbers.filter(|(from, to)| from.abs_diff(*to) < BRACE_WORDS_MAX as u32) {
        return Some((from.min(to)..=from.max(to)).map(|number| word(number.to_string())).collect());
    }
    let mut letters = (from.chars(), to.chars());
    match (letters.0.next(), letters.1.next(), letters.0.next(), letters.1.next()) {
        (Some(from), Some(to), None, None) if from <= to && from.is_ascii_alphanumeric() && to.is_ascii() => {
            Some((from..=to).map(|letter| word(letter.to_string())).collect())
        }
        _ => Some(vec![vec![Atom::Unknown(Piece::Any)]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atoms(text: &str) -> Vec<Atom> {
        text.chars().map(|character| Atom::Char(character, Quoting::None)).collect()
    }

    #[test]
    fn words_come_out_as_the_shell_makes_them() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{a,b}c", "ac bc"),
            ("r{m,x}", "rm rx"),
            ("{a,b}{c,d}", "ac ad bc bd"),
            ("{a,{b,c}}", "a b c"),
            ("{,x}y", "y xy"),
            ("a{b}c", "a{b}c"),
            ("{1..3}", "1 2 3"),
            ("{a..c}", "a b c"),
            ("{1..9999}", "…"),
            ("*.py", "*.py"),
            ("[a-c]x", "*x"),
            ("[x", "[x"),
            ("~/x", "…/x"),
            ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "…"),
        ] {
            let words: Vec<String> = expand(&atoms(text)).iter().map(Word::display).collect();
            assert_eq!(words.join(" "), expected, "{text}");
        }
    }
}
