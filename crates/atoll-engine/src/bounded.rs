//! Cutting text to size in a way that says what was cut.

/// Share of the room given to the beginning, in percent; the rest shows the end, where errors tend to be.
const HEAD_PERCENT: usize = 60;

/// A text that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded {
    pub text: String,
    /// Bytes left out; 0 when nothing was cut.
    pub cut_bytes: usize,
}

/// Cuts `text` to about `bytes_max` bytes by leaving out the middle, at line ends where there are any. `how_to_get_it`
/// completes the mark that stands in its place, e.g. `read lines 40-90 with file_read`; it may be empty.
///
/// The mark itself comes on top of `bytes_max`.
#[must_use]
pub fn bounded(text: &str, bytes_max: usize, how_to_get_it: &str) -> Bounded {
    if text.len() <= bytes_max {
        return Bounded { text: text.to_owned(), cut_bytes: 0 };
    }
    let head_end = head_end(text, bytes_max * HEAD_PERCENT / 100);
    let tail_start = tail_start(text, text.len() - bytes_max * (100 - HEAD_PERCENT) / 100).max(head_end);
    let cut = &text[head_end..tail_start];
    let lines = cut.bytes().filter(|byte| *byte == b'\n').count();
    let separator = if how_to_get_it.is_empty() { "" } else { "; " };
    let newline = if text[..head_end].ends_with('\n') || head_end == 0 { "" } else { "\n" };
    let mark = format!("{newline}[… {} bytes, {lines} lines left out{separator}{how_to_get_it} …]\n", cut.len());
    Bounded { text: format!("{}{mark}{}", &text[..head_end], &text[tail_start..]), cut_bytes: cut.len() }
}

/// The last line end at or before `limit`, or the last character boundary when the line is longer than half of it.
fn head_end(text: &str, limit: usize) -> usize {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match text[..end].rfind('\n') {
        Some(line_end) if line_end + 1 > end / 2 => line_end + 1,
        _ => end,
    }
}

/// The first line start at or after `limit`, or the first character boundary when no line starts soon.
fn tail_start(text: &str, limit: usize) -> usize {
    let mut start = limit.min(text.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    match text[start..].find('\n') {
        Some(line_end) if line_end + 1 < (text.len() - start) / 2 => start + line_end + 1,
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(bounded("abc", 3, "x"), Bounded { text: "abc".to_owned(), cut_bytes: 0 });
        assert_eq!(bounded("", 0, "x").text, "");
    }

    #[test]
    fn the_middle_goes_and_is_named() {
        let text: String = (1..=1000).map(|line| format!("line {line}\n")).collect();
        let cut = bounded(&text, 1000, "ask again");
        assert!(cut.text.starts_with("line 1\nline 2\n"), "{}", cut.text);
        assert!(cut.text.ends_with("line 999\nline 1000\n"), "{}", cut.text);
        assert!(cut.text.contains(&format!("[… {} bytes, ", cut.cut_bytes)), "{}", cut.text);
        assert!(cut.text.contains("lines left out; ask again …]\n"), "{}", cut.text);
        assert!(cut.text.len() < 1100);
    }

    #[test]
    fn characters_are_never_split() {
        let text = "é".repeat(5000);
        for limit in 0..50 {
            let cut = bounded(&text, limit, "");
            assert_eq!(cut.text.matches('é').count() * 2 + cut.cut_bytes, text.len(), "limit {limit}");
        }
    }
}
