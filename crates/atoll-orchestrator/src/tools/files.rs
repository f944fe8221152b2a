//! `file_read` and `file_write`.

use std::fmt::Write;

use atoll_engine::bounded::bounded;
use atoll_engine::{ToolResult, ToolStatus};
use serde_json::Value;

use super::{NotDone, Plan, Planned, Site, absolute, diff, failed, text, told, unsure};
use crate::digest::sha256_hex;
use crate::workbench::BenchError;

/// The largest file that the tools read, or change by a passage.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What is shown of a change.
const DIFF_BYTES_MAX: usize = 4 * 1024;

pub(super) fn plan_read(input: &Value, site: &Site<'_>) -> Plan {
    let line = |name: &str| input.get(name).and_then(Value::as_u64);
    let path = absolute(text(input, "path").unwrap_or_default(), site.directory());
    Plan::Read { path, start_line: line("start_line"), end_line: line("end_line") }
}

pub(super) async fn read(path: &str, start: Option<u64>, end: Option<u64>, site: &Site<'_>) -> ToolResult {
    let bytes = match site.read_file(path, FILE_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return failed(&error),
    };
    let Ok(content) = String::from_utf8(bytes) else {
        return told(ToolStatus::Failed, format!("{path} is not a text file (not UTF-8)."));
    };
    told(ToolStatus::Ok, numbered(path, &content, start, end, site.result_bytes_max))
}

/// Lines with their numbers, as many as fit, and what was left out.
fn numbered(path: &str, content: &str, start: Option<u64>, end: Option<u64>, bytes_max: usize) -> String {
    let total = content.lines().count() as u64;
    if total == 0 {
        return format!("{path} is empty.");
    }
    let (first, last) = (start.unwrap_or(1), end.unwrap_or(total).min(total));
    if first > total {
        return format!("{path} has {total} lines.");
    }
    let mut shown = String::new();
    let mut next = first;
    for (line, number) in content.lines().zip(1_u64..).skip(first as usize - 1) {
        if number > last || (shown.len() + line.len() > bytes_max && number > first) {
            break;
        }
        let line = bounded(line, bytes_max, "").text;
        writeln!(shown, "{number:>6}\t{line}").expect("writing to a string cannot fail");
        next = number + 1;
    }
    if next <= last {
        writeln!(shown, "[… lines {next} to {last} of {total} are not shown; read them with start_line …]")
            .expect("writing to a string cannot fail");
    }
    shown
}

pub(super) async fn plan_write(input: &Value, site: &Site<'_>) -> Result<Planned, NotDone> {
    let path = absolute(text(input, "path").unwrap_or_default(), site.directory());
    let before = match site.read_file(&path, FILE_BYTES_MAX).await {
        Ok(bytes) => Some(bytes),
        Err(BenchError::NotFound { .. }) => None,
        Err(error) => return Err(NotDone(format!("Not written: {error}."))),
    };
    let after = match (text(input, "content"), &before) {
        (Some(content), _) => content.as_bytes().to_vec(),
        (None, before) if text(input, "patch").is_some() => {
            patched(&path, before.as_deref().unwrap_or_default(), text(input, "patch").unwrap_or_default())?
        }
        (None, None) => return Err(NotDone(format!("Not written: {path} does not exist. Create it with `content`."))),
        (None, Some(before)) => {
            let old_text = text(input, "old_text").unwrap_or_default();
            replaced(&path, before, old_text, text(input, "new_text").unwrap_or_default())?
        }
    };
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let change = diff::hunk(&before.as_deref().map(shown).unwrap_or_default(), &shown(&after));
    let after_sha256 = sha256_hex(&after);
    let plan = Plan::Write {
        path,
        before_sha256: before.as_deref().map(sha256_hex),
        after_sha256: after_sha256.clone(),
        diff: bounded(&change, DIFF_BYTES_MAX, "").text,
    };
    Ok(Planned { plan, blobs: vec![(after_sha256, after)] })
}

