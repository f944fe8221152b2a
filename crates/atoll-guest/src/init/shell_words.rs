//! Splitting a command line by the quoting rules of a POSIX shell, without a shell: no variables, globs or pipes.

/// Why a command line can not be split. The words are those that clients of this endpoint know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("No closing quotation")]
    NoClosingQuotation,
    #[error("No escaped character")]
    NoEscapedCharacter,
}

/// The words of `line`.
pub(crate) fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => {
                let escaped = rest.next().ok_or(SplitError::NoEscapedCharacter)?;
                word.get_or_insert_default().push(escaped);
            }
            '\'' => single_quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next().ok_or(SplitError::NoClosingQuotation)? {
            '\'' => return Ok(()),
            other => word.push(other),
        }
    }
}

/// Inside double quotes a backslash escapes only itself and the quote.
fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next().ok_or(SplitError::NoClosingQuotation)? {
            '"' => return Ok(()),
            '\\' => match rest.next().ok_or(SplitError::NoEscapedCharacter)? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_python_shlex() {
        let cases: [(&str, &[&str]); 13] = [
            ("", &[]),
            ("  ", &[]),
            ("echo  hello\tworld\n", &["echo", "hello", "world"]),
            ("echo 'a b' \"c d\"", &["echo", "a b", "c d"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("echo ''", &["echo", ""]),
            (r"a\ b", &["a b"]),
            (r#"echo "a\"b\\c\d""#, &["echo", r#"a"b\c\d"#]),
            (r"echo 'a\b'", &["echo", r"a\b"]),
            ("echo # no comment", &["echo", "#", "no", "comment"]),
            ("a && b | c > d", &["a", "&&", "b", "|", "c", ">", "d"]),
            ("echo $HOME *", &["echo", "$HOME", "*"]),
            ("python3 -c 'print(\"ä\")'", &["python3", "-c", "print(\"ä\")"]),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line).unwrap(), expected, "{line:?}");
        }
    }

    #[test]
    fn open_ends_are_errors() {
        for (line, expected) in [
            ("echo 'a", SplitError::NoClosingQuotation),
            ("echo \"a", SplitError::NoClosingQuotation),
            ("echo a\\", SplitError::NoEscapedCharacter),
            ("echo \"a\\", SplitError::NoEscapedCharacter),
        ] {
            assert_eq!(split(line), Err(expected), "{line:?}");
        }
    }
}
