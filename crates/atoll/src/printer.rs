//! Data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// Where output goes and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    colour: bool,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, quiet, colour }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A line of data.
    pub(crate) fn data(self, line: impl std::fmt::Display) {
        ignore_closed_pipe(writeln!(std::io::stdout().lock(), "{line}"));
    }

    /// A piece of data as it is, flushed at once.
    pub(crate) fn raw(self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        ignore_closed_pipe(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// A piece of another program's standard error, as it is.
    pub(crate) fn raw_error(self, bytes: &[u8]) {
        let mut out = std::io::stderr().lock();
        ignore_closed_pipe(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// One JSON document.
    pub(crate) fn json(self, value: &impl Serialize) {
        self.data(serde_json::to_string_pretty(value).expect("our own values serialize"));
    }

    /// A remark for people.
    pub(crate) fn note(self, line: impl std::fmt::Display) {
        if !self.quiet {
            ignore_closed_pipe(writeln!(std::io::stderr().lock(), "{line}"));
        }
    }

    /// A failure: the error, then the hint.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let document = serde_json::json!({"error": failure.message(), "hint": failure.hint_text()});
            ignore_closed_pipe(writeln!(std::io::stderr().lock(), "{document}"));
            return;
        }
        ignore_closed_pipe(writeln!(std::io::stderr().lock(), "error: {}", failure.message()));
        if let Some(hint) = failure.hint_text() {
            ignore_closed_pipe(writeln!(std::io::stderr().lock(), "hint: {hint}"));
        }
    }

    /// A heading, for output that has parts.
    pub(crate) fn heading(self, text: &str) {
        self.data("");
        self.data(self.paint("1", text));
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Rows under headings, columns as wide as their widest cell, as `kubectl get` prints them.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<String>]) {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (width, cell) in widths.iter().zip(cells) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 3));
            }
            text.trim_end().to_owned()
        };
        self.data(line(&mut headings.iter().copied()));
        for row in rows {
            self.data(line(&mut row.iter().map(String::as_str)));
        }
    }
}

/// Reading `atoll … | head` closes our output early: that is no failure. A full disk under a redirect is.
fn ignore_closed_pipe(result: std::io::Result<()>) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let failure = Failure::because(Exit::Failure, "cannot write output", &error);
        // Standard error may be the very stream that failed; there is nowhere else to say so.
        let _ = writeln!(std::io::stderr().lock(), "error: {}", failure.message());
    }
}
