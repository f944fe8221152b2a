//! A short view of what a write changed: one hunk from the first to the last line that differs.

const CONTEXT_LINES: usize = 3;

/// The change in the style of a unified diff; empty when nothing changed.
pub(crate) fn hunk(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let room = old.len().min(new.len()) - same_start;
    let same_end = old.iter().rev().zip(new.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    if same_start == old_end && same_start == new_end {
        let newline = before.ends_with('\n') != after.ends_with('\n');
        return if newline { "(only the newline at the end of the file)\n".to_owned() } else { String::new() };
    }
    let from = same_start.saturating_sub(CONTEXT_LINES);
    let (old_to, new_to) = ((old_end + CONTEXT_LINES).min(old.len()), (new_end + CONTEXT_LINES).min(new.len()));
    let mut text = format!("@@ -{} +{} @@\n", range(from, old_to), range(from, new_to));
    let mut put = |sign: char, lines: &[&str]| {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    };
    put(' ', &old[from..same_start]);
    put('-', &old[same_start..old_end]);
    put('+', &new[same_start..new_end]);
    put(' ', &old[old_end..old_to]);
    text
}

fn range(from: usize, to: usize) -> String {
    let first = if to == from { from } else { from + 1 };
    format!("{first},{}", to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_their_surroundings() {
        for (before, after, expected) in [
            ("", "a\n", "@@ -0,0 +1,1 @@\n+a\n"),
            ("a\n", "", "@@ -1,1 +0,0 @@\n-a\n"),
            ("a\nb\nc\n", "a\nB\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"),
            ("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n5b\n6\n", "@@ -3,4 +3,5 @@\n 3\n 4\n 5\n+5b\n 6\n"),
            ("a\na\n", "a\n", "@@ -1,2 +1,1 @@\n a\n-a\n"),
            ("same\n", "same\n", ""),
            ("a", "a\n", "(only the newline at the end of the file)\n"),
        ] {
            assert_eq!(hunk(before, after), expected, "{before:?} -> {after:?}");
        }
    }
}
