//! MCP servers that are programs in the agent's sandbox. One script starts the server where it does not run yet, hands
//! one request to it and waits for the answer, so that a call is one command under one key, which the sandbox never runs
//! twice. The server goes on between calls, and goes with the sandbox. One that hangs is killed; the next call starts it anew.

use atoll_engine::{ServerTransport, ToolServer};
use serde_json::Value;

use super::{McpError, Request, initialized, result, short};
use crate::digest::sha256_hex;
use crate::tools::output::Collected;
use crate::tools::stdin_path;
use crate::workbench::{Bench, BenchCommand, BenchError, BenchExit};
use crate::workspace;

/// How much longer than the server the script may take.
pub(crate) const GRACE_MS: u64 = 10_000;
/// What is kept of the script's output: one message, or what the server said before it ended.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Arguments: the server's name, seconds, a file with three lines (hello, the note after it, the request), the names of the
/// two answers, then the server's own command. Exit codes: 3 it ended, 4 it was silent, 5 it did not say hello, 6 it
/// said too much.
const SCRIPT: &str = r#"d=/workspace/.atoll/mcp/$1; limit=$2; asks=$3; hello=$4; name=$5; shift 5; mkdir -p "$d"
alive() { kill -0 "$(cat "$d/pid" 2>/dev/null)" 2>/dev/null; }
end() { kill -KILL -- "-$(cat "$d/pid" 2>/dev/null)" 2>/dev/null; rm -f "$d/pid"; }
say() { timeout "$limit" sed -n "$1p" "$asks" 1<> "$d/in" || { end; exit 4; }; }
answer() {
  local part gone=; line=
  while [ "$SECONDS" -lt "$limit" ]; do
    if IFS= read -r part <&4; then
      line+=$part; case $line in *"\"$1\""*) return ;; esac; line=; continue
    fi
    line+=$part
    [ "${#line}" -le 900000 ] || { end; exit 6; }
    [ -z "$gone" ] || { tail -c 2000 "$d/err"; end; exit 3; }
    alive || gone=1
    sleep 0.02
  done
  end; exit 4
}
if ! alive; then
  rm -f "$d/in" "$d/pid"; mkfifo "$d/in"; : > "$d/out"; : > "$d/err"
  setsid --fork /bin/bash -c 'd=$1; shift; echo $$ > "$d/pid"; ulimit -f 131072; exec "$@" <> "$d/in" >> "$d/out" 2>> "$d/err" 4<&-' \
    bash "$d" "$@" < /dev/null > /dev/null 2> "$d/err"
  for pause in 1 2 3 4 5 6 7 8 9 10; do [ -s "$d/pid" ] && break; sleep 0.05; done
  exec 4< "$d/out"; say 1; answer "$hello"
  case $line in *'"result"'*) ;; *) printf '%s\n' "$line"; end; exit 5 ;; esac
  say 2
fi
: > "$d/out"; exec 4< "$d/out"; say 3; answer "$name"
printf '%s\n' "$line"
"#;

/// One request as a command, and the text that it reads.
pub(crate) struct Spoken {
    pub(crate) argv: Vec<String>,
    pub(crate) timeout_ms: u64,
    pub(crate) stdin: Vec<u8>,
}

/// The command that puts a request to a server; `None` for a server that is no program.
pub(crate) fn command(server: &ToolServer, request: &Request) -> Option<Spoken> {
    let ServerTransport::Stdio { argv, env } = &server.transport else { return None };
    let hello = Request::initialize(&request.id);
    let stdin = format!("{}\n{}\n{}\n", hello.body, initialized(), request.body).into_bytes();
    let seconds = server.timeout_ms.div_ceil(1000).to_string();
    let path = stdin_path(&sha256_hex(&stdin));
    let fixed = ["/bin/bash", "-c", SCRIPT, "bash", &server.name, &seconds, &path, &hello.id, &request.id, "env"];
    let variables = env.iter().map(|(name, value)| format!("{name}={value}"));
    let argv = fixed.into_iter().map(str::to_owned).chain(variables).chain(argv.iter().cloned()).collect();
    Some(Spoken { argv, timeout_ms: server.timeout_ms + GRACE_MS, stdin })
}

/// What the command's end means.
pub(crate) fn read(exit: BenchExit, output: &str, id: &str, seconds: u64) -> Result<Value, McpError> {
    match exit {
        BenchExit { timed_out: true, .. } | BenchExit { code: 4, .. } => Err(McpError::Silent { seconds }),
        BenchExit { code: 0, .. } => result(output.trim_end(), id),
        BenchExit { code: 3, .. } => Err(McpError::Ended(last_line(output))),
        BenchExit { code: 5, .. } => Err(McpError::Refused(short(output))),
        BenchExit { code: 6, .. } => Err(McpError::Lied("its answer has no end".to_owned())),
        BenchExit { code, .. } => Err(McpError::Unreachable(format!("exit code {code}: {}", last_line(output)))),
    }
}

fn last_line(output: &str) -> String {
    let line = short(output.trim_end().lines().last().unwrap_or_default());
    if line.is_empty() { "it left no word".to_owned() } else { line }
}

/// Puts a request that has no effect to a server.
pub(super) async fn ask(
    bench: &dyn Bench,
    server: &ToolServer,
    request: &Request,
    key: String,
) -> Result<Value, McpError> {
    let Some(spoken) = command(server, request) else {
        return Err(McpError::Unreachable("it is no program".to_owned()));
    };
    let path = stdin_path(&sha256_hex(&spoken.stdin));
    let (argv, cwd) = (spoken.argv, workspace::TREE.to_owned());
    let command = BenchCommand { key, argv, env: workspace::environment(), cwd, timeout_ms: spoken.timeout_ms };
    let mut output = Collected::new(OUTPUT_BYTES_MAX);
    let unreachable = |error: BenchError| McpError::Unreachable(error.to_string());
    bench.write_file(&path, &spoken.stdin).await.map_err(unreachable)?;
    let exit = bench.exec(&command, &mut |_, bytes| output.add(bytes)).await.map_err(unreachable)?;
    read(exit, &output.text(), &request.id, server.timeout_ms / 1000)
}
