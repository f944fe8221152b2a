//! `POST /execute`.

use std::sync::Arc;

use atoll_guest::protocol::{ExecRequest, Exit, FrameKind};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Guest;
use super::super::exec::{Attachment, Begun, ExecError, Next};
use super::super::http::{Body, BodyError, Connection, Response, Status};
use super::super::shell_words;
use super::super::spawn::SpawnError;

const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Kept of each of the two streams; the rest is read and dropped, and said to be so.
const STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Time of a command whose request sets none, if the sandbox's environment sets none either.
const DEFAULT_TIMEOUT_SECONDS: f64 = 300.0;

/// More than this is taken as this: a week.
const TIMEOUT_SECONDS_MAX: f64 = 604_800.0;

#[derive(Deserialize)]
struct ExecuteRequest {
    command: String,
    #[serde(default)]
    timeout_seconds: Option<f64>,
}

/// What the client is told.
struct Outcome {
    stdout: String,
    stderr: String,
    exit_code: i32,
    timed_out: bool,
}

pub(super) fn answer(guest: &Arc<Guest>, connection: &mut Connection, body: &mut Body) -> Response {
    let bytes = match body.read_to_end(connection, REQUEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error @ BodyError::TooLarge { .. }) => {
            return Response::json(Status::TooLarge, &json!({"detail": error.to_string()}));
        }
        Err(error) => return Response::json(Status::BadRequest, &json!({"detail": error.to_string()})),
    };
    let request = match parse(&bytes) {
        Ok(request) => request,
        Err(detail) => return Response::json(Status::Unprocessable, &json!({"detail": [detail]})),
    };
    let outcome = execute(guest, &request);
    Response::json(
        Status::Ok,
        &json!({
            "stdout": outcome.stdout,
            "stderr": outcome.stderr,
            "exit_code": outcome.exit_code,
            "timed_out": outcome.timed_out,
        }),
    )
}

fn parse(bytes: &[u8]) -> Result<ExecuteRequest, Value> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        json!({"type": "json_invalid", "loc": ["body", error.column()], "msg": "JSON decode error", "input": {},
               "ctx": {"error": error.to_string()}})
    })?;
    let kind = |kind, field, text| json!({"type": kind, "loc": ["body", field], "msg": text, "input": value});
    let request = match value.get("command") {
        None => return Err(kind("missing", "command", "Field required")),
        Some(command) if !command.is_string() => {
            return Err(kind("string_type", "command", "Input should be a valid string"));
        }
        Some(_) => ExecuteRequest::deserialize(&value),
    };
    let float = || kind("float_type", "timeout_seconds", "Input should be a valid number");
    let request = request.map_err(|_| float())?;
    if request.timeout_seconds.is_some_and(|seconds| !seconds.is_finite() || seconds <= 0.0) {
        return Err(kind("greater_than", "timeout_seconds", "Input should be greater than 0"));
    }
    Ok(request)
}

fn execute(guest: &Arc<Guest>, request: &ExecuteRequest) -> Outcome {
    let argv = match shell_words::split(&request.command) {
        Ok(argv) if argv.is_empty() => return failure("the command is empty"),
        Ok(argv) => argv,
        Err(error) => return failure(&error.to_string()),
    };
    let seconds = request.timeout_seconds.unwrap_or_else(|| default_timeout_seconds(guest)).min(TIMEOUT_SECONDS_MAX);
    let exec = ExecRequest { timeout_ms: Some((seconds * 1_000.0) as u64), ..ExecRequest::new(argv) };
    match guest.execs.begin(guest, exec) {
        Ok(Begun::Attached { attachment, .. }) => collect(attachment, &request.command, seconds),
        // Without an idempotency key nothing is remembered.
        Ok(Begun::Remembered { .. }) => failure("the command was not started"),
        Err(error) => failure(&python_words(&error)),
    }
}

fn default_timeout_seconds(guest: &Guest) -> f64 {
    let set = guest.config.exec_env.get("SANDBOX_EXEC_TIMEOUT_SECONDS").and_then(|text| text.trim().parse().ok());
    set.filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0).unwrap_or(DEFAULT_TIMEOUT_SECONDS)
}

fn collect(mut attachment: Attachment, command: &str, seconds: f64) -> Outcome {
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    loop {
        match attachment.next() {
            Next::Output(FrameKind::Stderr, bytes) => stderr.add(&bytes),
            Next::Output(_, bytes) => stdout.add(&bytes),
            Next::Exited(exit) => return outcome(stdout.text(), stderr.text(), &exit, command, seconds),
            Next::Closed => return failure("the command was detached from"),
        }
    }
}

fn outcome(stdout: String, stderr: String, exit: &Exit, command: &str, seconds: f64) -> Outcome {
    if exit.timed_out {
        let reason = format!("Command {command:?} timed out after {seconds} seconds");
        return Outcome {
            stdout,
            stderr: format!("{}\n{stderr}", failure(&reason).stderr),
            exit_code: 1,
            timed_out: true,
        };
    }
    let exit_code = exit.signal.map_or(exit.code, |signal| -signal);
    Outcome { stdout, stderr, exit_code, timed_out: false }
}

fn failure(reason: &str) -> Outcome {
    let stderr = format!("Failed to execute command: {reason}");
    Outcome { stdout: String::new(), stderr, exit_code: 1, timed_out: false }
}

/// As clients know it: `[Errno 2] No such file or directory: 'nope'`.
fn python_words(error: &ExecError) -> String {
    let (errno, what): (&Errno, &str) = match error {
        ExecError::Spawn(SpawnError::Program { program, errno }) => (errno, program),
        ExecError::Spawn(SpawnError::WorkingDirectory { cwd, errno }) => (errno, cwd),
        other => return other.to_string(),
    };
    let text = error.to_string();
    let text = text.split(':').next().unwrap_or_default();
    format!("[Errno {}] {text}: '{what}'", errno.raw_os_error())
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = (STREAM_BYTES_MAX - self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }

    fn text(self) -> String {
        let mut text = String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        if self.dropped > 0 {
            text.push_str(&format!("\n[{} more bytes were dropped]\n", self.dropped));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked_field_by_field() {
        let kind = |text: &str| parse(text.as_bytes()).err().map(|detail| detail["type"].as_str().unwrap().to_owned());
        for (text, expected) in [
            (r#"{"command":"true"}"#, None),
            (r#"{"command":"true","timeout_seconds":1,"other":2}"#, None),
            (r#"{"command":"true","timeout_seconds":null}"#, None),
            ("{", Some("json_invalid")),
            ("[]", Some("missing")),
            (r#"{"command":1}"#, Some("string_type")),
            (r#"{"command":"true","timeout_seconds":"x"}"#, Some("float_type")),
            (r#"{"command":"true","timeout_seconds":-1}"#, Some("greater_than")),
        ] {
            assert_eq!(kind(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn streams_are_bounded_and_say_so() {
        let mut kept = Kept::default();
        kept.add(&vec![b'x'; STREAM_BYTES_MAX]);
        kept.add(b"more");
        let text = kept.text();
        assert!(text.ends_with("x\n[4 more bytes were dropped]\n"));
        let mut broken = Kept::default();
        broken.add(b"a\xffb");
        assert_eq!(broken.text(), "a\u{fffd}b");
    }
}
