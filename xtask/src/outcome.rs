//! Reading what test runners print.

use std::fmt;

/// Counts of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: i64,
    pub(crate) failed: i64,
    pub(crate) skipped: i64,
}

impl Counts {
    /// Takes up one line of output.
    ///
    /// A test that finds its machine unfit prints `SKIPPED name: reason` and returns, which libtest counts as passed.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(counts) = line.trim_start().strip_prefix("test result:") {
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
            self.skipped += number_before(counts, " ignored");
        } else if line.starts_with("SKIPPED ") {
            self.skipped += 1;
            self.passed -= 1;
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn number_before(text: &str, word: &str) -> i64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "SKIPPED leaks_nothing: not root",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 12, failed: 2, skipped: 2 });
        assert_eq!(counts.to_string(), "12 passed, 2 failed, 2 skipped");
    }
}
