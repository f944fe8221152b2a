//! Tools that run a command in the sandbox: the terminal, git, linters, scanners.

use atoll_engine::tools as names;
use serde_json::Value;

use super::{NotDone, Plan, Planned, Site, absolute, stdin_path, text};
use crate::digest::sha256_hex;
use crate::workspace;

const LOG_COMMITS_DEFAULT: u64 = 20;

/// Shows changes against a base, and the names of new files. Arguments: base, `--stat` or nothing, paths.
const DIFF: &str = r#"base=$1; stat=$2; shift 2
git --no-pager diff --no-color --no-ext-diff $stat --end-of-options "$base" -- "$@" || exit 1
new=$(git ls-files --others --exclude-standard -- "$@")
if [ -n "$new" ]; then printf 'New files, not yet added:\n%s\n' "$new"; fi
"#;

/// Runs the linters that suit the project. Arguments: paths. Exit code 1 when there are findings.
const LINT: &str = r#"found=0; ran=0; missing=
try() { ran=1; printf '== %s\n' "$*"; "$@" || found=1; }
has() { command -v "$1" >/dev/null 2>&1; }
tracked() { git ls-files -- "$@" | head -n 1 | grep -q .; }
[ $# -gt 0 ] || set -- .
if tracked '*.py'; then
  if has ruff; then try ruff check --no-cache "$@"; else missing="$missing ruff"; fi
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
        print(f"{name}: {error}"); bad = 1
sys.exit(bad)' && echo 'no syntax errors' || found=1
  fi
fi
if [ -f Cargo.toml ]; then
  if has cargo-clippy; then try cargo clippy --offline --quiet -- -D warnings; else missing="$missing cargo-clippy"; fi
fi
if [ -f package.json ]; then
  if [ -x node_modules/.bin/eslint ]; then try node_modules/.bin/eslint "$@"; else missing="$missing eslint"; fi
fi
if [ -f go.mod ]; then if has go; then try go vet ./...; else missing="$missing go"; fi; fi
if tracked '*.sh'; then
  if has shellcheck; then git ls-files -z -- '*.sh' | xargs -0 shellcheck || found=1; ran=1; else missing="$missing shellcheck"; fi
fi
[ $ran = 1 ] || echo 'No linter that suits the project is installed.'
[ -z "$missing" ] || echo "Not available:$missing"
exit $found
"#;

/// Looks for secrets and dangerous constructs. Arguments: paths. Exit code 1 when there are findings.
const SCAN: &str = r#"found=0; missing=
has() { command -v "$1" >/dev/null 2>&1; }
[ $# -gt 0 ] || set -- .
scan() {
  name=$1; pattern=$2; shift 2
  hits=$(git grep --untracked -nIE -e "$pattern" -- "$@" ':!*.lock' 2>/dev/null | cut -c 1-240)
  if [ -n "$hits" ]; then printf -- '- %s:\n%s\n' "$name" "$hits"; found=1; fi
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
if has bandit; then echo '== bandit'; bandit -q -r "$@" || found=1; fi
if has gitleaks; then echo '== gitleaks'; gitleaks detect --no-banner --redact || found=1; fi
[ -z "$missing" ] || echo "Not available:$missing"
exit $found
"#;

/// Plans a tool that is one command.
pub(super) fn plan(tool: &str, input: &Value, site: &Site<'_>) -> Result<Planned, NotDone> {
    match tool {
        names::TERMINAL_EXECUTE => Ok(terminal(input, site)),
        names::GIT_OPERATIONS => Ok(run(git(input), site)),
        names::GIT_DIFF => {
            let base = text(input, "base").unwrap_or("refs/atoll/base");
            let stat = if input["stat"] == true { "--stat" } else { "" };
            Ok(run(script(DIFF, [base, stat].into_iter().chain(paths(input))), site))
        }
        names::LINTER_RUN => Ok(run(script(LINT, paths(input)), site)),
        names::SECURITY_SCAN => Ok(run(script(SCAN, paths(input)), site)),
        other => Err(NotDone(format!("`{other}` is not a tool of this version."))),
    }
}

fn paths(input: &Value) -> impl Iterator<Item = &str> {
    input["paths"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn run(argv: Vec<String>, site: &Site<'_>) -> Planned {
    let (cwd, timeout_ms) = (site.directory().to_owned(), site.timeout_ms);
    Plan::Run { argv, cwd, timeout_ms, stdin_sha256: None, note: None }.into()
}

fn script<'a>(text: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let fixed = ["/bin/sh", "-c", text, "sh"];
    fixed.into_iter().chain(arguments).map(str::to_owned).collect()
}

fn terminal(input: &Value, site: &Site<'_>) -> Planned {
    let command = text(input, "command").unwrap_or_default();
    let cwd = text(input, "cwd").map_or_else(|| site.directory().to_owned(), |cwd| absolute(cwd, site.directory()));
    let wanted_ms = input.get("timeout_seconds").and_then(Value::as_u64).map(|seconds| seconds * 1000);
    let timeout_ms = wanted_ms.map_or(site.timeout_ms, |wanted_ms| wanted_ms.min(site.timeout_ms));
    let stdin = text(input, "stdin").map(|text| (sha256_hex(text.as_bytes()), text.as_bytes().to_vec()));
    // A file rather than a pipe: the command is not tied to whoever started it.
    let argv = match &stdin {
        None => ["/bin/bash", "-c", command].map(str::to_owned).to_vec(),
        Some((sha256, _)) => {
            let path = stdin_path(sha256);
            ["/bin/bash", "-c", "exec /bin/bash -c \"$1\" < \"$2\"", "bash", command, &path].map(str::to_owned).to_vec()
        }
    };
    let stdin_sha256 = stdin.as_ref().map(|(sha256, _)| sha256.clone());
    let pushes = command.contains("git push").then(|| {
        "[The sandbox has no network: a push from it goes nowhere. Use git_operations with operation push.]\n"
            .to_owned()
    });
    let plan = Plan::Run { argv, cwd, timeout_ms, stdin_sha256, note: pushes };
    Planned { plan, blobs: stdin.into_iter().collect() }
}

fn git(input: &Value) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match text(input, "operation").unwrap_or_default() {
        "add" => {
            let mut argv = words(&["git", "add", "-A", "--"]);
            argv.extend(paths(input).map(str::to_owned));
            if argv.len() == 4 {
                argv.push(".".to_owned());
            }
            argv
        }
        "commit" => {
            let message = text(input, "message").unwrap_or_default();
            let add = if input["all"] == true { "git add -A && " } else { "" };
            let text = format!("{add}git commit -q -m \"$1\" && git --no-pager log -1 --stat --format='%h %s'");
            script(&text, [message])
        }
        "log" => {
            let limit = input.get("limit").and_then(Value::as_u64).unwrap_or(LOG_COMMITS_DEFAULT);
            words(&["git", "--no-pager", "log", "--format=%h %an %ad %s", "--date=short", "-n", &limit.to_string()])
        }
        "branch" => match text(input, "name") {
            Some(name) => script(
                "git show-ref -q --verify \"refs/heads/$1\" && exec git switch -q \"$1\"; exec git switch -q -c \"$1\"",
                [name],
            ),
            None => words(&["git", "--no-pager", "branch", "--list", "-vv"]),
        },
        _ => words(&["git", "status", "--short", "--branch"]),
    }
}

/// Where relative paths and commands of a call begin.
pub(crate) fn directory_of(tool: &str, input: &Value, directory: Option<&str>) -> String {
    let base = directory.unwrap_or(workspace::ROOT);
    match text(input, "cwd") {
        Some(cwd) if tool == names::TERMINAL_EXECUTE => absolute(cwd, base),
        _ => base.to_owned(),
    }
}
