//! Tools that run a command in the sandbox: the terminal, git, linters, scanners.

use atoll_engine::tools as names;
use serde_json::Value;

use super::findings::{LINT, SCAN};
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

/// Starts a command that goes on by itself. Arguments: its name, the command, a file with its standard input; without one it
/// reads from a pipe that is held open until it is told that nothing more comes. Asked for twice under one name, it starts
/// once.
const BACKGROUND: &str = r#"jobs=/workspace/.atoll/jobs; mkdir -p "$jobs"
mkdir "$jobs/$1" 2>/dev/null || { echo "It runs already as $1."; exit 0; }
[ -n "$3" ] || mkfifo "$jobs/$1/in"
setsid --fork /bin/bash -c 'trap "exec 4>&-" USR1; exec 3>"$1/out"; [ ! -p "$3" ] || exec 4<>"$3"; echo $$ > "$1/pid"
  /bin/bash -c "$2" < "$3" >&3 2>&1 4<&- & child=$!; wait "$child"; code=$?
  while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done; echo "$code" > "$1/exit"' \
  bash "$jobs/$1" "$2" "${3:-$jobs/$1/in}" < /dev/null > /dev/null 2>&1
for pause in 1 2 3 4 5 6 7 8 9 10; do [ -s "$jobs/$1/pid" ] && break; sleep 0.05; done
echo "Started in the background as $1; terminal_process tells how it stands."
"#;

/// Looks after commands in the background. Arguments: operation, name (may be empty), text.
const PROCESSES: &str = r#"jobs=/workspace/.atoll/jobs
stand() {
  if [ -f "$jobs/$1/exit" ]; then echo "$1 ended with exit code $(cat "$jobs/$1/exit")"
  elif kill -0 "$(cat "$jobs/$1/pid" 2>/dev/null)" 2>/dev/null; then echo "$1 runs"
  else echo "$1 was killed"; fi
}
if [ -z "$2" ]; then
  any=; for job in "$jobs"/*/; do [ -d "$job" ] && { any=1; stand "$(basename "$job")"; }; done
  [ -n "$any" ] || echo 'Nothing was started in the background.'; exit 0
fi
[ -d "$jobs/$2" ] || { echo "There is no command $2 in the background."; exit 1; }
case $1 in
  output) stand "$2"; cat "$jobs/$2/out" ;;
  write|end_input)
    [ -p "$jobs/$2/in" ] || { echo "$2 has its standard input already."; exit 1; }
    [ ! -f "$jobs/$2/exit" ] && kill -0 "$(cat "$jobs/$2/pid")" 2>/dev/null || { stand "$2"; exit 1; }
    if [ "$1" = end_input ]; then kill -USR1 "$(cat "$jobs/$2/pid")"; rm -f "$jobs/$2/in"; exit; fi
    timeout 5 /bin/bash -c 'printf %s "$2" 1<> "$1"' bash "$jobs/$2/in" "$3" || { echo "$2 does not read."; exit 1; } ;;
  kill)
    pid=$(cat "$jobs/$2/pid"); kill -TERM -- "-$pid" 2>/dev/null
    for pause in 1 2 3 4 5 6 7 8 9 10; do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL -- "-$pid" 2>/dev/null; stand "$2" ;;
  *) stand "$2" ;;
esac
"#;

/// Finds text or files. Arguments: pattern (may be empty), glob (may be empty), `-i` or nothing, paths. Exit code 1 when
/// there is nothing.
const SEARCH: &str = r#"pattern=$1; glob=$2; case=$3; shift 3
[ $# -gt 0 ] || set -- .
names() { git ls-files -z --cached --others --exclude-standard -- "$@" | while IFS= read -r -d '' file; do
  case ${file##*/} in ($glob) printf '%s\0' "$file" ;; esac; done; }
if [ -z "$pattern" ]; then names "$@" | tr '\0' '\n' | sort -u | grep . ; exit; fi
if [ -z "$glob" ]; then exec git grep --untracked -nIE $case -e "$pattern" -- "$@"; fi
names "$@" | xargs -0 -r grep -nIHE $case -e "$pattern" --
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
        names::LINTER_RUN => Ok(looking(script(LINT, paths(input)), site)),
        names::SECURITY_SCAN => Ok(looking(script(SCAN, paths(input)), site)),
        names::FILE_SEARCH => {
            let (pattern, name) = (text(input, "pattern").unwrap_or_default(), text(input, "name").unwrap_or_default());
            let case = if input["ignore_case"] == true { "-i" } else { "" };
            Ok(run(bash(SEARCH, [pattern, name, case].into_iter().chain(paths(input))), site))
        }
        names::TERMINAL_PROCESS => {
            let operation = text(input, "operation").unwrap_or_default();
            let (id, given) = (text(input, "id").unwrap_or_default(), text(input, "text").unwrap_or_default());
            Ok(run(bash(PROCESSES, [operation, id, given]), site))
        }
        other => Err(NotDone(format!("`{other}` is not a tool of this version."))),
    }
}

fn paths(input: &Value) -> impl Iterator<Item = &str> {
    input["paths"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn run(argv: Vec<String>, site: &Site<'_>) -> Planned {
    let (cwd, timeout_ms) = (site.directory().to_owned(), site.timeout_ms);
    Plan::Run { argv, cwd, timeout_ms, stdin_sha256: None, note: None, findings: false }.into()
}

/// A command whose output is findings.
fn looking(argv: Vec<String>, site: &Site<'_>) -> Planned {
    let (cwd, timeout_ms) = (site.directory().to_owned(), site.timeout_ms);
    Plan::Run { argv, cwd, timeout_ms, stdin_sha256: None, note: None, findings: true }.into()
}

fn bash<'a>(text: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let fixed = ["/bin/bash", "-c", text, "bash"];
    fixed.into_iter().chain(arguments).map(str::to_owned).collect()
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
        _ if input["background"] == true => {
            let path = stdin.as_ref().map(|(sha256, _)| stdin_path(sha256)).unwrap_or_default();
            bash(BACKGROUND, [site.call.to_string().as_str(), command, &path])
        }
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
    let plan = Plan::Run { argv, cwd, timeout_ms, stdin_sha256, note: pushes, findings: false };
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
