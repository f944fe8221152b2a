//! A command in a sandbox, joined to this terminal: output as it comes, input passed on, the exit code handed back.

use std::collections::BTreeMap;
use std::process::ExitCode;

use atoll_client::sandbox::{
    ErrorCode, ExecEvent, ExecInput, ExecRequest, Exit as ExecExit, SandboxConnection, SandboxError, TerminalSize,
};
use rustix::termios::{OptionalActions, Termios};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;

/// Exit codes of shells and of docker for a command that was not started.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
const STDIN_CHUNK_BYTES: usize = 16 * 1024;

/// How a command is joined to this terminal.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionOptions {
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) workdir: Option<String>,
}

/// Reads `NAME=VALUE` and `NAME` (which passes on this process's own).
pub(crate) fn parse_env(entries: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for entry in entries {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (entry.as_str(), std::env::var(entry).unwrap_or_default()),
        };
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            return Err(Failure::new(Exit::Usage, format!("{entry:?} is not NAME=VALUE")));
        }
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// Runs a command and passes its exit code on.
pub(crate) async fn run(
    sandbox: &SandboxConnection,
    command: Vec<String>,
    options: &SessionOptions,
    printer: &Printer,
) -> Outcome {
    if options.tty && !rustix::termios::isatty(std::io::stdin()) {
        return Err(Failure::new(Exit::Usage, "standard input is not a terminal").hint("leave --tty away"));
    }
    let request = ExecRequest {
        argv: command,
        env: options.env.clone(),
        cwd: options.workdir.clone(),
        tty: options.tty.then(terminal_size),
        stdin: options.interactive || options.tty,
        ..ExecRequest::default()
    };
    let session = match sandbox.exec(request).await {
        Ok(session) => session,
        Err(error) => return not_started(&error, printer),
    };
    let _raw = options.tty.then(RawTerminal::enter);
    let input = session.input();
    let pump = pump_input(input, options);
    let output = pump_output(session, printer);
    tokio::pin!(pump, output);
    let exit = tokio::select! {
        exit = &mut output => exit,
        () = &mut pump => output.await,
    };
    match exit {
        Ok(exit) => Ok(ExitCode::from(code(&exit))),
        Err(error) => Err(Failure::because(Exit::RunCommand, "the connection to the sandbox broke", &error)
            .hint("the command goes on in the sandbox")),
    }
}

fn not_started(error: &SandboxError, printer: &Printer) -> Outcome {
    let code = match error.code() {
        Some(ErrorCode::NotFound) => NOT_FOUND,
        Some(ErrorCode::PermissionDenied) => CANNOT_EXECUTE,
        _ => {
            return Err(Failure::because(Exit::RunCommand, "the command could not be started", error));
        }
    };
    printer.failure(&Failure::because(Exit::RunCommand, "the command could not be started", error));
    Ok(ExitCode::from(code))
}

async fn pump_output(
    mut session: atoll_client::sandbox::ExecSession,
    printer: &Printer,
) -> Result<ExecExit, SandboxError> {
    loop {
        match session.next_event().await? {
            Some(ExecEvent::Stdout(bytes)) => printer.raw(&bytes),
            Some(ExecEvent::Stderr(bytes)) => printer.raw_error(&bytes),
            Some(ExecEvent::Exited(exit)) => return Ok(exit),
            None => return Err(SandboxError::Closed),
        }
    }
}

/// Passes input, window sizes and Ctrl-C on. Returns never while signals can still come.
async fn pump_input(input: ExecInput, options: &SessionOptions) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; STDIN_CHUNK_BYTES];
    let mut reading = options.interactive || options.tty;
    let (Ok(mut interrupts), Ok(mut resizes)) = (signal(SignalKind::interrupt()), signal(SignalKind::window_change()))
    else {
        return;
    };
    loop {
        // A session that ended makes sending fail; its exit arrives on the other pump.
        let sent = tokio::select! {
            read = stdin.read(&mut buffer), if reading => match read {
                Ok(0) | Err(_) => {
                    reading = false;
                    input.stdin_eof().await
                }
                Ok(length) => input.stdin(&buffer[..length]).await,
            },
            _ = interrupts.recv() => input.signal(rustix::process::Signal::INT.as_raw()).await,
            _ = resizes.recv(), if options.tty => input.resize(terminal_size()).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn code(exit: &ExecExit) -> u8 {
    u8::try_from(exit.code & 0xff).unwrap_or(1)
}

fn terminal_size() -> TerminalSize {
    rustix::termios::tcgetwinsize(std::io::stdin())
        .map_or(TerminalSize { cols: 80, rows: 24 }, |size| TerminalSize { cols: size.ws_col, rows: size.ws_row })
}

/// The terminal without line editing and echo, until dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> Self {
        let Ok(before) = rustix::termios::tcgetattr(std::io::stdin()) else {
            return Self(None);
        };
        let mut raw = before.clone();
        raw.make_raw();
        let entered = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        Self(entered.is_ok().then_some(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done about a terminal that went away.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_entries_are_read() {
        let entries = ["A=1".to_owned(), "B=x=y".to_owned(), "EMPTY=".to_owned()];
        let parsed = parse_env(&entries).expect("they are well formed");
        assert_eq!(parsed["A"], "1");
        assert_eq!(parsed["B"], "x=y");
        assert_eq!(parsed["EMPTY"], "");
        assert!(parse_env(&["=1".to_owned()]).is_err());
    }
}
