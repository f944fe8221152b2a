//! What a command ends with when it fails: a sentence, its causes, a hint, an exit code.

use std::error::Error;
use std::process::ExitCode;

/// Documented exit codes (`atoll --help`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something went wrong.
    Failure = 1,
    /// The command line is wrong (clap uses the same code).
    Usage = 2,
    /// The thing named does not exist.
    NotFound = 3,
    /// Policy, a person or a protection refused.
    Refused = 4,
    /// The machine lacks something: root, a kernel feature, a free port, disk space.
    Machine = 5,
    /// The plane's state is unusable: owned by another instance, damaged, from a newer version.
    State = 6,
    /// No plane could be reached.
    Unreachable = 7,
    /// The run ended without success.
    RunFailed = 8,
    /// `atoll run` itself failed, as opposed to the command in it.
    RunCommand = 125,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// A failure that says what was attempted and prints the whole chain of causes.
    pub(crate) fn because(exit: Exit, attempted: impl std::fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::new(exit, format!("{attempted}: {}", atoll_stdx::chain(error)))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn hint_of(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    #[must_use]
    pub(crate) const fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

/// What commands return: the exit code of success may be another program's.
pub(crate) type Outcome = Result<ExitCode, Failure>;