/// The content with a unified diff applied. Every line of context has to be where the diff says, or near it.
fn patched(path: &str, before: &[u8], patch: &str) -> Result<Vec<u8>, NotDone> {
    let Ok(content) = std::str::from_utf8(before) else {
        return Err(NotDone(format!("Not written: {path} is not a text file (not UTF-8).")));
    };
    // What git says of files stands before the part that matters here.
    let begins = patch.find("--- ").filter(|at| *at == 0 || patch[..*at].ends_with('\n')).or_else(|| patch.find("@@ "));
    let part = begins.map_or(patch, |at| &patch[at..]);
    let part = if part.ends_with('\n') { part.to_owned() } else { format!("{part}\n") };
    let parsed = diffy::Patch::from_str(&part)
        .map_err(|error| NotDone(format!("Not written: `patch` is no unified diff of one file ({error}).")))?;
    if parsed.hunks().is_empty() {
        return Err(NotDone("Not written: `patch` has no hunk (`@@ -line,count +line,count @@`).".to_owned()));
    }
    diffy::apply(content, &parsed).map(String::into_bytes).map_err(|error| {
        NotDone(format!("Not written: the patch does not fit {path} ({error}). Read the file and make the patch anew."))
    })
}

fn replaced(path: &str, before: &[u8], old_text: &str, new_text: &str) -> Result<Vec<u8>, NotDone> {
    let Ok(content) = std::str::from_utf8(before) else {
        return Err(NotDone(format!("Not written: {path} is not a text file (not UTF-8).")));
    };
    match content.matches(old_text).count() {
        1 => Ok(content.replacen(old_text, new_text, 1).into_bytes()),
        0 => Err(NotDone(format!(
            "Not written: `old_text` does not occur in {path}. It must match exactly, white space included; read the \
             file first."
        ))),
        count => Err(NotDone(format!(
            "Not written: `old_text` occurs {count} times in {path}. Give more of the lines around it."
        ))),
    }
}

/// Puts the content in place unless it is there already.
pub(super) async fn write(
    path: &str,
    before: Option<&str>,
    after: &str,
    change: &str,
    content: &[u8],
    site: &Site<'_>,
) -> ToolResult {
    let now = match site.read_file(path, FILE_BYTES_MAX).await {
        Ok(bytes) => Some(sha256_hex(&bytes)),
        Err(BenchError::NotFound { .. }) => None,
        Err(error) => return unsure(&error),
    };
    if now.as_deref() != Some(after) {
        if now.as_deref() != before {
            let text = format!("Not written: {path} was changed by something else meanwhile. Read it again.");
            return told(ToolStatus::Failed, text);
        }
        if let Err(error) = site.write_file(path, content).await {
            return unsure(&error);
        }
    }
    let what = if before.is_none() { "Created" } else { "Changed" };
    let text = if change.is_empty() {
        format!("{path} has that content already.")
    } else {
        format!("{what} {path}.\n{change}")
    };
    told(ToolStatus::Ok, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_cut_by_whole_lines() {
        let content = "one\ntwo\nthree\n";
        assert_eq!(numbered("f", content, None, None, 1000), "     1\tone\n     2\ttwo\n     3\tthree\n");
        assert_eq!(numbered("f", content, Some(2), Some(2), 1000), "     2\ttwo\n");
        assert_eq!(numbered("f", content, Some(2), Some(99), 1000), "     2\ttwo\n     3\tthree\n");
        assert_eq!(numbered("f", content, Some(9), None, 1000), "f has 3 lines.");
        assert_eq!(numbered("f", "", None, None, 1000), "f is empty.");
        let cut = numbered("f", content, None, None, 15);
        assert!(cut.ends_with("[… lines 3 to 3 of 3 are not shown; read them with start_line …]\n"), "{cut}");
        let huge = numbered("f", &"x".repeat(10_000), None, None, 100);
        assert!(huge.len() < 300 && huge.contains("bytes, 0 lines left out"), "{huge}");
    }

    #[test]
    fn a_patch_must_fit() {
        let before = b"one\ntwo\nthree\n";
        let good = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three";
        assert_eq!(patched("f", before, good), Ok(b"one\n2\nthree\n".to_vec()));
        assert_eq!(patched("f", b"", "@@ -0,0 +1 @@\n+new\n"), Ok(b"new\n".to_vec()));
        for (patch, expected) in [
            ("@@ -1,2 +1,2 @@\n one\n-zwei\n+2\n", "does not fit"),
            ("replace two by 2", "no hunk"),
            ("@@ -1,9 +1 @@\n one\n", "no unified diff"),
        ] {
            let NotDone(text) = patched("f", before, patch).expect_err(patch);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_passage_must_occur_once() {
        assert_eq!(replaced("f", b"a b c", "b", "B"), Ok(b"a B c".to_vec()));
        for (content, expected) in
            [(&b"a"[..], "does not occur"), (b"b b", "occurs 2 times"), (b"\xff", "not a text file")]
        {
            let NotDone(text) = replaced("f", content, "b", "B").expect_err("it must not work");
            assert!(text.contains(expected), "{text}");
        }
    }
}
