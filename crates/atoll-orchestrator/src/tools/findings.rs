//! Linters and scanners: which are run, and their findings in one order and one form.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Findings shown; the rest is counted.
const FINDINGS_MAX: usize = 200;
/// One message.
const MESSAGE_CHARS_MAX: usize = 300;

/// Runs the linters that suit the project. Arguments: paths. Exit code 1 when there are findings.
pub(super) const LINT: &str = r#"found=0; ran=0; missing=
try() { ran=1; printf '== %s\n' "$*"; "$@" || found=1; }
has() { command -v "$1" >/dev/null 2>&1; }
tracked() { git ls-files -- "$@" | head -n 1 | grep -q .; }
[ $# -gt 0 ] || set -- .
if tracked '*.py'; then
  if has ruff; then try ruff check --no-cache --output-format concise --quiet "$@"; else missing="$missing ruff"; fi
  if has flake8; then try flake8 "$@"; else missing="$missing flake8"; fi
  if has python3; then
    ran=1; echo '== python3: syntax'
    git ls-files -z -- '*.py' | xargs -0 python3 -c '
import ast, sys
bad = 0
for name in sys.argv[1:]:
    try:
        ast.parse(open(name, encoding="utf-8").read(), name)
    except (SyntaxError, ValueError, OSError) as error:
        line = getattr(error, "lineno", None) or 0; print(f"{name}:{line}: error: {error}"); bad = 1
sys.exit(bad)' && echo 'no syntax errors' || found=1
  fi
fi
if [ -f Cargo.toml ]; then
  if has cargo-clippy; then try cargo clippy --offline --quiet --message-format short -- -D warnings; else missing="$missing cargo-clippy"; fi
fi
if [ -f package.json ]; then
  if [ -x node_modules/.bin/eslint ]; then try node_modules/.bin/eslint "$@"; else missing="$missing eslint"; fi
fi
if [ -f go.mod ]; then if has go; then try go vet ./...; else missing="$missing go"; fi; fi
if tracked '*.sh'; then
  if has shellcheck; then git ls-files -z -- '*.sh' | xargs -0 shellcheck -f gcc || found=1; ran=1; else missing="$missing shellcheck"; fi
fi
[ $ran = 1 ] || echo 'No linter that suits the project is installed.'
[ -z "$missing" ] || echo "Not available:$missing"
exit $found
"#;

/// Looks for secrets and dangerous constructs. Arguments: paths. Exit code 1 when there are findings.
pub(super) const SCAN: &str = r#"found=0; missing=
has() { command -v "$1" >/dev/null 2>&1; }
[ $# -gt 0 ] || set -- .
scan() {
  name=$1; pattern=$2; shift 2
  hits=$(git grep --untracked -nIE -e "$pattern" -- "$@" ':!*.lock' 2>/dev/null | cut -c 1-240)
  if [ -n "$hits" ]; then
    printf '%s\n' "$hits" | sed "s|^\([^:]*:[0-9]*\):[[:space:]]*|\1: warning: [$name] |"; found=1
  fi
}
echo '== built-in'
scan 'private key' '-----BEGIN ([A-Z]+ )?PRIVATE KEY-----' "$@"
scan 'access key' '(AKIA|ASIA)[0-9A-Z]{16}' "$@"
scan 'token' '(gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{10,}|sk-[A-Za-z0-9_-]{20,}|glpat-[A-Za-z0-9_-]{20})' "$@"
scan 'password in code' "(password|passwd|secret|api_?key)[\"']?[[:space:]]*[:=][[:space:]]*[\"'][^\"' ]{8,}[\"']" "$@"
scan 'code from a string' '(^|[^A-Za-z0-9_.])(eval|exec)[[:space:]]*\(' "$@"
scan 'shell from a program' '(shell[[:space:]]*=[[:space:]]*True|os\.system[[:space:]]*\()' "$@"
scan 'unsafe deserialisation' '(pickle\.loads?|yaml\.load)[[:space:]]*\(' "$@"
scan 'unchecked certificate' '(verify[[:space:]]*=[[:space:]]*False|InsecureSkipVerify:[[:space:]]*true)' "$@"
[ $found = 1 ] || echo 'no findings'
for tool in bandit semgrep gitleaks; do has $tool || missing="$missing $tool"; done
if has bandit; then echo '== bandit'; bandit -q -r -f custom --msg-template '{relpath}:{line}: {severity}: [{test_id}] {msg}' "$@" || found=1; fi
if has gitleaks; then echo '== gitleaks'; gitleaks detect --no-banner --redact || found=1; fi
[ -z "$missing" ] || echo "Not available:$missing"
exit $found
"#;

/// Something that a linter or scanner has to say about a line. Its order is the order in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    file: String,
    line: u64,
    severity: Severity,
    /// Which rule of which tool, for example `ruff/F401`.
    rule: String,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The output of [`LINT`] and [`SCAN`] with its findings sorted, each once, and counted; other lines follow.
pub(super) fn in_order(output: &str) -> String {
    let (mut findings, mut rest, mut tool) = (BTreeSet::new(), String::new(), "");
    for line in output.lines() {
        if let Some(heading) = line.strip_prefix("== ") {
            tool = heading.split([' ', ':']).next().unwrap_or_default();
        }
        match read(line, tool) {
            Some(finding) => drop(findings.insert(finding)),
            None => writeln!(rest, "{line}").expect("writing to a string cannot fail"),
        }
    }
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = format!("{} errors, {} warnings", of(Severity::Error), of(Severity::Warning));
    let mut text = format!("{} findings ({counts})\n", findings.len());
    for Finding { file, line, severity, rule, message } in findings.iter().take(FINDINGS_MAX) {
        writeln!(text, "{file}:{line}: {} [{rule}] {message}", severity.name())
            .expect("writing to a string cannot fail");
    }
    if findings.len() > FINDINGS_MAX {
        writeln!(text, "[… {} more findings; name fewer paths to see them …]", findings.len() - FINDINGS_MAX)
            .expect("writing to a string cannot fail");
    }
    text.push_str(&rest);
    text
}

/// Reads `file:line[:column]: [severity:] [code] message`, which all of the tools can write.
fn read(line: &str, tool: &str) -> Option<Finding> {
    let (place, text) = line.split_once(": ")?;
    let mut parts = place.split(':');
    let (file, number) = (parts.next()?, parts.next()?.parse::<u64>().ok()?);
    let is_place = !file.is_empty() && parts.all(|column| column.parse::<u64>().is_ok());
    if !is_place {
        return None;
    }
    let (severity, text) = severity(text);
    let (rule, message) = rule(text);
    let rule = rule.map_or_else(|| tool.to_owned(), |rule| format!("{tool}/{rule}"));
    let message = message.trim().chars().take(MESSAGE_CHARS_MAX).collect();
    Some(Finding { file: file.trim_start_matches("./").to_owned(), line: number, severity, rule, message })
}

fn severity(text: &str) -> (Severity, &str) {
    let found = text.split_once(": ").and_then(|(word, rest)| {
        let severity = match word.to_ascii_lowercase().as_str() {
            "error" | "high" | "critical" => Severity::Error,
            "warning" | "medium" => Severity::Warning,
            "note" | "info" | "style" | "low" => Severity::Note,
            _ => return None,
        };
        Some((severity, rest))
    });
    found.unwrap_or((Severity::Warning, text))
}

/// A rule's code before the message (`F401 …`, `[B105] …`) or behind it (`… [SC2086]`).
fn rule(text: &str) -> (Option<&str>, &str) {
    if let Some((code, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (Some(code), rest);
    }
    if let Some((message, code)) = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        return (Some(code), message);
    }
    let first = text.split(' ').next().unwrap_or_default();
    let is_code = first.starts_with(|letter: char| letter.is_ascii_uppercase())
        && first.ends_with(|digit: char| digit.is_ascii_digit())
        && first.len() <= 10;
    if is_code { (Some(first), &text[first.len()..]) } else { (None, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_is_read() {
        for (tool, line, expected) in [
            ("ruff", "src/a.py:3:8: F401 [*] `os` imported", "src/a.py:3: warning [ruff/F401] [*] `os` imported"),
            ("flake8", "./a.py:1:1: E302 expected 2", "a.py:1: warning [flake8/E302] expected 2"),
            ("python3", "a.py:4: error: invalid syntax", "a.py:4: error [python3] invalid syntax"),
            ("cargo", "src/m.rs:2:9: warning: unused", "src/m.rs:2: warning [cargo] unused"),
            ("shellcheck", "x.sh:2:6: note: Quote [SC2086]", "x.sh:2: note [shellcheck/SC2086] Quote"),
            ("bandit", "a.py:9: HIGH: [B602] shell=True", "a.py:9: error [bandit/B602] shell=True"),
            ("go", "m.go:7:2: unreachable code", "m.go:7: warning [go] unreachable code"),
            ("built-in", "a.py:1: warning: [access key] k = AKIA", "a.py:1: warning [built-in/access key] k = AKIA"),
        ] {
            let finding = read(line, tool).unwrap_or_else(|| panic!("{line}"));
            let shown = in_order(&format!("== {tool}\n{line}\n"));
            assert!(shown.contains(expected), "{finding:?}: {shown}");
        }
        for line in ["no findings", "== ruff check .", "Not available: ruff", "http://x: y", "a.py:x: y"] {
            assert_eq!(read(line, "t"), None, "{line}");
        }
    }

    #[test]
    fn findings_are_sorted_counted_and_shown_once() {
        let output = "== ruff check .\nb.py:2:1: E1 x\na.py:9:1: E1 y\nb.py:2:1: E1 x\nNot available: flake8\n";
        let expected = "2 findings (0 errors, 2 warnings)\na.py:9: warning [ruff/E1] y\nb.py:2: warning [ruff/E1] x\n\
                        == ruff check .\nNot available: flake8\n";
        assert_eq!(in_order(output), expected);
    }
}
